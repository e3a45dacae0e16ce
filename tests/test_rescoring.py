"""Choices, their rates, intervals and tests against known and published lists and closed forms."""

import itertools
import json
import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nbest_lists import KINDS, RATES, paper_lists
from scipy import stats

from dmlik_pl.records.store import RecordStore, studies
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.page.headlines import headlines
from dmlik_pl.results.rescoring.summaries import (
    comparison_summary,
    fold_of,
    list_summary,
    selected_errors,
    strategies,
    tuned_sum,
    word_error_summary,
)
from dmlik_pl.results.tables import make_tables
from dmlik_pl.speech.nbest import NBestLists, check, read
from dmlik_pl.stats.paired import (
    matched_pairs,
    permutation_p_value,
    random_choice_distribution,
    sum_distribution,
    tail_p_value,
)
from dmlik_pl.stats.rates import corpus_rate

NAMES = ("wav2vec2_lm", "whisper_base")


def stored(name: str) -> pd.DataFrame:
    return read(paper_lists(name))


@pytest.fixture(scope="module")
def published() -> dict[str, NBestLists]:
    return {name: NBestLists.from_records(stored(name)) for name in NAMES}


@pytest.fixture
def made(made_lists: Path) -> NBestLists:
    return NBestLists.from_records(read(made_lists))


def lists_of(*lists: list[tuple[int, float, float]], words: int = 10) -> NBestLists:
    """Lists of (errors, acoustic, likelihood)."""
    rows = [(i, *hypothesis) for i, members in enumerate(lists) for hypothesis in members]
    member, errors, acoustic, likelihood = (np.array(column) for column in zip(*rows, strict=True))
    return NBestLists(
        utterances=[f"u{i}" for i in range(len(lists))],
        words=np.full(len(lists), words),
        member=member,
        texts=[f"text {k}" for k in range(len(rows))],
        errors=errors,
        scores={"acoustic": acoustic.astype(float), "likelihood": likelihood.astype(float)},
        standard_errors={},
        repeats={},
    )


def test_known_rates(made: NBestLists) -> None:
    summary = word_error_summary(made, strategies(made)).set_index("strategy")
    assert (100 * summary["wer"]).to_dict() == pytest.approx(RATES)
    assert (summary["words"] == 400).all() and (summary["utterances"] == 40).all()
    row = summary.loc["acoustic"]  # 1, 0, 1, 3 errors of ten words: a standard error of 1.745 %
    assert (100 * row["low"], 100 * row["high"]) == pytest.approx((12.5 - 3.42, 12.5 + 3.42), abs=0.8)
    drawn = summary.loc["random (expected)"]
    assert (100 * drawn["draw_low"], 100 * drawn["draw_high"]) == pytest.approx((12.25, 21.25))  # 49 to 85 errors
    tuned = summary.loc["acoustic + w likelihood"]
    assert 0.5 < tuned["weight_low"] <= tuned["weight"] <= tuned["weight_high"] < 1


def test_known_tests_between_choices(made: NBestLists) -> None:
    raw = comparison_summary(made, strategies(made)).set_index(["a", "b"])
    assert len(raw) == 6  # all pairs of acoustic, likelihood, their sum and random
    row = raw.loc[("acoustic", "likelihood")]  # differences 0, -2, 1, -3: mean -1, squares about it 1, 1, 4, 4
    z = -1 / math.sqrt(100 / 39 / 40)
    assert (row["z"], row["matched_pairs_p"]) == pytest.approx((z, 2 * stats.t.cdf(z, 39)))
    assert (row["difference"], row["better_a"], row["better_b"]) == (pytest.approx(-0.1), 20, 10)
    row = raw.loc[("likelihood", "random (expected)")]
    differences = np.array([0, 1, -5 / 3, 3] * 10)
    z = differences.mean() / stats.sem(differences)
    assert (row["z"], row["matched_pairs_p"]) == pytest.approx((z, 2 * stats.t.sf(z, 39)))
    draws = np.ones(1)
    for hypotheses in KINDS.values():
        errors = np.bincount([each[0] for each in hypotheses]) / len(hypotheses)
        for _ in range(10):
            draws = np.convolve(draws, errors)
    assert row["permutation_p"] == pytest.approx(2 * draws[90:].sum())  # a total of 90 errors, or more
    assert raw["matched_pairs_p_holm"].ge(raw["matched_pairs_p"]).all() and raw["permutation_p_holm"].max() <= 1


def test_known_lists(made_lists: Path, made: NBestLists) -> None:
    summary = list_summary(read(made_lists), made)
    assert (summary["lists"], summary["singletons"], summary["hypotheses"], summary["size_max"]) == (40, 10, 100, 4)
    assert (summary["size_mean"], summary["size_median"], summary["words"]) == (2.5, 2.5, 400)
    assert (summary["repeated"], summary["undecidable"], summary["excluded"], summary["lost"]) == (0, 0, 0, 0)


# Published rates in per cent, bootstrap intervals with them, and the range of single random draws.
PUBLISHED = {
    "wav2vec2_lm": {
        "acoustic": (13.269, 11.097, 15.633),
        "likelihood": (19.551, 17.222, 22.019),
        "oracle best": (10.192, 8.264, 12.277),
        "oracle worst": (29.359, 26.967, 31.966),
        "random (expected)": (20.347, 18.302, 22.579),
    },
    "whisper_base": {
        "acoustic": (3.333, 2.221, 4.633),
        "likelihood": (4.679, 3.399, 6.017),
        "oracle best": (1.538, 0.718, 2.471),
        "oracle worst": (7.179, 5.556, 8.847),
        "random (expected)": (4.643, 3.524, 5.847),
    },
}


@pytest.mark.parametrize("name", NAMES)
def test_published_rates(published: dict[str, NBestLists], name: str) -> None:
    lists = published[name]
    begin = time.perf_counter()
    summary = word_error_summary(lists, strategies(lists)).set_index("strategy")
    assert time.perf_counter() - begin < 3  # about 0.2 s on an idle core
    assert (summary["words"] == 1560).all()
    assert (summary["utterances"] == 95).all()
    for strategy, (rate, low, high) in PUBLISHED[name].items():
        row = summary.loc[strategy]
        assert 100 * row["wer"] == pytest.approx(rate, abs=5e-4)
        # Theirs are percentile intervals, these are corrected for bias and skewness.
        assert 100 * row["low"] == pytest.approx(low, abs=0.3)
        assert 100 * row["high"] == pytest.approx(high, abs=0.3)
    drawn = summary.loc["random (expected)"]
    expected = {"wav2vec2_lm": (19.423, 21.282), "whisper_base": (3.974, 5.321)}[name]
    assert (100 * drawn["draw_low"], 100 * drawn["draw_high"]) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "pair", "z", "p"),
    [
        ("wav2vec2_lm", ("likelihood", "random (expected)"), -1.78862, 0.0736765),
        ("wav2vec2_lm", ("acoustic", "likelihood"), -10.97426, 5.08207e-28),
        ("whisper_base", ("likelihood", "random (expected)"), 0.107569, 0.914337),
        ("whisper_base", ("acoustic", "likelihood"), -2.359826, 0.0182835),
    ],
)
def test_published_matched_pairs(
    published: dict[str, NBestLists], name: str, pair: tuple[str, str], z: float, p: float
) -> None:
    lists = published[name]
    raw = comparison_summary(lists, strategies(lists)).set_index(["a", "b"])
    assert len(raw) == 6  # all pairs of acoustic, likelihood, their sum and random
    assert raw.loc[pair, "z"] == pytest.approx(z, rel=1e-5)
    assert 2 * stats.norm.sf(abs(raw.loc[pair, "z"])) == pytest.approx(p, rel=1e-4)  # as published, by the normal
    assert raw.loc[pair, "matched_pairs_p"] == pytest.approx(2 * stats.t.sf(abs(z), 94), rel=1e-4)
    assert raw["matched_pairs_p_holm"].ge(raw["matched_pairs_p"]).all()
    assert raw["permutation_p_holm"].max() <= 1


def test_published_lists(published: dict[str, NBestLists]) -> None:
    whisper = list_summary(stored("whisper_base"), published["whisper_base"])
    assert (whisper["lists"], whisper["singletons"], whisper["size_max"]) == (95, 42, 68)
    assert whisper["size_mean"] == pytest.approx(3.25, abs=0.005)
    assert (whisper["repeated"], whisper["excluded"], whisper["lost"]) == (0, 0, 0)
    wav2vec2 = list_summary(stored("wav2vec2_lm"), published["wav2vec2_lm"])
    assert (wav2vec2["hypotheses"], wav2vec2["repeated"], wav2vec2["undecidable"]) == (8998, 186, 1)


def test_lists_that_probe_noise_decides_are_counted() -> None:
    texts = {"reference": "a b", "hypothesis": ["a b", "a", "b"] * 2, "score_likelihood": [3.0, 2.0, 1.0] * 2}
    frame = check(pd.DataFrame({"sample_id": ["u"] * 3 + ["v"] * 3, "row": range(1, 7), **texts}))
    lists = NBestLists.from_records(frame)
    assert list_summary(frame, lists)["close"] is None
    frame["behind"], frame["behind_standard_error"] = [0.0, 1.0, 2.0] * 2, [0.0, 0.52, 0.1, 0.0, 0.5, 0.1]
    assert list_summary(frame, lists)["close"] == 1  # 1.0 < 1.96 * 0.52
    frame["behind_standard_error"] = np.nan
    assert list_summary(frame, lists)["close"] is None


def test_ties_are_fair_draws() -> None:
    lists = lists_of([(0, 1, 3), (4, 1, 3), (2, 0, 5)], [(1, 0, 0)])
    assert selected_errors(lists, lists.scores["acoustic"]).tolist() == [2, 1]
    assert selected_errors(lists, lists.scores["likelihood"]).tolist() == [2, 1]
    assert selected_errors(lists, np.zeros(4)).tolist() == [2, 1]  # all equal: the random choice
    by_name = {way.name: way.errors.tolist() for way in strategies(lists)}
    assert by_name["random (expected)"] == [2, 1]
    assert by_name["oracle best"] == [0, 1]
    assert by_name["oracle worst"] == [4, 1]


def test_derived_scores() -> None:
    lists = lists_of([(0, 0, 5), (1, 1, 6)], [(0, 0, 5), (1, 1, 6)])
    lists.scores["unconditional"] = np.array([1.0, 4.0, 1.0, 4.0])
    lists.scores["duration"] = np.array([0.0, -3.0, 0.0, -0.5])
    lists.scores["language model"] = np.array([0.0, 1.0, 1.0, 0.0])
    by_name = {way.name: way.errors.tolist() for way in strategies(lists)}
    assert list(by_name) == [
        "acoustic",
        "likelihood",
        "language model",
        "likelihood − unconditional",
        "likelihood + duration",
        "acoustic + w likelihood",
        "acoustic + w (language model)",
        "acoustic + w (likelihood − unconditional)",
        "acoustic + w (likelihood + duration)",
        "random (expected)",
        "oracle best",
        "oracle worst",
    ]
    assert by_name["likelihood"] == [1, 1]
    assert by_name["likelihood − unconditional"] == [0, 0]
    assert by_name["likelihood + duration"] == [0, 1]
    del lists.scores["acoustic"]
    assert not any("w" in way.name.split() for way in strategies(lists))


def test_folds_depend_on_the_id_alone() -> None:
    names = [f"LJ{i:03d}" for i in range(1000)]
    folds = fold_of(names)
    assert fold_of(names[::-1])[::-1].tolist() == folds.tolist()
    assert fold_of(names[500:]).tolist() == folds[500:].tolist()
    assert stats.chisquare(np.bincount(folds, minlength=10)).pvalue > 0.01
    assert fold_of(["LJ000", "LJ001"]).tolist() == folds[:2].tolist()


def test_weight_is_tuned_on_other_utterances_only() -> None:
    """Where each fold's best weight is the opposite of the others', tuning in-sample wins and held-out tuning loses."""
    names = [f"u{i}" for i in range(40)]
    folds = fold_of(names, 2)
    # In fold 0 the likelihood knows which hypothesis is right, in fold 1 the acoustic score does.
    lists = lists_of(*([(0, 0, 1), (3, 1, 0)] if fold == 0 else [(0, 1, 0), (3, 0, 1)] for fold in folds))
    way = tuned_sum(lists, lists.scores["acoustic"], lists.scores["likelihood"], "sum", folds=2)
    assert way.errors.tolist() == [3.0] * 40
    assert way.weights is not None
    assert way.weights[0] < 1 < way.weights[1]


def test_useful_second_score_is_used() -> None:
    generator = np.random.default_rng(0)
    lists = lists_of(
        *(
            [(int(e), 0.3 * generator.normal() - 0.1 * e, 300 * generator.normal() - 500 * e) for e in errors]
            for errors in generator.integers(0, 5, (60, 6))
        )
    )
    by_name = {way.name: way for way in strategies(lists)}
    tuned = by_name["acoustic + w likelihood"]
    assert tuned.weights is not None
    assert len(tuned.weights) == 10
    assert tuned.errors.sum() < 0.6 * by_name["acoustic"].errors.sum()
    assert tuned.errors.sum() <= 1.05 * by_name["likelihood"].errors.sum()
    # A score in other units, or with another mean in each list, chooses alike.
    shifted = lists.scores["likelihood"] / 1000 + 7.0 * lists.member
    again = tuned_sum(lists, lists.scores["acoustic"], shifted, "again")
    assert again.errors.tolist() == tuned.errors.tolist()
    assert again.weights == pytest.approx(1000 * tuned.weights)


def test_matched_pairs_by_hand() -> None:
    test = matched_pairs([2, 1, 0, 3], [1, 1, 1, 0])
    # differences 1, 0, -1, 3: mean 3/4, variance (1/16 + 9/16 + 49/16 + 81/16) / 3 = 35/12
    assert test.value == pytest.approx(0.75)
    assert test.standard_error == pytest.approx(np.sqrt(35 / 12 / 4))
    assert test.p == pytest.approx(2 * stats.t.cdf(-0.75 / np.sqrt(35 / 48), 3))
    same = matched_pairs([1, 2], [1, 2])
    assert (same.z, same.p, same.n) == (0.0, 1.0, 2)
    assert np.isnan(matched_pairs([1], [2]).p) and np.isnan(matched_pairs([1], [1]).p)
    alike = matched_pairs([2, 2, 2], [1, 1, 1])  # without spread nothing is known of it: neither z nor a p of 0
    assert alike.value == 1 and np.isnan([alike.z, alike.p, alike.standard_error]).all()
    with pytest.raises(ValueError, match="same utterances"):
        matched_pairs([1, 2], [1])


def test_permutation_test_is_exact() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.integers(0, 5, (2, 12))
    difference = a - b
    sums = [np.dot(signs, difference) for signs in itertools.product((1, -1), repeat=12)]
    expected = np.mean(np.abs(sums) >= abs(difference.sum()))
    assert permutation_p_value(a, b) == pytest.approx(expected)
    assert permutation_p_value(a, a) == 1.0
    assert permutation_p_value([1, 1, 1, 1, 0], [0, 0, 0, 0, 0]) == pytest.approx(2 / 16)
    # Expected errors are no whole numbers: the same exchanges, drawn or, if they are few, listed.
    halves = np.array([0.5, 1.0, 1.5, 2.5, -0.25, 0.0])
    sums = [np.dot(signs, halves) for signs in itertools.product((1, -1), repeat=6)]
    assert permutation_p_value(halves, np.zeros(6)) == pytest.approx(np.mean(np.abs(sums) >= abs(halves.sum())))


def test_random_choices_are_counted_exactly() -> None:
    lists = [[0, 0, 3], [1], [2, 5, 5, 5]]
    totals = [sum(draw) for draw in itertools.product(*lists)]
    distribution = random_choice_distribution(lists)
    np.testing.assert_allclose(distribution, np.bincount(totals) / len(totals), atol=1e-12)
    assert tail_p_value(distribution, 3) == pytest.approx(2 * 2 / 12)
    assert tail_p_value(distribution, 6) == 1.0
    assert tail_p_value(distribution, 8.5) == pytest.approx(2 * 3 / 12)
    coin = np.array([0.5, 0.5])
    np.testing.assert_allclose(sum_distribution([coin] * 301), stats.binom.pmf(range(302), 301, 0.5), atol=1e-12)


def test_the_interval_of_a_rate_is_near_the_bootstrap_s() -> None:
    generator = np.random.default_rng(2)
    words = generator.integers(5, 30, 80)
    errors = generator.binomial(words, 0.1) + 10 * (generator.random(80) < 0.03)
    reference = stats.bootstrap(
        (errors, words),
        lambda e, w, axis=-1: e.sum(axis) / w.sum(axis),
        paired=True,
        method="BCa",
        n_resamples=9999,
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert corpus_rate(errors, words).interval == pytest.approx((reference.low, reference.high), abs=0.008)


@pytest.fixture(scope="module")
def records(made_lists: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Checked rows that went through the store, with one of every kind of bad row, and a second scoring."""
    frame = read(made_lists).drop(columns=["words", "errors", "excluded", "normalisation", "duplicates"])
    bad = frame.iloc[[0, 1, 2, 3]].assign(row=[101, 102, 103, 104])
    bad.loc[bad.index[0], "hypothesis"] = ""
    bad.loc[bad.index[1], "score_likelihood"] = np.nan
    bad.loc[bad.index[2], "sample_id"] = "LJ999"
    bad.loc[bad.index[2], "reference"] = ""
    frame = pd.concat([frame, bad], ignore_index=True)
    noise = np.random.default_rng(5).normal(0, 227, len(frame))
    frame = check(frame.assign(repeat_likelihood=frame["score_likelihood"] + noise, kind="rescoring"))
    with RecordStore(tmp_path_factory.mktemp("run")) as store:
        for name, rows in frame.groupby("sample_id", sort=False):
            lines = json.loads(rows.drop(columns="sample_id").to_json(orient="records", double_precision=15))
            store.append("base", str(name), lines)
        return store.finalise()


def test_tables_from_records(records: dict[str, pd.DataFrame]) -> None:
    tables = {table.name: table for table in make_tables(records)}
    names = ["base", "base_tests", "base_lists", "base_excluded", "base_correlation", "base_reliability"]
    assert list(tables) == names
    rates = tables["base"]
    assert rates.shown["WER %"].to_dict() == {
        "acoustic": "12.50",
        "likelihood": "22.50",
        "acoustic + w likelihood": "10.00",
        "random (expected)": "16.67",
        "oracle best": "2.50",
        "oracle worst": "32.50",
    }
    assert "40 lists, 10 of one hypothesis, 400 words" in rates.caption
    assert "Words are what spaces separate, as stored." in rates.notes
    assert "95 % of single draws lie in [12.2–21.2] %" in rates.legend["random (expected)"]
    assert rates.shown.loc["acoustic", "95 % interval"].startswith("[") and rates.shown.loc["acoustic", "w"] == "–"
    tests = tables["base_tests"].shown
    assert tests.loc["likelihood vs random (expected)", "p (matched pairs)"] == "0.037"
    lists = tables["base_lists"].shown[""]
    assert lists["lists of one hypothesis"] == "10"
    assert lists["rows left out"] == "4"
    assert lists["rows left out: copy of row"] == "1"
    assert lists["rows left out: likelihood score is not a finite number"] == "1"
    assert lists["utterances left without a hypothesis"] == "1"
    excluded = tables["base_excluded"]
    assert sorted(excluded.shown["row"]) == ["101", "102", "103", "104"]
    assert excluded.shown.loc["LJ999", "why"] == "no reference"
    correlation = tables["base_correlation"].shown
    assert correlation["Spearman"].tolist() == ["0.611", "-0.272"]
    assert correlation["undefined"].tolist() == ["10", "10"]
    assert tables["base_reliability"].shown.index.tolist() == ["likelihood, repeat"]


def test_headlines_from_records(records: dict[str, pd.DataFrame]) -> None:
    (study,) = studies(records)
    found = {each.label: each for each in headlines(records)}
    one = found[f"{study.capitalize()}: word error rate (WER) by likelihood"]
    assert one.value.startswith("22.5 [") and one.value.endswith(" %") and one.detail == "400 words"


def test_figures_from_records(records: dict[str, pd.DataFrame]) -> None:
    figures = make_figures(records)
    assert list(figures) == ["base", "base_correlation", "base_reliability"]
    rates, sizes = figures["base"].axes
    assert rates.get_yticklabels()[0].get_text() == "acoustic"
    assert rates.collections[1].get_offsets()[0, 0] == pytest.approx(12.5, abs=5e-4)
    assert sum(bar.get_height() for bar in sizes.patches) == 40
    assert "likelihood: mean -0.27, 30 lists" in figures["base_correlation"].axes[0].get_legend().texts[1].get_text()


def test_nothing_usable_is_a_table_of_reasons(made_lists: Path) -> None:
    frame = read(made_lists).head(3).assign(reference="", kind="rescoring")
    frame = check(frame.drop(columns=["words", "errors", "excluded"]))
    [table] = make_tables({"empty": frame})
    assert table.caption == "Rows of the lists that are left out: 3 of 3. 2 samples, 0 failed."
    assert make_figures({"empty": frame}) == {}
