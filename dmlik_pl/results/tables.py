"""From records to tables. A new study registers its own maker with `register_tables("kind")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from dmlik_pl.results.frames import failure_count, kind_of
from dmlik_pl.results.store import FAILURES
from dmlik_pl.results.summaries import bits_per_dim_summary
from dmlik_pl.results.table import Table, short, with_error

__all__ = ["TableMaker", "make_tables", "register_tables"]

TableMaker = Callable[[str, pd.DataFrame, int], list[Table]]
"""Takes the study's name, its records and its number of failed samples."""

_MAKERS: dict[str, TableMaker] = {}


def register_tables(kind: str) -> Callable[[TableMaker], TableMaker]:
    """Name the function that makes the tables of a kind of study.

    Args:
        kind: The study's kind, as in its records.
    """

    def register(maker: TableMaker) -> TableMaker:
        _MAKERS[kind] = maker
        return maker

    return register


def make_tables(records: Mapping[str, pd.DataFrame]) -> list[Table]:
    """All tables of a run.

    Args:
        records: One frame a study, and `failures`, as the record store returns them.

    Returns:
        The tables of every study that has a maker and a record, then one of the data's bits per dimension and, if
        anything failed, one of the failures.
    """
    failures = records.get(FAILURES, pd.DataFrame(columns=["study", "sample_id", "error"]))
    studies = {name: frame for name, frame in records.items() if name != FAILURES and len(frame)}
    tables = []
    for study, frame in studies.items():
        if (kind := kind_of(study, frame)) in _MAKERS:
            tables += _MAKERS[kind](study, frame, failure_count(failures, study))
    tables += _bits_per_dim_table(studies, failures)
    if len(failures):
        shown = failures.set_index("sample_id")[["study", "error"]].astype(str)
        tables.append(
            Table(
                "failures",
                f"Failed units: {len(failures)}. They are tried again when the run is started again.",
                shown,
                failures,
            )
        )
    return tables


def _bits_per_dim_table(studies: Mapping[str, pd.DataFrame], failures: pd.DataFrame) -> list[Table]:
    """Bits per dimension of the data in every study that has likelihoods of data."""
    raw = pd.DataFrame(
        [
            {"study": study, "failed": failure_count(failures, study)} | summary
            for study, frame in studies.items()
            if (summary := bits_per_dim_summary(frame)) is not None
        ]
    )
    if raw.empty:
        return []
    lines = [
        {
            "n": str(row["n"]),
            "failed": str(row["failed"]),
            "BPD": with_error(row["bpd"], row["standard_error"]),
            **({"levels ≤": f"{row['bpd'] + row['dequantisation']:.3f}"} if raw["dequantisation"].any() else {}),
            "probe error": short(row["probe_standard_error"]),
            "grid error": short(row["discretisation"]),
            "D": f"{row['dims']:.6g}",
            "calls": f"{row['network_calls']:.4g}",
        }
        for row in raw.to_dict("records")
    ]
    densities = dict.fromkeys(f"{row.density} of {row.space}" for row in raw.itertuples() if row.density)
    meaning = f" ({'; '.join(densities)})" if densities else ""
    caption = (
        f"Bits per dimension of the data under their own conditions{meaning}, weighted by dimensions, ± standard error "
        "over samples. Probe error: the part of it that more probes would remove. Grid error: mean estimate of the "
        "solver's error. D: dimensions. Calls: network evaluations and Jacobian products a likelihood. A density can "
        "exceed 1, so its BPD can be negative. Of a study of several settings: the largest size, "
        "as it is, under the guidance nearest to 1."
    )
    if raw["dequantisation"].any():
        caption += (
            f" Levels: bits per dimension of the discrete data, at most BPD + {raw['dequantisation'].max():.4f} "
            "for uniform dequantisation."
        )
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} likelihoods were not finite and are left out."
    if raw["too_dense"].any():
        caption += (
            f" {raw['too_dense'].sum()} likelihoods are higher than data smoothed by noise of size r_min can have: the "
            "solver has not converged, or the flow (guidance above 1) is not that of a noised density."
        )
    return [Table("bits_per_dim", caption, pd.DataFrame(lines, index=pd.Index(raw["study"], name="study")), raw)]
