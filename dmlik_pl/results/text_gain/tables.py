"""The table of text gains: what the text adds to the likelihood."""

from __future__ import annotations

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.results.columns import Row, Shown, count, error, estimate, p_value, share_with_interval, table_of
from dmlik_pl.results.table import Table, bracket, with_error
from dmlik_pl.results.text_gain.summaries import text_gain_summary

__all__ = ["text_gain_tables"]

_COLUMNS = (
    count("n", meaning="utterances"),
    Shown("nats / frame", lambda row: _with_interval(row, "gain_per_frame"), "the gain over the frames of the mel"),
    estimate("bits / dim", "gain_bpd", "the gain in bits per dimension"),
    error("probe error", "gain_per_frame_probe_error", "part of ± per frame that more probes would remove"),
    error("grid error", "gain_per_frame_grid_error", "part of ± per frame by the time grid, of two independent errors"),
    share_with_interval("helps %", "helps", "utterances whose own probe error supports a gain"),
    share_with_interval("hurts %", "hurts", "utterances whose own probe error supports a loss; the rest is undecided"),
    Shown("gains", lambda row: f"{row['positive']} of {row['n']}", "utterances with a gain above zero"),
    p_value("p", "sign_p_holm", "exact sign test of as many gains as losses, Holm-corrected"),
    estimate("log p(durations)", "duration_gain", "gain of the durations' own probability, nats per utterance"),
)
_NOTES = (
    "Alternatives: mean, the text's means averaged over all frames; shuffled, the same words in another order, aligned "
    "in the same way.",
    "Alignments: search, the best path for this mel, which flatters a wrong text too; durations, predicted and "
    "stretched without a look at the mel.",
)


def text_gain_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """Whether the likelihood hears the text: its gain over alternatives, utterance by utterance."""
    raw = text_gain_summary(frame)
    caption = (
        "What the text adds to the likelihood: log p(mel | text) minus log p(mel | alternative), on the same probes "
        "and grid. Means over utterances ± total error; brackets: 95 % interval."
    )
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} gains were not finite and are left out."
    headings = raw["alignment"] + ", " + raw["alternative"]
    return [table_of(study, caption, raw, _COLUMNS, headings, "alignment, alternative", (*_NOTES, describe(frame)))]


def _with_interval(row: Row, name: str) -> str:
    shown = with_error(row[name], row[f"{name}_standard_error"])
    return f"{shown} {bracket(row[f'{name}_low'], row[f'{name}_high'], '.3g')}".rstrip()
