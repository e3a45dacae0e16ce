"""The table of a sweep of speech: Table 1 of Cross and Ragni."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.records.missing import HEARD
from dmlik_pl.records.protocol import protocol_caption
from dmlik_pl.results.columns import Shown, across, error_parts, estimate, share_with_interval, table_of
from dmlik_pl.results.likelihoods import left_out
from dmlik_pl.results.numbers import distinct, span
from dmlik_pl.results.over_time import SIGMA, time_headings
from dmlik_pl.results.speech_sweep.summaries import speech_sweep_summary
from dmlik_pl.results.table import Table

__all__ = ["speech_sweep_tables"]

_ALIGNMENTS = {
    "search": "the best monotonic path for the recording's own mel (search)",
    "durations": "predicted durations, stretched to the recording's length without a look at its mel (durations)",
}
_DURATIONS = {
    "reference": "Samples have the durations of the recording's alignment (reference) and so its length.",
    "model": "Samples have the durations that the model predicts (model), so their length is their own.",
}


def speech_sweep_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """Table 1: likelihood and what is heard of X_t, from noise to data."""
    raw = speech_sweep_summary(frame)
    caption = (
        "Speech over time from noise (t = 1) to data (t = 0). Means over utterances ± total error (sampling, "
        f"probes, grid); all 95 % intervals are in the CSV. {left_out(raw)}"
    )
    legend = {
        "Data": "the recording",
        "Vocoded": f"its own mel through {frame['vocoder'].iloc[0]}, which is what the vocoder alone costs; every x_t "
        "goes through it too",
    }
    columns = (SIGMA, *_measures(frame, raw))
    table = table_of(study, caption.rstrip(), raw, columns, time_headings(raw), "t", list(_notes(frame, raw)), legend)
    return [across(table)]


def _measures(frame: pd.DataFrame, raw: pd.DataFrame) -> Iterator[Shown]:
    """Those that are known anywhere."""
    recogniser, encoder = (distinct(frame, name) for name in ("recogniser", "speaker_encoder"))
    for heading, name, meaning in (
        (
            "BPD",
            "bpd",
            "bits per dimension of x_t read as data at t = 0, without the probability of the durations "
            "(duration_log_p of the records)",
        ),
        ("BPD marginal", "bpd_marginal", "the same at its own time t"),
        ("log-F0 RMSE", "log_f0_rmse", "of ln F0, in nats, where both are voiced"),
        ("MCD (dB)", "cepstral_distortion", "mel-cepstral distortion"),
    ):
        yield estimate(heading, name, meaning, wanted=raw[name].notna().any())
    yield share_with_interval(
        "WER %",
        "wer",
        f"errors per word of {recogniser} with their 95 % interval, over all {span(raw['words'])} words, not per "
        "utterance; that of the data is the recogniser's own error",
        wanted=raw["wer"].notna().any(),
    )
    voice = f"cosine to the recording's voice by {encoder}"
    yield estimate("ASV", "speaker_similarity", voice, wanted=raw["speaker_similarity"].notna().any())


def _notes(frame: pd.DataFrame, raw: pd.DataFrame) -> Iterator[str]:
    alignment, durations = (str(frame[name].iloc[0]) for name in ("alignment", "durations"))
    yield describe(frame)
    yield error_parts(raw, "bpd", "bpd_marginal")
    yield f"Tokens are aligned by {_ALIGNMENTS.get(alignment, alignment)}. {_DURATIONS.get(durations, durations)}"
    yield protocol_caption(frame)
    undefined = {meaning: raw[f"{name}_undefined"].sum() for name, meaning in HEARD.items()}
    missing = [f"{count} values of {meaning}" for meaning, count in undefined.items() if count]
    if missing:
        yield (
            f"Not defined and left out, for different utterances in different columns: {', '.join(missing)} of "
            f"{raw['n'].sum()} waves (columns _undefined of the CSV)."
        )
