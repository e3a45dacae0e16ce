"""What a method's scores decide, as columns of a record."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Difference", "Ranking", "as_json"]

Difference = Callable[[str, str], tuple[float, float]]
"""Takes two values; gives the difference of their scores and its standard error, nats."""


@dataclass(frozen=True)
class Ranking:
    """The scores of the values that compete, by one method.

    Attributes:
        scores: Score of each value, nats or the method's own unit; NaN for a value that it has not scored.
        difference: How far one value is before another, where the method knows its error.
    """

    scores: dict[str, float]
    difference: Difference | None = None

    def best(self, count: int | None = None) -> list[str]:
        """The values, best first, those without a score last; all or some."""
        known = {value: -math.inf if math.isnan(score) else score for value, score in self.scores.items()}
        return sorted(known, key=known.__getitem__, reverse=True)[:count]

    def columns(self, truth: str, threshold: float) -> dict[str, Any]:
        """The decision between the values.

        Args:
            truth: The true value.
            threshold: Standard errors by which the best must beat the second for a decision that counts as decided.
        """
        best, second = self.best(2)
        columns: dict[str, Any] = {"predicted": best, "correct": best == truth, "scores": as_json(self.scores)}
        if self.difference is not None:
            margin, error = self.difference(best, second)
            columns |= {"decided": bool(margin > threshold * error), "margin": margin, "margin_standard_error": error}
        return columns

    def true_margin(self, truth: str) -> tuple[float, float] | tuple[None, None]:
        """How far the true value is before its best rival, with the standard error; None if it has no score."""
        if self.difference is None or math.isnan(self.scores[truth]):
            return None, None
        rival = next(value for value in self.best(2) if value != truth)
        return self.difference(truth, rival)


def as_json(values: dict[str, Any]) -> str:
    """A JSON object of values, null for those that are not known."""
    missing = {value: isinstance(number, float) and math.isnan(number) for value, number in values.items()}
    return json.dumps({value: None if missing[value] else number for value, number in values.items()})
