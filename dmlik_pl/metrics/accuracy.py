"""Accuracy of decisions between prompts, with its interval and the count of undecided samples."""

from __future__ import annotations

from typing import Any

import torch
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor
from torchmetrics import Metric

__all__ = ["PromptAccuracy", "prompt_accuracy"]


def prompt_accuracy(correct: Tensor, decided: Tensor, confidence: float = 0.95) -> dict[str, Tensor]:
    """Accuracy of a set of decisions.

    Args:
        correct: Whether each decision is right, [B] booleans.
        decided: Whether the errors support each decision, [B] booleans.
        confidence: Coverage of the interval.

    Returns:
        What `PromptAccuracy.compute` returns.

    Example:
        >>> result = prompt_accuracy(torch.tensor([True, True, True, False]), torch.tensor([True, True, False, False]))
        >>> [round(float(result[key]), 2) for key in ("accuracy", "low", "high", "accuracy_decided")]
        [0.75, 0.3, 0.95, 1.0]
    """
    # A function of its arguments alone, whatever other processes do.
    metric = PromptAccuracy(confidence, sync_on_compute=False).to(correct.device)
    metric.update(correct, decided)
    return metric.compute()


class PromptAccuracy(Metric):
    """Share of right decisions with Wilson's interval, and how many decisions the errors do not support.

    `compute` returns a dictionary of float64 scalars: `accuracy` of all decisions, its interval `low` and `high`, the
    count `undecided`, and `accuracy_decided` among the rest (NaN if there is none).

    Args:
        confidence: Coverage of the interval.
        options: Arguments of `torchmetrics.Metric`.
    """

    is_differentiable: bool = False
    higher_is_better: bool = True
    full_state_update: bool = False

    count: Tensor
    correct: Tensor
    decided: Tensor
    correct_decided: Tensor

    def __init__(self, confidence: float = 0.95, **options: Any) -> None:
        super().__init__(**options)
        self.confidence = confidence
        for name in ("count", "correct", "decided", "correct_decided"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, correct: Tensor, decided: Tensor) -> None:
        """Add a batch.

        Args:
            correct: Whether each decision is right, [B] booleans.
            decided: Whether the errors support each decision, [B] booleans.
        """
        correct, decided = correct.bool(), decided.bool()
        self.count += correct.numel()
        self.correct += correct.sum()
        self.decided += decided.sum()
        self.correct_decided += (correct & decided).sum()

    def compute(self) -> dict[str, Tensor]:
        """Combine all batches; see the class for the keys."""
        low, high = 0.0, 1.0
        if self.count > 0:
            low, high = proportion_confint(
                int(self.correct), int(self.count), alpha=1 - self.confidence, method="wilson"
            )
        return {
            "accuracy": self.correct.double() / self.count,
            "low": torch.tensor(low, dtype=torch.float64, device=self.count.device),
            "high": torch.tensor(high, dtype=torch.float64, device=self.count.device),
            "undecided": (self.count - self.decided).double(),
            "accuracy_decided": self.correct_decided.double() / self.decided,
        }
