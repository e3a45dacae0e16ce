"""What the kinds of study share where they name and count their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

__all__ = ["distinct", "slug", "span", "with_errors"]

_ERRORS = ("_standard_error", "_probe_error", "_low", "_high")


def with_errors(row: Mapping[Any, Any], name: str, called: str) -> Iterator[tuple[str, float]]:
    """A number of a summary's row and all that the row says of its errors, under another name.

    Args:
        row: The row.
        name: Name of the number there.
        called: Its new name.
    """
    yield called, row[name]
    yield from ((f"{called}{end}", row[f"{name}{end}"]) for end in _ERRORS if f"{name}{end}" in row)


def slug(words: str) -> str:
    """Words as the end of a name; nothing for no words."""
    return "_" + re.sub(r"\W+", "_", words).strip("_") if words else ""


def span(counts: pd.Series) -> str:
    """Counts in words: "72" where all are equal, else "4 to 5"."""
    fewest, most = int(counts.min()), int(counts.max())
    return f"{most}" if fewest == most else f"{fewest} to {most}"


def distinct(frame: pd.DataFrame, name: str) -> str:
    """The different texts of a column in one: "WordLoop / Whisper"."""
    return " / ".join(sorted(frame[name].dropna().unique()))
