"""The few numbers of a run that stand at the head of its report, each with its error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from dmlik_pl.records.store import studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.bits_per_dim import bits_per_dim_rows
from dmlik_pl.results.kinds import Headline, kind_of
from dmlik_pl.results.table import short, with_error

__all__ = ["fair_share", "headlines", "headlines_by_study"]

_MOST = 12


def headlines(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> list[Headline]:
    """The headlines of a report: of many, every study has its share.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        attempts: Keeps what could not be made; without, it is logged only.
    """
    return fair_share(headlines_by_study(records, attempts), _MOST)


def headlines_by_study(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> list[list[Headline]]:
    """Bits per dimension of the data, then what each kind of study puts first, in a list each.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        attempts: Keeps what could not be made; without, it is logged only.
    """
    attempts = attempts or Attempts()
    found: list[list[Headline]] = []
    with attempts.making("The headline bits per dimension"):
        found.append(list(_bits_per_dim(bits_per_dim_rows(records))))
    for study, frame in studies(records).items():
        with attempts.making("Headlines", study):
            found.append(list(kind_of(study, frame).headlines(study, frame)))
    return found


def fair_share(groups: Sequence[Sequence[Headline]], most: int) -> list[Headline]:
    """The first of each group, then the second of each, and so on, as many as there may be; in the groups' order.

    Args:
        groups: Headlines in groups.
        most: How many there may be.
    """
    places = sorted((rank, group) for group, own in enumerate(groups) for rank in range(len(own)))[:most]
    return [groups[group][rank] for group, rank in sorted((group, rank) for rank, group in places)]


def _bits_per_dim(rows: pd.DataFrame) -> Iterator[Headline]:
    """Those of all studies; studies of the same samples have the same."""
    named: dict[tuple[str, str, str], list[str]] = {}
    for row in rows.to_dict("records"):
        value = with_error(row["bpd"], row["standard_error"])
        of = f" of {row['samples_expected']:g}" if row["n"] < row["samples_expected"] else ""
        parts = ", ".join(f"{part} {short(row[f'{part}_error'])}" for part in ("sampling", "probe", "grid"))
        detail = f"n = {row['n']}{of}" + (f", {row['part']}" if row["part"] else "")
        named.setdefault((value, detail, f"of ±: {parts}"), []).append(str(row["study"]).replace("_", " "))
    for numbers, names in named.items():
        of = f" ({', '.join(names)})" if len(named) > 1 else ""
        yield Headline(f"Bits per dimension (BPD) of the data{of}", *numbers)
