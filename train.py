"""Train a model: ``python train.py fit --config NAME.yaml``; see `dmlik_pl.commands`."""

from dmlik_pl.commands.train import cli_main, main

__all__ = ["cli_main", "main"]

if __name__ == "__main__":
    main()
