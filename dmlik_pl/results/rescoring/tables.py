"""Tables of n-best rescoring: error rates, tests, the lists themselves, what was left out, reliability."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.results.rescoring.summaries import (
    FOLDS,
    comparison_summary,
    list_summary,
    strategies,
    word_error_rates,
)
from dmlik_pl.results.table import MISSING, Table, probability
from dmlik_pl.speech.nbest import NBestLists
from dmlik_pl.stats.reliability import rank_summary, reliability_summary

_LONGEST_SHOWN = 20

_NORMALISATION = {
    "none": "Words are what spaces separate, as stored",
    "whisper": "Words are counted after Whisper's English text normaliser",
}


_ALIGNMENTS = {
    "search": "the best path for this very mel (alignment: search)",
    "durations": "predicted durations, stretched to the mel's length (alignment: durations)",
}

_REPAIRED = (
    "Equal scores: the expected errors of a fair draw among them. Random: the expectation over the list. Oracle: "
    "fewest and most word errors in each list."
)
_PUBLISHED = (
    "Protocol: published, which departs from good practice as follows. Of equal scores the first row is taken. Random "
    "is one draw of each list. Oracles go by errors per character of the reference, rounded to two decimals, and so "
    "miss the fewest and the most errors. The likelihood chooses alone, without a weight beside the acoustic score."
)


def rescoring_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """All tables of a rescoring study.

    Args:
        study: Its name.
        frame: Its records, one hypothesis a row, as `nbest.read` and `nbest.check` make them.
    """
    excluded = _excluded_table(study, frame)
    if not (frame["excluded"] == "").any():
        return excluded
    lists = NBestLists.from_records(frame)
    ways = strategies(lists)
    rates, tests = word_error_rates(frame), comparison_summary(lists, ways)
    return [
        _rate_table(study, frame, lists, rates),
        *_test_table(study, tests),
        _list_table(study, frame, lists),
        *excluded,
        _correlation_table(study, rank_summary(lists)),
        *_reliability_table(study, reliability_summary(lists)),
    ]


def _rate_table(study: str, frame: pd.DataFrame, lists: NBestLists, raw: pd.DataFrame) -> Table:
    tuned = raw["weight"].notna()
    lines = []
    for row in raw.to_dict("records"):
        line = {"WER %": f"{100 * row['wer']:.2f}", "95 % interval": _range(row["low"], row["high"], 100, 1)}
        line["errors"] = f"{row['errors']:.4g}"
        if tuned.any():
            line["w"] = MISSING if math.isnan(row["weight"]) else _weight(row)
        lines.append(line)
    settings = " / ".join(_NORMALISATION.get(name, name) for name in sorted(set(frame["normalisation"])))
    caption = (
        f"Word error rate of n-best rescoring: {len(lists.utterances)} lists, {(lists.sizes == 1).sum()} of one "
        f"hypothesis, {lists.words.sum()} words. {settings}. Brackets: bootstrap 95 % interval over utterances. "
        f"{_PUBLISHED if lists.protocol == 'published' else _REPAIRED}"
    )
    drawn = raw[raw["draw_low"].notna()].iloc[0]
    caption += f" 95 % of single draws lie in {_range(drawn['draw_low'], drawn['draw_high'], 100, 1)} %."
    if tuned.any():
        caption += (
            f" w: weight of the second score, tuned in {FOLDS}-fold cross-validation over utterances (folds by "
            "utterance id), median and range over folds; its interval holds the weights fixed."
        )
    if "unconditional" in lists.scores and not lists.centred(lists.scores["unconditional"]).any():
        caption += " The unconditional likelihood is the same for all of a list, so it cannot change a choice."
    caption += _likelihoods(frame, lists)
    caption = f"{caption} {describe(frame)}".rstrip()
    return Table(study, caption, _shown(lines, raw["strategy"], "choice by"), raw)


def _likelihoods(frame: pd.DataFrame, lists: NBestLists) -> str:
    """How the likelihoods of this run were made; nothing for stored ones."""
    if "alignment" not in frame:
        return ""
    policies = " / ".join(_ALIGNMENTS.get(policy, policy) for policy in sorted(set(frame["alignment"].dropna())))
    text = f" Tokens get their frames by {policies}."
    if lists.protocol == "published":
        return text + (
            " Every hypothesis has one probe of its own: its noise counts in full. Durations have no probability. The "
            "published recogniser heard recordings at the wrong rate, which is not repeated; nor are padded frames "
            "counted in the prior."
        )
    text += " All hypotheses of a list share grid and probes."
    if "duration" in lists.scores:
        text += " Duration: log-probability of the frames that tokens got."
    if "unconditional" in lists.scores:
        text += " Unconditional: under the average over time of the hypothesis's own means, which has no word left."
    return text


def _test_table(study: str, raw: pd.DataFrame) -> list[Table]:
    if raw.empty:
        return []
    lines = [
        {
            "A − B, points": f"{100 * row['difference']:+.2f} {_range(row['low'], row['high'], 100, 2, sign=True)}",
            "A better / B better": f"{row['better_a']} / {row['better_b']}",
            "z": MISSING if math.isnan(row["z"]) else f"{row['z']:.2f}",
            "p (matched pairs)": probability(row["matched_pairs_p"]),
            "Holm (m. p.)": probability(row["matched_pairs_p_holm"]),
            "p (permutation)": probability(row["permutation_p"]),
            "Holm (perm.)": probability(row["permutation_p_holm"]),
        }
        for row in raw.to_dict("records")
    ]
    caption = (
        "Every pair of choices on the same utterances. A − B: difference of the word error rates in percentage points "
        "with its bootstrap 95 % interval; better: utterances with fewer errors. Matched pairs: Gillick and Cox's test "
        "of the mean difference of errors, an utterance a segment. Permutation: over all exchanges of A and B in "
        "each utterance (many random ones where equal scores leave fractions of errors); against random, over all "
        "draws of one hypothesis from each list. Two-sided; Holm: "
        f"corrected over the {len(raw)} pairs. Oracles know the reference and are not tested."
    )
    return [Table(f"{study}_tests", caption, _shown(lines, raw["a"] + " vs " + raw["b"], "A vs B"), raw)]


def _list_table(study: str, frame: pd.DataFrame, lists: NBestLists) -> Table:
    summary = list_summary(frame, lists)
    reasons = summary.pop("reasons")
    lines = {
        "lists": summary["lists"],
        "lists of one hypothesis": summary["singletons"],
        "lists of several, all with equally many errors": summary["undecidable"],
        **({} if summary["close"] is None else {"lists whose likeliest is not ahead of probe noise": summary["close"]}),
        "hypotheses": summary["hypotheses"],
        "list size: least, median, mean, most": "{size_min}, {size_median:g}, {size_mean:.2f}, {size_max}".format(
            **summary
        ),
        "reference words": summary["words"],
        "texts scored again in their list (kept)": summary["repeated"],
        "rows left out": summary["excluded"],
        **{f"rows left out: {reason}": count for reason, count in reasons.items()},
        "utterances left without a hypothesis": summary["lost"],
    }
    caption = (
        "The n-best lists. Only lists of several hypotheses with different numbers of errors can tell two choices "
        "apart. A row that breaks a rule is left out for every choice, and with it what the oracles could choose."
    )
    raw = pd.DataFrame([summary | {f"excluded: {reason}": count for reason, count in reasons.items()}])
    return Table(
        f"{study}_lists", caption, _shown([{"": str(value)} for value in lines.values()], list(lines), "quantity"), raw
    )


def _excluded_table(study: str, frame: pd.DataFrame) -> list[Table]:
    names = ["sample_id", "row", "excluded", "reference", "hypothesis"]
    raw = frame.loc[frame["excluded"] != "", names].reset_index(drop=True)
    if raw.empty:
        return []
    part = raw.head(_LONGEST_SHOWN)
    lines = [
        {"row": str(row["row"]), "why": row["excluded"], "hypothesis": row["hypothesis"] or MISSING}
        for row in part.to_dict("records")
    ]
    caption = f"Rows of the lists that are left out: {len(raw)} of {len(frame)}."
    if len(raw) > len(part):
        caption += f" The first {len(part)}; all are in the CSV file."
    return [
        Table(f"{study}_excluded", caption, _shown(lines, part["sample_id"].replace("", MISSING), "utterance"), raw)
    ]


def _correlation_table(study: str, raw: pd.DataFrame) -> Table:
    lines = [
        {
            "Spearman": _number(row["correlation"], 3),
            "95 % interval": _range(row["low"], row["high"], 1, 3),
            "p": probability(row["p"]),
            "lists": str(row["lists"]),
            "undefined": str(row["undefined"]),
        }
        for row in raw.to_dict("records")
    ]
    caption = (
        "How well a score knows the errors: Spearman's correlation of score and −errors within each list, mean over "
        "lists with its bootstrap 95 % interval; p: t-test of 0 on average. Undefined: lists in which all scores or "
        "all numbers of errors are equal, left out."
    )
    return Table(f"{study}_correlation", caption, _shown(lines, raw["score"], "score"), raw)


def _reliability_table(study: str, raw: pd.DataFrame) -> list[Table]:
    if raw.empty:
        return []
    lines = []
    for row in raw.to_dict("records"):
        mark = "" if row["ordered_alike_counted"] else " (expected)"
        line = {"reliability": f"{_number(row['reliability'], 2)} {_range(row['low'], row['high'], 1, 2)}"}
        line |= {"lists": str(row["lists"]), "scores": str(row["hypotheses"])}
        line["ordered alike %"] = f"{_number(100 * row['ordered_alike'], 0)}{mark}"
        needed = _number(row["probes_needed"], 0)
        line["probes for 0.9"] = f"{needed} {_range(row['probes_needed_low'], row['probes_needed_high'], 1, 0)}"
        corrected = _range(row["corrected_low"], row["corrected_high"], 1, 2)
        line["Spearman"] = _number(row["correlation"], 3)
        lines.append(line | {"corrected": f"{_number(row['corrected'], 2)} {corrected}"})
    caption = (
        "Reliability: share of a score's variance within lists that independent probes would find again (intraclass "
        "correlation). Routes: repeat, a second column of scores; standard error, over the probes of each score; "
        "repeated texts, texts that occur again in their list with another score. Ordered alike: share of pairs of a "
        "list that two independent scorings order alike, counted or expected of normal noise (chance 50). Probes for "
        f"0.9: by Spearman and Brown, from {' / '.join(map(str, sorted(set(raw['probes']))))} a score now. Corrected: "
        "the rank correlation with the errors that a score without noise would have (divided by the root of the "
        "reliability). Brackets: bootstrap 95 % intervals over lists."
    )
    return [
        Table(f"{study}_reliability", caption, _shown(lines, raw["score"] + ", " + raw["route"], "score, route"), raw)
    ]


def _shown(lines: list[dict[str, str]], headings: Any, name: str) -> pd.DataFrame:
    return pd.DataFrame(lines, index=pd.Index(list(headings), name=name))


def _weight(row: dict[str, Any]) -> str:
    return f"{row['weight']:.2g} [{row['weight_low']:.2g}–{row['weight_high']:.2g}]"


def _number(value: float, decimals: int) -> str:
    if math.isnan(value):
        return MISSING
    return f"{value:.{decimals}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def _range(low: float, high: float, scale: float, decimals: int, sign: bool = False) -> str:
    """An interval in brackets; nothing if it is not known."""
    if math.isnan(low) or math.isnan(high):
        return ""
    ends = [_number(scale * end, decimals) for end in (low, high)]
    if sign or min(low, high) < 0:  # a dash between negative numbers cannot be read
        return f"[{ends[0]}, {ends[1]}]"
    return f"[{ends[0]}–{ends[1]}]"
