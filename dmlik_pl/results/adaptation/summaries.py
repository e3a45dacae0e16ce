"""From records of an adaptation to numbers: every row of the grid, its difference from the recording, round trips."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of, column
from dmlik_pl.records.missing import undefined
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.numbers import mean_of, word_error_columns
from dmlik_pl.stats.paired import matched_pairs, permutation_p_value
from dmlik_pl.stats.rates import rate_difference
from dmlik_pl.stats.significance import holm, mean_with_error

__all__ = ["adaptation_summary", "grid_rows", "paired_summary", "published_cells", "round_trip_summary"]

GRID = ["mean", "stage", "forward", "reverse"]
"""What names a row of the grid; stages are data (the recording), vocoded (its own mel, spoken) and adapted."""

BASELINES = ("vocoded", "data")
VOICES = ("speaker_similarity", "source_similarity")

_PAPER_BLUR = (5, 1.0)
_PAPER_NAMES = {
    ("data", "none", "none"): "None / None",
    ("adapted", "stochastic", "Euler"): "Euler / Euler",
    ("adapted", "RK45", "Euler"): "RK45 / Euler",
    ("adapted", "RK45", "RK45"): "RK45 / RK45",
}


def grid_rows(frame: pd.DataFrame) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The records of each row of the grid, with its names, in the order of the records; without round trips."""
    part = frame[frame["stage"] != "round trip"]
    return [
        (dict(zip(GRID, map(str, key), strict=True)), rows.set_index("sample_id", drop=False))
        for key, rows in part.groupby(GRID, sort=False)
    ]


@once_per_frame
def adaptation_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of every row of the grid.

    Args:
        frame: The records of the study.

    Returns:
        Columns mean, stage, forward, reverse, blur_kernel, blur_sigma, n, non_finite; wer, the corpus word error rate,
        with word_errors and words; of bpd (mean: the recording's blur), bpd_own_mean (mean: the mel's own blur),
        speaker_similarity (cosine to the reference voice), source_similarity (cosine to the recording) and latent_rms
        (root mean square of x_T - mu, 1 for the model's own data) the mean over utterances; of each of these the
        total error over utterances and the 95 % interval (_standard_error, _low, _high); the parts of the error of the
        bpd (_sampling_error, _probe_error, _grid_error); how many waves have no voice (speaker_similarity_undefined).
    """
    rows = []
    for names, part in grid_rows(frame):
        row: dict[str, Any] = names | {name: float(part[name].iloc[0]) for name in ("blur_kernel", "blur_sigma")}
        row["n"] = len(part)
        row["non_finite"] = int((~np.isfinite(column(part, "bpd"))).sum()) if names["stage"] != "vocoded" else 0
        row |= word_error_columns(part)
        for name in ("bpd", "bpd_own_mean"):
            row |= mean_of(part, name).columns(name, parts=True)
        for name in (*VOICES, "latent_rms"):
            row |= mean_of(part, name).columns(name)
        row["speaker_similarity_undefined"] = int(undefined(part, "speaker_similarity").sum())
        rows.append(row)
    return pd.DataFrame(rows)


@once_per_frame
def paired_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Every adapted row against the untouched recording, utterance by utterance.

    Args:
        frame: The records of the study.

    Returns:
        A row for each row of the grid and baseline ("vocoded" is the recording's own mel through the same vocoder,
        "data" the recording itself): mean, forward, reverse, baseline, n; wer_difference with its 95 % interval
        (low, high); better and worse, utterances with fewer and more errors; matched_pairs_z and matched_pairs_p
        (Gillick and Cox), and permutation_p, each p with a Holm correction over all rows (_holm); similarity_difference
        (cosine to the reference), and against the recording bpd_change (same mean, same probes), each the mean over
        utterances with total error and 95 % interval, and the parts of the error of bpd_change.
    """
    grid = grid_rows(frame)
    untouched = {(names["mean"], names["stage"]): part for names, part in grid if names["stage"] in BASELINES}
    rows = []
    for names, part in grid:
        if names["stage"] != "adapted":
            continue
        for baseline in BASELINES:
            other = untouched[names["mean"], baseline].loc[part.index]
            row: dict[str, Any] = {key: names[key] for key in ("mean", "forward", "reverse")}
            row |= {"baseline": baseline, "n": len(part)} | _word_difference(part, other)
            nearer = column(part, VOICES[0]) - column(other, VOICES[0])
            row |= mean_with_error(nearer, clusters=clusters_of(part)).columns("similarity_difference")
            change = mean_of(part, "bpd_change", 1.0 if baseline == "data" else np.nan)
            rows.append(row | change.columns("bpd_change", parts=True))
    raw = pd.DataFrame(rows)
    for test in ("matched_pairs_p", "permutation_p") if len(raw) else ():
        known = raw[test].notna()
        raw[f"{test}_holm"] = np.nan
        raw.loc[known, f"{test}_holm"] = holm(raw.loc[known, test].tolist())
    return raw


@once_per_frame
def round_trip_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """What each solver loses on the way there and back, which should be nothing.

    Args:
        frame: The records of the study.

    Returns:
        Columns mean, solver, description, n; of change_rms (relative to the standard deviation of the spectrogram) the
        median, mean and largest over utterances; change_max, the largest change of any value (nats); latent_rms, the
        mean root mean square of x_T - mu, with standard error and 95 % interval.
    """
    rows = []
    part = frame[frame["stage"] == "round trip"]
    for (mean, solver), trips in part.groupby(["mean", "forward"], sort=False):
        change = column(trips, "change_rms")
        row = {"mean": mean, "solver": solver, "description": trips["forward_solver"].iloc[0], "n": len(trips)}
        row |= {"change_rms_median": np.median(change), "change_rms_mean": change.mean()}
        row |= {"change_rms_largest": change.max(), "change_max": column(trips, "change_max").max()}
        rows.append(row | mean_of(trips, "latent_rms").columns("latent_rms"))
    return pd.DataFrame(rows)


def published_cells(frame: pd.DataFrame) -> Iterator[tuple[str, str, float, float]]:
    """The numbers that Table 3 of the paper has: measure, column, value and standard error.

    Its "Euler" forward is the stochastic draw, its untouched speech was not vocoded, its likelihoods have the blur of
    the recording, and its ASV is (cosine + 1) / 2. Of several blurs that of the paper (5, sigma 1) is taken, or the
    first.

    Args:
        frame: The records of the study.
    """
    summary = adaptation_summary(frame)
    paper = summary[(summary["blur_kernel"] == _PAPER_BLUR[0]) & (summary["blur_sigma"] == _PAPER_BLUR[1])]
    mean = (paper if len(paper) else summary)["mean"].iloc[0]
    for row in summary[summary["mean"] == mean].to_dict("records"):
        name = _PAPER_NAMES.get((row["stage"], row["forward"], row["reverse"]))
        if name is not None:
            yield "WER", name, row["wer"], row["wer_standard_error"]
            yield "BPD", name, row["bpd"], row["bpd_standard_error"]
            similarity, error = row["speaker_similarity"], row["speaker_similarity_standard_error"]
            yield "ASV", name, (similarity + 1) / 2, error / 2


def _word_difference(part: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """The difference of two word error rates on the same utterances, and its tests."""
    errors, theirs, words = column(part, "word_errors"), column(other, "word_errors"), column(part, "words")
    known = np.isfinite(errors) & np.isfinite(theirs)
    errors, theirs, words, clusters = errors[known], theirs[known], words[known], clusters_of(part[known])
    if not words.sum() > 0:
        names = ("wer_difference", "low", "high", "matched_pairs_z", "matched_pairs_p", "permutation_p")
        return dict.fromkeys(names, float("nan")) | {"better": 0, "worse": 0}
    interval = rate_difference(errors - theirs, words, clusters).interval
    test = matched_pairs(errors, theirs, clusters)
    return {
        "wer_difference": (errors - theirs).sum() / words.sum(),
        "low": interval.low,
        "high": interval.high,
        "better": int((errors < theirs).sum()),
        "worse": int((errors > theirs).sum()),
        "matched_pairs_z": test.z,
        "matched_pairs_p": test.p,
        "permutation_p": permutation_p_value(errors, theirs, clusters),
    }
