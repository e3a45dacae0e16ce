"""Tables as lists of columns: a heading, how its cells are made of a row of numbers, and what it means.

columns = [count("n"), estimate("gain", "gain", "log p(x|y) - log p(x), bits per dimension"), p_value("p", "sign_p")]
table_of(study, "What the text adds to the likelihood.", summary, columns, headings=summary["alternative"])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from dmlik_pl.results.kinds import Headline
from dmlik_pl.results.table import (
    MISSING,
    Table,
    bracket,
    formatted,
    percent,
    percent_with_interval,
    probability,
    short,
    with_error,
)
from dmlik_pl.stats import Interval

__all__ = [
    "Row",
    "Shown",
    "across",
    "count",
    "error",
    "error_parts",
    "estimate",
    "headline_of",
    "interval",
    "number",
    "p_value",
    "paired_tests",
    "share",
    "share_with_interval",
    "table_of",
    "with_interval",
    "words",
]

Row = Mapping[Any, Any]


class Shown(NamedTuple):
    """A column of a table.

    Attributes:
        heading: What stands above it.
        cell: Makes a cell of a row of numbers.
        meaning: What the column means, as a phrase without a full stop; empty where the heading says it.
        wanted: Whether the table has it.
    """

    heading: str
    cell: Callable[[Row], str]
    meaning: str = ""
    wanted: bool = True


def table_of(
    name: str,
    caption: str,
    raw: pd.DataFrame,
    columns: Iterable[Shown],
    headings: Iterable[object],
    title: str,
    notes: Sequence[str] = (),
    legend: Mapping[str, str] | None = None,
) -> Table:
    """A table with one line per row of numbers.

    Args:
        name: Name of its files.
        caption: What is shown, in at most 60 words.
        raw: The numbers.
        columns: The columns.
        headings: One heading per row.
        title: What stands above the headings.
        notes: What else has to be known, in sentences.
        legend: What the rows' headings or their title mean.
    """
    rows, wanted = raw.to_dict("records"), [column for column in columns if column.wanted]
    cells = {column.heading: [column.cell(row) for row in rows] for column in wanted}
    shown = pd.DataFrame(cells, index=pd.Index(list(headings), name=title))
    meanings = {column.heading: column.meaning for column in wanted if column.meaning}
    return Table(name, caption, shown, raw.reset_index(drop=True), {**(legend or {}), **meanings}, notes)


def across(table: Table) -> Table:
    """A table of measures with a row for each of its columns and a column for each of its rows."""
    return replace(table, shown=table.shown.T.rename_axis(table.shown.index.name))


def words(heading: str, name: str, meaning: str = "", wanted: bool = True) -> Shown:
    """A column of texts."""
    return Shown(heading, lambda row: str(row[name]), meaning, wanted)


def count(heading: str, name: str = "", meaning: str = "", wanted: bool = True) -> Shown:
    """A column of counts; called as its heading by default."""
    return Shown(heading, lambda row: str(row[name or heading]), meaning, wanted)


def number(
    heading: str, name: str, meaning: str = "", form: str = ".4g", scale: float = 1.0, wanted: bool = True
) -> Shown:
    """A column of numbers in a format; one that is not known shows as missing."""
    return Shown(heading, lambda row: formatted(scale * row[name], form), meaning, wanted)


def estimate(
    heading: str, name: str, meaning: str = "", error: str = "", scale: float = 1.0, wanted: bool = True
) -> Shown:
    """A column of values ± total error, which is the column `name`_standard_error unless `error` names another."""
    of = error or f"{name}_standard_error"
    return Shown(heading, lambda row: with_error(scale * row[name], scale * row[of]), meaning, wanted)


def error_parts(raw: pd.DataFrame, *names: str) -> str:
    """A sentence on the parts of the total errors of some columns, the largest of each; empty where none is known.

    Args:
        raw: The numbers, with the columns `name`_probe_error and `name`_grid_error.
        names: The columns.
    """
    parts = {"the probes": "probe", "the time grid": "grid"}
    most = {
        words: float(raw[[f"{name}_{part}_error" for name in names]].max(axis=None)) for words, part in parts.items()
    }
    known = [f"{words} up to {short(value)}" for words, value in most.items() if value > 0]
    return f"Parts of ± (all of them are in the CSV): {' and '.join(known)}." if known else ""


def error(heading: str, name: str, meaning: str = "", wanted: bool = True) -> Shown:
    """A column of errors, to two digits."""
    return Shown(heading, lambda row: short(row[name]), meaning, wanted)


def share(heading: str, name: str, meaning: str = "", wanted: bool = True) -> Shown:
    """A column of shares in per cent."""
    return Shown(heading, lambda row: percent(row[name]), meaning, wanted)


def share_with_interval(heading: str, name: str, meaning: str = "", wanted: bool = True) -> Shown:
    """A column of shares in per cent with the interval of the columns `name`_low and `name`_high."""

    def cell(row: Row) -> str:
        return percent_with_interval(row[name], Interval(row[f"{name}_low"], row[f"{name}_high"]))

    return Shown(heading, cell, meaning, wanted)


def interval(
    heading: str,
    ends: tuple[str, str],
    meaning: str = "",
    form: str = ".2f",
    scale: float = 1.0,
    dash: bool = False,
    wanted: bool = True,
) -> Shown:
    """A column of intervals in brackets between two columns; missing where they are not known."""
    low, high = ends

    def cell(row: Row) -> str:
        return bracket(scale * row[low], scale * row[high], form, dash) or MISSING

    return Shown(heading, cell, meaning, wanted)


def with_interval(
    heading: str,
    name: str,
    meaning: str = "",
    form: str = ".2f",
    scale: float = 1.0,
    shift: float = 0.0,
    ends: tuple[str, str] | None = None,
    dash: bool = False,
    wanted: bool = True,
) -> Shown:
    """A column of values with intervals, which are `name`_low and `name`_high unless `ends` names other columns."""
    low, high = ends or (f"{name}_low", f"{name}_high")

    def cell(row: Row) -> str:
        value, start, end = (scale * row[key] + shift for key in (name, low, high))
        return f"{formatted(value, form)} {bracket(start, end, form.lstrip('+'), dash)}".rstrip()

    return Shown(heading, cell, meaning, wanted)


def p_value(heading: str, name: str, meaning: str = "", wanted: bool = True) -> Shown:
    """A column of p-values."""
    return Shown(heading, lambda row: probability(row[name]), meaning, wanted)


def paired_tests(wanted: bool = True) -> tuple[Shown, ...]:
    """Columns of the two tests of word errors on the same utterances, each also Holm-corrected."""
    segments = "Gillick and Cox's two-sided test of the mean difference of errors, each utterance a segment"
    return (
        p_value("p (matched pairs)", "matched_pairs_p", segments, wanted),
        p_value("Holm (m. p.)", "matched_pairs_p_holm", "the same, corrected over all rows", wanted),
        p_value("p (permutation)", "permutation_p", "two-sided, over all exchanges within utterances", wanted),
        p_value("Holm (perm.)", "permutation_p_holm", "the same, corrected over all rows", wanted),
    )


def headline_of(study: str, what: str, row: Row, columns: Sequence[Shown]) -> Iterator[Headline]:
    """A headline of the numbers of one row: the first that is known is the value, the others are its detail.

    Args:
        study: Name of the study.
        what: What of it the row is of.
        row: A row of a summary, with the column n.
        columns: The numbers; without a known one there is no headline.
    """
    told = [(column.heading, column.cell(row)) for column in columns]
    known = [f"{heading} {cell}" for heading, cell in told if cell != MISSING]
    if known:
        label = f"{study.replace('_', ' ').capitalize()}: {what}"
        yield Headline(label, known[0], ", ".join([f"n = {row['n']}", *known[1:]]))
