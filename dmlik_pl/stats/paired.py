"""Tests of two ways to recognise the same utterances, from the word errors that each makes in each utterance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import signal, stats

from dmlik_pl.stats.clusters import cluster_sums, jackknifed_ratio
from dmlik_pl.stats.estimate import Estimate

__all__ = [
    "matched_pairs",
    "permutation_p_value",
    "random_choice_distribution",
    "sum_distribution",
    "tail_p_value",
]

_MATCHED_PAIRS = "Gillick and Cox, matched pairs"


def matched_pairs(errors_a: ArrayLike, errors_b: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Gillick and Cox's matched-pairs test with an utterance, or a cluster of utterances, as the segment.

    Segments are taken as independent. The test is by Student's t in place of the normal, as segments may be few. The
    estimate is the mean over utterances of the first one's errors minus the second one's, in words.

    Args:
        errors_a: Word errors of the first recogniser in each utterance, [N]; expected values may be given.
        errors_b: The same for the second recogniser, in the same order.
        clusters: Label of each utterance's cluster, [N]; None makes each utterance a segment.

    Returns:
        The mean with its error and p-value: 1 where the two never differ; without error and p where all segments differ
        alike, which tells nothing of their spread.

    References:
        Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms", 1989.
    """
    differences = _differences(errors_a, errors_b)
    found = jackknifed_ratio(differences, np.ones(differences.size), clusters)
    mean = Estimate(found.value, n=differences.size, method=_MATCHED_PAIRS, clusters=found.clusters)
    if found.clusters > 1 and not differences.any():
        return replace(mean, p=1.0)
    if not found.variance > 0:
        return mean
    mean = replace(mean, standard_error=math.sqrt(found.variance))
    return replace(mean, p=float(2 * stats.t.sf(abs(mean.z), found.clusters - 1)))


def permutation_p_value(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    clusters: ArrayLike | None = None,
    resamples: int = 99_999,
    seed: int = 0,
) -> float:
    """Paired permutation test: which recogniser made which errors is exchanged utterance by utterance.

    Whole errors are tested exactly, over all 2^N exchanges; others (expected errors) over random exchanges.

    Args:
        errors_a: Word errors of the first recogniser in each utterance, [N].
        errors_b: The same for the second recogniser, in the same order.
        clusters: Label of each utterance's cluster, [N], which are exchanged whole; None exchanges each utterance.
        resamples: Number of random exchanges where the test is not exact.
        seed: Seed of the random exchanges.

    Returns:
        The two-sided p-value of "both make equally many errors".
    """
    differences = cluster_sums(_differences(errors_a, errors_b), clusters)
    differences = differences[differences != 0]
    if not differences.size:
        return 1.0
    if not np.all(differences == np.round(differences)):
        result = stats.permutation_test(
            (differences, np.zeros_like(differences)),
            lambda a, b, axis: (a - b).sum(axis),
            permutation_type="samples",
            n_resamples=resamples,
            batch=max(1, 4_000_000 // differences.size),
            rng=np.random.default_rng(seed),
        )
        return float(result.pvalue)
    # The number of the first one's surplus errors, out of both ones' together, decides.
    coins = [np.bincount([0, size], minlength=size + 1) / 2 for size in np.abs(differences).astype(int)]
    surplus = int(differences[differences > 0].sum())
    return tail_p_value(sum_distribution(coins), surplus)


def random_choice_distribution(choices: Sequence[ArrayLike]) -> np.ndarray:
    """Distribution of the total errors when one hypothesis of each list is drawn with equal chances.

    With `tail_p_value` this tests a selection against "it knows nothing of the errors", exactly.

    Args:
        choices: For each list the word errors of its hypotheses, whole numbers.

    Returns:
        The probabilities of 0, 1, 2, ... errors.
    """
    counts = [np.bincount(np.asarray(errors, dtype=int)) for errors in choices]
    return sum_distribution([count / count.sum() for count in counts])


def tail_p_value(probabilities: np.ndarray, observed: float) -> float:
    """Two-sided p-value of an observation: twice the smaller tail, at most 1.

    Args:
        probabilities: Those of 0, 1, 2, ... if nothing is behind the observation.
        observed: The observation; expected values in between are allowed.
    """
    values = np.arange(len(probabilities))
    tails = (probabilities[values <= observed + 1e-9].sum(), probabilities[values >= observed - 1e-9].sum())
    return float(min(1.0, 2 * min(tails)))


def sum_distribution(distributions: Sequence[np.ndarray]) -> np.ndarray:
    """Distribution of the sum of independent whole numbers.

    Args:
        distributions: Of each number the probabilities of 0, 1, 2, ...

    Returns:
        The probabilities of 0, 1, 2, ... for the sum.
    """
    layer = list(distributions) or [np.ones(1)]
    while len(layer) > 1:  # neighbours first, so that long sequences meet only at the end
        pairs = [signal.convolve(a, b) for a, b in zip(layer[::2], layer[1::2], strict=False)]
        layer = pairs + ([layer[-1]] if len(layer) % 2 else [])
    return np.clip(layer[0], 0, None)  # the Fourier transform leaves rounding errors of either sign


def _differences(errors_a: ArrayLike, errors_b: ArrayLike) -> np.ndarray:
    a, b = np.asarray(errors_a, dtype=np.float64), np.asarray(errors_b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired test needs the same utterances: {a.shape} against {b.shape}")
    return a - b
