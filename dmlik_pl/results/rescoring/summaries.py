"""Ways to choose one hypothesis of each n-best list, their corpus word error rates, and tests between them.

A choice is scored by its word errors in each utterance. Where several hypotheses of a list share the highest score, the
choice among them is a fair draw and its errors are the expected ones, so nothing depends on the order of the rows; a
random choice is the case in which all scores are equal. Lists of the "published" protocol are the exception: they are
chosen from as the paper's code did, to compare with its numbers.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.speech.nbest import NBestLists
from dmlik_pl.stats.estimate import NORMAL
from dmlik_pl.stats.paired import matched_pairs, permutation_p_value, random_choice_distribution, tail_p_value
from dmlik_pl.stats.rates import corpus_rate, rate_difference
from dmlik_pl.stats.significance import holm

__all__ = [
    "BEST",
    "FOLDS",
    "ONE_DRAW",
    "RANDOM",
    "WORST",
    "Strategy",
    "comparison_summary",
    "fold_of",
    "list_summary",
    "lists_of",
    "selected_errors",
    "strategies",
    "tuned_sum",
    "word_error_rates",
    "word_error_summary",
]

FOLDS = 10
RANDOM, ONE_DRAW = "random (expected)", "random (one draw)"
BEST, WORST = "oracle best", "oracle worst"

# Multiples of the weight at which both scores vary equally within the lists.
_WEIGHTS = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 121)])


@dataclass(frozen=True)
class Strategy:
    """One way to choose a hypothesis of each list.

    Attributes:
        name: What the choice goes by.
        errors: Its (expected) word errors in each utterance, [N].
        weights: For a weighted sum the weight of the second score in each fold, [F], tuned on the other folds.
        oracle: Whether the choice knows the reference; no test is made against such a one.
    """

    name: str
    errors: np.ndarray
    weights: np.ndarray | None = None
    oracle: bool = False


def selected_errors(lists: NBestLists, score: np.ndarray) -> np.ndarray:
    """Word errors of the hypothesis with the highest score, averaged over those that share it.

    Args:
        lists: The lists.
        score: A score of each hypothesis, [M].

    Returns:
        Errors in each utterance, [N].
    """
    best = score == np.maximum.reduceat(score, lists.starts)[lists.member]
    return lists.total(lists.errors * best) / lists.total(best.astype(np.float64))


def fold_of(utterances: Sequence[str], folds: int = FOLDS) -> np.ndarray:
    """The cross-validation fold of each utterance, from its id alone: it does not depend on the other utterances.

    Args:
        utterances: N ids.
        folds: Number of folds.
    """
    return np.array([_number_of(name) % folds for name in utterances])


def tuned_sum(lists: NBestLists, base: np.ndarray, other: np.ndarray, name: str, folds: int = FOLDS) -> Strategy:
    """Choose by `base + w other`, with the weight w >= 0 tuned by cross-validation over utterances.

    The weight of a fold is the one of a fixed grid with the fewest errors in the other folds; of equally good ones the
    smallest. The grid's scale comes from the scores' spread within lists, which needs no reference.

    Args:
        lists: The lists.
        base: The score with weight 1, [M].
        other: The score to weigh, [M].
        name: Name of the strategy.
        folds: Number of folds.
    """
    spread, other_spread = (float(np.linalg.norm(lists.centred(score))) for score in (base, other))
    weights = _WEIGHTS * (spread / other_spread if spread > 0 and other_spread > 0 else 1.0)
    errors = np.stack([selected_errors(lists, base + weight * other) for weight in weights])
    fold = fold_of(lists.utterances, folds)
    held_out = fold[None] == np.arange(folds)[:, None]
    chosen = (errors @ ~held_out.T).argmin(0)
    tuned = weights[chosen][np.unique(fold)]
    return Strategy(name, errors[chosen[fold], np.arange(len(fold))], tuned)


def strategies(lists: NBestLists, folds: int = FOLDS) -> list[Strategy]:
    """Every choice that the scores allow, then the random one and the two oracles; see `_published` for that protocol.

    Each score on its own, `likelihood` also minus `unconditional` and plus `duration`; then each of these added to
    `acoustic` with a tuned weight. The unconditional likelihood and the durations do not choose on their own.

    Args:
        lists: The lists.
        folds: Number of cross-validation folds.
    """
    if lists.protocol == "published":
        return _published(lists)
    candidates = dict(lists.scores)
    base = candidates.pop("acoustic", None)
    unconditional, duration = candidates.pop("unconditional", None), candidates.pop("duration", None)
    if "likelihood" in candidates:
        if unconditional is not None:
            candidates["likelihood − unconditional"] = candidates["likelihood"] - unconditional
        if duration is not None:
            candidates["likelihood + duration"] = candidates["likelihood"] + duration
    result = [] if base is None else [Strategy("acoustic", selected_errors(lists, base))]
    result += [Strategy(name, selected_errors(lists, score)) for name, score in candidates.items()]
    if base is not None:
        for name, score in candidates.items():
            term = f"({name})" if " " in name else name
            result.append(tuned_sum(lists, base, score, f"acoustic + w {term}", folds))
    return [
        *result,
        Strategy(RANDOM, lists.mean(lists.errors)),
        Strategy(BEST, np.minimum.reduceat(lists.errors, lists.starts).astype(np.float64), oracle=True),
        Strategy(WORST, np.maximum.reduceat(lists.errors, lists.starts).astype(np.float64), oracle=True),
    ]


def _published(lists: NBestLists) -> list[Strategy]:
    """The paper's own choices: by one score alone, the first row of equal ones, one random draw, rounded oracles.

    Its oracles went by errors per character of the reference, rounded to two decimals: of rows that round alike the
    first is taken, whatever its errors.
    """
    rate = (lists.errors / lists.characters[lists.member]).round(2)
    scores = {name: lists.scores[name] for name in ("acoustic", "likelihood") if name in lists.scores}
    draw = [
        _number_of(f"draw {name}") % size for name, size in zip(lists.utterances, lists.sizes.tolist(), strict=True)
    ]
    return [
        *(Strategy(name, lists.errors[_first_highest(lists, score)]) for name, score in scores.items()),
        Strategy(ONE_DRAW, lists.errors[lists.starts + draw]),
        Strategy(BEST, lists.errors[_first_highest(lists, -rate)], oracle=True),
        Strategy(WORST, lists.errors[_first_highest(lists, rate)], oracle=True),
    ]


@once_per_frame
def lists_of(frame: pd.DataFrame) -> NBestLists:
    """The usable lists of records, each with its cluster.

    Args:
        frame: The records of a rescoring study, with a usable row at least.
    """
    lists, clusters = NBestLists.from_records(frame), clusters_of(frame)
    if clusters is None:
        return lists
    known = dict(zip(frame["sample_id"].astype(str), clusters, strict=True))
    return replace(lists, clusters=np.array([known[name] for name in lists.utterances]))


def word_error_summary(lists: NBestLists, ways: Sequence[Strategy]) -> pd.DataFrame:
    """Corpus word error rates with 95 % intervals over utterances or their clusters, one row per strategy.

    Args:
        lists: The lists.
        ways: The strategies.

    Returns:
        Columns strategy, wer, low, high (shares of 1), errors, words, utterances, weight (median over folds),
        weight_low, weight_high (smallest and largest), and, of the random choice, draw_low and draw_high: the range
        that holds 95 % of single draws.
    """
    words = int(lists.words.sum())
    rows = []
    for way in ways:
        interval = corpus_rate(way.errors, lists.words, lists.clusters).interval
        row: dict[str, Any] = {"strategy": way.name, "wer": way.errors.sum() / words}
        row |= {"low": interval.low, "high": interval.high, "errors": way.errors.sum(), "words": words}
        row["utterances"] = len(lists.utterances)
        tuned = np.array([np.nan]) if way.weights is None else way.weights
        row |= {"weight": np.median(tuned), "weight_low": tuned.min(), "weight_high": tuned.max()}
        random = way.name in (RANDOM, ONE_DRAW)
        draw = np.array(_one_draw(lists)) / words if random else (np.nan, np.nan)
        rows.append(row | {"draw_low": draw[0], "draw_high": draw[1]})
    return pd.DataFrame(rows)


@once_per_frame
def word_error_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """The word error rates of every choice that the records allow, as :func:`word_error_summary` gives them.

    Args:
        frame: The records of a rescoring study; without a usable row there is no choice.
    """
    if not (frame["excluded"] == "").any():
        return pd.DataFrame()
    lists = lists_of(frame)
    return word_error_summary(lists, strategies(lists))


def comparison_summary(lists: NBestLists, ways: Sequence[Strategy]) -> pd.DataFrame:
    """Tests of every pair of strategies on the same utterances; those that know the reference are left out.

    Args:
        lists: The lists.
        ways: The strategies.

    Returns:
        Columns a, b, difference (of the rates, a minus b, as a share of 1), low, high (95 %), better_a,
        better_b (utterances with fewer errors), z and matched_pairs_p (Gillick and Cox), permutation_p (of exchanges;
        against the random choice of all draws of one hypothesis of each list), and both p-values
        Holm-corrected over the pairs.
    """
    pairs = list(itertools.combinations([way for way in ways if not way.oracle], 2))
    if not pairs:
        return pd.DataFrame()
    blind = _random_totals(lists)
    rows = []
    for a, b in pairs:
        difference = a.errors - b.errors
        interval = rate_difference(difference, lists.words, lists.clusters).interval
        test = matched_pairs(a.errors, b.errors, lists.clusters)
        if b.name == RANDOM:
            permutation = tail_p_value(blind, a.errors.sum())
        else:
            permutation = permutation_p_value(a.errors, b.errors, lists.clusters)
        row = {"a": a.name, "b": b.name, "difference": difference.sum() / lists.words.sum()}
        row |= {"low": interval.low, "high": interval.high}
        row |= {"better_a": int((difference < 0).sum()), "better_b": int((difference > 0).sum())}
        rows.append(row | {"z": test.z, "matched_pairs_p": test.p, "permutation_p": permutation})
    raw = pd.DataFrame(rows)
    for name in ("matched_pairs_p", "permutation_p"):
        known = raw[name].notna()
        raw[f"{name}_holm"] = pd.Series(holm(raw.loc[known, name].tolist()), raw.index[known])
    return raw


def list_summary(frame: pd.DataFrame, lists: NBestLists) -> dict[str, Any]:
    """What the lists are like and what was left out of them.

    Args:
        frame: All rows, usable or not.
        lists: The usable ones.

    Returns:
        Counts: lists, singletons, hypotheses, size_* (min, median, mean, max), words, repeated (texts of a list that
        occur again with other scores), undecidable (lists whose hypotheses all have equally many errors), close (where
        errors of differences are known, lists whose likeliest hypothesis is not ahead of all others by 1.96 of them;
        else None), rows, excluded, lost (utterances without a usable row) and `reasons`, a count of each reason.
    """
    sizes = lists.sizes
    reasons = frame.loc[frame["excluded"] != "", "excluded"].str.replace(r" row \d+$", " row", regex=True)
    repeated = pd.DataFrame({"member": lists.member, "text": lists.texts}).duplicated()
    equal = np.maximum.reduceat(lists.errors, lists.starts) == np.minimum.reduceat(lists.errors, lists.starts)
    return {
        "lists": len(sizes),
        "singletons": int((sizes == 1).sum()),
        "hypotheses": int(sizes.sum()),
        "size_min": int(sizes.min()),
        "size_median": float(np.median(sizes)),
        "size_mean": float(sizes.mean()),
        "size_max": int(sizes.max()),
        "words": int(lists.words.sum()),
        "repeated": int(repeated.sum()),
        "undecidable": int((equal & (sizes > 1)).sum()),
        "close": _close(frame),
        "rows": len(frame),
        "excluded": len(reasons),
        "lost": len({*frame["sample_id"]} - {*lists.utterances} - {""}),
        "reasons": {str(reason): int(count) for reason, count in reasons.value_counts().items()},
    }


def _close(frame: pd.DataFrame) -> int | None:
    """Lists in which probe noise alone may decide which hypothesis is the likeliest; None if the noise is not known."""
    if "behind" not in frame or frame["behind_standard_error"].isna().all():
        return None
    rivals = frame[(frame["excluded"] == "") & (frame["behind"] > 0)]
    near = rivals["behind"] <= NORMAL * rivals["behind_standard_error"]
    return int(rivals.loc[near, "sample_id"].nunique())


def _first_highest(lists: NBestLists, score: np.ndarray) -> np.ndarray:
    """The first hypothesis of each list that has its highest score, [N]."""
    return np.array([rows[score[rows].argmax()] for rows in np.split(np.arange(len(score)), lists.starts[1:])])


def _number_of(text: str) -> int:
    """A number that looks random and depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _random_totals(lists: NBestLists) -> np.ndarray:
    return random_choice_distribution(np.split(lists.errors, lists.starts[1:]))


def _one_draw(lists: NBestLists) -> tuple[float, float]:
    """Range of the errors of one random draw that holds 95 % of all draws."""
    reached = np.cumsum(_random_totals(lists))
    return float(np.searchsorted(reached, 0.025)), float(np.searchsorted(reached, 0.975))
