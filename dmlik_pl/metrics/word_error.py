"""Word errors of transcripts after Whisper's English text normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from dmlik_pl.extras import load
from dmlik_pl.speech.text.normaliser import english_normaliser

__all__ = ["WordErrorRate", "word_errors"]


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Word errors between two texts: the fewest substitutions, deletions and insertions after normalisation.

    An empty reference has 0 words, and every word of its hypothesis is an error; an empty hypothesis misses every word
    of its reference. Both enter a corpus rate as such.

    Args:
        reference: The words that were spoken.
        hypothesis: What was recognised.

    Returns:
        The number of errors, and of words in the normalised reference.

    Example:
        >>> word_errors("It's two o'clock, Mister Jones.", "it is two a clock mr jones")
        (2, 6)
    """
    normalise = english_normaliser()
    jiwer = load("jiwer", "the word error rate")
    counts = jiwer.process_words(normalise(reference), normalise(hypothesis))
    missed = counts.substitutions + counts.deletions
    return missed + counts.insertions, counts.hits + missed


class WordErrorRate(Metric):
    """Corpus word error rate: all errors over all reference words, after Whisper's English normalisation.

    Not the mean of the utterances' rates: a long utterance weighs more. The rate can exceed 1.

    `compute` returns a dictionary of float64 scalars:
        wer: Errors per reference word; NaN if there are no reference words.
        standard_error: Its standard error over utterances (of a ratio of sums); NaN for fewer than two.
        errors: The number of errors.
        words: The number of reference words.

    Args:
        options: Arguments of `torchmetrics.Metric`.
    """

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False

    errors: Tensor
    words: Tensor
    errors_squared: Tensor
    errors_times_words: Tensor
    words_squared: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        english_normaliser()  # a missing package is an error now, not after the first hours
        for name in ("errors", "words", "errors_squared", "errors_times_words", "words_squared", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, references: Sequence[str], hypotheses: Sequence[str]) -> None:
        """Add a batch.

        Args:
            references: The words that were spoken, B texts.
            hypotheses: What was recognised, B texts.
        """
        if len(references) != len(hypotheses):
            raise ValueError(f"{len(references)} references need as many hypotheses, got {len(hypotheses)}")
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            errors, words = word_errors(reference, hypothesis)
            self.errors += errors
            self.words += words
            self.errors_squared += errors**2
            self.errors_times_words += errors * words
            self.words_squared += words**2
            self.count += 1

    def compute(self) -> dict[str, Tensor]:
        """Combine all batches; see the class for the keys."""
        # x / 0 would be an infinite rate, which no mean or table survives
        rate = self.errors / self.words if self.words > 0 else self.errors * math.nan
        residual = self.errors_squared - 2 * rate * self.errors_times_words + rate**2 * self.words_squared
        # residual.clamp: equal utterances leave a rounding error of either sign
        variance = residual.clamp(min=0) * (self.count / (self.count - 1)) if self.count > 1 else residual * math.nan
        return {
            "wer": rate,
            "standard_error": variance.sqrt() / self.words,
            "errors": self.errors.clone(),
            "words": self.words.clone(),
        }
