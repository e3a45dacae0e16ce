"""Rates of events and shares of samples with intervals that have a width however few or alike they are.

Trials (words, samples) come in clusters (utterances, speakers) that are not independent. The interval is a score
interval of as many independent trials as would scatter alike: Wilson's where there is at most one event per trial,
else that of Poisson counts. How the clusters scatter is known to few degrees of freedom only, for which the number of
trials is lowered as Student's t is wider than the normal; it is never below the number of clusters. Without a single
event (or without a single failure) nothing is known of the scatter, and the number is the geometric mean of those of
trials and of clusters.

References:
    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data", 1998, for the effective number of trials.
    Newcombe, "Interval estimation for the difference between independent proportions", 1998, method 10; Zou and
    Donner, "Construction of confidence limits about effect measures", 2008, for dependent ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.rates import confint_poisson

from dmlik_pl.stats.clusters import cluster_sums, jackknifed_ratio
from dmlik_pl.stats.estimate import NORMAL, UNKNOWN, Estimate, Interval

__all__ = ["corpus_rate", "effective_trials", "rate_difference", "share", "wilson_interval"]

_WILSON, _CLUSTERED = "Wilson", "Wilson, effective number of trials"
_CONFIDENCE = 0.95


def wilson_interval(successes: float, n: float, confidence: float = _CONFIDENCE) -> Interval:
    """Wilson's score interval of a proportion; it stays inside [0, 1] and works for 0 or n successes.

    Args:
        successes: Number of successes; effective numbers need not be whole.
        n: Number of trials; with none, nothing is known and the interval is [0, 1].
        confidence: Coverage wanted.

    Returns:
        The interval of the proportion.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return Interval(float(low), float(high))


def share(successes: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """A share of successes with its Wilson interval.

    Args:
        successes: One truth value per sample, [N]; none leaves the share unknown, anywhere in [0, 1].
        clusters: Label of each sample's cluster, [N]; None makes each sample a cluster. One cluster of several samples
            has no interval.
    """
    successes = np.asarray(successes, dtype=bool)
    n, count = successes.size, int(successes.sum())
    if clusters is None or n < 2:
        found = count / n if n else float("nan")
        return Estimate(found, interval=wilson_interval(count, n), n=n, method=_WILSON, clusters=n)
    return corpus_rate(successes, np.ones(n), clusters)


def corpus_rate(counts: ArrayLike, totals: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """A rate of events over a corpus of utterances, for instance of word errors.

    Args:
        counts: Events in each utterance, [N]; expected numbers may be given.
        totals: What could have been events, for instance words, [N].
        clusters: Label of each utterance's cluster, [N]; None makes each utterance a cluster, as its words are one.

    Returns:
        The rate with its jackknife error, which is NaN where all clusters agree, and the interval of the module; NaN
        without any total, and without interval for fewer than 2 clusters.
    """
    counts, totals = np.asarray(counts, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    found = _rate(counts, totals, clusters)
    error = math.sqrt(found.variance) if found.variance > 0 else float("nan")
    return Estimate(
        found.value, error, found.interval, counts.size, _CLUSTERED, sampling_error=error, clusters=found.clusters
    )


def rate_difference(differences: ArrayLike, totals: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """The difference of two rates over the same utterances.

    Its interval combines those of the rate at which the first has more events and of the rate at which the second has,
    with their correlation: it has a width even where the two never differ.

    Args:
        differences: Events of the first minus events of the second in each utterance, [N].
        totals: What could have been events, [N].
        clusters: As for :func:`corpus_rate`.

    Returns:
        The difference with its jackknife error, NaN without spread, and its interval, NaN for fewer than 2 clusters.
    """
    differences, totals = np.asarray(differences, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    whole = jackknifed_ratio(differences, totals, clusters)
    more, less = (_rate(np.clip(sign * differences, 0, None), totals, clusters) for sign in (1, -1))
    spread = math.sqrt(float(np.square(more.pulls).sum() * np.square(less.pulls).sum()))
    alike = float(more.pulls @ less.pulls) / spread if spread > 0 else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 + other**2 - 2 * alike * one * other))

    low = whole.value - reach(more.value - more.interval.low, less.interval.high - less.value)
    high = whole.value + reach(more.interval.high - more.value, less.value - less.interval.low)
    interval = Interval(low, high) if more.clusters > 1 else UNKNOWN
    error = math.sqrt(whole.variance) if whole.variance > 0 else float("nan")
    return Estimate(
        whole.value, error, interval, differences.size, "MOVER", sampling_error=error, clusters=more.clusters
    )


class _Rate(NamedTuple):
    """A rate with its jackknife variance and pulls (by cluster, [G]), and its interval."""

    value: float
    variance: float
    pulls: np.ndarray
    clusters: int
    interval: Interval


def _rate(counts: np.ndarray, totals: np.ndarray, clusters: ArrayLike | None) -> _Rate:
    sums, found = cluster_sums(totals, clusters), jackknifed_ratio(counts, totals, clusters)
    sums = sums[sums > 0]
    if (size := len(sums)) < 2:
        return _Rate(found.value, found.variance, found.pulls, size, UNKNOWN)
    proportion = bool((counts <= totals).all())
    trials = effective_trials(found.value, found.variance, sums, proportion)
    events = found.value * trials
    if proportion:
        interval = wilson_interval(min(events, trials), trials)
    else:
        low, high = confint_poisson(events, trials, method="score", alpha=1 - _CONFIDENCE)
        interval = Interval(float(low), float(high))
    return _Rate(found.value, found.variance, found.pulls, size, interval)


def effective_trials(rate: float, variance: float, totals: np.ndarray, proportion: bool = True) -> float:
    """Number of independent trials that would tell a rate as well as clusters of trials do.

    Args:
        rate: The rate.
        variance: Its variance over clusters; NaN if not known.
        totals: Trials in each cluster, [G].
        proportion: Whether a trial has at most one event; else events are taken as Poisson counts.

    Returns:
        At least the effective number of clusters, (sum of totals)^2 / sum of totals^2, and at most that of trials.
    """
    every = float(totals.sum())
    fewest = every**2 / float(np.square(totals).sum())
    independent = rate * (1 - rate if proportion else 1.0) / every
    if not independent > 1e-12 or not math.isfinite(variance):
        return math.sqrt(fewest * every)
    widening = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(totals) - 1)) / NORMAL
    return max(fewest, every / max(1.0, variance / independent) / widening**2)
