"""The columns of the records of a sweep of speech over time."""

from dmlik_pl.records.schema import LIKELIHOOD, Column, Schema, with_errors
from dmlik_pl.results.heard import HEARING, UTTERANCE

__all__ = ["SCHEMA"]

SCHEMA = Schema(
    columns=(
        *LIKELIHOOD,
        *UTTERANCE,
        *HEARING,
        Column("stage", "text", "`data` (the recording), `vocoded` (its own mel), or `sample`"),
        Column("time", "number", "time t of a sample; 1 is noise, 0 data"),
        Column("sigma", "number", "noise-to-signal ratio at that time"),
        *with_errors("bpd_marginal", "bits per dimension of x_t at its own time"),
        Column("alignment", "text", "how tokens get their frames: `search` or `durations`"),
        Column("durations", "text", "whose durations samples have: `reference` or `model`"),
        Column("duration_log_p", "number", "log-probability of the durations", "nats"),
    ),
    key=("stage", "time"),
    means=("stage", "time"),
    attributes=True,
)
