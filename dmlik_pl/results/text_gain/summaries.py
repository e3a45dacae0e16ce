"""From records of text gains to numbers: means, shares and sign tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of, column
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.likelihoods import nats_per_bpd
from dmlik_pl.results.numbers import mean_of
from dmlik_pl.stats.paired import permutation_p_value
from dmlik_pl.stats.rates import share
from dmlik_pl.stats.significance import holm, mean_with_error

__all__ = ["text_gain_summary"]


@once_per_frame
def text_gain_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """What the text adds to the likelihood, a row for each alignment and alternative.

    Args:
        frame: The records of the study.

    Returns:
        Columns alignment, alternative, n, non_finite; gain_per_frame (nats per frame), gain_bpd (bits per dimension)
        and duration_gain (nats per utterance; NaN where the alternative has no durations), each the mean over
        utterances with total error and 95 % interval, and the parts of the error of the first two; helps, hurts and
        undecided, the shares of utterances with their intervals (_low, _high); positive, the number of gains above
        zero; sign_p, the exact two-sided sign test of "as often above as below zero", over clusters where utterances
        come in such, and sign_p_holm, corrected for all rows.
    """
    rows = []
    for (alignment, alternative), group in frame.groupby(["alignment", "alternative"], sort=False):
        finite = np.isfinite(column(group, "gain"))
        part = group[finite]
        gain, clusters = column(part, "gain"), clusters_of(part)
        frames, bits = column(part, "frames"), nats_per_bpd(part)
        decided = part["decided"].to_numpy(bool)
        durations = column(part, "duration_log_p") - column(part, "duration_log_p_alternative")
        n, positive = len(part), int((gain > 0).sum())
        row: dict[str, Any] = {"alignment": alignment, "alternative": alternative, "n": n}
        row["non_finite"] = int((~finite).sum())
        row |= mean_of(part, "gain", 1 / frames).columns("gain_per_frame", parts=True)
        row |= mean_of(part, "gain", 1 / bits).columns("gain_bpd", parts=True)
        row |= mean_with_error(durations, clusters=clusters).columns("duration_gain")
        for name, chosen in (("helps", gain > 0), ("hurts", gain < 0), ("undecided", ~decided)):
            found = share(chosen if name == "undecided" else decided & chosen, clusters)
            row |= {name: found.value, f"{name}_low": found.interval.low, f"{name}_high": found.interval.high}
        # Exchanging signs sample by sample is the exact sign test; cluster by cluster, that of clusters.
        row |= {"positive": positive, "sign_p": permutation_p_value(gain > 0, gain < 0, clusters)}
        rows.append(row)
    raw = pd.DataFrame(rows)
    return raw.assign(sign_p_holm=holm(raw["sign_p"].tolist()))
