"""What the tables of competing prompts share: one row per attribute and part, and what decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from dmlik_pl.results.columns import Shown, table_of
from dmlik_pl.results.prompt_accuracy.decisions import METHODS
from dmlik_pl.results.table import Table

__all__ = ["WILSON", "by_attribute", "heading", "headings", "method"]

WILSON = "Brackets: Wilson 95 % interval."


def by_attribute(
    name: str, caption: str, raw: pd.DataFrame, columns: Iterable[Shown], notes: Sequence[str] = ()
) -> list[Table]:
    """A table with one line per row of numbers, headed by attribute and part; none without rows."""
    return [table_of(name, caption, raw, columns, headings(raw), "attribute", notes)] if len(raw) else []


def headings(raw: pd.DataFrame) -> list[str]:
    """The heading of each row of numbers."""
    return [heading(row) for row in raw.to_dict("records")]


def heading(row: Mapping[Any, Any]) -> str:
    """Attribute and part of a row that has these columns."""
    return f"{row['attribute']} ({row['part']})" if row["part"] else str(row["attribute"])


def method(title: str, name: str, meaning: str = "") -> Shown:
    """A column of the names of what decides."""
    return Shown(title, lambda row: METHODS[row[name]], meaning)
