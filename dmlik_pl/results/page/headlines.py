"""The few numbers of a run that stand at the head of its report, each with its error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from dmlik_pl.records.store import studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.bits_per_dim import bits_per_dim_rows
from dmlik_pl.results.kinds import Headline, kind_of
from dmlik_pl.results.table import short, with_error

__all__ = ["headlines"]

_MOST = 12


def headlines(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> list[Headline]:
    """Bits per dimension of the data, then what each kind of study puts first.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        attempts: Keeps what could not be made; without, it is logged only.
    """
    attempts = attempts or Attempts()
    found: list[Headline] = []
    with attempts.making("The headline bits per dimension"):
        found += _bits_per_dim(bits_per_dim_rows(records))
    for study, frame in studies(records).items():
        with attempts.making("Headlines", study):
            found += kind_of(study, frame).headlines(study, frame)
    return found[:_MOST]


def _bits_per_dim(rows: pd.DataFrame) -> Iterator[Headline]:
    """Those of all studies; studies of the same samples have the same."""
    named: dict[tuple[str, str], list[str]] = {}
    for row in rows.to_dict("records"):
        value = with_error(row["bpd"], row["standard_error"])
        of = f" of {row['samples_expected']:g}" if row["n"] < row["samples_expected"] else ""
        parts = ", ".join(f"{part} {short(row[f'{part}_error'])}" for part in ("sampling", "probe", "grid"))
        detail = f"n = {row['n']}{of}; of ±: {parts}"
        detail += f", {row['part']}" if row["part"] else ""
        named.setdefault((value, detail), []).append(str(row["study"]).replace("_", " "))
    for (value, detail), names in named.items():
        of = f" ({', '.join(names)})" if len(named) > 1 else ""
        yield Headline(f"BPD of the data{of}", value, detail)
