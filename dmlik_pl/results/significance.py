"""Intervals and tests: every accuracy gets an interval, every comparison a paired test.

Thin, named functions over scipy and statsmodels, so that each table says the same thing in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

__all__ = [
    "Interval",
    "Mean",
    "PairedComparison",
    "Rate",
    "binomial_p_value",
    "bootstrap_mean_interval",
    "corpus_rate",
    "holm",
    "interval_reach",
    "mcnemar",
    "mean_with_error",
    "wilson_interval",
]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Mean(NamedTuple):
    """A mean over samples with its errors, all in the unit of the values.

    Attributes:
        value: The mean.
        standard_error: sd / sqrt(n) over the samples. The values carry their probe noise, so it is in here already.
        probe_error: The part of it that more probes would remove, sqrt(sum of squared probe errors) / n.
        n: The number of samples.
    """

    value: float
    standard_error: float
    probe_error: float
    n: int

    @property
    def interval(self) -> Interval:
        """Its 95 % confidence interval by Student's t; NaN for fewer than 2 samples."""
        reach = float(interval_reach(self.standard_error, self.n))
        return Interval(self.value - reach, self.value + reach)


class Rate(NamedTuple):
    """A rate over a corpus, such as word errors per word, with its errors over the units that were drawn.

    Attributes:
        value: Sum of counts over sum of totals.
        standard_error: Its standard error over units, of a ratio of sums.
        interval: Its confidence interval.
    """

    value: float
    standard_error: float
    interval: Interval


class PairedComparison(NamedTuple):
    """McNemar's test of two methods on the same samples.

    Attributes:
        only_a: Number of samples that only the first method decides right.
        only_b: Number of samples that only the second method decides right.
        p_value: Two-sided exact p-value of "both are right equally often".
    """

    only_a: int
    only_b: int
    p_value: float


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


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> PairedComparison:
    """McNemar's exact test of two methods that decided on the same samples.

    Args:
        correct_a: Which samples the first method decided right, [N] booleans.
        correct_b: The same for the second method, in the same order.

    Returns:
        The discordant counts and the exact two-sided p-value.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"a paired test needs the same samples: {a.shape} against {b.shape}")
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    return PairedComparison(table[0][1], table[1][0], float(_mcnemar(table, exact=True).pvalue))


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
) -> Rate:
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
    n, unknown = counts.size, float("nan")
    if not totals.sum() > 0:
        return Rate(unknown, unknown, Interval(unknown, unknown))
    value = float(counts.sum() / totals.sum())
    if n < 2:
        return Rate(value, unknown, Interval(unknown, unknown))
    residual = counts - value * totals
    error = float(np.sqrt(n / (n - 1) * np.square(residual).sum()) / totals.sum())
    if counts.sum() == 0:
        return Rate(value, error, wilson_interval(0, int(totals.sum()), confidence))
    if np.allclose(residual, 0):
        return Rate(value, error, Interval(value, value))
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
    return Rate(value, error, Interval(float(result.confidence_interval.low), float(result.confidence_interval.high)))


def mean_with_error(values: ArrayLike, probe_errors: ArrayLike | None = None) -> Mean:
    """Mean over samples with its standard error, and the part of it that the trace probes cause.

    Args:
        values: One value per sample, [N].
        probe_errors: Standard error over probes of each value, [N], in the same unit.

    Returns:
        The mean and its errors. The standard error is NaN for fewer than 2 samples, the probe part is NaN if unknown.
    """
    values = np.asarray(values, dtype=np.float64)
    n = values.size
    if n == 0:
        return Mean(float("nan"), float("nan"), float("nan"), 0)
    error = float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    probe = float("nan") if probe_errors is None else float(np.linalg.norm(np.asarray(probe_errors, np.float64)) / n)
    return Mean(float(values.mean()), error, probe, n)
