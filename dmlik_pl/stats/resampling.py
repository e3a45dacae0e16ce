"""Bootstrap intervals of ratios of sums over utterances: corpus word error rates, their differences, reliabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from dmlik_pl.stats.estimate import Interval

__all__ = ["draw_ratios", "ratio_intervals"]

_LARGEST_CHUNK = 4_000_000


def draw_ratios(numerators: ArrayLike, denominators: ArrayLike, resamples: int = 9999, seed: int = 0) -> np.ndarray:
    """Ratios of sums on bootstrap samples of the utterances; all ratios see the same samples.

    Args:
        numerators: What each utterance adds to the numerator of each ratio, [S, N].
        denominators: What it adds to the denominator, [S, N], or [N] if all ratios share it.
        resamples: Number R of bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        [S, R]; NaN or infinite where a sample's denominator is 0.
    """
    above = np.atleast_2d(np.asarray(numerators, dtype=np.float64))
    below = np.broadcast_to(np.asarray(denominators, dtype=np.float64), above.shape)
    n = above.shape[1]
    generator = np.random.default_rng(seed)
    chunk = max(1, _LARGEST_CHUNK // n)
    draws = []
    for start in range(0, resamples, chunk):
        counts = generator.multinomial(n, np.full(n, 1 / n), size=min(chunk, resamples - start)).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            draws.append((above @ counts.T) / (below @ counts.T))
    return np.concatenate(draws, axis=1)


def ratio_intervals(
    numerators: ArrayLike, denominators: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0
) -> list[Interval]:
    """Bootstrap intervals (bias-corrected, accelerated) of ratios of sums over utterances.

    For the difference of two rates give the differences of their numerators.

    Args:
        numerators: What each utterance adds to the numerator of each ratio, [S, N].
        denominators: What it adds to the denominator, [S, N], or [N] if all ratios share it.
        confidence: Coverage wanted.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling; the same seed gives the same intervals.

    Returns:
        One interval a ratio; NaN if it is not defined or there are fewer than 2 utterances.

    References:
        Efron, "Better bootstrap confidence intervals", 1987.
    """
    above = np.atleast_2d(np.asarray(numerators, dtype=np.float64))
    below = np.broadcast_to(np.asarray(denominators, dtype=np.float64), above.shape)
    if above.shape[1] < 2:
        return [Interval(float("nan"), float("nan"))] * len(above)
    all_draws = draw_ratios(above, below, resamples, seed)
    return [_accelerated(a, b, draws, confidence) for a, b, draws in zip(above, below, all_draws, strict=True)]


def _accelerated(above: np.ndarray, below: np.ndarray, draws: np.ndarray, confidence: float) -> Interval:
    draws = draws[np.isfinite(draws)]
    if below.sum() == 0 or not draws.size:
        return Interval(float("nan"), float("nan"))
    estimate = above.sum() / below.sum()
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    rank = ((draws < estimate).mean() + (draws <= estimate).mean()) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = (above.sum() - above) / (below.sum() - below)
    pull = left_out[np.isfinite(left_out)].mean() - left_out[np.isfinite(left_out)]
    # Equal values, or an estimate outside all draws, leave nothing to correct by.
    if np.ptp(draws) > 1e-12 * abs(estimate) and 0 < rank < 1 and np.square(pull).sum() > 0:
        bias = norm.ppf(rank)
        acceleration = np.power(pull, 3).sum() / (6 * np.square(pull).sum() ** 1.5)
        shifted = bias + norm.ppf(tails)
        tails = norm.cdf(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(draws, tails)
    return Interval(float(low), float(high))
