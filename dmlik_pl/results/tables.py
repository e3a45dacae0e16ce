"""From records to tables: those that each kind of study declares, bits per dimension of the data, and failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from dmlik_pl.records.missing import missing_measures
from dmlik_pl.records.store import FAILURES, studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.bits_per_dim import bits_per_dim_table
from dmlik_pl.results.clusters import clusters_in_words
from dmlik_pl.results.coverage import Coverage, coverage, coverage_of_study
from dmlik_pl.results.kinds import kind_of
from dmlik_pl.results.table import Table

__all__ = ["make_tables"]


def make_tables(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> list[Table]:
    """All tables of a run.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        attempts: Keeps what could not be made; without, it is logged only.

    Returns:
        The tables of every study that has a record, then one of the data's bits per dimension and, if anything failed,
        one of the failures. Each caption says of how many samples it is.
    """
    attempts = attempts or Attempts()
    tables: list[Table] = []
    for study, frame in studies(records).items():
        with attempts.making("Tables", study):
            covered = coverage_of_study(records, study)
            words = clusters_in_words(frame)
            tables += [_counted(table, covered, frame, words) for table in kind_of(study, frame).tables(study, frame)]
    with attempts.making("The table bits per dim"):
        words = " ".join(dict.fromkeys(map(clusters_in_words, studies(records).values())))
        tables += [_counted(table, coverage(records), clusters=words) for table in bits_per_dim_table(records)]
    with attempts.making("The table failure"):
        tables += [_counted(table, coverage(records)) for table in _failure_table(records)]
    return tables


def _counted(table: Table, covered: Coverage, frame: pd.DataFrame | None = None, clusters: str = "") -> Table:
    """Say in a caption of how many samples and clusters it is, and below the table which measures some of them lack."""
    lacking = [] if frame is None else [f"{measure.words}." for measure in missing_measures(frame)]
    errors = any(name == "low" or str(name).endswith(("_low", "standard_error")) for name in table.raw)
    caption = f"{covered.caption(table.caption)} {clusters if errors else ''}".strip()
    return replace(table, caption=caption, notes=(*table.notes, *lacking))


def _failure_table(records: Mapping[str, pd.DataFrame]) -> list[Table]:
    """What failed and why."""
    failures = records.get(FAILURES, pd.DataFrame())
    if not len(failures):
        return []
    shown = failures.set_index("sample_id")[["study", "error"]].astype(str)
    caption = f"Failed units: {len(failures)}. They are tried again when the run is started again."
    return [Table("failures", caption, shown, failures)]
