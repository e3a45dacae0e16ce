"""Tables of competing prompts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dmlik_pl.results.frames import Decisions, decisions, describe
from dmlik_pl.results.prompt_summaries import BASELINES, accuracy_summary, class_average_summary, confusion_matrix
from dmlik_pl.results.protocol import is_published, protocol_caption
from dmlik_pl.results.significance import Interval
from dmlik_pl.results.table import MISSING, Table, percent, percent_with_interval, probability
from dmlik_pl.results.tables import register_tables

__all__ = ["prompt_accuracy_tables"]


@register_tables("prompt_accuracy")
def prompt_accuracy_tables(study: str, frame: pd.DataFrame, failed: int) -> list[Table]:
    """Accuracies, their tests and confusions."""
    raw = accuracy_summary(frame)
    baselines = [name for name in BASELINES if raw[f"{name}_n"].any()]
    index = pd.Index(raw["attribute"], name="attribute")
    shares, tests = [], []
    for row in raw.to_dict("records"):
        undecided = MISSING if not row["n"] else f"{row['undecided']} ({100 * row['undecided_share']:.0f} %)"
        share = {"n": str(row["n"]), "log p %": _shown_share(row, "accuracy"), "undecided": undecided}
        share["decided %"] = _shown_share(row, "accuracy_decided")
        share |= {f"{name.upper()} %": _shown_share(row, name) for name in baselines}
        shares.append(share | {"chance %": percent(row["chance"])})
        test = {"centred %": _shown_share(row, "accuracy_centred"), "MRR": f"{row['mean_reciprocal_rank']:.3f}"}
        test["p (chance)"] = probability(row["chance_p_holm"])
        for name in baselines:
            only = (row[f"only_likelihood_right_{name}"], row[f"only_{name}_right"])
            test[f"only L / only {name.upper()}"] = f"{only[0]} / {only[1]}"
            test[f"p ({name.upper()})"] = probability(row[f"{name}_mcnemar_p_holm"])
        tests.append(test)
    caption = (
        f"Prompt accuracy: how often the true one of k prompts has the highest likelihood. {describe(frame, failed)} "
        "Brackets: Wilson 95 % interval. Undecided: the probe error does not support the decision (counted as made in "
        "the first accuracy, left out of 'decided'). Chance is 1/k."
    )
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} decisions had a likelihood that is not finite and are left out."
    tests_caption = (
        "Prompt accuracy of the likelihood, tested. Centred: accuracy after each prompt's mean over all samples is "
        "taken off its scores, so that no prompt wins everywhere. MRR: mean reciprocal rank of the true prompt. "
        "p (chance): exact binomial test against 1/k; other p: exact McNemar test against that baseline on the same "
        "samples, from those that only the likelihood (L) or only the baseline decides right. Each "
        "kind of test is Holm-corrected over attributes."
    )
    return [
        *(_class_average_tables(study, frame) if is_published(frame) else []),
        Table(study, caption, pd.DataFrame(shares, index=index), raw),
        Table(f"{study}_tests", tests_caption, pd.DataFrame(tests, index=index), raw),
        *(_confusion_table(study, decision) for decision in decisions(frame)),
    ]


def _class_average_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = class_average_summary(frame)
    lines = []
    for row in raw.to_dict("records"):
        line = {"n": str(row["n"]), "log p %": _shown_share(row, "accuracy")}
        line |= {f"{name.upper()} %": _shown_share(row, name) for name in BASELINES if raw[name].notna().any()}
        lines.append(line | {"chance %": percent(row["chance"]), "p (chance)": probability(row["chance_p"])})
    caption = (
        "Prompt accuracy as in the paper: how often a true value has the highest score of all prompts, after scores "
        f"were averaged over all its images. n: decisions, one a true value; all of them rest on "
        f"{frame['sample_id'].nunique()} images. Brackets: Wilson 95 % interval. p (chance): exact binomial test "
        f"against 1/k. {protocol_caption(frame)}"
    )
    index = pd.Index(raw["attribute"], name="attribute")
    return [Table(f"{study}_class_averages", caption, pd.DataFrame(lines, index=index), raw)]


def _confusion_table(study: str, decision: Decisions) -> Table:
    counts = confusion_matrix(decision)
    caption = (
        f"Confusion of {decision.attribute} by likelihood: true value (rows) against the most likely prompt (columns), "
        f"{len(decision.rows)} samples."
    )
    return Table(f"{study}_confusion_{decision.attribute}", caption, counts.astype(str), counts.reset_index())


def _shown_share(row: dict[str, Any], name: str) -> str:
    return percent_with_interval(row[name], Interval(row[f"{name}_low"], row[f"{name}_high"]))
