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
        standard_error: Its total error, in the same unit, of which the other errors are parts; NaN if not known.
        interval: Its 95 % confidence interval; NaN at both ends if not known.
        n: Number of samples behind it.
        method: How the interval, or the test, was made.
        p: Two-sided p-value of "it is 0", or of what `method` says; NaN if nothing was tested.
        sampling_error: The standard error over samples, or over clusters of them, which has the probes' noise in it.
        probe_error: What more probes would remove; NaN if not known.
        grid_error: The estimate of the time grid's error, which all samples share; NaN if not known.
        clusters: Number of independent clusters behind it; that of samples if each is one.
    """

    value: float
    standard_error: float = _NAN
    interval: Interval = UNKNOWN
    n: int = 0
    method: str = ""
    p: float = _NAN
    sampling_error: float = _NAN
    probe_error: float = _NAN
    grid_error: float = _NAN
    clusters: int = 0

    @property
    def z(self) -> float:
        """The number in units of its standard error; 0 for 0, NaN for another number without an error."""
        return 0.0 if self.value == 0 else self.value / self.standard_error if self.standard_error else math.nan

    def columns(self, name: str, parts: bool = False) -> dict[str, float]:
        """The number and its errors as columns of a summary.

        Args:
            name: Name of the column of the number; those of its errors end in _standard_error (the total), _low and
                _high.
            parts: Whether the parts of the error are columns too: _sampling_error, _probe_error and _grid_error.
        """
        columns = {name: self.value, f"{name}_standard_error": self.standard_error}
        columns |= {f"{name}_low": self.interval.low, f"{name}_high": self.interval.high}
        if not parts:
            return columns
        shares = {"sampling": self.sampling_error, "probe": self.probe_error, "grid": self.grid_error}
        return columns | {f"{name}_{part}_error": error for part, error in shares.items()}
