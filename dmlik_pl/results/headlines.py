"""The few numbers of a run that stand at the head of its report, each with its error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dmlik_pl.results.significance import Interval
from dmlik_pl.results.table import Table, percent_with_interval, short, with_error

__all__ = ["Headline", "headlines"]

_MOST = 12


class Headline(NamedTuple):
    """A number to be seen first.

    Attributes:
        label: What it is.
        value: The number with its error or interval.
        detail: Of how many samples, and what it is to be compared with.
    """

    label: str
    value: str
    detail: str


def headlines(tables: Sequence[Table]) -> list[Headline]:
    """Bits per dimension, accuracies, gains and word error rates, from the numbers behind a run's tables.

    Args:
        tables: All tables of the run.
    """
    ordered = sorted(tables, key=lambda table: table.name != "bits_per_dim")
    return [headline for table in ordered if len(table.raw) for headline in _of(table)][:_MOST]


def _of(table: Table) -> Iterator[Headline]:
    """Tables are known by their columns: what a study is called does not matter."""
    columns, rows = set(table.raw.columns), table.raw.to_dict("records")
    title = table.name.replace("_", " ").capitalize()
    if table.name == "bits_per_dim":
        yield from _bits_per_dim(rows)
    elif {"attribute", "accuracy", "undecided", "chance"} <= columns and "method" not in columns:
        for row in rows:
            yield _accuracy(title, row)
    elif {"alternative", "gain_per_frame"} <= columns:
        for row in rows:
            gain = with_error(row["gain_per_frame"], row["gain_per_frame_standard_error"])
            name = f"{row['alignment']}, {row['alternative']}"
            yield Headline(f"{title}: {name}", gain, f"nats a frame, n = {row['n']}")
    elif {"strategy", "wer", "low", "high"} <= columns:
        for row in rows:
            interval = percent_with_interval(row["wer"], Interval(row["low"], row["high"]))
            yield Headline(f"WER, {row['strategy']}", f"{interval} %", "errors per word")


def _bits_per_dim(rows: Sequence[dict[Any, Any]]) -> Iterator[Headline]:
    """Those of all studies; studies of the same samples have the same."""
    studies: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        value = with_error(row["bpd"], row["standard_error"])
        detail = f"n = {row['n']}, probe error {short(row['probe_standard_error'])}"
        studies.setdefault((value, detail), []).append(str(row["study"]).replace("_", " "))
    for (value, detail), names in studies.items():
        of = f" ({', '.join(names)})" if len(studies) > 1 else ""
        yield Headline(f"BPD of the data{of}", value, detail)


def _accuracy(title: str, row: dict[Any, Any]) -> Headline:
    """That of the exact likelihood, or of the screened one where no sample was computed in full."""
    name = "screened" if math.isnan(row["accuracy"]) and "screened" in row else "accuracy"
    interval = Interval(row[f"{name}_low"], row[f"{name}_high"])
    value = f"{percent_with_interval(row[name], interval)} %"
    detail = f"n = {row.get(f'{name}_n', row['n'])}, chance {100 * row['chance']:.1f} %"
    detail += "" if math.isnan(row["undecided"]) else f", {int(row['undecided'])} undecided"
    part = f" ({row['part']})" if row.get("part") else ""
    return Headline(f"{title}: {row['attribute']}{part}", value, detail)
