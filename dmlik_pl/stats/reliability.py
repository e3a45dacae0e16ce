"""How well a score repeats itself within n-best lists, and how well it knows the errors there.

A choice within a list depends on differences between its hypotheses only, so every quantity is one of values minus
their list's mean. The reliability r is the share of a score's variance within lists that another, independent set of
probes would find again (the intraclass correlation ICC(C,1), pooled over lists). It is estimated by up to three routes:

repeat           the same hypotheses scored again with independent probes (a second column);
standard error   from each score's standard error over probes (where a whole list shares probes, that of what is not
                 common to its scores; common noise in it would count as noise);
repeated texts   from texts that occur more than once in a list and got different scores, for every score but the
                 recogniser's own, which may know a text by several paths. Probes that competing hypotheses share give
                 equal texts equal scores; then this route says nothing and is left out.

References:
    Spearman, "Correlation calculated from faulty data", 1910; Brown, "Some experimental results in the correlation of
    mental abilities", 1910: a mean of k probes has reliability k r / (1 + (k - 1) r).
    Shrout and Fleiss, "Intraclass correlations", 1979.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from dmlik_pl.speech.nbest import NBestLists
from dmlik_pl.stats.clusters import cluster_sums, jackknifed_ratio
from dmlik_pl.stats.estimate import Interval
from dmlik_pl.stats.rates import corpus_rate
from dmlik_pl.stats.ratios import ratio_with_error
from dmlik_pl.stats.significance import interval_reach

__all__ = [
    "TARGET",
    "expected_agreement",
    "pairs_ordered_alike",
    "probes_needed",
    "rank_correlations",
    "rank_summary",
    "reliability_of_more",
    "reliability_summary",
    "reliability_terms",
]

TARGET = 0.9
_CORRELATIONS = (-1.0, 1.0)
REPEAT, STANDARD_ERROR, REPEATED_TEXTS = "repeat", "standard error", "repeated texts"


class Terms(NamedTuple):
    """A ratio of sums over lists.

    Attributes:
        above: What each list adds to the numerator, [N].
        below: What each list adds to the denominator, [N]; 0 for lists that say nothing.
        hypotheses: Number of scores that were compared.
    """

    above: np.ndarray
    below: np.ndarray
    hypotheses: int

    @property
    def ratio(self) -> float:
        """The ratio; NaN if no list says anything."""
        return float(self.above.sum() / self.below.sum()) if self.below.sum() > 0 else float("nan")


def reliability_of_more(reliability: float, factor: float) -> float:
    """Reliability of a score with `factor` times as many probes (Spearman and Brown)."""
    return factor * reliability / (1 + (factor - 1) * reliability)


def probes_needed(reliability: float, probes: int = 1, target: float = TARGET) -> float:
    """Number of independent probes that a reliability needs (Spearman and Brown).

    Args:
        reliability: Reliability of a score with `probes` probes.
        probes: The number of probes behind it.
        target: The reliability wanted, below 1.

    Returns:
        A whole number, at least 1; infinite if the reliability is not positive, NaN if it is not known.
    """
    if math.isnan(reliability):
        return float("nan")
    if reliability <= 0:
        return float("inf")
    needed = probes * target * (1 - reliability) / (reliability * (1 - target))
    return float(max(1, math.ceil(needed - 1e-9)))


def expected_agreement(reliability: float) -> float:
    """Share of pairs that two scores of this reliability order alike: 1/2 + asin(r) / pi if all is normal."""
    return 0.5 + math.asin(min(1.0, max(-1.0, reliability))) / math.pi if reliability == reliability else float("nan")


def pairs_ordered_alike(lists: NBestLists, first: np.ndarray, second: np.ndarray) -> Terms:
    """Pairs of one list that two scores order alike, over all its pairs; a pair tied in either score counts half.

    Args:
        lists: The lists.
        first: One score, [M]; hypotheses on which either score is NaN are left out.
        second: The other score, [M].
    """
    alike, pairs = np.zeros(len(lists.utterances)), np.zeros(len(lists.utterances))
    usable = np.isfinite(first) & np.isfinite(second)
    for i, rows in enumerate(np.split(np.arange(len(first)), lists.starts[1:])):
        a, b = first[rows][usable[rows]], second[rows][usable[rows]]
        signs = np.sign(a[:, None] - a) * np.sign(b[:, None] - b)
        upper = signs[np.triu_indices(len(a), 1)]
        alike[i], pairs[i] = ((upper + 1) / 2).sum(), len(upper)
    return Terms(alike, pairs, int(usable.sum()))


def reliability_terms(lists: NBestLists, name: str) -> dict[str, Terms]:
    """The reliability of a score by every route that the lists allow.

    Args:
        lists: The lists.
        name: Name of the score.

    Returns:
        Numerator and denominator of each list by route.
    """
    score = lists.scores[name]
    routes = {}
    if name in lists.repeats:
        routes[REPEAT] = _repeat_terms(lists, score, lists.repeats[name])
    if name in lists.standard_errors:
        routes[STANDARD_ERROR] = _standard_error_terms(lists, score, lists.standard_errors[name])
    if name != "acoustic" and (repeated := _repeated_text_terms(lists, score)) is not None:
        routes[REPEATED_TEXTS] = repeated
    return {route: terms for route, terms in routes.items() if terms.below.sum() > 0}


def rank_correlations(lists: NBestLists, score: np.ndarray) -> np.ndarray:
    """Spearman's correlation of a score with few errors within each list.

    Args:
        lists: The lists.
        score: The score, [M].

    Returns:
        [N], positive where higher scores have fewer errors; NaN where all scores or all errors of a list are equal.
    """
    ranks = pd.DataFrame({"score": score, "errors": -lists.errors}).groupby(lists.member).rank()
    a, b = (lists.centred(ranks[name].to_numpy()) for name in ("score", "errors"))
    spread = lists.total(a**2) * lists.total(b**2)
    return np.divide(lists.total(a * b), np.sqrt(spread), out=np.full(len(spread), np.nan), where=spread > 1e-12)


def reliability_summary(lists: NBestLists) -> pd.DataFrame:
    """Reliability of every score by every route, one row each.

    Args:
        lists: The lists.

    Returns:
        Columns score, route, reliability, low, high (95 % by Student's t over lists or their clusters; NaN for one
        list, or where all lists agree), lists and hypotheses behind it, probes, probes_needed for a reliability of 0.9
        with _low and _high, ordered_alike (share of pairs, counted by the route "repeat", else the one expected of
        normal noise) with _low and _high and ordered_alike_counted, and correlation (mean within-list Spearman
        correlation of the score with few errors), corrected (the same divided by the root of the reliability) with
        corrected_low and corrected_high. Empty if no score has a route.
    """
    rows = []
    for name, score in lists.scores.items():
        correlations = rank_correlations(lists, score)
        for route, terms in reliability_terms(lists, name).items():
            interval = ratio_with_error(terms.above, terms.below, lists.clusters, _CORRELATIONS).interval
            row: dict[str, Any] = {"score": name, "route": route, "reliability": terms.ratio}
            row |= {"low": interval.low, "high": interval.high}
            row |= {"lists": int((terms.below > 0).sum()), "hypotheses": terms.hypotheses, "probes": lists.probes}
            row["probes_needed"] = probes_needed(terms.ratio, lists.probes)
            row["probes_needed_low"] = probes_needed(interval.high, lists.probes)
            row["probes_needed_high"] = probes_needed(interval.low, lists.probes)
            row |= _agreement(lists, name, route, terms.ratio, interval)
            row |= _corrected(correlations, terms, interval, lists.clusters)
            rows.append(row)
    return pd.DataFrame(rows)


def rank_summary(lists: NBestLists) -> pd.DataFrame:
    """Mean within-list rank correlation of every score with few errors, one row per score.

    Args:
        lists: The lists.

    Returns:
        Columns score, correlation, low, high and p (95 % interval and test of "0 on average" by Student's t over lists
        or their clusters; NaN for one list, or where all lists agree), lists that define it and undefined (lists in
        which all scores or all errors are equal, singletons among them).
    """
    rows = []
    for name, score in lists.scores.items():
        values = rank_correlations(lists, score)
        known = np.isfinite(values)
        own = None if lists.clusters is None else lists.clusters[known]
        mean = ratio_with_error(values[known], np.ones(known.sum()), own, _CORRELATIONS)
        row = {"score": name, "correlation": mean.value, "low": mean.interval.low, "high": mean.interval.high}
        row["p"] = float(2 * stats.t.sf(abs(mean.z), mean.clusters - 1)) if mean.standard_error > 0 else np.nan
        rows.append(row | {"lists": int(known.sum()), "undefined": int((~known).sum())})
    return pd.DataFrame(rows)


def _repeat_terms(lists: NBestLists, first: np.ndarray, second: np.ndarray) -> Terms:
    usable = np.isfinite(first) & np.isfinite(second)
    a, b = (_centred(lists, values, usable) for values in (first, second))
    return Terms(lists.total(a * b), lists.total((a**2 + b**2) / 2), int(usable.sum()))


def _standard_error_terms(lists: NBestLists, score: np.ndarray, error: np.ndarray) -> Terms:
    usable = np.isfinite(score) & np.isfinite(error)
    size = lists.total(usable.astype(np.float64))
    variance = np.divide(lists.total(np.where(usable, error, 0) ** 2), size, out=np.zeros_like(size), where=size > 0)
    total = lists.total(_centred(lists, score, usable) ** 2)
    return Terms(total - variance * np.clip(size - 1, 0, None), total, int(usable.sum()))


def _repeated_text_terms(lists: NBestLists, score: np.ndarray) -> Terms | None:
    """Noise from texts scored more than once, against the whole variance of the lists that hold them."""
    group = pd.DataFrame({"member": lists.member, "text": lists.texts}).groupby(["member", "text"]).ngroup().to_numpy()
    count = np.bincount(group)
    deviation = score - (np.bincount(group, weights=score) / count)[group]
    noise = lists.total(deviation**2)
    repeats = lists.total(1 - 1 / count[group])
    if noise.sum() <= 1e-24 * np.square(score).sum():  # equal but for the rounding of their mean
        return None
    total = lists.total(lists.centred(score) ** 2)
    # Each list counts by the number of its repeated scorings, as its noise is known by that many degrees of freedom.
    expected = repeats * np.divide(total, lists.sizes - 1, out=np.zeros_like(total), where=lists.sizes > 1)
    return Terms(expected - noise, expected, int((count[group] > 1).sum()))


def _centred(lists: NBestLists, values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Usable values minus the mean of their list's usable ones; 0 elsewhere."""
    size = lists.total(usable.astype(np.float64))
    total = lists.total(np.where(usable, values, 0))
    mean = np.divide(total, size, out=np.zeros_like(total), where=size > 0)
    return np.where(usable, values - mean[lists.member], 0)


def _agreement(lists: NBestLists, name: str, route: str, reliability: float, interval: Interval) -> dict[str, Any]:
    if route == REPEAT:
        pairs = pairs_ordered_alike(lists, lists.scores[name], lists.repeats[name])
        [low, high], share = corpus_rate(pairs.above, pairs.below, lists.clusters).interval, pairs.ratio
    else:
        share, low, high = (expected_agreement(value) for value in (reliability, *interval))
    return {
        "ordered_alike": share,
        "ordered_alike_low": low,
        "ordered_alike_high": high,
        "ordered_alike_counted": route == REPEAT,
    }


def _corrected(
    correlations: np.ndarray, terms: Terms, reliability: Interval, clusters: np.ndarray | None
) -> dict[str, float]:
    """Correlation corrected for attenuation; its interval leaves out lists for it and the reliability together.

    A reliability whose own interval reaches 0 bounds the corrected value on neither side.
    """
    known = np.isfinite(correlations)
    raw = jackknifed_ratio(np.where(known, correlations, 0), known, clusters)
    row = {"correlation": raw.value, "corrected": np.nan, "corrected_low": np.nan, "corrected_high": np.nan}
    if not terms.ratio > 0:
        return row
    row["corrected"] = value = raw.value / math.sqrt(terms.ratio)
    if reliability.low <= 0:
        return row | {"corrected_low": -np.inf, "corrected_high": np.inf}
    rest = [
        total.sum() - cluster_sums(total, clusters)
        for total in (np.where(known, correlations, 0), known, terms.above, terms.below)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        left_out = rest[0] / rest[1] / np.sqrt(rest[2] / rest[3])
    count = len(left_out)
    error = float(np.sqrt((count - 1) / count * np.square(left_out - value).sum()))
    if error > 1e-9 * abs(value):
        reach = float(interval_reach(error, count))
        row |= {"corrected_low": value - reach, "corrected_high": value + reach}
    return row
