"""Every likelihood of a run with its total error, a row each: what `tables/scores.csv` holds."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from dmlik_pl.records.frames import column
from dmlik_pl.records.store import studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.kinds import Kind, kind_of
from dmlik_pl.results.likelihoods import total_errors

__all__ = ["scores_of"]

_CONDITIONS = ("prompt", "text")


def scores_of(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> pd.DataFrame:
    """Every likelihood of every study.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        attempts: Keeps what could not be made; without, it is logged only.

    Returns:
        Columns study, sample_id, those that name a row of the study's records, the prompt or text, log_p with error
        (nats) and bpd with bpd_error (bits per dimension), total errors both; where prompts compete, also correct,
        whether the prompt is the true one. A value that is not known is missing. Empty if no study has a likelihood.
    """
    attempts = attempts or Attempts()
    found = []
    for study, frame in studies(records).items():
        with attempts.making("The table of every score", study):
            kind = kind_of(study, frame)
            scores = _of_likelihoods(kind, frame) if kind.scores is None else kind.scores(frame)
            if len(scores):
                scores.insert(0, "study", study)
                found.append(scores)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _of_likelihoods(kind: Kind, frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each record that is a likelihood."""
    rows = kind.likelihoods(frame)
    named = [name for name in ("sample_id", *kind.schema.key, *_CONDITIONS) if name in rows]
    return rows[list(dict.fromkeys(named))].assign(
        log_p=column(rows, "log_p"),
        error=total_errors(rows, "log_p"),
        bpd=column(rows, "bpd"),
        bpd_error=total_errors(rows),
    )
