"""Ranges of settings: constructors name what is out of range, before anything is loaded or computed.

Settings are given by their names, ``at_least(1, batch_size=batch_size, limit=limit)``. None is always in range, NaN and
infinities never are, and of a list every entry has to be.
"""

import math
from collections.abc import Callable
from typing import Any

__all__ = ["above", "at_least", "between", "finite", "seeds", "within"]

LARGEST_SEED = 2**63 - 1  # of torch's generators


def finite(**settings: Any) -> None:
    """Raise a ValueError unless all are finite numbers."""
    _check("a finite number", lambda value: True, settings)


def at_least(low: float, **settings: Any) -> None:
    """Raise a ValueError unless all are finite numbers of at least `low`."""
    _check(f"at least {low:g}", lambda value: value >= low, settings)


def above(low: float, **settings: Any) -> None:
    """Raise a ValueError unless all are finite numbers above `low`."""
    _check(f"above {low:g}", lambda value: value > low, settings)


def within(low: float, high: float, **settings: Any) -> None:
    """Raise a ValueError unless all are from `low` to `high`, both included."""
    _check(f"from {low:g} to {high:g}", lambda value: low <= value <= high, settings)


def between(low: float, high: float, **settings: Any) -> None:
    """Raise a ValueError unless all lie between `low` and `high`, both excluded."""
    _check(f"between {low:g} and {high:g}", lambda value: low < value < high, settings)


def seeds(**settings: Any) -> None:
    """Raise a ValueError unless all are seeds that every random generator takes."""
    _check("a seed from 0 to 2**63 - 1", lambda value: 0 <= value <= LARGEST_SEED, settings)


def _check(wanted: str, holds: Callable[[Any], bool], settings: dict[str, Any]) -> None:
    for name, setting in settings.items():
        for value in setting if isinstance(setting, list | tuple) else [setting]:
            # A whole number may be too large for a float, which isfinite makes of it.
            if value is not None and not ((isinstance(value, int) or math.isfinite(value)) and holds(value)):
                raise ValueError(f"{name} must be {wanted}, got {setting}")
