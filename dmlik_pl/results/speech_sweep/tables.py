"""The table of a sweep of speech: Table 1 of Cross and Ragni."""

from __future__ import annotations

import math

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.records.missing import HEARD
from dmlik_pl.records.protocol import protocol_caption
from dmlik_pl.results.speech_sweep.summaries import speech_sweep_summary
from dmlik_pl.results.table import MISSING, Table, with_error

__all__ = ["speech_sweep_tables"]

_ROWS = (
    ("BPD", "bpd"),
    ("BPD marginal", "bpd_marginal"),
    ("log-F0 RMSE", "log_f0_rmse"),
    ("MCD (dB)", "cepstral_distortion"),
    ("WER", "wer"),
    ("ASV", "speaker_similarity"),
)
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
    headings = _headings(raw, "{:.2f}")
    if len(set(headings)) < len(headings):
        headings = _headings(raw, "{:.6g}")
    lines = {"σ": [f"{sigma:.3g}" if math.isfinite(sigma) else MISSING for sigma in raw["sigma"]]}
    for heading, name in _ROWS:
        if raw[name].notna().any():
            lines[heading] = [
                with_error(value, error) for value, error in zip(raw[name], raw[f"{name}_standard_error"], strict=True)
            ]
    shown = pd.DataFrame(list(lines.values()), index=pd.Index(lines, name="t"), columns=headings)
    return [Table(study, _sweep_caption(frame, raw, list(lines)), shown, raw)]


def _headings(raw: pd.DataFrame, form: str) -> list[str]:
    return [form.format(row.time) if row.stage == "sample" else row.stage.capitalize() for row in raw.itertuples()]


def _sweep_caption(frame: pd.DataFrame, raw: pd.DataFrame, lines: list[str]) -> str:
    alignment, durations, vocoder = (str(frame[name].iloc[0]) for name in ("alignment", "durations", "vocoder"))
    caption = (
        f"Speech over time, noise (t = 1) to data (t = 0). {describe(frame)} Tokens are aligned by "
        f"{_ALIGNMENTS.get(alignment, alignment)}. {_DURATIONS.get(durations, durations)} BPD (bits per dimension) "
        "reads x_t as data at t = 0; BPD marginal is its density at its own time t; both leave out the probability of "
        "the durations, which the records hold as duration_log_p. σ is the noise-to-signal ratio. Data: the recording. "
        f"Vocoded: its own mel through {vocoder}, which is what the vocoder alone costs; every x_t goes through it too."
    )
    if sentence := protocol_caption(frame):
        caption += f" {sentence}"
    if "log-F0 RMSE" in lines:
        caption += " log-F0 RMSE: of ln F0, in nats, where both are voiced."
    if "MCD (dB)" in lines:
        caption += " MCD: mel-cepstral distortion."
    if "WER" in lines:
        fewest, most = int(raw["words"].min()), int(raw["words"].max())
        errors = f"{most} words" if fewest == most else f"{fewest} to {most} words"
        caption += (
            f" WER: errors per word of {_only(frame, 'recogniser')} over all {errors}, so the data's own is that "
            "recogniser's error."
        )
    if "ASV" in lines:
        caption += f" ASV: cosine to the recording's voice by {_only(frame, 'speaker_encoder')}."
    values = "All but WER are means" if "WER" in lines else "Values are means"
    caption += (
        f" {values} over utterances; ± is the standard error over utterances (sampling and probes), 95 % intervals are "
        "in the CSV."
    )
    missing = [
        f"{int(raw[f'{name}_undefined'].sum())} values of {meaning}"
        for name, meaning in HEARD.items()
        if raw[f"{name}_undefined"].any()
    ]
    if missing:
        caption += (
            f" Not defined and left out, the utterances differing from column to column: {', '.join(missing)} of "
            f"{int(raw['n'].sum())} waves (columns _undefined of the CSV)."
        )
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} likelihoods were not finite and are left out."
    return caption


def _only(frame: pd.DataFrame, name: str) -> str:
    return " / ".join(sorted(frame[name].dropna().unique()))
