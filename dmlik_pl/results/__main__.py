"""`python -m dmlik_pl.results RUN_FOLDER` makes tables and figures again from the records of a run."""

from dmlik_pl.cli import run
from dmlik_pl.results.page.report import main

if __name__ == "__main__":
    run(main)
