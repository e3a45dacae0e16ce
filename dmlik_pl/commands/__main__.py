"""``python -m dmlik_pl.commands`` is ``dmlik``."""

from dmlik_pl.commands import main

if __name__ == "__main__":
    main()
