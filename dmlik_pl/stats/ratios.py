"""Intervals of ratios of sums over lists or utterances that are no rates of events: reliabilities, correlations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dmlik_pl.stats.clusters import jackknifed_ratio
from dmlik_pl.stats.estimate import UNKNOWN, Estimate, Interval
from dmlik_pl.stats.significance import interval_reach

__all__ = ["ratio_with_error"]


def ratio_with_error(
    above: ArrayLike,
    below: ArrayLike,
    clusters: ArrayLike | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    confidence: float = 0.95,
) -> Estimate:
    """A ratio of sums with its jackknife error, and the interval by Student's t.

    Args:
        above: What each list adds to the numerator, [N].
        below: What it adds to the denominator, [N]; lists that add nothing to either say nothing.
        clusters: Label of each list's cluster, [N]; None makes each a cluster.
        bounds: Between which values the ratio lies by its definition.
        confidence: Coverage wanted.

    Returns:
        The ratio; neither error nor interval for one cluster, or where all agree: no spread tells nothing of it.
    """
    found = jackknifed_ratio(above, below, clusters)
    n = int(np.sum((np.asarray(above) != 0) | (np.asarray(below) != 0)))
    if not found.variance > 0:
        return Estimate(found.value, n=n, clusters=found.clusters)
    error = math.sqrt(found.variance)
    reach = float(interval_reach(error, found.clusters, confidence))
    interval = Interval(*(min(max(end, bounds[0]), bounds[1]) for end in (found.value - reach, found.value + reach)))
    return Estimate(
        found.value,
        error,
        interval if math.isfinite(reach) else UNKNOWN,
        n,
        "jackknife, Student's t",
        sampling_error=error,
        clusters=found.clusters,
    )
