"""From records of a sweep of speech to numbers: means and word error rates with their errors and intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import column
from dmlik_pl.records.missing import HEARD, undefined
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.numbers import mean_of, word_error_columns

__all__ = ["speech_sweep_summary"]


@once_per_frame
def speech_sweep_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a sweep of speech: a row for the recordings, one for their mels vocoded, then from noise to data.

    Args:
        frame: The records of the study.

    Returns:
        Columns stage, time, sigma, n, non_finite; of bpd, bpd_marginal, log_f0_rmse (nats), cepstral_distortion (dB)
        and speaker_similarity the mean over utterances, its total error and 95 % interval (_standard_error, _low,
        _high); the parts of the error of bpd and bpd_marginal (_sampling_error, _probe_error, _grid_error); how many
        utterances have no value of what is heard (_undefined); wer, the corpus word error rate, in the same way, with
        word_errors and words.
    """
    frame = frame.assign(time=column(frame, "time"))
    levels = [(stage, float("nan"), frame[frame["stage"] == stage]) for stage in ("data", "vocoded")]
    samples = frame[frame["stage"] == "sample"]
    levels += [
        ("sample", time, samples[samples["time"] == time]) for time in sorted(set(samples["time"]), reverse=True)
    ]
    taken = [name for name in HEARD if np.isfinite(column(frame, name)).any()]
    rows = []
    for stage, time, level in levels:
        row: dict[str, Any] = {"stage": stage, "time": time, "sigma": column(level, "sigma").mean(), "n": len(level)}
        row["non_finite"] = int((~np.isfinite(column(level, "bpd"))).sum()) if stage != "vocoded" else 0
        for name in ("bpd", "bpd_marginal"):
            row |= mean_of(level, name).columns(name, parts=True)
        for name in HEARD:
            row |= mean_of(level, name).columns(name)
            row[f"{name}_undefined"] = int(undefined(level, name).sum()) if name in taken else 0
        rows.append(row | word_error_columns(level))
    return pd.DataFrame(rows)
