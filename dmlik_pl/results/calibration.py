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

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import log_softmax

from dmlik_pl.results.decisions import Decisions, decisions
from dmlik_pl.results.prompt_summaries import place, share

__all__ = [
    "IN_NATS",
    "Posterior",
    "Temperature",
    "calibration_error",
    "calibration_summary",
    "fit_temperature",
    "posterior",
    "reliability_bins",
    "usable",
]

IN_NATS = ("likelihood", "elbo", "pmi")
"""Methods whose scores are logarithms of densities or of their ratios, and so imply a posterior."""

_BINS = 10
_SIMULATIONS = 999


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


class Temperature(NamedTuple):
    """A fitted temperature with its standard error.

    Attributes:
        value: 1 if calibrated, above it if overconfident; infinite if scores do not favour the true candidates, 0 if
            they put all of them first, which no finite number of samples bounds.
        standard_error: Robust (sandwich) standard error; NaN at either end.
    """

    value: float
    standard_error: float


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


def fit_temperature(scores: np.ndarray, truth: np.ndarray) -> Temperature:
    """The temperature under which the true candidates are likeliest: a conditional logit of one coefficient, 1 / T.

    Args:
        scores: As for :func:`posterior`, [N, K].
        truth: Column of the true candidate, [N].
    """
    offered = ~np.isnan(scores)
    centred = np.where(offered, scores - np.nanmax(scores, axis=1, keepdims=True), 0.0)
    own = centred[np.arange(len(truth)), truth]

    def gradients(slope: float) -> np.ndarray:
        """Of each sample's log-probability of its true candidate, by 1 / T."""
        return own - (_softmax(slope * centred, offered) * centred).sum(1)

    if gradients(0.0).sum() <= 0:
        return Temperature(float("inf"), float("nan"))
    if (own == 0).all():
        return Temperature(0.0, float("nan"))
    steepest = 1.0
    while gradients(steepest).sum() > 0:
        steepest *= 2
    slope = brentq(lambda value: gradients(value).sum(), 0.0, steepest)
    weights = _softmax(slope * centred, offered)
    mean = (weights * centred).sum(1)
    curvature = (weights * (centred - mean[:, None]) ** 2).sum()
    error = float(np.sqrt(np.square(gradients(slope)).sum()) / curvature / slope**2)
    return Temperature(float(1 / slope), error)


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = _BINS) -> pd.DataFrame:
    """Samples by their confidence, in bins of equal width.

    Args:
        confidence: Probability of each decision, [N].
        correct: Whether it is right, [N].
        bins: Number of bins from 0 to 1.

    Returns:
        One row a bin that has samples: low, high (its edges), n, confidence (mean), accuracy with its Wilson interval.
    """
    inside = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for number in np.unique(inside):
        chosen = inside == number
        row = {"low": number / bins, "high": (number + 1) / bins, "n": int(chosen.sum())}
        rows.append(row | {"confidence": float(confidence[chosen].mean())} | share("accuracy", correct[chosen]))
    return pd.DataFrame(rows)


def calibration_error(confidence: np.ndarray, correct: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Expected calibration error: mean distance of accuracy from confidence over bins, weighted by their samples.

    It is above 0 even for decisions that are right exactly as often as they say, the more so the fewer there are. What
    such decisions would show is simulated.

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


def usable(decision: Decisions) -> Decisions | None:
    """The decisions of which every candidate has a score in nats; None if there are none."""
    known = decision.complete
    return decision.select(known) if decision.method in IN_NATS and known.any() else None


def calibration_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """How honest the posteriors are, one row a part, attribute and method with scores in nats.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        Columns part, guidance, reconstructed, attribute, method, n; accuracy and confidence (means); ece with
        ece_calibrated and ece_p; brier (sum of squares over candidates, 0 to 2) and log_loss (nats) with those of
        guessing (_chance); temperature with its standard_error, and log_loss_fitted, that at the fitted temperature.
    """
    rows = []
    for decision in decisions(frame):
        for method in decision.methods():
            if (found := usable(method)) is None:
                continue
            belief = posterior(found.scores, found.truth)
            row: dict[str, Any] = place(found) | {"method": found.method, "n": len(found.rows)}
            row |= {"accuracy": float(belief.correct.mean()), "confidence": float(belief.confidence.mean())}
            row |= calibration_error(belief.confidence, belief.correct)
            squares = (np.exp(belief.log_probability) - found.truth_mask()) ** 2
            row |= {"brier": float(squares.sum(1).mean()), "brier_chance": float((1 - found.chances()).mean())}
            row |= {"log_loss": -float(belief.of_truth.mean())}
            row["log_loss_chance"] = -float(np.log(found.chances()).mean())
            fitted = fit_temperature(found.scores, found.truth)
            row |= {"temperature": fitted.value, "temperature_standard_error": fitted.standard_error}
            rows.append(row | {"log_loss_fitted": _fitted_loss(found, fitted.value)})
    return pd.DataFrame(rows)


def _fitted_loss(found: Decisions, temperature: float) -> float:
    """Log loss at the fitted temperature, nats."""
    if temperature == 0:
        return 0.0
    return -float(posterior(found.scores, found.truth, temperature).of_truth.mean())


def _softmax(scores: np.ndarray, offered: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(np.where(offered, scores, -np.inf), axis=1))
