"""Reliability, agreement and corrected correlations against closed forms and simulated scores of known noise."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nbest_lists import paper_lists
from scipy import stats

from dmlik_pl.speech.nbest import NBestLists, read
from dmlik_pl.stats.estimate import Interval
from dmlik_pl.stats.reliability import (
    Terms,
    _corrected,
    expected_agreement,
    pairs_ordered_alike,
    probes_needed,
    rank_correlations,
    rank_summary,
    reliability_of_more,
    reliability_summary,
    reliability_terms,
)


def simulated(
    lists: int = 300, size: int = 12, noise: float = 2.0, signal: float = 1.0, seed: int = 0, repeated: int = 0
) -> NBestLists:
    """Scores with noise of known size; each list has its own mean, which no estimate may notice.

    The first `repeated` texts of each list come again in it with new noise.
    """
    generator = np.random.default_rng(seed)
    truth = generator.normal(0, signal, (lists, size))
    truth[:, size - repeated :] = truth[:, :repeated]
    mean = generator.normal(0, 100, (lists, 1))
    first, second = (truth + mean + generator.normal(0, noise, truth.shape) for _ in range(2))
    texts = [f"{k if k < size - repeated else k - size + repeated}" for _ in range(lists) for k in range(size)]
    errors = stats.rankdata(-truth, axis=1).astype(int)
    return NBestLists(
        utterances=[f"u{i:04d}" for i in range(lists)],
        words=np.full(lists, 20),
        member=np.repeat(np.arange(lists), size),
        texts=texts,
        errors=errors.ravel(),
        scores={"likelihood": first.ravel()},
        standard_errors={"likelihood": np.full(lists * size, noise)},
        repeats={"likelihood": second.ravel()},
    )


def test_intraclass_correlation_by_hand() -> None:
    lists = NBestLists(
        utterances=["u", "v"],
        words=np.array([5, 5]),
        member=np.array([0, 0, 0, 1, 1]),
        texts=list("abcde"),
        errors=np.array([0, 1, 2, 0, 1]),
        scores={"likelihood": np.array([1.0, 2.0, 6.0, 10.0, 12.0])},
        standard_errors={"likelihood": np.array([1.0, 1.0, 1.0, 0.5, 0.5])},
        repeats={"likelihood": np.array([103.0, 102.0, 107.0, 21.0, 20.0])},
    )
    terms = reliability_terms(lists, "likelihood")
    # centred: (-2, -1, 3), (-1, 1); again: (-1, -2, 3), (1/2, -1/2)
    assert terms["repeat"].above.tolist() == [13, -1]
    assert terms["repeat"].below.tolist() == [14, 1.25]
    assert terms["repeat"].ratio == pytest.approx(12 / 15.25)
    # noise: variance of the errors times the degrees of freedom of each list
    assert terms["standard error"].above.tolist() == [14 - 2, 2 - 0.25]
    assert terms["standard error"].ratio == pytest.approx(13.75 / 16)
    assert "repeated texts" not in terms
    pairs = pairs_ordered_alike(lists, lists.scores["likelihood"], lists.repeats["likelihood"])
    assert (pairs.above.tolist(), pairs.below.tolist()) == ([2, 0], [3, 1])


def test_repeated_texts_by_hand() -> None:
    lists = NBestLists(
        utterances=["u", "v", "w"],
        words=np.array([5, 5, 5]),
        member=np.array([0, 0, 0, 0, 1, 1, 1, 2]),
        texts=list("aabc" + "ddd" + "e"),
        errors=np.zeros(8, int),
        scores={"likelihood": np.array([1.0, 3.0, 5.0, 7.0, 10.0, 11.0, 15.0, 4.0])},
        standard_errors={},
        repeats={},
    )
    terms = reliability_terms(lists, "likelihood")["repeated texts"]
    # Sums of squares: 20 of 4 scores, among them 2 within the text a; 14 of 3, all within d; 0 of a single score.
    # Repeats are 1 and 2 degrees of freedom, so the first list counts once and the second twice.
    assert terms.below.tolist() == pytest.approx([20 / 3, 2 * 14 / 2, 0])
    assert terms.above.tolist() == pytest.approx([20 / 3 - 2, 14 - 14, 0])
    assert terms.hypotheses == 5


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.5])
def test_both_routes_find_the_noise_that_was_added(noise: float) -> None:
    lists = simulated(noise=noise)
    truth = 1 / (1 + noise**2)
    summary = reliability_summary(lists).set_index("route")
    for route in ("repeat", "standard error"):
        row = summary.loc[route]
        assert row["reliability"] == pytest.approx(truth, abs=0.035)
        assert row["low"] < truth < row["high"]
        assert row["low"] <= row["reliability"] <= row["high"]
        assert row["lists"] == 300
        assert row["hypotheses"] == 3600
        assert row["ordered_alike"] == pytest.approx(0.5 + math.asin(truth) / math.pi, abs=0.02)
    assert summary["ordered_alike_counted"].tolist() == [True, False]


def test_repeated_texts_find_the_noise_too() -> None:
    lists = simulated(lists=800, noise=1.5, repeated=4, seed=3)
    terms = reliability_terms(lists, "likelihood")["repeated texts"]
    # Repeats narrow the spread of the truth in a list: 12 hypotheses, 8 different truths, 4 of them twice.
    narrowed = (12 - (4 * 4 + 4) / 12) / 11
    assert terms.ratio == pytest.approx(1 - 1.5**2 / (1.5**2 + narrowed), abs=0.04)
    assert terms.hypotheses == 800 * 8
    again = reliability_terms(simulated(noise=0.0, repeated=4), "likelihood")
    assert "repeated texts" not in again  # equal texts with equal scores: shared probes, or none


def test_a_score_that_is_equal_for_equal_texts_is_not_judged_by_repeated_texts() -> None:
    lists = simulated(repeated=4)
    lists.scores["acoustic"] = np.array([float(text) for text in lists.texts])
    assert reliability_terms(lists, "acoustic") == {}
    assert reliability_terms(lists, "likelihood").keys() == {"repeat", "standard error", "repeated texts"}


def test_the_papers_scores_are_judged_by_repeated_texts() -> None:
    lists = NBestLists.from_records(read(paper_lists("wav2vec2_lm")))
    assert reliability_terms(lists, "acoustic") == {}
    [(route, terms)] = reliability_terms(lists, "likelihood").items()
    assert route == "repeated texts"
    # Estimates for these scores from other repeated scorings lie between 0.12 and 0.21.
    assert 0.1 < terms.ratio < 0.3


def test_rank_correlations_by_hand(made_lists: Path) -> None:
    summary = rank_summary(NBestLists.from_records(read(made_lists)))
    # Kinds b, c and d of the lists; of one hypothesis there is no order.
    acoustic, likelihood = (1 + 0.5 + 1 / 3) / 3, (-1 + 0.5 - 1.5 / math.sqrt(22.5)) / 3
    assert summary["correlation"].tolist() == pytest.approx([acoustic, likelihood])
    assert summary["lists"].tolist() == [30, 30] and summary["undefined"].tolist() == [10, 10]


def test_published_rank_correlations() -> None:
    expected = {"wav2vec2_lm": (0.25321434, 0.08545872, 94), "whisper_base": (0.36821078, -0.00599520, 51)}
    for name, (acoustic, likelihood, count) in expected.items():
        summary = rank_summary(NBestLists.from_records(read(paper_lists(name))))
        assert summary["correlation"].tolist() == pytest.approx([acoustic, likelihood], abs=2e-5)
        assert summary["lists"].tolist() == [count, count]
        assert summary["undefined"].tolist() == [95 - count, 95 - count]
        if name == "wav2vec2_lm":
            assert summary["p"][1] == pytest.approx(3e-8, rel=0.2)


def test_rank_correlation_agrees_with_scipy() -> None:
    lists = simulated(lists=5, size=7)
    values = rank_correlations(lists, lists.scores["likelihood"])
    for i in range(5):
        rows = lists.member == i
        expected = stats.spearmanr(lists.scores["likelihood"][rows], -lists.errors[rows]).statistic
        assert values[i] == pytest.approx(expected)
    assert np.isnan(rank_correlations(lists, np.zeros(35))).all()


def test_correction_for_attenuation_recovers_the_true_correlation() -> None:
    # Errors that are a rank of the truth plus a disturbance: the noiseless score has correlation rho, the noisy less.
    generator = np.random.default_rng(6)
    truth = generator.normal(0, 1, (400, 60))
    disturbed = truth + generator.normal(0, 1, truth.shape)
    errors = stats.rankdata(-disturbed, axis=1).astype(int)
    noisy, again = (truth + generator.normal(0, 2, truth.shape) for _ in range(2))
    lists = NBestLists(
        utterances=[f"u{i:04d}" for i in range(400)],
        words=np.full(400, 20),
        member=np.repeat(np.arange(400), 60),
        texts=[str(k) for k in range(truth.size)],
        errors=errors.ravel(),
        scores={"likelihood": noisy.ravel()},
        standard_errors={},
        repeats={"likelihood": again.ravel()},
    )
    noiseless = np.nanmean(rank_correlations(lists, truth.ravel()))
    [row] = reliability_summary(lists).to_dict("records")
    assert row["correlation"] < 0.5 * noiseless
    assert row["corrected"] == pytest.approx(noiseless, abs=0.03)
    assert row["corrected_low"] < row["corrected"] < row["corrected_high"]
    assert row["corrected_high"] - row["corrected_low"] < 0.1


def test_noise_alone_has_no_reliability() -> None:
    summary = reliability_summary(simulated(signal=0.0)).set_index("route")
    assert summary.loc["repeat", "low"] < 0 < summary.loc["repeat", "high"]
    assert summary.loc["repeat", "probes_needed_high"] == math.inf
    assert summary.loc["repeat", "ordered_alike"] == pytest.approx(0.5, abs=0.02)


def test_spearman_and_brown() -> None:
    assert reliability_of_more(0.5, 9) == pytest.approx(0.9)
    assert probes_needed(0.5) == 9
    assert probes_needed(0.16) == 48  # 47.25 probes
    assert probes_needed(0.05) == 171
    assert probes_needed(0.5, probes=4) == 36
    assert probes_needed(0.95) == 1
    assert probes_needed(0.5, target=0.5) == 1
    assert probes_needed(0.0) == math.inf
    assert math.isnan(probes_needed(float("nan")))
    needed = probes_needed(0.3)
    assert reliability_of_more(0.3, needed - 1) < 0.9 <= reliability_of_more(0.3, needed)


def test_expected_agreement() -> None:
    assert expected_agreement(0.0) == 0.5
    assert expected_agreement(1.0) == 1.0
    assert expected_agreement(0.5) == pytest.approx(2 / 3)
    assert (expected_agreement(1.3), expected_agreement(-1.3)) == (1.0, 0.0)  # estimates may lie outside
    assert math.isnan(expected_agreement(float("nan")))


def test_rows_without_a_second_score_are_left_out_of_it() -> None:
    lists = simulated(lists=50, noise=1.0)
    lists.repeats["likelihood"][::3] = np.nan
    lists.standard_errors["likelihood"][:12] = np.nan  # the whole first list
    terms = reliability_terms(lists, "likelihood")
    assert terms["repeat"].hypotheses == 400
    assert terms["repeat"].ratio == pytest.approx(0.5, abs=0.12)
    assert (terms["standard error"].hypotheses, terms["standard error"].below[0]) == (588, 0)
    assert terms["standard error"].above[0] == 0
    pairs = pairs_ordered_alike(lists, lists.scores["likelihood"], lists.repeats["likelihood"])
    assert pairs.below[0] == 8 * 7 / 2


def pair_and_singleton(scale: float) -> NBestLists:
    return NBestLists(
        utterances=["u", "v"],
        words=np.array([5, 5]),
        member=np.array([0, 0, 1]),
        texts=list("abc"),
        errors=np.array([0, 1, 0]),
        scores={"likelihood": scale * np.array([1.0, 3.0, 50.0])},
        standard_errors={"likelihood": scale * np.array([0.5, 0.5, 0.5])},
        repeats={"likelihood": scale * np.array([2.0, 6.0, 70.0])},
    )


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_a_single_hypothesis_and_the_unit_of_scores_change_nothing(scale: float) -> None:
    terms = reliability_terms(pair_and_singleton(scale), "likelihood")
    assert terms["repeat"].above.tolist() == pytest.approx([scale**2 * 4, 0])
    assert terms["repeat"].ratio == pytest.approx(4 / 5)
    assert terms["standard error"].above.tolist() == pytest.approx([scale**2 * (2 - 0.25), 0])
    assert terms["standard error"].ratio == pytest.approx(1.75 / 2)


def test_equal_scores_have_no_reliability_at_all() -> None:
    assert reliability_terms(pair_and_singleton(0.0), "likelihood") == {}


def test_a_list_without_a_correlation_counts_for_the_reliability_alone() -> None:
    lists = simulated(lists=40, size=6)
    lists.errors[:6] = 3
    values = rank_correlations(lists, lists.scores["likelihood"])
    assert np.isnan(values[0]) and np.isfinite(values[1:]).all()
    ranks = rank_summary(lists).iloc[0]
    assert (ranks["correlation"], ranks["undefined"]) == (pytest.approx(values[1:].mean()), 1)
    assert ranks["p"] == pytest.approx(stats.ttest_1samp(values[1:], 0).pvalue)
    row = reliability_summary(lists).iloc[0]
    assert row["correlation"] == pytest.approx(values[1:].mean())


def test_the_interval_of_a_corrected_correlation_by_hand() -> None:
    terms = Terms(np.array([1.0, 0.8, 0.9]), np.array([1.0, 1.0, 1.0]), 6)
    values = np.array([0.5, 0.2, np.nan])
    row = _corrected(values, terms, Interval(0.6, 1.0), None)
    assert row["corrected"] == pytest.approx(0.35 / math.sqrt(0.9))
    # Without each list in turn: 0.2 over sqrt(0.85), 0.5 over sqrt(0.95), 0.35 over sqrt(0.9); two degrees of freedom
    moved = np.array([0.2 / math.sqrt(0.85), 0.5 / math.sqrt(0.95), 0.35 / math.sqrt(0.9)]) - row["corrected"]
    reach = 4.302653 * math.sqrt(2 / 3 * np.square(moved).sum())
    assert row["corrected_high"] - row["corrected"] == pytest.approx(reach)
    assert row["corrected"] - row["corrected_low"] == pytest.approx(reach)
    # Of one speaker each: the first two lists are one cluster, without which no list has a correlation
    assert math.isnan(_corrected(values, terms, Interval(0.6, 1.0), np.array(["a", "a", "b"]))["corrected_low"])


def test_a_reliability_that_may_be_none_bounds_nothing() -> None:
    terms = Terms(np.array([1.0, -0.5, 0.2]), np.array([1.0, 1.0, 1.0]), 6)
    row = _corrected(np.array([0.5, 0.2, 0.1]), terms, Interval(-0.1, 0.9), None)
    assert (row["corrected_low"], row["corrected_high"]) == (-np.inf, np.inf)


def test_one_list_and_lists_that_agree_have_no_interval() -> None:
    [row] = rank_summary(pair_and_singleton(1.0)).to_dict("records")
    assert row["lists"] == 1 and row["correlation"] == -1 and math.isnan(row["low"]) and math.isnan(row["p"])
    lists = simulated(lists=6, size=5, noise=0.0)
    again = replace(lists, repeats={"likelihood": lists.scores["likelihood"]})
    row = reliability_summary(again).set_index("route").loc["repeat"]
    assert row["reliability"] == 1 and math.isnan(row["low"]) and math.isnan(row["high"])
    assert row["ordered_alike"] == 1 and 0.4 < row["ordered_alike_low"] < 1 == row["ordered_alike_high"]


def test_lists_of_one_speaker_count_once() -> None:
    lists = simulated(lists=40, size=6)
    halves = replace(lists, clusters=np.repeat(["a", "b", "c", "d"], 10))
    alone, together = rank_summary(lists).iloc[0], rank_summary(halves).iloc[0]
    assert alone["correlation"] == together["correlation"]
    means = rank_correlations(lists, lists.scores["likelihood"]).reshape(4, 10).mean(1)
    assert together["high"] - together["correlation"] == pytest.approx(3.182446 * means.std(ddof=1) / 2, rel=1e-5)
    assert alone["high"] != pytest.approx(together["high"], rel=0.01)
