"""From the records of a sweep over time to numbers: likelihoods, CLIP scores and distances with their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from dmlik_pl.metrics.frechet import frechet_distance
from dmlik_pl.results.frames import column, feature_matrix
from dmlik_pl.results.significance import mean_with_error

__all__ = ["sweep_summary"]

_JACKKNIFE_GROUPS = 10


def sweep_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a time sweep, one row a noise level, the data first and then from noise to data.

    Args:
        frame: The records of the study.

    Returns:
        Columns stage, time, sigma, n, non_finite, and of bpd, bpd_marginal, clip and fid the mean, its standard error
        and (bpd only) the probes' part of it.
    """
    frame = frame.assign(time=column(frame, "time"))
    data = frame[frame["stage"] == "data"]
    samples = frame[frame["stage"] == "sample"]
    levels = [("data", float("nan"), data)] if len(data) else []
    levels += [
        ("sample", time, samples[samples["time"] == time]) for time in sorted(set(samples["time"]), reverse=True)
    ]
    rows = []
    for stage, time, level in levels:
        row: dict[str, Any] = {"stage": stage, "time": time, "sigma": column(level, "sigma").mean(), "n": len(level)}
        finite = np.isfinite(column(level, "bpd"))
        row["non_finite"] = int((~finite).sum())
        for name in ("bpd", "bpd_marginal", "clip"):
            values, errors = column(level, name), column(level, f"{name}_standard_error")
            usable = np.isfinite(values)
            mean = mean_with_error(values[usable], errors[usable])
            row |= {name: mean.value, f"{name}_standard_error": mean.standard_error}
            if name != "clip":
                row[f"{name}_probe_error"] = mean.probe_error
        row["fid"], row["fid_standard_error"], row["fid_features"] = _frechet(data, level)
        rows.append(row)
    return pd.DataFrame(rows)


def _frechet(data: pd.DataFrame, level: pd.DataFrame) -> tuple[float, float, float]:
    """Frechet distance of a level to the data, its grouped-jackknife standard error, and the number of features."""
    nothing = (float("nan"), float("nan"), float("nan"))
    names = sorted(set(data["sample_id"]) & set(level["sample_id"]))
    if len(names) < 2:
        return nothing
    reference, other = (
        feature_matrix(part.drop_duplicates("sample_id").set_index("sample_id").loc[names]) for part in (data, level)
    )
    if reference is None or other is None:
        return nothing
    both = torch.from_numpy(reference), torch.from_numpy(other)
    distance = max(0.0, float(frechet_distance(*both)))
    groups = min(_JACKKNIFE_GROUPS, len(names))
    if level["stage"].iloc[0] == "data":
        return 0.0, 0.0, float(reference.shape[1])
    if len(names) - -(-len(names) // groups) < 2:
        return distance, float("nan"), float(reference.shape[1])
    # A sample and its data image share a prompt, so both are left out together.
    group = torch.arange(len(names)) % groups
    left_out = np.array([float(frechet_distance(*(part[group != g] for part in both))) for g in range(groups)])
    error = np.sqrt((groups - 1) / groups * np.square(left_out - left_out.mean()).sum())
    return distance, float(error), float(reference.shape[1])
