"""Tables of n-best rescoring: error rates, tests, the lists themselves, what was left out, reliability."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.results.columns import (
    Shown,
    across,
    count,
    interval,
    number,
    p_value,
    paired_tests,
    table_of,
    with_interval,
    words,
)
from dmlik_pl.results.rescoring.summaries import (
    BEST,
    FOLDS,
    ONE_DRAW,
    RANDOM,
    WORST,
    comparison_summary,
    list_summary,
    lists_of,
    strategies,
    word_error_rates,
)
from dmlik_pl.results.table import MISSING, Table, bracket, formatted
from dmlik_pl.speech.nbest import NBestLists
from dmlik_pl.stats.reliability import rank_summary, reliability_summary

__all__ = ["rescoring_tables"]

_LONGEST_SHOWN = 20

_NORMALISATION = {
    "none": "Words are what spaces separate, as stored",
    "whisper": "Words are counted after Whisper's English text normaliser",
}
_ALIGNMENTS = {
    "search": "the best path for this very mel (alignment: search)",
    "durations": "predicted durations, stretched to the mel's length (alignment: durations)",
}

_REPAIRED = "Where hypotheses share the highest score, errors are those expected of a fair draw among them."
_PUBLISHED = (
    "Protocol: published, which departs from good practice as follows. Of equal scores the first row is taken. Random "
    "is one draw of each list. Oracles go by errors per character of the reference, rounded to two decimals, and so "
    "miss the fewest and the most errors. The likelihood chooses alone, without a weight beside the acoustic score."
)
_PUBLISHED_SCORES = (
    "Every hypothesis has one probe of its own: its noise counts in full. Durations have no probability. The "
    "published recogniser heard recordings at the wrong rate, which is not repeated; nor are padded frames counted in "
    "the prior."
)


def rescoring_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """All tables of a rescoring study.

    Args:
        study: Its name.
        frame: Its records, one hypothesis per row, as `nbest.read` and `nbest.check` make them.
    """
    excluded = _excluded_table(study, frame)
    if not (frame["excluded"] == "").any():
        return excluded
    lists = lists_of(frame)
    return [
        _rate_table(study, frame, lists, word_error_rates(frame)),
        *_test_table(study, comparison_summary(lists, strategies(lists))),
        _list_table(study, frame, lists),
        *excluded,
        _correlation_table(study, rank_summary(lists)),
        *_reliability_table(study, reliability_summary(lists)),
    ]


def _rate_table(study: str, frame: pd.DataFrame, lists: NBestLists, raw: pd.DataFrame) -> Table:
    columns = (
        number("WER %", "wer", "word errors of all lists over all words", form=".2f", scale=100),
        interval(
            "95 % interval",
            ("low", "high"),
            f"Wilson's over {lists.words.sum()} words, fewer as the errors of a list are alike; none for one list",
            form=".1f",
            scale=100,
            dash=True,
        ),
        number("errors", "errors"),
        with_interval(
            "w",
            "weight",
            f"weight of the second score, tuned in {FOLDS}-fold cross-validation over utterances (folds by utterance "
            "id), median [range] over folds; the interval of the rate holds it fixed",
            form=".2g",
            dash=True,
            wanted=raw["weight"].notna().any(),
        ),
    )
    drawn = raw[raw["draw_low"].notna()].iloc[0]
    draws = f"95 % of single draws lie in {bracket(100 * drawn['draw_low'], 100 * drawn['draw_high'], '.1f', True)} %"
    legend = {ONE_DRAW: draws, RANDOM: f"expected over all hypotheses of the list; {draws}"}
    if lists.protocol != "published":
        legend |= {BEST: "fewest word errors in each list", WORST: "most word errors in each list"}
    caption = (
        f"Word error rate of n-best rescoring: {len(lists.utterances)} lists, {(lists.sizes == 1).sum()} of one "
        f"hypothesis, {lists.words.sum()} words."
    )
    notes = list(_notes(frame, lists))
    return table_of(study, caption, raw, columns, raw["strategy"], "choice by", notes, legend)


def _notes(frame: pd.DataFrame, lists: NBestLists) -> Iterator[str]:
    published = lists.protocol == "published"
    yield " / ".join(_NORMALISATION.get(name, name) for name in sorted(set(frame["normalisation"]))) + "."
    yield _PUBLISHED if published else _REPAIRED
    if "unconditional" in lists.scores and not lists.centred(lists.scores["unconditional"]).any():
        yield "The unconditional likelihood is the same for all hypotheses of a list, so it cannot change a choice."
    if "alignment" in frame:  # likelihoods of this run, not stored ones
        policies = " / ".join(_ALIGNMENTS.get(policy, policy) for policy in sorted(set(frame["alignment"].dropna())))
        yield f"Tokens get their frames by {policies}."
        yield _PUBLISHED_SCORES if published else "All hypotheses of a list share grid and probes."
        if not published and "duration" in lists.scores:
            yield "Duration: log-probability of the frames that tokens got."
        if not published and "unconditional" in lists.scores:
            yield "Unconditional: under the average over time of the hypothesis's own means, which has no word left."
    yield describe(frame)


def _test_table(study: str, raw: pd.DataFrame) -> list[Table]:
    if raw.empty:
        return []
    columns = (
        with_interval(
            "A − B, points",
            "difference",
            "difference of the word error rates in percentage points",
            form="+.2f",
            scale=100,
            ends=("low", "high"),
        ),
        Shown(
            "A better / B better",
            lambda row: f"{row['better_a']} / {row['better_b']}",
            "utterances in which A / in which B has fewer errors",
        ),
        number("z", "z", "of the matched-pairs test", form=".2f"),
        *paired_tests(),
    )
    caption = (
        "Every pair of choices on the same utterances. Oracles know the reference and are not tested. Brackets: "
        "95 % intervals over utterances."
    )
    notes = (
        "The permutation test takes many random exchanges where equal scores leave fractions of errors. Against random "
        "it is over all draws of one hypothesis from each list.",
    )
    return [table_of(f"{study}_tests", caption, raw, columns, raw["a"] + " vs " + raw["b"], "A vs B", notes)]


def _list_table(study: str, frame: pd.DataFrame, lists: NBestLists) -> Table:
    summary = list_summary(frame, lists)
    reasons = summary.pop("reasons")
    raw = pd.DataFrame([summary | {f"excluded: {reason}": number for reason, number in reasons.items()}])
    quantities = (
        count("lists"),
        count("lists of one hypothesis", "singletons"),
        count("lists of several, all with equally many errors", "undecidable"),
        count("lists whose likeliest is not ahead of probe noise", "close", wanted=summary["close"] is not None),
        count("hypotheses"),
        Shown(
            "list size: least, median, mean, most",
            "{size_min}, {size_median:g}, {size_mean:.2f}, {size_max}".format_map,
        ),
        count("reference words", "words"),
        count("texts scored again in their list (kept)", "repeated"),
        count("rows left out", "excluded"),
        *(count(f"rows left out: {reason}", f"excluded: {reason}") for reason in reasons),
        count("utterances left without a hypothesis", "lost"),
    )
    caption = (
        "The n-best lists. Only lists of several hypotheses with different numbers of errors can tell two choices "
        "apart. A row that breaks a rule is left out for every choice, and with it what the oracles could choose."
    )
    return across(table_of(f"{study}_lists", caption, raw, quantities, [""], "quantity"))


def _excluded_table(study: str, frame: pd.DataFrame) -> list[Table]:
    names = ["sample_id", "row", "excluded", "reference", "hypothesis"]
    raw = frame.loc[frame["excluded"] != "", names].reset_index(drop=True)
    if raw.empty:
        return []
    part = raw.head(_LONGEST_SHOWN)
    columns = (count("row"), words("why", "excluded"), Shown("hypothesis", lambda row: row["hypothesis"] or MISSING))
    caption = f"Rows of the lists that are left out: {len(raw)} of {len(frame)}."
    if len(raw) > len(part):
        caption += f" The first {len(part)} are shown; all are in the CSV file."
    headings = part["sample_id"].replace("", MISSING)
    return [replace(table_of(f"{study}_excluded", caption, part, columns, headings, "utterance"), raw=raw)]


def _correlation_table(study: str, raw: pd.DataFrame) -> Table:
    columns = (
        number("Spearman", "correlation", "Spearman's correlation of score and −errors within a list", form=".3f"),
        interval(
            "95 % interval",
            ("low", "high"),
            "Student's t over lists; none for one list, or where all agree",
            form=".3f",
            dash=True,
        ),
        p_value("p", "p", "t-test of a mean of 0"),
        count("lists"),
        count("undefined", meaning="lists left out, in which all scores or all numbers of errors are equal"),
    )
    caption = "How well each score orders hypotheses by their errors: rank correlation within lists, mean over lists."
    return table_of(f"{study}_correlation", caption, raw, columns, raw["score"], "score")


def _reliability_table(study: str, raw: pd.DataFrame) -> list[Table]:
    if raw.empty:
        return []
    probes = " / ".join(map(str, sorted(set(raw["probes"]))))
    columns = (
        with_interval("reliability", "reliability", "intraclass correlation", ends=("low", "high"), dash=True),
        count("lists"),
        count("scores", "hypotheses"),
        Shown(
            "ordered alike %",
            lambda row: (
                formatted(100 * row["ordered_alike"], ".0f") + ("" if row["ordered_alike_counted"] else " (expected)")
            ),
            "pairs of a list that two independent scorings order alike, counted or expected of normal noise; chance "
            "is 50",
        ),
        with_interval(
            "probes for 0.9",
            "probes_needed",
            f"by Spearman and Brown, from {probes} per score now",
            form=".0f",
            dash=True,
        ),
        number("Spearman", "correlation", "Spearman's correlation of score and −errors within lists", form=".3f"),
        with_interval(
            "corrected",
            "corrected",
            "the same for a score without noise: divided by the root of the reliability",
            dash=True,
        ),
    )
    caption = (
        "Reliability: share of a score's variance within lists that independent probes would find again. Brackets: "
        "95 % intervals over lists."
    )
    routes = (
        "repeat, a second column of scores; standard error, over the probes of each score; repeated texts, texts that "
        "occur again in their list with another score"
    )
    headings, title = raw["score"] + ", " + raw["route"], "score, route"
    return [table_of(f"{study}_reliability", caption, raw, columns, headings, title, legend={title: routes})]
