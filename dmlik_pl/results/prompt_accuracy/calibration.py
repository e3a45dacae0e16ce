"""How honest the posteriors over prompts are: summaries of :mod:`dmlik_pl.stats.calibration` by method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.prompt_accuracy.decisions import Decisions, decisions
from dmlik_pl.results.prompt_accuracy.summaries import place
from dmlik_pl.stats.calibration import calibration_error, fit_temperature, posterior

__all__ = ["IN_NATS", "calibration_summary", "usable"]

IN_NATS = ("likelihood", "elbo", "pmi")
"""Methods whose scores are logarithms of densities or of their ratios, and so imply a posterior."""


def usable(decision: Decisions) -> Decisions | None:
    """The decisions of which every candidate has a score in nats; None if there are none."""
    known = decision.complete
    return decision.select(known) if decision.method in IN_NATS and known.any() else None


@once_per_frame
def calibration_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """How honest the posteriors are, one row per part, attribute and method with scores in nats.

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
            fitted = fit_temperature(found.scores, found.truth, clusters_of(found.rows))
            row |= {"temperature": fitted.value, "temperature_standard_error": fitted.standard_error}
            rows.append(row | {"log_loss_fitted": _fitted_loss(found, fitted.value)})
    return pd.DataFrame(rows)


def _fitted_loss(found: Decisions, temperature: float) -> float:
    """Log loss at the fitted temperature, nats."""
    if temperature == 0:
        return 0.0
    return -float(posterior(found.scores, found.truth, temperature).of_truth.mean())
