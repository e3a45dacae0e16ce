"""Tables of competing prompts: accuracies of every method, their tests, and gains over the empty prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.records.protocol import is_published, protocol_caption
from dmlik_pl.results.prompt_accuracy.bound_tables import bound_tables
from dmlik_pl.results.prompt_accuracy.calibration import calibration_summary
from dmlik_pl.results.prompt_accuracy.decisions import LIKELIHOOD, METHODS, Decisions, decisions
from dmlik_pl.results.prompt_accuracy.summaries import (
    CHANCE,
    accuracy_summary,
    class_average_summary,
    confusion_matrix,
    empty_prompt_summary,
    heading,
    method_summary,
    pair_summary,
)
from dmlik_pl.results.table import MISSING, Table, percent, percent_with_interval, probability, short, with_error
from dmlik_pl.stats.significance import Interval

__all__ = ["prompt_accuracy_tables"]

_MOST_CONFUSED = 40
_OTHERS = tuple(method for method in METHODS if method != LIKELIHOOD)
_SHORT = {"screened": "screened", "elbo": "ELBO", "pmi": "PMI", "clip": "CLIP"}
_MEANINGS = {
    LIKELIHOOD: "Exact likelihood: highest log p(x|y), all prompts sharing probes.",
    "screened": "Screened: the same among the prompts that the ELBO kept.",
    "elbo": "ELBO: highest evidence lower bound, all prompts sharing noise and levels.",
    "pmi": "PMI: highest pointwise mutual information of image and prompt by the I-MMSE integral; it ranks as the ELBO "
    "of the same draws does.",
    "clip": "CLIP: highest cosine of image and prompt; it costs a pass of its encoders, no network evaluation.",
}


def prompt_accuracy_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """All tables of a prompt accuracy study."""
    tables = [
        *(_class_average_tables(study, frame) if is_published(frame) else []),
        _accuracy_table(study, frame),
        *_method_tables(study, frame),
        *_pair_tables(study, frame),
        *_empty_prompt_tables(study, frame),
        *_calibration_tables(study, frame),
        *bound_tables(study, frame),
        *_confusion_tables(study, decisions(frame)),
    ]
    return [replace(table, raw=_without_part(table.raw)) for table in tables]


def _without_part(raw: pd.DataFrame) -> pd.DataFrame:
    """Raw numbers without the words for a part where there is one part only."""
    return raw.drop(columns="part") if "part" in raw and (raw["part"] == "").all() else raw


def _accuracy_table(study: str, frame: pd.DataFrame) -> Table:
    raw = accuracy_summary(frame)
    others = [method for method in _OTHERS if raw[f"{method}_n"].any()]
    lines = []
    for row in raw.to_dict("records"):
        line = {"n": str(row["n"]), "log p %": _shown_share(row, "accuracy"), "undecided": _undecided(row)}
        line["decided %"] = _shown_share(row, "accuracy_decided")
        line |= {f"{_SHORT[method]} %": _shown_share(row, method) for method in others}
        lines.append(line | {"chance %": percent(row["chance"])})
    caption = (
        f"Prompt accuracy: how often the true one of k prompts has the highest likelihood. {describe(frame)} "
        "Brackets: Wilson 95 % interval. Undecided: the probe error does not support the decision (counted as made in "
        "the first accuracy, left out of 'decided'). Chance is 1/k."
    )
    if "screened" in others:
        caption += " log p: of the samples only that were computed in full; screened: of all."
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} decisions had a likelihood that is not finite and are left out."
    return Table(study, caption, pd.DataFrame(lines, index=_index(raw)), raw)


def _method_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """One table an attribute: every method in every part."""
    summary = method_summary(frame)
    tables = []
    for attribute, raw in summary.groupby("attribute", sort=False) if len(summary) else ():
        lines, names = [], []
        for row in raw.to_dict("records"):
            name = METHODS.get(row["method"], row["method"])
            names.append(f"{row['part']}: {name}" if row["part"] else name)
            line = {"n": str(row["n"]), "accuracy %": _shown_share(row, "accuracy"), "undecided": _undecided(row)}
            if row["method"] == CHANCE:
                line["accuracy %"] = percent(row["accuracy"])
            line |= {"decided %": _shown_share(row, "accuracy_decided")}
            line |= {"centred %": _shown_share(row, "accuracy_centred")}
            line["MRR"] = with_error(row["mean_reciprocal_rank"], row["mean_reciprocal_rank_standard_error"])
            line["p (chance)"] = probability(row["chance_p_holm"])
            line["calls"] = MISSING if math.isnan(row["nfe"]) else f"{row['nfe']:.4g}"
            lines.append(line)
        caption = (
            f"How well each method tells the {attribute}. {_meanings(raw['method'])} Undecided: the method's own error "
            "does not support the decision. Centred: accuracy after each prompt's mean over all samples is taken off "
            "its scores, so that no prompt wins everywhere. MRR: mean reciprocal rank of the true prompt, an equal "
            "score counting against it, ± standard error. p (chance): exact binomial test against 1/k, "
            "Holm-corrected over all attributes and methods. Calls: network evaluations a decision (forward passes and "
            "Jacobian products, all prompts). Brackets: Wilson 95 % interval."
        )
        index = pd.Index(names, name="method")
        shown = pd.DataFrame(lines, index=index)
        tables.append(Table(f"{study}_methods_{attribute}", caption, shown, raw.reset_index(drop=True)))
    return tables


def _pair_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = pair_summary(frame)
    if raw.empty:
        return []
    lines = [
        {
            "A": METHODS[row["a"]],
            "B": METHODS[row["b"]],
            "n": str(row["n"]),
            "only A": str(row["only_a"]),
            "only B": str(row["only_b"]),
            "A - B": with_error(100 * row["difference"], 100 * row["standard_error"]),
            "p": probability(row["p"]),
            "p (Holm)": probability(row["p_holm"]),
        }
        for row in raw.to_dict("records")
    ]
    caption = (
        "Every two methods on the samples that both decided. Only A, only B: samples that one of them alone decides "
        "right. A - B: difference of their accuracies in percentage points ± standard error. p: exact McNemar test of "
        "'both are right equally often', and the same Holm-corrected over this table."
    )
    return [Table(f"{study}_pairs", caption, pd.DataFrame(lines, index=_index(raw)), raw)]


def _empty_prompt_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = empty_prompt_summary(frame)
    if raw.empty:
        return []
    lines = [
        {
            "n": str(row["n"]),
            "gain": with_error(row["gain"], row["standard_error"]),
            "probe error": short(row["probe_error"]),
            "better %": _shown_share(row, "better"),
            "undecided": _undecided(row),
        }
        for row in raw.to_dict("records")
    ]
    caption = (
        "What the true prompt adds to the empty one. Gain: log p(x|true prompt) - log p(x|empty prompt), the empty "
        "one without guidance, bits per dimension, mean ± standard error over samples; probe error: the part of it "
        "that more probes would remove. Better: share of samples that the true prompt makes likelier; undecided: of "
        "the samples whose difference is within 1.96 of its own standard errors. Brackets: Wilson 95 % interval. "
        "Within an image the gain ranks prompts as the likelihood does."
    )
    names = [
        heading(row) if row["value"] == row["attribute"] else f"{heading(row)}: {row['value']}"
        for row in raw.to_dict("records")
    ]
    return [Table(f"{study}_empty_prompt", caption, pd.DataFrame(lines, index=pd.Index(names, name="samples")), raw)]


def _calibration_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = calibration_summary(frame)
    if raw.empty:
        return []
    lines = [
        {
            "method": METHODS[row["method"]],
            "n": str(row["n"]),
            "confidence %": percent(row["confidence"]),
            "right %": percent(row["accuracy"]),
            "ECE (if calibrated)": f"{row['ece']:.3f} ({row['ece_calibrated']:.3f})",
            "p": probability(row["ece_p"]),
            "Brier": f"{row['brier']:.3f}",
            "log loss (guess)": f"{abs(row['log_loss']):.3f} ({row['log_loss_chance']:.3f})",
            "T": with_error(row["temperature"], row["temperature_standard_error"]),
        }
        for row in raw.to_dict("records")
    ]
    caption = (
        "Do margins mean what they say? Posterior over the prompts of an image that a score in nats implies under a "
        "uniform prior. Confidence: mean probability of the decision; right: how often it is right. ECE: expected "
        "calibration error over 10 bins; in brackets what decisions as confident as these would show if they were "
        "calibrated, and p how often those reach it (simulated). Brier: 0 best, 2 worst. Log loss: nats, beside that "
        "of guessing. T: fitted temperature ± standard error; above 1: overconfident, inf: the scores do not favour "
        "the true prompts, 0: they put all of them first."
    )
    return [Table(f"{study}_calibration", caption, pd.DataFrame(lines, index=_index(raw)), raw)]


def _class_average_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = class_average_summary(frame)
    lines = []
    for row in raw.to_dict("records"):
        line = {"n": str(row["n"]), "log p %": _shown_share(row, "accuracy")}
        line |= {f"{_SHORT[name]} %": _shown_share(row, name) for name in _OTHERS if raw[name].notna().any()}
        lines.append(line | {"chance %": percent(row["chance"]), "p (chance)": probability(row["chance_p"])})
    caption = (
        "Prompt accuracy as in the paper: how often a true value has the highest score of all prompts, after scores "
        f"were averaged over all its images. n: decisions, one a true value; all of them rest on "
        f"{frame['sample_id'].nunique()} images. Brackets: Wilson 95 % interval. p (chance): exact binomial test "
        f"against 1/k. {protocol_caption(frame)}"
    )
    return [Table(f"{study}_class_averages", caption, pd.DataFrame(lines, index=_index(raw)), raw)]


def _confusion_tables(study: str, split: Sequence[Decisions]) -> list[Table]:
    """One for each attribute and part whose samples share their candidates."""
    tables = []
    for decision in split:
        full = decision.by(LIKELIHOOD)
        if full is None or not full.shared or len(full.candidates) > _MOST_CONFUSED:
            continue
        counts = confusion_matrix(full)
        caption = (
            f"Confusion of {full.heading} by likelihood: true value (rows) against the most likely prompt (columns), "
            f"{len(full.rows)} samples."
        )
        name = "_".join(filter(None, (study, "confusion", full.attribute, full.slug)))
        tables.append(Table(name, caption, counts.astype(str), counts.reset_index(allow_duplicates=True)))
    return tables


def _meanings(methods: Sequence[str]) -> str:
    return " ".join(_MEANINGS[method] for method in _MEANINGS if method in set(methods) - {CHANCE})


def _index(raw: pd.DataFrame) -> pd.Index:
    return pd.Index([heading(row) for row in raw.to_dict("records")], name="attribute")


def _undecided(row: dict[str, Any]) -> str:
    if math.isnan(row["undecided_share"]):
        return MISSING
    share = f"{100 * row['undecided_share']:.0f} %"
    return f"{row['undecided']:.0f} ({share})" if "undecided" in row else share


def _shown_share(row: dict[str, Any], name: str) -> str:
    return percent_with_interval(row[name], Interval(row[f"{name}_low"], row[f"{name}_high"]))
