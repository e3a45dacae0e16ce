r"""Whether margins mean what they say: the posterior over prompts that scores imply, against how often it is right.

Under a uniform prior over the K prompts of a sample,

.. math::
    P(y_k | x) = \frac{p(x | y_k)^{1/T}}{\sum_j p(x | y_j)^{1/T}}, \qquad T = 1,

for scores in nats up to a constant of the sample. The fitted temperature T says by how much their differences are too
large (T > 1: overconfident) or too small.

References:
    On Calibration of Modern Neural Networks (Guo et al., 2017), for the expected calibration error and the temperature
    Verification of forecasts expressed in terms of probability (Brier, 1950)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import log_softmax

from dmlik_pl.stats.clusters import cluster_sums
from dmlik_pl.stats.estimate import Estimate
from dmlik_pl.stats.rates import share

__all__ = [
    "Posterior",
    "calibration_error",
    "fit_temperature",
    "posterior",
    "reliability_bins",
]

_BINS = 10
_SIMULATIONS = 999
_LOGIT = "conditional logit"


class Posterior(NamedTuple):
    """What scores say of the prompts of each sample.

    Attributes:
        log_probability: Of each candidate, [N, K]; -inf for those that a sample was not offered.
        confidence: Probability of the most probable candidate, [N].
        correct: Whether that one is the true one, [N] booleans.
        of_truth: Logarithm of the probability of the true candidate, [N].
    """

    log_probability: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray
    of_truth: np.ndarray


def posterior(scores: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> Posterior:
    """The posterior over prompts under a uniform prior.

    Args:
        scores: Log-likelihoods in nats up to a constant of each sample, [N, K]; NaN for candidates not offered.
        truth: Column of the true candidate, [N].
        temperature: What the scores are divided by, above 0; may be infinite.
    """
    log_p = log_softmax(np.where(np.isnan(scores), -np.inf, scores / temperature), axis=1)
    of_truth = log_p[np.arange(len(truth)), truth]
    return Posterior(log_p, np.exp(log_p.max(1)), log_p.argmax(1) == truth, of_truth)


def fit_temperature(scores: np.ndarray, truth: np.ndarray, clusters: np.ndarray | None = None) -> Estimate:
    """The temperature under which the true candidates are likeliest: a conditional logit of one coefficient, 1 / T.

    It is 1 if scores are calibrated, above it if they are overconfident; infinite if they do not favour the true
    candidates, 0 if they put all of them first, which no finite number of samples bounds. Its standard error is the
    robust (sandwich) one over clusters, NaN at either end and for fewer than 2 clusters.

    Args:
        scores: As for :func:`posterior`, [N, K].
        truth: Column of the true candidate, [N].
        clusters: Label of each sample's cluster, [N]; None makes each sample a cluster.
    """
    offered = ~np.isnan(scores)
    centred = np.where(offered, scores - np.nanmax(scores, axis=1, keepdims=True), 0.0)
    own = centred[np.arange(len(truth)), truth]

    def gradients(slope: float) -> np.ndarray:
        """Of each sample's log-probability of its true candidate, by 1 / T."""
        return own - (_softmax(slope * centred, offered) * centred).sum(1)

    if gradients(0.0).sum() <= 0:
        return Estimate(float("inf"), n=len(truth), method=_LOGIT)
    if (own == 0).all():
        return Estimate(0.0, n=len(truth), method=_LOGIT)
    steepest = 1.0
    while gradients(steepest).sum() > 0:
        steepest *= 2
    slope = brentq(lambda value: gradients(value).sum(), 0.0, steepest)
    weights = _softmax(slope * centred, offered)
    mean = (weights * centred).sum(1)
    curvature = (weights * (centred - mean[:, None]) ** 2).sum()
    pulls = cluster_sums(gradients(slope), clusters)
    count = len(pulls)
    scatter = math.sqrt(count / (count - 1) * float(np.square(pulls).sum())) if count > 1 else math.nan
    error = float(scatter / curvature / slope**2)
    return Estimate(float(1 / slope), error, n=len(truth), method=_LOGIT, clusters=count)


def reliability_bins(
    confidence: np.ndarray, correct: np.ndarray, bins: int = _BINS, clusters: np.ndarray | None = None
) -> pd.DataFrame:
    """Samples by their confidence, in bins of equal width.

    Args:
        confidence: Probability of each decision, [N].
        correct: Whether it is right, [N].
        bins: Number of bins from 0 to 1.
        clusters: Label of each sample's cluster, [N]; None makes each sample a cluster.

    Returns:
        One row a bin that has samples: low, high (its edges), n, confidence (mean), accuracy with its Wilson interval.
    """
    inside = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for number in np.unique(inside):
        chosen = inside == number
        row = {"low": number / bins, "high": (number + 1) / bins, "n": int(chosen.sum())}
        found = share(correct[chosen], None if clusters is None else clusters[chosen])
        row |= {"confidence": float(confidence[chosen].mean()), "accuracy": found.value}
        rows.append(row | {"accuracy_low": found.interval.low, "accuracy_high": found.interval.high})
    return pd.DataFrame(rows)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Expected calibration error: mean distance of accuracy from confidence over bins, weighted by their samples.

    It is above 0 even for decisions that are right exactly as often as they say, the more so the fewer there are. What
    such decisions would show is simulated, each decision on its own: clusters of them are not taken into account.

    Args:
        confidence: Probability of each decision, [N].
        correct: Whether it is right, [N].
        seed: Seed of the simulation.

    Returns:
        ece, ece_calibrated (mean of calibrated decisions with these confidences) and ece_p, how often these reach it.
    """
    n = len(confidence)
    member = np.eye(_BINS)[np.minimum((confidence * _BINS).astype(int), _BINS - 1)]
    drawn = np.random.default_rng(seed).random((_SIMULATIONS, n)) < confidence
    surplus = np.vstack([correct, drawn]).astype(np.float64) - confidence
    errors = np.abs(surplus @ member).sum(1) / n
    reached = (1 + (errors[1:] >= errors[0] - 1e-12).sum()) / (1 + _SIMULATIONS)
    return {"ece": float(errors[0]), "ece_calibrated": float(errors[1:].mean()), "ece_p": float(reached)}


def _softmax(scores: np.ndarray, offered: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(np.where(offered, scores, -np.inf), axis=1))
