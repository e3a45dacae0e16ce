"""What the rules for caveats ask of the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import column, pooled_errors
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.likelihoods import nats_per_bpd

__all__ = ["Finding", "Rule", "Severity", "by_mean", "likelihoods", "some"]

Severity = Literal["serious", "caution", "note"]


class Finding(NamedTuple):
    """What a rule found; a caveat without its study."""

    topic: str
    text: str
    severity: Severity


Rule = Callable[[Kind, pd.DataFrame], Iterator[Finding]]
"""Takes the kind of a study and its records, at least one."""

_MOST_LISTED = 5


def likelihoods(kind: Kind, frame: pd.DataFrame) -> pd.DataFrame:
    """Every likelihood of a study with columns bpd, grid, probe and pooled, its value and errors in bits per dimension.

    `pooled` is the error over probes as a mean over samples takes it.
    """
    rows = kind.likelihoods(frame)
    unit = nats_per_bpd(rows)
    return rows.assign(
        bpd=-column(rows, "log_p") / unit,
        grid=column(rows, "discretisation") / unit,
        probe=column(rows, "standard_error") / unit,
        pooled=pooled_errors(rows) / unit,
    )


def by_mean(kind: Kind, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The records behind each mean, and where it stands among them, in words that end with a colon."""
    names = [name for name in kind.schema.means if name in frame]
    if not names:
        return [("", frame)]
    varying = [name for name in names if frame[name].nunique(dropna=False) > 1]
    groups = []
    for values, rows in frame.groupby(names, sort=False, dropna=False):
        words = [_word(name, value) for name, value in zip(names, values, strict=True) if name in varying]
        place = ", ".join(filter(None, words))
        groups.append((f"{place}: " if place else "", rows))
    return groups


def _word(name: str, value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return name if value else ""
    if pd.isna(value) or value == "none":
        return ""
    return f"{name} {value:g}" if isinstance(value, int | float | np.number) else str(value)


def some(names: Sequence[str] | pd.Series, between: str = ", ") -> str:
    """The first of many."""
    shown = between.join(list(names)[:_MOST_LISTED])
    return shown if len(names) <= _MOST_LISTED else f"{shown}{between}and {len(names) - _MOST_LISTED} more"
