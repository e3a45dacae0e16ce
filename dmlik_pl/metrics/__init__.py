"""Metrics as `torchmetrics.Metric`, each with a functional twin."""

from dmlik_pl.metrics.accuracy import PromptAccuracy, prompt_accuracy
from dmlik_pl.metrics.bits_per_dim import BitsPerDim, bits_per_dim
from dmlik_pl.metrics.clip import CLIPEncoder, CLIPImageFeatures, CLIPScore, clip_score_matrix, clip_scores
from dmlik_pl.metrics.frechet import FrechetDistance, PrecomputedFeatures, frechet_distance

__all__ = [
    "BitsPerDim",
    "CLIPEncoder",
    "CLIPImageFeatures",
    "CLIPScore",
    "FrechetDistance",
    "PrecomputedFeatures",
    "PromptAccuracy",
    "bits_per_dim",
    "clip_score_matrix",
    "clip_scores",
    "frechet_distance",
    "prompt_accuracy",
]
