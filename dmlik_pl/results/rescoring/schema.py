"""The columns of the records of n-best rescoring: one row per hypothesis."""

from dmlik_pl.records.schema import LIKELIHOOD, Column, Schema

__all__ = ["SCHEMA"]

SCHEMA = Schema(
    columns=(
        Column("row", "number", "place of the hypothesis in its list, from 1"),
        Column("reference", "text", "what was said"),
        Column("hypothesis", "text", "what was recognised"),
        Column("words", "number", "words of the reference"),
        Column("errors", "number", "word errors of the hypothesis"),
        Column("excluded", "text", "why the row takes part in no choice; empty if it does"),
        Column("normalisation", "text", "how texts were made comparable before errors were counted"),
        Column("duplicates", "text", "which repeated texts are left out"),
        Column("score_*", "number", "a score by its name, such as `score_acoustic`; higher is better", "nats"),
        Column("standard_error_*", "number", "standard error of that score over probes", "nats"),
        Column("repeat_*", "number", "the same score from other, independent probes", "nats"),
        Column("behind", "number", "how far the hypothesis is behind the likeliest of its list", "nats"),
        Column("behind_standard_error", "number", "standard error of `behind` over the probes that both share", "nats"),
        Column("probe_count", "number", "probes per node that each score is the mean of"),
        Column("alignment", "text", "how tokens get their frames: `search` or `durations`"),
        Column("recogniser", "text", "the recogniser that made the list"),
        Column("frames", "number", "length of the mel", "frames"),
        *LIKELIHOOD,
    ),
    key=("row",),
    attributes=True,
)
