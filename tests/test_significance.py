"""Intervals and tests against published or hand-computed numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from dmlik_pl.stats import resampling
from dmlik_pl.stats.resampling import draw_ratios, ratio_intervals
from dmlik_pl.stats.significance import (
    binomial_p_value,
    bootstrap_mean_interval,
    corpus_rate,
    holm,
    interval_reach,
    mcnemar,
    mean_with_error,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_agrees_with_newcombe(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_knows_nothing_without_trials() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_mcnemar_by_hand() -> None:
    # 8 discordant samples, 1 against 7: p = 2 (C(8,0) + C(8,1)) / 2^8 = 18/256
    a = [True] * 5 + [True] + [False] * 7 + [False] * 3
    b = [True] * 5 + [False] + [True] * 7 + [False] * 3
    result = mcnemar(a, b)
    # (1 - 7) / 16 of the samples, and the variance of such a difference of two shares
    assert (result.value, result.n) == (-6 / 16, 16)
    assert result.standard_error == pytest.approx(math.sqrt((8 / 16 - (6 / 16) ** 2) / 16))
    assert result.p == pytest.approx(18 / 256)
    assert mcnemar(a, a).p == 1.0
    with pytest.raises(ValueError, match="same samples"):
        mcnemar(a, b[:-1])


def test_binomial_p_value_by_hand() -> None:
    # 6 of 7 right with chance 1/7: outcomes no likelier than this one are 6 and 7 right
    assert binomial_p_value(6, 7, 1 / 7) == pytest.approx((7 * 6 + 1) / 7**7)
    assert binomial_p_value(5, 10, 0.5) == pytest.approx(1.0)
    assert binomial_p_value(0, 0, 0.25) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_mean_contains_probe_error() -> None:
    mean = mean_with_error([1.0, 2.0, 4.0, 5.0], [0.3, 0.4, 0.0, 1.2])
    assert mean.value == 3.0
    assert mean.standard_error == pytest.approx(math.sqrt(10 / 3) / 2)
    assert mean.probe_error == pytest.approx(1.3 / 4)
    assert mean.n == 4
    assert math.isnan(mean_with_error([1.0]).standard_error) and math.isnan(mean_with_error([1.0]).probe_error)
    assert mean_with_error([]).n == 0


def test_standard_error_covers_sampling_and_probe_noise() -> None:
    generator = np.random.default_rng(0)
    repeats, n = 4000, 25
    values = generator.normal(0, 1, (repeats, n)) + generator.normal(0, 0.5, (repeats, n))
    means = [mean_with_error(row, np.full(n, 0.5)) for row in values]
    spread = np.std([mean.value for mean in means])
    assert np.sqrt(np.mean([mean.standard_error**2 for mean in means])) == pytest.approx(spread, rel=0.05)
    assert means[0].probe_error == pytest.approx(0.5 / math.sqrt(n))


def test_bootstrap_is_seeded_and_near_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 400)
    low, high = bootstrap_mean_interval(values, seed=3)
    error = values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)
    assert bootstrap_mean_interval(values, seed=3) == (low, high)
    assert bootstrap_mean_interval(values, seed=4) != (low, high)
    assert bootstrap_mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    low, high = bootstrap_mean_interval([2.0, 2.001, 2.002])
    assert 2.0 <= low < 2.001 < high <= 2.002
    with pytest.raises(ValueError, match="at least 2"):
        bootstrap_mean_interval([1.0])


def test_corpus_rate_by_hand() -> None:
    # rate 4/16; residuals -1, 2, 0, -1 and so a standard error of sqrt(4/3 * 6) / 16
    rate = corpus_rate([0, 3, 1, 0], [4, 4, 4, 4])
    assert rate.value == pytest.approx(0.25)
    assert rate.standard_error == pytest.approx(math.sqrt(8) / 16)
    assert 0 <= rate.interval.low < 0.25 < rate.interval.high <= 0.75
    assert rate == corpus_rate([0, 3, 1, 0], [4, 4, 4, 4])


def test_corpus_rate_weighs_words_and_covers_the_truth() -> None:
    assert corpus_rate([1, 0], [1, 9]).value == pytest.approx(0.1)  # the mean of the two rates would be 0.5
    generator = np.random.default_rng(0)
    covered = 0
    for repeat in range(100):
        words = generator.integers(4, 12, 40)
        interval = corpus_rate(generator.binomial(words, 0.2), words, resamples=499, seed=repeat).interval
        covered += interval.low <= 0.2 <= interval.high
    assert 88 <= covered <= 99


def test_corpus_rate_without_errors_or_words() -> None:
    assert corpus_rate([0, 0], [10, 10]).interval == pytest.approx(wilson_interval(0, 20))
    assert corpus_rate([2, 1], [4, 2]).interval == (0.5, 0.5)
    assert math.isnan(corpus_rate([1, 0], [0, 0]).value)
    one = corpus_rate([1], [4])
    assert one.value == 0.25 and math.isnan(one.standard_error) and math.isnan(one.interval.low)


def test_the_interval_of_a_mean_is_students_t() -> None:
    # Darwin's data (Fisher, The Design of Experiments, 1935, section 17): 15 pairs of plants, 2.145 for 14 degrees
    pairs = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    mean = mean_with_error(pairs)
    assert (mean.value, mean.standard_error) == pytest.approx((20.933, 9.746), abs=1e-3)
    assert mean.interval == pytest.approx((20.933 - 2.1448 * 9.746, 20.933 + 2.1448 * 9.746), abs=5e-3)
    np.testing.assert_allclose(interval_reach([1.0, 1.0, 2.0], [2, 5, 10**9]), [12.7062, 2.77645, 3.91993], rtol=1e-5)
    assert interval_reach(1.0, 5, confidence=0.9) == pytest.approx(2.1318, rel=1e-4)
    assert np.isnan(interval_reach([1.0, 1.0], [1, 0])).all() and math.isnan(mean_with_error([3.0]).interval.low)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_the_interval_of_a_mean_covers_however_few_the_samples(n: int) -> None:
    samples = np.random.default_rng(n).normal(3.0, 2.0, (2000, n))
    intervals = [mean_with_error(row).interval for row in samples]
    assert 0.935 <= np.mean([low <= 3.0 <= high for low, high in intervals]) <= 0.965


class TestRatios:
    """Bias-corrected, accelerated intervals of ratios of sums, on data so skewed that every correction shows."""

    COUNTS = np.array([0, 0, 1, 1, 2, 3, 0, 9, 1, 0], dtype=float)
    TOTALS = np.array([4, 9, 5, 8, 6, 7, 12, 11, 3, 10], dtype=float)

    def test_they_are_those_of_scipy(self) -> None:
        expected = stats.bootstrap(
            (self.COUNTS, self.TOTALS),
            lambda a, b, axis: a.sum(axis) / b.sum(axis),
            paired=True,
            method="BCa",
            n_resamples=200_000,
            batch=20_000,
            random_state=np.random.default_rng(5),
        ).confidence_interval
        [found] = ratio_intervals(self.COUNTS, self.TOTALS, resamples=200_000)
        width = expected.high - expected.low
        assert found == pytest.approx((expected.low, expected.high), abs=0.006 * width)
        plain = np.quantile(draw_ratios(self.COUNTS, self.TOTALS, 200_000), [0.025, 0.975])
        assert np.abs(plain - found).max() > 0.1 * width, "the corrections matter here"

    def test_half_of_the_ties_with_the_estimate_lie_below_it(self) -> None:
        # Of two utterances half of the draws are the estimate and a quarter lies to either side: there is no bias, the
        # values are symmetric, and the interval is from one to the other.
        assert ratio_intervals([0.0, 1.0], [1.0, 1.0]) == [(0.0, 1.0)]

    def test_draws_do_not_depend_on_the_size_of_the_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = draw_ratios(self.COUNTS, self.TOTALS, 1003)
        monkeypatch.setattr(resampling, "_LARGEST_CHUNK", 10 * len(self.COUNTS))
        pieces = draw_ratios(self.COUNTS, self.TOTALS, 1003)
        assert whole.shape == (1, 1003)
        np.testing.assert_array_equal(pieces, whole)

    def test_nothing_to_divide_by_has_no_interval(self) -> None:
        assert np.isnan(ratio_intervals([0.0, 0.0], [0.0, 0.0])).all()
        assert np.isnan(ratio_intervals([1.0], [2.0])).all()
