"""Intervals and tests: every accuracy gets an interval, every comparison a paired test.

Thin, named functions over scipy and statsmodels, so that each table says the same thing in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from dmlik_pl.stats.estimate import UNKNOWN, Estimate, Interval

__all__ = [
    "binomial_p_value",
    "bootstrap_mean_interval",
    "corpus_rate",
    "holm",
    "interval_reach",
    "mcnemar",
    "mean_over_utterances",
    "mean_with_error",
    "share",
    "wilson_interval",
]

_BOOTSTRAP = "bootstrap, bias-corrected and accelerated"


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


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; it stays inside [0, 1] and works for 0 or n successes.

    Args:
        successes: Number of successes.
        n: Number of trials; with none, nothing is known and the interval is [0, 1].
        confidence: Coverage wanted.

    Returns:
        The interval of the proportion.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    return Interval(float(low), float(high))


def binomial_p_value(successes: int, n: int, chance: float) -> float:
    """Exact two-sided p-value of "right as often as by chance".

    Args:
        successes: Number of right decisions.
        n: Number of decisions.
        chance: Probability of a right decision by guessing.

    Returns:
        The p-value; 1 for no decisions.
    """
    return float(stats.binomtest(successes, n, chance).pvalue) if n else 1.0


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> Estimate:
    """McNemar's exact test of two methods that decided on the same samples.

    Args:
        correct_a: Which samples the first method decided right, [N] booleans.
        correct_b: The same for the second method, in the same order.

    Returns:
        The difference of the two accuracies (first minus second, share of 1) with its standard error, and the exact
        p-value of "both are right equally often".

    Raises:
        ValueError: If the two have not decided on the same number of samples.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"a paired test needs the same samples: {a.shape} against {b.shape}")
    only_a, only_b, n = int((a & ~b).sum()), int((~a & b).sum()), a.size
    if not n:
        return Estimate(float("nan"), method="McNemar, exact")
    difference = (only_a - only_b) / n
    error = float(np.sqrt(((only_a + only_b) / n - difference**2) / n))
    table = [[int((a & b).sum()), only_a], [only_b, int((~a & ~b).sum())]]
    return Estimate(difference, error, n=n, method="McNemar, exact", p=float(_mcnemar(table, exact=True).pvalue))


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


def bootstrap_mean_interval(
    values: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Bootstrap interval (bias-corrected, accelerated) of a mean over samples.

    For a paired comparison give the differences, one per sample.

    Args:
        values: One value per sample, [N]; at least 2.
        confidence: Coverage wanted.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling; the same seed gives the same interval.

    Returns:
        The interval of the mean; both ends are the mean itself if all values are equal.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size < 2:
        raise ValueError(f"a bootstrap needs at least 2 samples, got {values.size}")
    if np.ptp(values) <= 1e-12 * np.abs(values).max():  # equal but for rounding
        return Interval(float(values.mean()), float(values.mean()))
    result = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        batch=1000,
        random_state=np.random.default_rng(seed),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))


def corpus_rate(
    counts: ArrayLike, totals: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Estimate:
    """A rate over a corpus of utterances with its bootstrap interval (bias-corrected, accelerated).

    Utterances are drawn, not words: errors of one utterance are not independent. Where there is no error at all the
    bootstrap knows no spread, and the interval is Wilson's for that many words.

    Args:
        counts: Events in each utterance, for instance word errors, [N].
        totals: What could have been events, for instance words, [N].
        confidence: Coverage wanted.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling; the same seed gives the same interval.

    Returns:
        The rate; NaN without any total, and without errors of its own for fewer than 2 utterances.
    """
    counts, totals = np.asarray(counts, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    n = counts.size
    if not totals.sum() > 0:
        return Estimate(float("nan"), n=n)
    value = float(counts.sum() / totals.sum())
    if n < 2:
        return Estimate(value, n=n)
    residual = counts - value * totals
    error = float(np.sqrt(n / (n - 1) * np.square(residual).sum()) / totals.sum())
    if counts.sum() == 0:
        return Estimate(value, error, wilson_interval(0, int(totals.sum()), confidence), n, "Wilson")
    if np.allclose(residual, 0):
        return Estimate(value, error, Interval(value, value), n, _BOOTSTRAP)
    result = stats.bootstrap(
        (counts, totals),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        confidence_level=confidence,
        n_resamples=resamples,
        method="BCa",
        paired=True,
        batch=1000,
        random_state=np.random.default_rng(seed),
    )
    return Estimate(value, error, Interval(*map(float, result.confidence_interval)), n, _BOOTSTRAP)


def mean_with_error(values: ArrayLike, probe_errors: ArrayLike | None = None) -> Estimate:
    """Mean over samples with its standard error, and the part of it that the trace probes cause.

    Args:
        values: One value per sample, [N]. They carry their probe noise, so the error over samples has it in already.
        probe_errors: Standard error over probes of each value, [N], in the same unit.

    Returns:
        The mean with sd / sqrt(N) as its error, its 95 % interval by Student's t, and sqrt(sum of squared probe
        errors) / N. The errors are NaN for fewer than 2 samples, the probe part is NaN if unknown.
    """
    values = np.asarray(values, dtype=np.float64)
    n = values.size
    if n == 0:
        return Estimate(float("nan"))
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    probe = float("nan") if probe_errors is None else float(np.linalg.norm(np.asarray(probe_errors, np.float64)) / n)
    reach = float(interval_reach(error, n))
    return Estimate(mean, error, Interval(mean - reach, mean + reach), n, "Student's t", probe_error=probe)


def mean_over_utterances(values: np.ndarray, probe_errors: np.ndarray | None = None) -> Estimate:
    """Mean of the finite values with the bootstrap interval of :func:`bootstrap_mean_interval`.

    Args:
        values: One value per utterance, [N]; those that are not finite are left out.
        probe_errors: As for :func:`mean_with_error`.
    """
    usable = np.isfinite(values)
    mean = mean_with_error(values[usable], None if probe_errors is None else probe_errors[usable])
    interval = bootstrap_mean_interval(values[usable]) if mean.n > 1 else UNKNOWN
    return replace(mean, interval=interval, method=_BOOTSTRAP)


def share(successes: ArrayLike) -> Estimate:
    """A share of successes with its Wilson interval.

    Args:
        successes: One truth value per sample, [N]; none leaves the share unknown, anywhere in [0, 1].
    """
    successes = np.asarray(successes, dtype=bool)
    n, count = successes.size, int(successes.sum())
    return Estimate(count / n if n else float("nan"), interval=wilson_interval(count, n), n=n, method="Wilson")
