"""From records of competing prompts to numbers: accuracies with their intervals, tests, confusions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.results.frames import Decisions, decisions
from dmlik_pl.results.significance import binomial_p_value, holm, mcnemar, wilson_interval

__all__ = ["BASELINES", "accuracy_summary", "class_average_summary", "confusion_matrix"]

BASELINES = ("clip", "elbo")
"""Prefixes of the columns that hold the decisions of other methods on the same samples."""


def accuracy_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a prompt accuracy study, one row an attribute.

    Args:
        frame: The records of the study.

    Returns:
        Counts, accuracies as shares of 1 with their intervals, mean reciprocal rank, chance, and p-values; those of
        one kind of test are Holm-corrected over the attributes.
    """
    rows = []
    for decision in decisions(frame):
        total = int((frame["attribute"] == decision.attribute).sum())
        rows.append(_accuracy_row(decision) | {"non_finite": total - len(decision.rows)})
    raw = pd.DataFrame(rows)
    for name in [name for name in raw.columns if name.endswith("_p")]:
        known = raw[name].notna()
        raw.loc[known, f"{name}_holm"] = holm(raw.loc[known, name].tolist())
    return raw


def class_average_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of decisions on averages over all samples of a true value, one row an attribute: Table 6 as published.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        Columns attribute, n (the decisions, one a true value), samples, accuracy and those of baselines with scores as
        shares of 1 with their Wilson intervals, and chance with its exact binomial p-value.
    """
    rows = []
    for decision in decisions(frame):
        right = decision.correct_on_average(decision.scores)
        row: dict[str, Any] = {"attribute": decision.attribute, "n": len(right), "samples": len(decision.rows)}
        row |= _share("accuracy", right)
        row["chance"] = 1 / len(decision.candidates)
        row["chance_p"] = binomial_p_value(int(right.sum()), len(right), row["chance"])
        for baseline in BASELINES:
            scores = decision.scores_of(baseline)
            row |= _share(baseline, np.zeros(0, bool) if scores is None else decision.correct_on_average(scores))
        rows.append(row)
    return pd.DataFrame(rows)


def confusion_matrix(decision: Decisions, predicted: str = "predicted") -> pd.DataFrame:
    """Counts of predicted (columns) against true values (rows).

    Args:
        decision: The decisions about one attribute.
        predicted: The column with the predictions: "predicted", or that of a baseline, "clip_predicted".
    """
    order = decision.candidates
    counts = pd.crosstab(decision.rows["truth"], decision.rows[predicted])
    return counts.reindex(index=order, columns=order, fill_value=0).rename_axis(index="true", columns=None)


def _accuracy_row(decision: Decisions) -> dict[str, Any]:
    rows = decision.rows
    n = len(rows)
    correct, decided = rows["correct"].to_numpy(bool), rows["decided"].to_numpy(bool)
    row: dict[str, Any] = {
        "attribute": decision.attribute,
        "n": n,
        "candidates": len(decision.candidates),
        **_share("accuracy", correct),
        "undecided": int((~decided).sum()),
        "undecided_share": float((~decided).mean()) if n else float("nan"),
        **_share("accuracy_decided", correct[decided]),
        **_share("accuracy_centred", decision.centred_correct()),
        "mean_rank": float(decision.ranks().mean()) if n else float("nan"),
        "mean_reciprocal_rank": float((1 / decision.ranks()).mean()) if n else float("nan"),
    }
    # Where the number of candidates varies, the binomial with the mean chance is the cautious choice of a null.
    row["chance"] = float(np.mean([1 / len(text.split("|")) for text in rows["candidates"]])) if n else float("nan")
    row["chance_p"] = binomial_p_value(int(correct.sum()), n, row["chance"]) if n else float("nan")
    for baseline in BASELINES:
        known = rows[f"{baseline}_correct"].notna().to_numpy() if f"{baseline}_correct" in rows else np.zeros(n, bool)
        theirs = rows.loc[known, f"{baseline}_correct"].to_numpy(bool) if known.any() else np.zeros(0, bool)
        comparison = mcnemar(correct[known], theirs)
        row |= _share(baseline, theirs)
        row |= {f"{baseline}_n": len(theirs), f"only_likelihood_right_{baseline}": comparison.only_a}
        row |= {f"only_{baseline}_right": comparison.only_b}
        row[f"{baseline}_mcnemar_p"] = comparison.p_value if len(theirs) else float("nan")
    return row


def _share(name: str, successes: np.ndarray) -> dict[str, float]:
    n = len(successes)
    interval = wilson_interval(int(successes.sum()), n)
    share = float(successes.mean()) if n else float("nan")
    return {name: share, f"{name}_low": interval.low, f"{name}_high": interval.high}
