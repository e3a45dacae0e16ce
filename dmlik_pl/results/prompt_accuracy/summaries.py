"""From records of competing prompts to numbers: accuracies with their intervals, tests, gains over the empty prompt."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of, column
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.likelihoods import nats_per_bpd
from dmlik_pl.results.numbers import mean_of
from dmlik_pl.results.prompt_accuracy.decisions import LIKELIHOOD, METHODS, Decisions, decisions
from dmlik_pl.stats.estimate import NORMAL, Estimate
from dmlik_pl.stats.rates import share as estimated_share
from dmlik_pl.stats.significance import binomial_p_value, holm, mcnemar, mean_with_error

__all__ = [
    "CHANCE",
    "OVERALL",
    "accuracy_summary",
    "class_average_summary",
    "confusion_matrix",
    "empty_prompt_summary",
    "method_summary",
    "pair_summary",
    "place",
    "share",
]

CHANCE = "chance"
OVERALL = "all"


@once_per_frame
def method_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """How well each method decides, one row per part, attribute and method, guessing being the last method.

    An exact tie in a score counts against the true prompt in its rank; the decision itself is the record's.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        Columns part, guidance, reconstructed, attribute, method; n, candidates (mean number); accuracy, that of the
        decided and that with each candidate's mean taken off (_centred), as shares of 1 with their intervals (Wilson's;
        _low, _high); undecided and its share; mean_rank, mean_reciprocal_rank with its standard error; chance with
        chance_p, the exact binomial p-value, and chance_p_holm, corrected over all rows; nfe, the mean number of
        network evaluations per decision.
    """
    rows = []
    for decision in decisions(frame):
        if len(decision.rows):
            rows += [place(decision) | _method_row(found) for found in decision.methods()]
            rows.append(place(decision) | _chance_row(decision))
    raw = pd.DataFrame(rows)
    return _corrected(raw, "chance_p") if len(raw) else raw


@once_per_frame
def accuracy_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracies of all methods side by side, one row per part and attribute.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        Columns part, guidance, reconstructed, attribute, n (samples with any decision), non_finite (samples without a
        finite likelihood), candidates (mean number), accuracy of the exact likelihood and, by its name, of every other
        method, as shares of 1 with their intervals and samples (_low, _high, _n), undecided, undecided_share and
        accuracy_decided of the likelihood, and chance.
    """
    methods = method_summary(frame)
    rows = []
    for decision in decisions(frame):
        row: dict[str, Any] = {**place(decision), "n": len(decision.rows)}
        row["non_finite"] = decision.left_out
        row["candidates"] = float(decision.offered.sum(1).mean()) if len(decision.rows) else float("nan")
        row["chance"] = float(decision.chances().mean()) if len(decision.rows) else float("nan")
        found = {}
        if len(methods):
            same = (methods["part"] == decision.part) & (methods["attribute"] == decision.attribute)
            found = {one["method"]: one for one in methods[same].to_dict("records")}
        for method in METHODS:
            own = found.get(method, {"accuracy": float("nan"), "accuracy_low": 0.0, "accuracy_high": 1.0, "n": 0})
            name = "accuracy" if method == LIKELIHOOD else method
            row |= {name: own["accuracy"], f"{name}_low": own["accuracy_low"], f"{name}_high": own["accuracy_high"]}
            row[f"{name}_n"] = own["n"]
        own = found.get(LIKELIHOOD, {})
        for name in ("undecided", "undecided_share", *(f"accuracy_decided{end}" for end in ("", "_low", "_high"))):
            row[name] = own.get(name, float("nan"))
        rows.append(row)
    return pd.DataFrame(rows)


@once_per_frame
def pair_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """McNemar's exact test of every pair of methods on the samples that both decided.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        One row per part, attribute and pair: a, b (methods), n, only_a, only_b (samples that one alone decides right),
        difference (accuracy of a minus that of b, share of 1) with its standard_error and 95 % interval (low, high), p
        and p_holm, which is corrected over all rows. Empty where there is one method.
    """
    rows = []
    for decision in decisions(frame):
        for a, b in combinations(decision.methods(), 2):
            both = a.rows.merge(b.rows[["sample_id", "correct"]], on="sample_id", suffixes=("_x", "_y"))
            if both.empty:
                continue
            right_a, right_b = both["correct_x"].to_numpy(bool), both["correct_y"].to_numpy(bool)
            test = mcnemar(right_a, right_b, clusters_of(both))
            row = place(decision) | {"a": a.method, "b": b.method, "n": test.n}
            row |= {"only_a": int((right_a & ~right_b).sum()), "only_b": int((right_b & ~right_a).sum())}
            rows.append(row | {"difference": test.value} | _errors(test) | {"p": test.p})
    raw = pd.DataFrame(rows)
    return _corrected(raw, "p") if len(raw) else raw


@once_per_frame
def class_average_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of decisions on averages over all samples of a true value, one row per attribute: Table 6 as published.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        Columns part, guidance, reconstructed, attribute, n (the decisions, one per true value), samples, accuracy and
        those of other methods with scores as shares of 1 with their Wilson intervals, and chance with its exact
        binomial p-value.
    """
    rows = []
    for decision in decisions(frame):
        right = decision.correct_on_average(decision.scores)
        row: dict[str, Any] = {**place(decision), "n": len(right), "samples": len(decision.rows)}
        row |= share("accuracy", right)
        row["chance"] = 1 / len(decision.candidates)
        row["chance_p"] = binomial_p_value(right, row["chance"])
        for method in METHODS:
            if method != LIKELIHOOD:
                own = decision.scored_by(method)
                known = own is not None and np.isfinite(own.scores).all()
                row |= share(method, own.correct_on_average(own.scores) if own and known else np.zeros(0, bool))
        rows.append(row)
    return pd.DataFrame(rows)


@once_per_frame
def empty_prompt_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """By how much the true prompt makes an image likelier than the empty one does, over all and by true value.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        One row per part with attribute "all", then one for each true value of each attribute: n, gain (mean, bits per
        dimension) with its total standard_error, the parts of it (sampling_error, probe_error, grid_error) and 95 %
        interval (gain_low, gain_high), better (share of samples on which the true prompt beats the empty one) with its
        Wilson interval, and undecided_share, of the samples whose difference is within 1.96 of its own standard errors.
        Empty if no empty prompt was scored.
    """
    if not np.isfinite(column(frame, "null_margin")).any():
        return pd.DataFrame()
    rows = []
    for number, decision in enumerate(found := decisions(frame)):
        if number == 0 or decision.part != found[number - 1].part:
            rows += _gain_row(decision, decision.rows, OVERALL, OVERALL)
        for value in decision.candidates:
            rows += _gain_row(decision, decision.rows[decision.rows["truth"] == value], decision.attribute, value)
    return pd.DataFrame(rows)


def confusion_matrix(decision: Decisions) -> pd.DataFrame:
    """Counts of predicted (columns) against true values (rows) of one method."""
    order = decision.candidates
    counts = pd.crosstab(decision.rows["truth"], decision.rows["predicted"])
    return counts.reindex(index=order, columns=order, fill_value=0).rename_axis(index="true", columns=None)


def place(decision: Decisions) -> dict[str, Any]:
    """Part and attribute of decisions, as columns."""
    first = decision.rows.iloc[0] if len(decision.rows) else {}
    place: dict[str, Any] = {"part": decision.part, "guidance": first.get("guidance", float("nan"))}
    return place | {"reconstructed": bool(first.get("reconstructed") or False), "attribute": decision.attribute}


def share(name: str, successes: np.ndarray, clusters: np.ndarray | None = None) -> dict[str, float]:
    """A share of successes with its Wilson interval, as columns; by the cluster of each, where they come in such."""
    found = estimated_share(successes, clusters)
    return {name: found.value, f"{name}_low": found.interval.low, f"{name}_high": found.interval.high}


def _method_row(decision: Decisions) -> dict[str, Any]:
    correct, decided = decision.rows["correct"].to_numpy(bool), decision.decided()
    centred, ranks, n = decision.centred_correct(), decision.ranks(), len(decision.rows)
    row: dict[str, Any] = {"method": decision.method, "n": n, "candidates": float(decision.offered.sum(1).mean())}
    clusters = clusters_of(decision.rows)
    row |= share("accuracy", correct, clusters)
    row["undecided"] = float("nan") if decided is None else int((~decided).sum())
    row["undecided_share"] = float("nan") if decided is None else float((~decided).mean())
    sure = np.zeros(n, bool) if decided is None else decided
    row |= share("accuracy_decided", correct[sure], clusters_of(decision.rows[sure]))
    row |= share("accuracy_centred", np.zeros(0, bool) if centred is None else centred, clusters)
    reciprocal = mean_with_error(1 / ranks, clusters=clusters)
    row |= {"mean_rank": float(ranks.mean()), "mean_reciprocal_rank": reciprocal.value}
    row["mean_reciprocal_rank_standard_error"] = reciprocal.standard_error
    # Where the number of candidates varies, the binomial with the mean chance is the cautious choice of a null.
    row["chance"] = float(decision.chances().mean())
    row["chance_p"] = binomial_p_value(correct, row["chance"], clusters)
    return row | {"nfe": float(decision.costs().mean())}


def _chance_row(decision: Decisions) -> dict[str, Any]:
    """What guessing is expected to reach."""
    offered, chance = decision.offered.sum(1), float(decision.chances().mean())
    ranks = {k: np.arange(1, k + 1) for k in set(offered)}
    row = {"method": CHANCE, "n": len(offered), "candidates": float(offered.mean()), "accuracy": chance}
    row |= {"mean_rank": float(np.mean([ranks[k].mean() for k in offered]))}
    row["mean_reciprocal_rank"] = float(np.mean([(1 / ranks[k]).mean() for k in offered]))
    return row | {"chance": chance, "nfe": 0.0}


def _gain_row(decision: Decisions, rows: pd.DataFrame, attribute: str, value: str) -> list[dict[str, Any]]:
    rows = rows[np.isfinite(column(rows, "null_margin"))]
    if rows.empty:
        return []
    gain, error = column(rows, "null_margin"), column(rows, "null_margin_standard_error")
    mean = mean_of(rows, "null_margin", 1 / nats_per_bpd(rows))
    row = place(decision) | {"attribute": attribute, "value": value, "n": len(rows), "gain": mean.value}
    row |= {"standard_error": mean.standard_error, "sampling_error": mean.sampling_error}
    row |= {"probe_error": mean.probe_error, "grid_error": mean.grid_error}
    row |= {"gain_low": mean.interval.low, "gain_high": mean.interval.high}
    row |= share("better", gain > 0, clusters_of(rows))
    undecided = np.abs(gain) <= NORMAL * error
    return [row | {"undecided_share": float("nan") if np.isnan(error).all() else float(undecided.mean())}]


def _errors(found: Estimate) -> dict[str, float]:
    return {"standard_error": found.standard_error, "low": found.interval.low, "high": found.interval.high}


def _corrected(raw: pd.DataFrame, name: str) -> pd.DataFrame:
    """Add Holm's correction of a column of p-values."""
    known = raw[name].notna()
    return raw.assign(**{f"{name}_holm": pd.Series(holm(raw.loc[known, name].tolist()), raw.index[known])})
