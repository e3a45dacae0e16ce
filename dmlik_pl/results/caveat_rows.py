"""What the rules for caveats ask of the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from dmlik_pl.results.frames import column, data_likelihoods

__all__ = ["Finding", "Rule", "Severity", "by_cell", "cell_columns", "likelihoods", "some"]

Severity = Literal["serious", "caution", "note"]


class Finding(NamedTuple):
    """What a rule found; a caveat without its study."""

    topic: str
    text: str
    severity: Severity


Rule = Callable[[pd.DataFrame], Iterator[Finding]]
"""Takes the records of a study, at least one."""

_MOST_LISTED = 5
# What tells apart the means that tables show, and the ways of a decision.
_CELL = ("stage", "time", "guidance", "size", "reconstructed", "alignment", "alternative", "mean", "forward", "reverse")
_UNSCORED = ("vocoded", "round trip")  # stages that are heard or compared only


def likelihoods(frame: pd.DataFrame) -> pd.DataFrame:
    """Every likelihood of a study with columns bpd, grid and probe, its value and errors in bits per dimension."""
    rows = data_likelihoods(frame) if "scores" in frame else frame
    if rows is None or not {"log_p", "dims"} <= set(rows.columns):
        return pd.DataFrame(columns=["bpd", "grid", "probe"], dtype=float)
    rows = rows[rows["dims"].notna()]
    if "stage" in rows:
        rows = rows[~rows["stage"].isin(_UNSCORED)]
    unit = column(rows, "dims") * np.log(2)
    return rows.assign(
        bpd=-column(rows, "log_p") / unit,
        grid=column(rows, "discretisation") / unit,
        probe=column(rows, "standard_error") / unit,
    )


def cell_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that tell the means of a frame apart."""
    return [name for name in _CELL if name in frame]


def by_cell(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The records behind each mean, and where it stands among them, in words that end with a colon."""
    names = cell_columns(frame)
    if not names:
        return [("", frame)]
    varying = [name for name in names if frame[name].nunique(dropna=False) > 1]
    groups = []
    for values, rows in frame.groupby(names, sort=False, dropna=False):
        words = [_cell_word(name, value) for name, value in zip(names, values, strict=True) if name in varying]
        place = ", ".join(filter(None, words))
        groups.append((f"{place}: " if place else "", rows))
    return groups


def _cell_word(name: str, value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return name if value else ""
    if pd.isna(value) or value == "none":
        return ""
    return f"{name} {value:g}" if isinstance(value, int | float | np.number) else str(value)


def some(names: Sequence[str] | pd.Series, between: str = ", ") -> str:
    """The first of many."""
    shown = between.join(list(names)[:_MOST_LISTED])
    return shown if len(names) <= _MOST_LISTED else f"{shown}{between}and {len(names) - _MOST_LISTED} more"
