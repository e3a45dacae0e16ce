"""What the text adds to the likelihood of speech: how its records are shown."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dmlik_pl.records.schema import LIKELIHOOD, Column, Schema
from dmlik_pl.results.heard import UTTERANCE
from dmlik_pl.results.kinds import Headline, Kind
from dmlik_pl.results.likelihoods import Data, of_data
from dmlik_pl.results.numbers import with_errors
from dmlik_pl.results.table import with_error
from dmlik_pl.results.text_gain.figures import text_gain_figures
from dmlik_pl.results.text_gain.summaries import text_gain_summary
from dmlik_pl.results.text_gain.tables import text_gain_tables

__all__ = ["KIND"]

_SCHEMA = Schema(
    columns=(
        *LIKELIHOOD,
        *UTTERANCE,
        Column("alignment", "text", "how tokens get their frames: `search` or `durations`"),
        Column("alternative", "text", "what the text is compared with: `mean` or `shuffled`"),
        Column("bpd_alternative", "number", "bits per dimension under the alternative", "bits/dim"),
        Column("gain", "number", "log-likelihood under the text minus that under the alternative", "nats"),
        Column("gain_standard_error", "number", "standard error of `gain` over the probes that both share", "nats"),
        Column("gain_probe_variance", "number", "variance of `gain` over probes, not widened", "nats²"),
        Column("gain_discretisation", "number", "the grid's error of `gain`, as of two independent errors", "nats"),
        Column("decided", "flag", "whether that error supports a gain or a loss"),
        Column("duration_log_p", "number", "log-probability of the durations", "nats"),
        Column("duration_log_p_alternative", "number", "the same under the alternative", "nats"),
    ),
    key=("alignment", "alternative"),
    means=("alignment", "alternative"),
    attributes=True,
)


def _data(frame: pd.DataFrame) -> Data | None:
    """The recordings under their own text by the first alignment; every alternative has the same."""
    alignments = frame["alignment"].unique()
    rows = frame[frame["alignment"] == alignments[0]].drop_duplicates("sample_id")
    return of_data(rows, f"alignment: {alignments[0]}" if len(alignments) > 1 else "")


def _scalars(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each alignment and alternative text."""
    for row in text_gain_summary(frame).to_dict("records"):
        which = f"{row['alignment']}_{row['alternative']}"
        yield from with_errors(row, "gain_per_frame", f"nats_a_frame_{which}")
        yield f"helps_{which}", row["helps"]


def _headlines(study: str, frame: pd.DataFrame) -> Iterator[Headline]:
    for row in text_gain_summary(frame).to_dict("records"):
        gain = with_error(row["gain_per_frame"], row["gain_per_frame_standard_error"])
        label = f"{study.replace('_', ' ').capitalize()}: {row['alignment']}, {row['alternative']}"
        yield Headline(label, gain, f"nats per frame, n = {row['n']}")


KIND = Kind(
    name="text_gain",
    schema=_SCHEMA,
    data=_data,
    tables=text_gain_tables,
    figures=text_gain_figures,
    scalars=_scalars,
    headlines=_headlines,
)
