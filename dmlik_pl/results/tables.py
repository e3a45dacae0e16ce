"""From records to tables. A new study registers its own maker with `register_tables("kind")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd

from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.coverage import Coverage, coverage, coverage_of_study
from dmlik_pl.results.frames import kind_of
from dmlik_pl.results.missing import missing_measures
from dmlik_pl.results.store import FAILURES, studies
from dmlik_pl.results.summaries import bits_per_dim_summary
from dmlik_pl.results.table import Table, short, with_error

__all__ = ["TableMaker", "make_tables", "register_tables"]

TableMaker = Callable[[str, pd.DataFrame], list[Table]]
"""Takes the study's name and its records. Of how many samples they are is added to the captions of its tables."""

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


def make_tables(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> list[Table]:
    """All tables of a run.

    Args:
        records: One frame a study, `failures` and `samples`, as the record store returns them.
        attempts: Keeps what could not be made; without, it is logged only.

    Returns:
        The tables of every study that has a maker and a record, then one of the data's bits per dimension and, if
        anything failed, one of the failures. Each caption says of how many samples it is.
    """
    attempts = attempts or Attempts()
    tables: list[Table] = []
    for study, frame in studies(records).items():
        if (kind := kind_of(study, frame)) in _MAKERS:
            with attempts.making("Tables", study):
                covered = coverage_of_study(records, study)
                tables += [_counted(table, covered, frame) for table in _MAKERS[kind](study, frame)]
    for make in (_bits_per_dim_table, _failure_table):
        with attempts.making(f"The table{make.__name__.removesuffix('_table').replace('_', ' ')}"):
            tables += [_counted(table, coverage(records)) for table in make(records)]
    return tables


def _counted(table: Table, covered: Coverage, frame: pd.DataFrame | None = None) -> Table:
    """Say in a caption of how many samples it is, and which measures some of them lack."""
    lacking = [] if frame is None else [f"{measure.words}." for measure in missing_measures(frame)]
    return replace(table, caption=" ".join([covered.caption(table.caption), *lacking]))


def _failure_table(records: Mapping[str, pd.DataFrame]) -> list[Table]:
    """What failed and why."""
    failures = records.get(FAILURES, pd.DataFrame())
    if not len(failures):
        return []
    shown = failures.set_index("sample_id")[["study", "error"]].astype(str)
    caption = f"Failed units: {len(failures)}. They are tried again when the run is started again."
    return [Table("failures", caption, shown, failures)]


def _bits_per_dim_table(records: Mapping[str, pd.DataFrame]) -> list[Table]:
    """Bits per dimension of the data in every study that has likelihoods of data."""
    rows = []
    for study, frame in studies(records).items():
        if (summary := bits_per_dim_summary(frame)) is not None:
            covered = coverage_of_study(records, study)
            expected = float("nan") if covered.expected is None else covered.expected
            rows.append({"study": study, "failed": covered.failed, "samples_expected": expected} | summary)
    if not rows:
        return []
    raw = pd.DataFrame(rows)
    lines = [
        {
            "n": f"{row['n']} of {row['samples_expected']:g}" if row["n"] < row["samples_expected"] else str(row["n"]),
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
    shown = pd.DataFrame(lines, index=pd.Index(raw["study"], name="study"))
    return [Table("bits_per_dim", _bits_per_dim_caption(raw), shown, raw)]


def _bits_per_dim_caption(raw: pd.DataFrame) -> str:
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
    return caption
