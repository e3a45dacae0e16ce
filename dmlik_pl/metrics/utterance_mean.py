"""Mean of a number per utterance over a set, with its error."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["UtteranceMean"]


class UtteranceMean(Metric):
    """Mean over utterances with its standard error; utterances without a value are counted, never taken as 0.

    A metric built on it measures utterances in its `update` and hands their values to `add`. All states are sums, so
    any split of the utterances over batches and processes gives the same result.

    `compute` returns a dictionary of float64 scalars:
        mean: The mean over utterances that have a value; NaN if none has.
        standard_error: Its standard error over utterances; NaN for fewer than two.
        count: The number of utterances in the mean.
        undefined: The number of utterances left out because their value is NaN.
    """

    is_differentiable: bool = False
    full_state_update: bool = False

    total: Tensor
    squares: Tensor
    count: Tensor
    undefined: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("total", "squares", "count", "undefined"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add a batch; for the `update` of the metric that measures them.

        Args:
            values: One number per utterance, [B]; NaN where it is not defined.
        """
        values = values.double().to(self.total.device)
        defined = ~values.isnan()
        self.total += values[defined].sum()
        self.squares += values[defined].square().sum()
        self.count += defined.sum()
        self.undefined += (~defined).sum()

    def compute(self) -> dict[str, Tensor]:
        """Combine all batches; see the class for the keys."""
        mean = self.total / self.count
        # clamp: equal values leave a rounding error of either sign
        residual = (self.squares - self.count * mean.square()).clamp(min=0)
        variance = residual / (self.count - 1) if self.count > 1 else residual * math.nan
        return {
            "mean": mean,
            "standard_error": (variance / self.count).sqrt(),
            "count": self.count.clone(),
            "undefined": self.undefined.clone(),
        }
