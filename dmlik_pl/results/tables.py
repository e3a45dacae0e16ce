"""From records to tables. A new study registers its own maker with `register_tables("kind")`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from dmlik_pl.results.frames import Decisions, decisions, describe, failure_count, kind_of
from dmlik_pl.results.protocol import is_published, protocol_caption
from dmlik_pl.results.significance import Interval
from dmlik_pl.results.store import FAILURES
from dmlik_pl.results.summaries import (
    BASELINES,
    accuracy_summary,
    bits_per_dim_summary,
    class_average_summary,
    confusion_matrix,
)
from dmlik_pl.results.table import MISSING, Table, percent, percent_with_interval, probability, short, with_error

__all__ = ["TableMaker", "make_tables", "register_tables"]

TableMaker = Callable[[str, pd.DataFrame, int], list[Table]]
"""Takes the study's name, its records and its number of failed samples."""

_MAKERS: dict[str, TableMaker] = {}


def register_tables(kind: str) -> Callable[[TableMaker], TableMaker]:
    """Name the function that makes the tables of a kind of study.

    Args:
        kind: The study's kind, as in its records.
    """

    def register(maker: TableMaker) -> TableMaker:
        _MAKERS[kind] = maker
        return maker

    return register


def make_tables(records: Mapping[str, pd.DataFrame]) -> list[Table]:
    """All tables of a run.

    Args:
        records: One frame a study, and `failures`, as the record store returns them.

    Returns:
        The tables of every study that has a maker and a record, then one of the data's bits per dimension and, if
        anything failed, one of the failures.
    """
    failures = records.get(FAILURES, pd.DataFrame(columns=["study", "sample_id", "error"]))
    studies = {name: frame for name, frame in records.items() if name != FAILURES and len(frame)}
    tables = []
    for study, frame in studies.items():
        if (kind := kind_of(study, frame)) in _MAKERS:
            tables += _MAKERS[kind](study, frame, failure_count(failures, study))
    tables += _bits_per_dim_table(studies, failures)
    if len(failures):
        shown = failures.set_index("sample_id")[["study", "error"]].astype(str)
        tables.append(
            Table(
                "failures",
                f"Failed units: {len(failures)}. They are tried again when the run is started again.",
                shown,
                failures,
            )
        )
    return tables


@register_tables("prompt_accuracy")
def _prompt_accuracy_tables(study: str, frame: pd.DataFrame, failed: int) -> list[Table]:
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


def _bits_per_dim_table(studies: Mapping[str, pd.DataFrame], failures: pd.DataFrame) -> list[Table]:
    """Bits per dimension of the data in every study that has likelihoods of data."""
    raw = pd.DataFrame(
        [
            {"study": study, "failed": failure_count(failures, study)} | summary
            for study, frame in studies.items()
            if (summary := bits_per_dim_summary(frame)) is not None
        ]
    )
    if raw.empty:
        return []
    lines = [
        {
            "n": str(row["n"]),
            "failed": str(row["failed"]),
            "BPD": with_error(row["bpd"], row["standard_error"]),
            **({"levels ≤": f"{row['bpd'] + row['dequantisation']:.3f}"} if raw["dequantisation"].any() else {}),
            "probe error": short(row["probe_standard_error"]),
            "grid error": short(row["discretisation"]),
            "D": f"{row['dims']:.6g}",
            "calls": f"{row['network_calls']:.4g}",
        }
        for row in raw.to_dict("records")
    ]
    densities = dict.fromkeys(f"{row.density} of {row.space}" for row in raw.itertuples() if row.density)
    meaning = f" ({'; '.join(densities)})" if densities else ""
    caption = (
        f"Bits per dimension of the data under their own conditions{meaning}, weighted by dimensions, ± standard error "
        "over samples. Probe error: the part of it that more probes would remove. Grid error: mean estimate of the "
        "solver's error. D: dimensions. Calls: network evaluations and Jacobian products a likelihood. A density can "
        "exceed 1, so its BPD can be negative."
    )
    if raw["dequantisation"].any():
        caption += (
            f" Levels: bits per dimension of the discrete data, at most BPD + {raw['dequantisation'].max():.4f} "
            "for uniform dequantisation."
        )
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} likelihoods were not finite and are left out."
    if raw["too_dense"].any():
        caption += (
            f" {raw['too_dense'].sum()} likelihoods are higher than data smoothed by noise of size r_min can have: the "
            "solver has not converged, or the flow (guidance above 1) is not that of a noised density."
        )
    return [Table("bits_per_dim", caption, pd.DataFrame(lines, index=pd.Index(raw["study"], name="study")), raw)]


def _shown_share(row: dict[str, Any], name: str) -> str:
    return percent_with_interval(row[name], Interval(row[f"{name}_low"], row[f"{name}_high"]))
