"""The one result type of statistics: a number with its errors, its test, and how they were found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["NORMAL", "UNKNOWN", "Estimate", "Interval"]

NORMAL = 1.959963984540054
"""Standard errors to either side of a normal 95 % interval."""

_NAN = float("nan")


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


UNKNOWN = Interval(_NAN, _NAN)


@dataclass(frozen=True)
class Estimate:
    """A number with what is known of its error.

    Attributes:
        value: The number; NaN if there is none.
        standard_error: Its standard error over what was sampled, in the same unit; NaN if not known.
        interval: Its 95 % confidence interval; NaN at both ends if not known.
        n: Number of samples behind it.
        method: How the interval, or the test, was made.
        p: Two-sided p-value of "it is 0", or of what `method` says; NaN if nothing was tested.
        probe_error: The part of the standard error that more probes would remove; NaN if not known.
    """

    value: float
    standard_error: float = _NAN
    interval: Interval = UNKNOWN
    n: int = 0
    method: str = ""
    p: float = _NAN
    probe_error: float = _NAN

    @property
    def z(self) -> float:
        """The number in units of its standard error; 0 for 0, infinite for another number without an error."""
        if self.value == 0:
            return 0.0
        return self.value / self.standard_error if self.standard_error else math.copysign(math.inf, self.value)

    def columns(self, name: str, probes: bool = False) -> dict[str, float]:
        """The number and its errors as columns of a summary.

        Args:
            name: Name of the column of the number; those of its errors end in _standard_error, _low and _high.
            probes: Whether the probes' part of the error is a column (_probe_error) too.
        """
        columns = {name: self.value, f"{name}_standard_error": self.standard_error}
        columns |= {f"{name}_low": self.interval.low, f"{name}_high": self.interval.high}
        return columns | {f"{name}_probe_error": self.probe_error} if probes else columns
