"""From records of text gains to numbers: means, shares and sign tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import column, pooled_errors
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.likelihoods import nats_per_bpd
from dmlik_pl.stats.significance import binomial_p_value, holm, mean_over_utterances

__all__ = ["text_gain_summary"]


@once_per_frame
def text_gain_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """What the text adds to the likelihood, a row for each alignment and alternative.

    Args:
        frame: The records of the study.

    Returns:
        Columns alignment, alternative, n, non_finite; gain_per_frame (nats per frame), gain_bpd (bits per dimension)
        and duration_gain (nats per utterance; NaN where the alternative has no durations), each the mean over
        utterances with standard error and 95 % interval, and the probes' part of the error of the first two; helps,
        hurts and undecided, the shares of utterances; positive, the number of gains above zero; sign_p, the exact
        two-sided sign test of "as often above as below zero", and sign_p_holm, corrected for all rows.
    """
    rows = []
    for (alignment, alternative), group in frame.groupby(["alignment", "alternative"], sort=False):
        finite = np.isfinite(column(group, "gain"))
        part = group[finite]
        gain, error = column(part, "gain"), pooled_errors(part, "gain")
        frames, bits = column(part, "frames"), nats_per_bpd(part)
        decided = part["decided"].to_numpy(bool)
        durations = column(part, "duration_log_p") - column(part, "duration_log_p_alternative")
        n, positive = len(part), int((gain > 0).sum())
        row: dict[str, Any] = {"alignment": alignment, "alternative": alternative, "n": n}
        row["non_finite"] = int((~finite).sum())
        row |= mean_over_utterances(gain / frames, error / frames).columns("gain_per_frame", probes=True)
        row |= mean_over_utterances(gain / bits, error / bits).columns("gain_bpd", probes=True)
        row |= mean_over_utterances(durations).columns("duration_gain")
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


def _share(which: np.ndarray) -> float:
    return float(which.mean()) if which.size else float("nan")
