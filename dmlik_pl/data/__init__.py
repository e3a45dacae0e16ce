"""Data modules: what is evaluated and trained on."""

from dmlik_pl.data.base import Batch, EvaluationData, EvaluationSet, Failure, Sample, collate

__all__ = ["Batch", "EvaluationData", "EvaluationSet", "Failure", "Sample", "collate"]
