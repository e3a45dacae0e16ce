"""Evaluate a diffusion model's likelihoods: ``python evaluate.py --config NAME.yaml``; see `dmlik_pl.commands`."""

from dmlik_pl.commands.evaluate import cli_main, main

__all__ = ["cli_main", "main"]

if __name__ == "__main__":
    main()
