"""What the kinds of study share where they average, name and count their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of, column, grid_errors, pooled_errors
from dmlik_pl.stats.estimate import Estimate
from dmlik_pl.stats.rates import corpus_rate
from dmlik_pl.stats.significance import mean_with_error

__all__ = ["distinct", "mean_of", "slug", "span", "with_errors", "word_error_columns"]

_ERRORS = ("_standard_error", "_sampling_error", "_probe_error", "_grid_error", "_low", "_high")


def mean_of(frame: pd.DataFrame, name: str, scale: float | np.ndarray = 1.0) -> Estimate:
    """Mean of a column over samples with its total error, as the records know the parts of it.

    Args:
        frame: Records, one per sample; values that are not finite are left out.
        name: The column.
        scale: What each value is multiplied by, one number or [N].
    """
    probes, grid = (errors(frame, name) * scale for errors in (pooled_errors, grid_errors))
    return mean_with_error(column(frame, name) * scale, probes, grid, clusters=clusters_of(frame))


def word_error_columns(frame: pd.DataFrame) -> dict[str, float]:
    """The corpus word error rate of records as columns: wer with its errors, word_errors and words.

    Args:
        frame: Records, one per utterance; those that were not recognised are left out.
    """
    known = frame[np.isfinite(column(frame, "word_errors"))]
    errors, words = column(known, "word_errors"), column(known, "words")
    columns = corpus_rate(errors, words, clusters_of(known)).columns("wer")
    return columns | {"word_errors": int(errors.sum()), "words": int(words.sum())}


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
