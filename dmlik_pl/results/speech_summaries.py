"""From records of speech to numbers: means, word error rates and gains with their errors and intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.results.frames import column
from dmlik_pl.results.missing import HEARD, undefined
from dmlik_pl.results.significance import (
    binomial_p_value,
    bootstrap_mean_interval,
    corpus_rate,
    holm,
    mean_with_error,
)

__all__ = ["mean_columns", "speech_sweep_summary", "text_gain_summary"]


def speech_sweep_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a sweep of speech: a row for the recordings, one for their mels vocoded, then from noise to data.

    Args:
        frame: The records of the study.

    Returns:
        Columns stage, time, sigma, n, non_finite; of bpd, bpd_marginal, log_f0_rmse (nats), cepstral_distortion (dB)
        and speaker_similarity the mean over utterances, its standard error and 95 % interval (_standard_error, _low,
        _high); the probes' part of the error of bpd and bpd_marginal (_probe_error); how many utterances have no value
        of what is heard (_undefined); wer, the corpus word error rate, in the same way, with word_errors and words.
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
            row |= mean_columns(name, column(level, name), column(level, f"{name}_standard_error"))
        for name in HEARD:
            row |= mean_columns(name, column(level, name))
            row[f"{name}_undefined"] = int(undefined(level, name).sum()) if name in taken else 0
        errors, words = column(level, "word_errors"), column(level, "words")
        known = np.isfinite(errors)
        rate = corpus_rate(errors[known], words[known])
        row |= {"wer": rate.value, "wer_standard_error": rate.standard_error}
        row |= {"wer_low": rate.interval.low, "wer_high": rate.interval.high}
        row |= {"word_errors": int(errors[known].sum()), "words": int(words[known].sum())}
        rows.append(row)
    return pd.DataFrame(rows)


def text_gain_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """What the text adds to the likelihood, a row for each alignment and alternative.

    Args:
        frame: The records of the study.

    Returns:
        Columns alignment, alternative, n, non_finite; gain_per_frame (nats a frame), gain_bpd (bits per dimension) and
        duration_gain (nats an utterance; NaN where the alternative has no durations), each the mean over utterances
        with standard error and 95 % interval, and the probes' part of the error of the first two; helps, hurts and
        undecided, the shares of utterances; positive, the number of gains above zero; sign_p, the exact two-sided sign
        test of "as often above as below zero", and sign_p_holm, corrected for all rows.
    """
    rows = []
    for (alignment, alternative), group in frame.groupby(["alignment", "alternative"], sort=False):
        finite = np.isfinite(column(group, "gain"))
        part = group[finite]
        gain, error = column(part, "gain"), column(part, "gain_standard_error")
        frames, bits = column(part, "frames"), column(part, "dims") * np.log(2)
        decided = part["decided"].to_numpy(bool)
        durations = column(part, "duration_log_p") - column(part, "duration_log_p_alternative")
        n, positive = len(part), int((gain > 0).sum())
        row: dict[str, Any] = {"alignment": alignment, "alternative": alternative, "n": n}
        row["non_finite"] = int((~finite).sum())
        row |= mean_columns("gain_per_frame", gain / frames, error / frames)
        row |= mean_columns("gain_bpd", gain / bits, error / bits)
        row |= mean_columns("duration_gain", durations)
        row |= {
            "helps": _share(decided & (gain > 0)),
            "hurts": _share(decided & (gain < 0)),
            "undecided": _share(~decided),
            "positive": positive,
            "sign_p": binomial_p_value(positive, int((gain != 0).sum()), 0.5),
        }
        rows.append(row)
    raw = pd.DataFrame(rows)
    return raw.assign(sign_p_holm=holm(raw["sign_p"].tolist()))


def mean_columns(name: str, values: np.ndarray, probe_errors: np.ndarray | None = None) -> dict[str, float]:
    """Mean of the finite values with its standard error, 95 % interval, and the probes' part of the error if known."""
    usable = np.isfinite(values)
    mean = mean_with_error(values[usable], None if probe_errors is None else probe_errors[usable])
    low = high = float("nan")
    if mean.n > 1:
        low, high = bootstrap_mean_interval(values[usable])
    result = {name: mean.value, f"{name}_standard_error": mean.standard_error, f"{name}_low": low, f"{name}_high": high}
    return result if probe_errors is None else result | {f"{name}_probe_error": mean.probe_error}


def _share(which: np.ndarray) -> float:
    return float(which.mean()) if which.size else float("nan")
