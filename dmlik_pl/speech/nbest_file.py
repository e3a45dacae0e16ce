"""Files of n-best lists, as a table of what they hold."""

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from dmlik_pl.speech.lists import read_csv, read_json_lines

__all__ = ["as_number", "as_text", "read_file"]

KINDS = ".csv, .csv.gz, .parquet, .jsonl or .jsonl.gz"


def read_file(path: Path) -> pd.DataFrame:
    """Read a file of n-best lists, one hypothesis per row; the cells of a CSV file stay texts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, not text where it should be, or of an unknown kind.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no n-best lists at {str(path)!r}: give a {KINDS} file with one hypothesis per row")
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        # As text: a hypothesis "null" is a word, and the utterance "007" is not 7.
        table = read_csv(path, skip_spaces=False)
        if repeated := [column for column, count in Counter(table.columns).items() if count > 1]:
            raise ValueError(f"{path}, line 1 has two columns {repeated[0]!r}")
        return pd.DataFrame([row.cells for row in table.rows], columns=table.columns, dtype=object)
    if name.endswith((".jsonl", ".jsonl.gz")):
        return pd.DataFrame([row for _, row in read_json_lines(path)], dtype=object)
    if name.endswith(".parquet"):
        try:
            return pd.read_parquet(path)
        except Exception as error:  # damaged files make the reader raise almost anything
            raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    raise ValueError(f"{path} is of an unknown kind: {KINDS} is expected")


def as_text(value: Any) -> str:
    """Return a value as a text; a missing one is empty."""
    return "" if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) else str(value)


def as_number(value: Any) -> float:
    """Return a value as a number; NaN if it is not one."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):  # which float() would take
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
