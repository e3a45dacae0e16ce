"""Distances between sets of images of a sweep, with jackknife errors over samples or their clusters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmlik_pl.metrics.frechet import frechet_distance
from dmlik_pl.metrics.kernel import kernel_distance, kernel_distance_standard_error
from dmlik_pl.records.frames import clusters_of, features_of
from dmlik_pl.stats.significance import interval_reach

__all__ = ["ROUNDING", "Distances", "distances"]

ROUNDING = 1e-5
"""Relative difference below which numbers are equal but for rounding."""

_JACKKNIFE_GROUPS = 10


class Distances(NamedTuple):
    """Distances of a set of images to the data with jackknife errors and intervals, from n features of each."""

    fid: float = float("nan")
    fid_standard_error: float = float("nan")
    fid_low: float = float("nan")
    fid_high: float = float("nan")
    kid: float = float("nan")
    kid_standard_error: float = float("nan")
    kid_low: float = float("nan")
    kid_high: float = float("nan")
    fid_n: int = 0
    fid_features: int = 0


def distances(data: pd.DataFrame, level: pd.DataFrame) -> Distances:
    """Distances of the images of a noise level to the data, over the samples that have features of both.

    Args:
        data: Records of the data, with the column feature.
        level: Records of the noise level.
    """
    features = [features_of(part) for part in (data, level)]
    names = sorted(set(features[0]) & set(features[1]))
    if len(names) < 2:
        return Distances()
    reference, other = (np.stack([own[name] for name in names]) for own in features)
    behind = {"fid_n": len(names), "fid_features": reference.shape[1]}
    if np.abs(reference - other).max() <= ROUNDING * np.abs(reference).max():
        return Distances(*_with_interval(0.0, 0.0, 2), *_with_interval(0.0, 0.0, 2), **behind)
    both = torch.from_numpy(reference), torch.from_numpy(other)
    clusters = clusters_of(level)
    known = {} if clusters is None else dict(zip(level["sample_id"].astype(str), clusters, strict=True))
    member = np.unique([known.get(name, name) for name in names], return_inverse=True)[1]
    count = int(member.max()) + 1
    fid, kid = max(0.0, float(frechet_distance(*both))), float(_paired_kernel_distance(*both))
    fid_error, kid_error, kid_groups = _left_out(frechet_distance, *both, member), float("nan"), count
    if count < len(names):
        kid_error, kid_groups = _left_out(_paired_kernel_distance, *both, member), min(_JACKKNIFE_GROUPS, count)
    elif count > 2:
        kid_error = float(kernel_distance_standard_error(*both))
    return Distances(
        *_with_interval(fid, fid_error, min(_JACKKNIFE_GROUPS, count)),
        *_with_interval(kid, kid_error, kid_groups),
        **behind,
    )


def _paired_kernel_distance(reference: Tensor, other: Tensor) -> Tensor:
    return kernel_distance(reference, other, paired=True)


def _with_interval(value: float, error: float, n: int) -> tuple[float, float, float, float]:
    reach = float(interval_reach(error, n))
    return value, error, value - reach, value + reach


def _left_out(
    distance: Callable[[Tensor, Tensor], Tensor], reference: Tensor, other: Tensor, member: np.ndarray
) -> float:
    """Grouped-jackknife standard error of a distance of features [N, F] to others of the same samples.

    A sample and its data image share a prompt, so both are left out together, and so is all of a cluster.
    """
    groups = min(_JACKKNIFE_GROUPS, int(member.max()) + 1)
    group = torch.from_numpy(member % groups)
    if groups < 2 or len(group) - int(torch.bincount(group).max()) < 2:
        return float("nan")
    left_out = [float(distance(reference[group != g], other[group != g])) for g in range(groups)]
    return float(np.sqrt((groups - 1) * np.var(left_out)))
