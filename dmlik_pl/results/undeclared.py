"""Records of a kind that nobody declares: shown by their columns, and said to be so."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import CLUSTER
from dmlik_pl.records.schema import EVERY_RECORD, LIKELIHOOD, Schema
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.likelihoods import Data, of_data
from dmlik_pl.results.numbers import mean_of
from dmlik_pl.results.table import Table, with_error

__all__ = ["undeclared"]

_MOST_ROWS = 40
_SETTINGS = frozenset((CLUSTER, *(column.name for column in (*EVERY_RECORD, *LIKELIHOOD)))) - {"log_p", "bpd"}


def undeclared(name: str) -> Kind:
    """A kind of study that is known by its name only.

    Args:
        name: The name.
    """
    return Kind(name, Schema(attributes=True), data=_data, tables=_tables)


def _data(frame: pd.DataFrame) -> Data | None:
    """The likelihoods where there is one per sample; of several, nobody says which is that of the data."""
    return None if frame["sample_id"].duplicated().any() else of_data(frame)


def _tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """The mean of every column of numbers, by the columns of text that have few values."""
    names = [
        str(name)
        for name in frame
        if name not in _SETTINGS and pd.api.types.is_numeric_dtype(frame[name]) and not _is_flag(frame[name])
    ]
    keys = [str(name) for name in frame if name not in _SETTINGS and name not in names and _is_key(frame[name])]
    groups = list(frame.groupby(keys, sort=False, dropna=False)) if keys else [((), frame)]
    if not names or len(groups) > _MOST_ROWS:
        groups, keys = [((), frame)], []
    lines, raw, index = [], [], []
    for values, rows in groups:
        means = {name: mean_of(rows, name) for name in names}
        index.append(", ".join(map(str, values)) or "all")
        lines.append({"n": str(len(rows))} | {k: with_error(one.value, one.standard_error) for k, one in means.items()})
        numbers = {k: v for name, one in means.items() for k, v in one.columns(name).items()}
        raw.append(dict(zip(keys, values, strict=True)) | {"n": len(rows)} | numbers)
    caption = (
        "Means over records ± total error. Nobody declares this kind of study, so its columns are shown as they are "
        "called: declare a `Kind` (docs/design.md), or name the module that does with --kinds."
    )
    shown = pd.DataFrame(lines, index=pd.Index(index, name=", ".join(keys) or "records"))
    return [Table(study, caption, shown, pd.DataFrame(raw))] if names else []


def _is_flag(values: pd.Series) -> bool:
    return pd.api.types.is_bool_dtype(values)


def _is_key(values: pd.Series) -> bool:
    """Whether a column tells records apart in a few ways."""
    texts = values.dropna()
    known = all(isinstance(value, str | bool | np.bool_) for value in texts)
    return known and 1 < texts.nunique() <= _MOST_ROWS
