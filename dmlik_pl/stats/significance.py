"""Means with their total error, and tests: every comparison is paired, and clusters count where samples are alike.

Thin, named functions over scipy and statsmodels, so that each table says the same thing in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dmlik_pl.stats.clusters import cluster_sums, jackknifed_ratio
from dmlik_pl.stats.estimate import NORMAL, Estimate, Interval
from dmlik_pl.stats.paired import permutation_p_value
from dmlik_pl.stats.rates import effective_trials, rate_difference

__all__ = [
    "binomial_p_value",
    "holm",
    "interval_reach",
    "mcnemar",
    "mean_with_error",
]


def interval_reach(standard_error: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> np.ndarray:
    """How far the confidence interval of a mean reaches to either side: Student's t, as n may be small.

    Args:
        standard_error: Standard error of each mean, estimated from its own samples.
        n: Number of samples of each; of a jackknife, the number of its groups.
        confidence: Coverage wanted.

    Returns:
        In the unit of the standard errors; NaN for fewer than 2 samples.
    """
    freedom = np.asarray(n, dtype=np.float64) - 1
    return stats.t.ppf((1 + confidence) / 2, np.where(freedom > 0, freedom, np.nan)) * np.asarray(standard_error)


def mean_with_error(
    values: ArrayLike,
    probe_errors: ArrayLike | None = None,
    grid_errors: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> Estimate:
    """Mean over samples with its total error and the parts of it.

    The scatter over samples has the probes' noise in it already, since each sample has probes of its own. So the probes
    are not added to it; but no few samples that agree by chance make a mean better known than its probes let it be. The
    time grid's error is shared by all samples and shows in no scatter: it is added, in quadrature.

        total^2 = max(sampling^2, probe^2) + grid^2

    The interval is as far, with sampling^2 multiplied by Student's t, the others by the normal quantile.

    Args:
        values: One value per sample, [N]; those that are not finite are left out.
        probe_errors: Standard error over probes of each value, as means pool it, [N], in the same unit.
        grid_errors: Estimate of the time grid's error of each value, [N], in the same unit.
        weights: What each value counts in the mean, for instance dimensions, [N]; equal ones by default.
        clusters: Label of each sample's cluster, [N]; None makes each sample a cluster.

    Returns:
        The mean, its total error and 95 % interval, and the parts; sampling_error by the jackknife over clusters (sd /
        sqrt(N) of equally weighted samples), the root of the sum of squared probe errors over N, the mean of the grid's
        errors. The total and the interval are NaN for fewer than 2 clusters, or where nothing has any error.
    """
    values = np.asarray(values, dtype=np.float64)
    usable = np.isfinite(values)
    values, n = values[usable], int(usable.sum())
    if n == 0:
        return Estimate(float("nan"))
    weight: np.ndarray = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)[usable]
    own = None if clusters is None else np.asarray(clusters)[usable]
    found = jackknifed_ratio(weight * values, weight, own)
    share = weight / weight.sum()
    probe = _part(probe_errors, usable, lambda errors: float(np.linalg.norm(share * errors)))
    grid = _part(grid_errors, usable, lambda errors: float(share @ np.abs(errors)))
    sampling, known = math.sqrt(found.variance), np.nan_to_num([probe, grid])
    total = float(np.hypot(max(sampling, known[0]), known[1])) if found.clusters > 1 else float("nan")
    mean = Estimate(
        found.value, n=n, sampling_error=sampling, probe_error=probe, grid_error=grid, clusters=found.clusters
    )
    if not total > 0:
        return mean
    reach = float(np.hypot(max(interval_reach(sampling, found.clusters), NORMAL * known[0]), NORMAL * known[1]))
    interval = Interval(found.value - reach, found.value + reach)
    return replace(mean, standard_error=total, interval=interval, method="Student's t")


def _part(errors: ArrayLike | None, usable: np.ndarray, pooled: Callable[[np.ndarray], float]) -> float:
    """What the errors of the usable values amount to; NaN where one is not known."""
    return float("nan") if errors is None else pooled(np.asarray(errors, dtype=np.float64)[usable])


def binomial_p_value(successes: ArrayLike, chance: float, clusters: ArrayLike | None = None) -> float:
    """Two-sided p-value of "right as often as by chance": exact, or of the effective number of clustered decisions.

    Args:
        successes: Which decisions are right, [N] booleans.
        chance: Probability of a right decision by guessing.
        clusters: Label of each decision's cluster, [N]; None, or one decision per cluster, gives the exact test. Of
            clusters it is the score test that belongs to the interval of :func:`dmlik_pl.stats.rates.share`.

    Returns:
        The p-value; 1 for no decisions, NaN for several decisions in one cluster.
    """
    successes = np.asarray(successes, dtype=bool)
    n, count = successes.size, int(successes.sum())
    sizes = cluster_sums(np.ones(n), clusters)
    if n == 0 or len(sizes) == n:
        return float(stats.binomtest(count, n, chance).pvalue) if n else 1.0
    if len(sizes) < 2:
        return float("nan")
    found = jackknifed_ratio(successes, np.ones(n), clusters)
    trials = effective_trials(found.value, found.variance, sizes)
    return float(2 * stats.norm.sf(abs(found.value - chance) / math.sqrt(chance * (1 - chance) / trials)))


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """McNemar's exact test of two methods that decided on the same samples.

    Where samples come in clusters, which method decided what is exchanged cluster by cluster, also exactly; of clusters
    of one sample that is McNemar's test.

    Args:
        correct_a: Which samples the first method decided right, [N] booleans.
        correct_b: The same for the second method, in the same order.
        clusters: Label of each sample's cluster, [N]; None makes each sample a cluster.

    Returns:
        The difference of the two accuracies (first minus second, share of 1) with its standard error and interval (see
        :func:`dmlik_pl.stats.rates.rate_difference`), and the exact p-value of "both are right equally often".

    Raises:
        ValueError: If the two have not decided on the same number of samples.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"a paired test needs the same samples: {a.shape} against {b.shape}")
    if not a.size:
        return Estimate(float("nan"), method="McNemar, exact")
    p = permutation_p_value(a, b, clusters)
    return replace(rate_difference(a.astype(float) - b, np.ones(a.size), clusters), p=p, method="McNemar, exact")


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction for several tests.

    Args:
        p_values: The p-values of all tests of one family.

    Returns:
        The adjusted p-values in the same order; each may be compared with the level of the whole family.
    """
    if not p_values:
        return []
    return [float(p) for p in multipletests(list(p_values), method="holm")[1]]
