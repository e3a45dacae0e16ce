"""Tables of competing prompts: accuracies of every method, their tests, and gains over the empty prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.records.protocol import is_published, protocol_caption
from dmlik_pl.results.columns import (
    Row,
    Shown,
    count,
    error,
    estimate,
    interval,
    number,
    p_value,
    share,
    share_with_interval,
    table_of,
)
from dmlik_pl.results.drawing import named
from dmlik_pl.results.prompt_accuracy.bound_tables import bound_tables
from dmlik_pl.results.prompt_accuracy.by_attribute import WILSON, by_attribute, heading, method
from dmlik_pl.results.prompt_accuracy.calibration import calibration_summary
from dmlik_pl.results.prompt_accuracy.decisions import LIKELIHOOD, METHODS, Decisions, decisions
from dmlik_pl.results.prompt_accuracy.summaries import (
    accuracy_summary,
    class_average_summary,
    confusion_matrix,
    empty_prompt_summary,
    method_summary,
    pair_summary,
)
from dmlik_pl.results.table import MISSING, Table

__all__ = ["prompt_accuracy_tables"]

_MOST_CONFUSED = 40
_OTHERS = {"screened": "screened %", "elbo": "ELBO %", "pmi": "PMI %", "clip": "CLIP %"}
_SCORES = {
    LIKELIHOOD: "log p(x|y)",
    "screened": "log p(x|y) among the prompts that the ELBO kept",
    "elbo": "evidence lower bound",
    "pmi": "pointwise mutual information by the I-MMSE integral, which ranks as the ELBO of the same draws does",
    "clip": "cosine of the CLIP features of image and prompt",
}


def _undecided(row: Row) -> str:
    if math.isnan(row["undecided_share"]):
        return MISSING
    undecided = f"{100 * row['undecided_share']:.0f} %"
    return f"{row['undecided']:.0f} ({undecided})" if "undecided" in row else undecided


def _beside(title: str, name: str, other: str, meaning: str) -> Shown:
    """A number with what it is compared with in brackets; -0 is 0."""
    return Shown(title, lambda row: f"{abs(row[name]):.3f} ({row[other]:.3f})", meaning)


_CHANCE = share("chance %", "chance", "1/k, with k prompts")
_METHOD = (
    count("n", meaning="samples that the method decided"),
    share_with_interval("accuracy %", "accuracy", "how often the true prompt has the highest score"),
    Shown("undecided", _undecided, "decisions that the method's own error does not support"),
    share_with_interval("decided %", "accuracy_decided", "accuracy of the decisions that the error supports"),
    share_with_interval("centred %", "accuracy_centred", "accuracy with each prompt's mean over samples subtracted"),
    estimate("MRR", "mean_reciprocal_rank", "mean of 1 / rank of the true prompt, an equal score counting against it"),
    p_value("p (chance)", "chance_p_holm", "binomial test against 1/k, Holm-corrected over attributes and methods"),
    number("calls", "nfe", "network evaluations per decision: forward and Jacobian passes, all prompts; none for CLIP"),
)
_PAIRS = (
    method("A", "a"),
    method("B", "b"),
    count("n", meaning="samples that both decided"),
    count("only A", "only_a", "samples that A alone decides correctly"),
    count("only B", "only_b", "samples that B alone decides correctly"),
    estimate(
        "A - B",
        "difference",
        "accuracy of A less that of B ± standard error, percentage points",
        "standard_error",
        scale=100,
    ),
    interval("95 % interval", ("low", "high"), "of the difference", form="+.0f", scale=100),
    p_value("p", "p", "exact McNemar test of equal accuracy"),
    p_value("p (Holm)", "p_holm", "the same, Holm-corrected over this table"),
)
_EMPTY_PROMPT = (
    count("n", meaning="samples"),
    estimate("gain", "gain", "log p(x|true prompt) - log p(x|empty prompt), bits per dimension", "standard_error"),
    error("probe error", "probe_error", "part of ± that more probes would remove"),
    error("grid error", "grid_error", "part of ± by the time grid, of two independent errors"),
    share_with_interval("better %", "better", "samples that the true prompt makes likelier"),
    Shown("undecided", _undecided, "samples whose own gain is within 1.96 standard errors over probes of zero"),
)
_CALIBRATION = (
    method("method", "method"),
    count("n", meaning="samples"),
    share("confidence %", "confidence", "mean probability of the decisions"),
    share("right %", "accuracy", "decisions that are right"),
    _beside("ECE (if calibrated)", "ece", "ece_calibrated", "expected calibration error over 10 bins"),
    p_value("p", "ece_p", "how often simulated calibrated decisions of the same confidence reach the ECE"),
    number("Brier", "brier", "squared errors of the probabilities, summed over prompts: 0 is best, 2 worst", ".3f"),
    _beside("log loss (guess)", "log_loss", "log_loss_chance", "nats; in brackets that of guessing"),
    estimate("T", "temperature", "fitted temperature ± standard error, above 1 if scores are overconfident"),
)
_NOTES = (
    "ECE in brackets: the mean of simulated calibrated decisions of the same confidence. It and p take decisions as "
    "independent, whatever samples are clustered by.",
    "T is inf if the scores do not favour the true prompts, and 0 if they put all of them first.",
)


def prompt_accuracy_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """All tables of a prompt accuracy study."""
    pairs = "Every two methods on the samples that both decided."
    calibration = (
        "Do margins mean what they say? A score in nats implies a posterior over the prompts of an image, under a "
        "uniform prior. Calibrated decisions are right as often as their probability says."
    )
    tables = [
        *(_class_average_tables(study, frame) if is_published(frame) else []),
        *_accuracy_tables(study, frame),
        *_method_tables(study, frame),
        *by_attribute(f"{study}_pairs", pairs, pair_summary(frame), _PAIRS),
        *_empty_prompt_tables(study, frame),
        *by_attribute(f"{study}_calibration", calibration, calibration_summary(frame), _CALIBRATION, _NOTES),
        *bound_tables(study, frame),
        *_confusion_tables(study, decisions(frame)),
    ]
    return [replace(table, raw=_without_part(table.raw)) for table in tables]


def _without_part(raw: pd.DataFrame) -> pd.DataFrame:
    """Raw numbers without the words for a part where there is one part only."""
    return raw.drop(columns="part") if "part" in raw and (raw["part"] == "").all() else raw


def _accuracy_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = accuracy_summary(frame)
    others = [name for name in _OTHERS if raw[f"{name}_n"].any()]
    highest = "how often the true prompt has the highest"
    of = ", of the samples computed in full" if "screened" in others else ""
    unsupported = "decisions by log p that the probe error does not support; 'log p %' counts them"
    columns = (
        count("n", meaning="samples"),
        share_with_interval("log p %", "accuracy", f"{highest} {_SCORES[LIKELIHOOD]}{of}"),
        Shown("undecided", _undecided, unsupported),
        share_with_interval("decided %", "accuracy_decided", "the same among the other decisions"),
        *(share_with_interval(_OTHERS[name], name, f"{highest} {_SCORES[name]}") for name in others),
        _CHANCE,
    )
    caption = f"Prompt accuracy: how often the true one of k prompts has the highest score. {WILSON}"
    if raw["non_finite"].any():
        caption += f" Decisions left out because a likelihood was not finite: {raw['non_finite'].sum()}."
    return by_attribute(study, caption, raw, columns, [describe(frame)])


def _method_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """One table per attribute: every method in every part."""
    summary = method_summary(frame)
    shared = "" if is_published(frame) else "All prompts of an image share their probes, noise and noise levels."
    tables = []
    for attribute, raw in summary.groupby("attribute", sort=False) if len(summary) else ():
        scores = "; ".join(f"{METHODS[name]}, {_SCORES[name]}" for name in METHODS if (raw["method"] == name).any())
        titles = [METHODS.get(name, name) for name in raw["method"]]
        titles = [f"{part}: {title}" if part else title for part, title in zip(raw["part"], titles, strict=True)]
        caption = f"How often each method puts the true {named(attribute)} first. MRR ± standard error. {WILSON}"
        name, notes = f"{study}_methods_{attribute}", [f"Scores: {scores}.", shared]
        tables.append(table_of(name, caption, raw, _METHOD, titles, "method", notes))
    return tables


def _empty_prompt_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = empty_prompt_summary(frame)
    if raw.empty:
        return []
    caption = (
        "What the true prompt adds to the empty one, which is scored without guidance: means over samples ± total "
        f"error. {WILSON}"
    )
    titles = [
        heading(row) if row["value"] == row["attribute"] else f"{heading(row)}: {row['value']}"
        for row in raw.to_dict("records")
    ]
    notes = ["The gain ranks the prompts of an image as the likelihood does."]
    return [table_of(f"{study}_empty_prompt", caption, raw, _EMPTY_PROMPT, titles, "samples", notes)]


def _class_average_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = class_average_summary(frame)
    columns = (
        count("n", meaning="decisions, one per true value"),
        share_with_interval("log p %", "accuracy"),
        *(share_with_interval(title, name) for name, title in _OTHERS.items() if raw[name].notna().any()),
        _CHANCE,
        p_value("p (chance)", "chance_p", "exact binomial test against 1/k"),
    )
    caption = (
        "Prompt accuracy as in the paper: how often a true value has the highest score of all prompts after scores are "
        f"averaged over all its images. All decisions rest on {frame['sample_id'].nunique()} images. {WILSON}"
    )
    return by_attribute(f"{study}_class_averages", caption, raw, columns, [protocol_caption(frame)])


def _confusion_tables(study: str, split: Sequence[Decisions]) -> list[Table]:
    """One for each attribute and part whose samples share their candidates."""
    tables = []
    for decision in split:
        full = decision.by(LIKELIHOOD)
        if full is None or not full.shared or len(full.candidates) > _MOST_CONFUSED:
            continue
        counts = confusion_matrix(full)
        caption = (
            f"Confusion of {named(full.heading)} by likelihood: true values in rows, the most likely prompts in "
            f"columns, {len(full.rows)} samples."
        )
        name = "_".join(filter(None, (study, "confusion", full.attribute, full.slug)))
        tables.append(Table(name, caption, counts.astype(str), counts.reset_index(allow_duplicates=True)))
    return tables
