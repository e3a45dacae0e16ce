"""Samples that are not independent: sums over clusters of them, and the jackknife that leaves out cluster by cluster.

Utterances of one speaker, captions of one picture or views of one scene are alike. What is independent is the cluster,
so every error here counts clusters; without labels each sample is a cluster of its own.

References:
    MacKinnon, Nielsen and Webb, "Cluster-robust inference: a guide to empirical practice", 2023, for the jackknife
    (CV3) with Student's t of G - 1 degrees of freedom.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Ratio", "cluster_sums", "jackknifed_ratio"]

_ROUNDING = 1e-9


class Ratio(NamedTuple):
    """A ratio of sums over samples with its jackknife variance.

    Attributes:
        value: The ratio; NaN if nothing is below.
        variance: Its variance over clusters; NaN for fewer than 2, 0 where all clusters agree but for rounding.
        pulls: By how much the ratio changes when each cluster is left out, by the order of the labels.
        clusters: Number of clusters that add anything to either sum.
    """

    value: float
    variance: float
    pulls: np.ndarray
    clusters: int


def cluster_sums(values: ArrayLike, clusters: ArrayLike | None = None) -> np.ndarray:
    """Sums over the samples of each cluster.

    Args:
        values: One number per sample, [N].
        clusters: Label of each sample's cluster, [N]; None makes each sample a cluster.

    Returns:
        [G], by the order of the labels.
    """
    values = np.asarray(values, dtype=np.float64)
    if clusters is None:
        return values
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(member, weights=values)


def jackknifed_ratio(above: ArrayLike, below: ArrayLike, clusters: ArrayLike | None = None) -> Ratio:
    """A ratio of sums, sum(above) / sum(below), with the variance that leaving out each cluster in turn shows.

    With `below` = 1 and every sample its own cluster it is the mean with the variance s^2 / N.

    Args:
        above: What each sample adds to the numerator, [N].
        below: What it adds to the denominator, [N], not negative.
        clusters: Label of each sample's cluster, [N]; None makes each sample a cluster.
    """
    tops, bottoms = cluster_sums(above, clusters), cluster_sums(below, clusters)
    count, total = int(((tops != 0) | (bottoms != 0)).sum()), float(bottoms.sum())
    if not total > 0:
        return Ratio(float("nan"), float("nan"), np.zeros(len(tops)), count)
    value, rest = float(tops.sum() / total), total - bottoms
    # Exactly the change of the ratio; where one cluster has all that is below, the others cannot stand in for it.
    pulls = np.divide(value * bottoms - tops, rest, out=np.full(len(tops), np.nan), where=rest > _ROUNDING * total)
    pulls = np.where(np.abs(pulls) <= _ROUNDING * np.abs(tops).sum() / total, 0.0, pulls)
    variance = (count - 1) / count * float(np.square(pulls).sum()) if count > 1 else float("nan")
    return Ratio(value, variance, pulls, count)
