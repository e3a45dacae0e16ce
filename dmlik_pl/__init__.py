"""Exact likelihoods of conditional diffusion models, every number with its error."""

__version__ = "0.1.0"
