"""Errors over clusters, and intervals of rates: by hand, and by how often they cover a known truth."""

import itertools
import math

import numpy as np
import pytest

from dmlik_pl.stats.clusters import cluster_sums, jackknifed_ratio
from dmlik_pl.stats.paired import matched_pairs, permutation_p_value
from dmlik_pl.stats.rates import corpus_rate, effective_trials, rate_difference, share, wilson_interval
from dmlik_pl.stats.ratios import ratio_with_error
from dmlik_pl.stats.significance import binomial_p_value, mcnemar, mean_with_error

NAMES = np.array(["a", "a", "b", "b", "b", "c"])


class TestClusters:
    def test_sums_by_hand(self) -> None:
        assert cluster_sums([1, 2, 3, 4, 5, 6], NAMES).tolist() == [3, 12, 6]
        assert cluster_sums([1, 2]).tolist() == [1, 2]

    def test_the_jackknife_leaves_out_whole_clusters(self) -> None:
        above, below = np.array([1.0, 0, 2, 1, 0, 3]), np.array([4.0, 5, 6, 3, 2, 8])
        found = jackknifed_ratio(above, below, NAMES)
        left_out = [above[name != NAMES].sum() / below[name != NAMES].sum() for name in "abc"]
        assert found.value == pytest.approx(7 / 28) and found.clusters == 3
        assert found.pulls == pytest.approx(np.array(left_out) - 7 / 28)
        assert found.variance == pytest.approx(2 / 3 * np.square(found.pulls).sum())

    def test_a_mean_over_clusters_of_equal_size_is_that_of_their_means(self) -> None:
        values, names = np.random.default_rng(0).normal(size=12), np.repeat(list("abcd"), 3)
        mean, means = mean_with_error(values, clusters=names), values.reshape(4, 3).mean(1)
        assert mean.standard_error == pytest.approx(means.std(ddof=1) / 2) and (mean.n, mean.clusters) == (12, 4)
        assert mean.interval.high - mean.value == pytest.approx(3.182446 * means.std(ddof=1) / 2)

    def test_one_cluster_has_no_error(self) -> None:
        one = ["a"] * 4
        assert math.isnan(mean_with_error([1.0, 2, 3, 4], clusters=one).standard_error)
        for found in (corpus_rate([0, 1, 0, 2], [5] * 4, one), share([True, False, True, True], one)):
            assert math.isnan(found.interval.low) and math.isnan(found.interval.high) and math.isfinite(found.value)
        assert math.isnan(mcnemar([True] * 4, [False] * 4, one).interval.low)
        assert math.isnan(binomial_p_value([True, False, True, True], 0.5, one))

    @pytest.mark.parametrize("sizes", [[6] * 8, [2, 4, 6, 8, 10, 12, 14, 16]])
    def test_intervals_of_means_cover_alike_samples(self, sizes: list[int]) -> None:
        generator, names = np.random.default_rng(2), np.repeat(np.arange(8), sizes)
        covered = {"clusters": 0, "samples": 0}
        for _ in range(1200):
            values = generator.normal(size=8)[names] + generator.normal(size=len(names))
            for name, clusters in (("clusters", names), ("samples", None)):
                low, high = mean_with_error(values, clusters=clusters).interval
                covered[name] += low <= 0 <= high
        assert covered["clusters"] / 1200 >= 0.915 and covered["samples"] / 1200 < 0.75

    def test_shares_of_clusters_cover_too(self) -> None:
        generator, names, covered = np.random.default_rng(3), np.repeat(np.arange(10), 8), [0, 0]
        for _ in range(800):
            right = generator.random(80) < generator.beta(3, 1, 10)[names]  # on average 3/4
            for k, clusters in enumerate((names, None)):
                low, high = share(right, clusters).interval
                covered[k] += low <= 0.75 <= high
        assert covered[0] / 800 >= 0.925 and covered[1] / 800 < 0.88

    def test_exchanges_are_of_whole_clusters(self) -> None:
        a, b = np.array([2, 1, 0, 3, 1, 2]), np.array([1, 1, 1, 0, 0, 4])
        sums = cluster_sums(a - b, NAMES)  # 1, 3, -2
        totals = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=3)]
        assert permutation_p_value(a, b, NAMES) == pytest.approx(np.mean(np.array(totals) >= abs(sums.sum())))
        test = matched_pairs(a, b, NAMES)
        assert test.value == pytest.approx(2 / 6) and test.clusters == 3
        assert test.standard_error == pytest.approx(math.sqrt(jackknifed_ratio(a - b, np.ones(6), NAMES).variance))
        right, wrong = [True] * 6, [False] * 6
        assert mcnemar(right, wrong).p == pytest.approx(2 / 64)
        assert mcnemar(right, wrong, NAMES).p == pytest.approx(2 / 8)

    def test_chance_is_tested_on_the_effective_number(self) -> None:
        right, names = np.repeat([True, True, True, False], 10), np.repeat(list("abcd"), 10)
        assert binomial_p_value(right, 0.5) < 0.01
        # All alike within clusters: four trials, three of them right
        z = 0.25 / math.sqrt(0.25 / 4)
        assert binomial_p_value(right, 0.5, names) == pytest.approx(math.erfc(z / math.sqrt(2)))
        assert share(right, names).interval == pytest.approx(wilson_interval(3, 4))


class TestRates:
    def test_by_hand(self) -> None:
        # Rate 4/16; without each utterance 4/12, 1/12, 3/12, 4/12
        rate = corpus_rate([0, 3, 1, 0], [4, 4, 4, 4])
        assert rate.value == pytest.approx(0.25) and rate.sampling_error == rate.standard_error
        assert rate.standard_error == pytest.approx(math.sqrt(3 / 4 * (1 + 4 + 0 + 1)) / 12)
        # As many errors of independent words would scatter 2.667 times less, and 3 degrees of freedom have t = 3.1824
        trials = max(4, 16 / (8 / 256 / (0.25 * 0.75 / 16)) / (3.182446 / 1.959964) ** 2)
        assert rate.interval == pytest.approx(wilson_interval(trials / 4, trials), rel=1e-6)
        assert effective_trials(0.25, 8 / 256, np.full(4, 4.0)) == pytest.approx(trials)

    def test_utterances_weigh_by_their_words(self) -> None:
        assert corpus_rate([1, 0], [1, 9]).value == pytest.approx(0.1)  # the mean of the two rates would be 0.5

    def test_no_error_at_all_has_an_upper_limit(self) -> None:
        rate = corpus_rate([0, 0, 0, 0], [10, 10, 10, 10])
        # Between 4 utterances and 40 words, by their geometric mean
        assert rate.interval == pytest.approx(wilson_interval(0, math.sqrt(160)))
        assert wilson_interval(0, 40).high < rate.interval.high < wilson_interval(0, 4).high
        assert math.isnan(rate.standard_error)
        assert corpus_rate([4, 5], [4, 5]).interval.low < 0.7 and corpus_rate([4, 5], [4, 5]).interval.high == 1

    def test_equal_rates_are_no_certainty(self) -> None:
        rate = corpus_rate([2, 1, 3], [4, 2, 6])
        assert rate.value == 0.5 and math.isnan(rate.standard_error)
        assert rate.interval.low < 0.3 and rate.interval.high > 0.7

    def test_rates_above_one_have_poisson_s_interval(self) -> None:
        rate = corpus_rate([12, 9, 14, 10, 11], [10, 10, 10, 10, 10])
        assert rate.interval.low < 1.12 < rate.interval.high < 1.7 and rate.interval.high > 1.3

    def test_one_utterance_has_no_interval(self) -> None:
        one = corpus_rate([1], [4])
        assert one.value == 0.25 and math.isnan(one.standard_error) and math.isnan(one.interval.low)
        assert math.isnan(corpus_rate([1, 0], [0, 0]).value)
        assert math.isnan(rate_difference([1.0], [4.0]).interval.low)

    @pytest.mark.parametrize("n", [2, 4, 8, 20])
    @pytest.mark.parametrize("alike", [0.0, 0.2])
    def test_intervals_cover_few_utterances(self, n: int, alike: float) -> None:
        generator = np.random.default_rng(n)
        for truth in (0.03, 0.15, 0.4):
            covered = 0
            for _ in range(400):
                words = generator.integers(4, 13, n)
                own = generator.beta(truth * 4, (1 - truth) * 4, n) if alike else truth
                low, high = corpus_rate(generator.binomial(words, own), words).interval
                covered += low <= truth <= high
            assert covered / 400 >= 0.91, truth

    def test_differences_by_hand(self) -> None:
        never = rate_difference(np.zeros(5), np.full(5, 10.0))
        assert never.value == 0 and math.isnan(never.standard_error)
        assert never.interval.high == -never.interval.low == pytest.approx(wilson_interval(0, math.sqrt(250)).high)
        some = rate_difference([1.0, 0, 2, -1, 0, 1], np.full(6, 10.0))
        assert some.value == pytest.approx(3 / 60) and some.interval.low < 0.05 < some.interval.high
        turned = rate_difference([-1.0, 0, -2, 1, 0, -1], np.full(6, 10.0))
        assert turned.interval == pytest.approx((-some.interval.high, -some.interval.low))

    def test_differences_of_many_utterances_have_the_normal_interval(self) -> None:
        differences = np.random.default_rng(4).integers(-2, 3, 4000).astype(float)
        found, reach = rate_difference(differences, np.full(4000, 20.0)), 1.96 * math.sqrt(2 / 4000) / 20
        assert found.interval == pytest.approx((found.value - reach, found.value + reach), abs=0.1 * reach)

    @pytest.mark.parametrize("n", [4, 12, 40])
    def test_differences_cover_few_utterances(self, n: int) -> None:
        generator = np.random.default_rng(n)
        for truth, kept in ((0.05, 0.8), (0.3, 0.5)):
            covered = 0
            for _ in range(300):
                words = generator.integers(4, 13, n)
                first = generator.binomial(words, generator.beta(truth * 5, (1 - truth) * 5, n))
                second = generator.binomial(first, kept)
                low, high = rate_difference((first - second).astype(float), words).interval
                covered += low <= truth * (1 - kept) <= high
            assert covered / 300 >= 0.92, truth


class TestRatios:
    def test_by_hand(self) -> None:
        found = ratio_with_error([1.0, 2.0, 4.0, 5.0, 0.0], [1.0, 1.0, 1.0, 1.0, 0.0])
        assert (found.value, found.n, found.clusters) == (3, 4, 4), "what says nothing does not count"
        assert found.standard_error == pytest.approx(math.sqrt(10 / 12))
        assert found.interval.high == pytest.approx(3 + 3.182446 * math.sqrt(10 / 12))
        bounded = ratio_with_error([1.0, 2.0, 4.0, 5.0], np.ones(4), bounds=(1.0, 5.0))
        assert bounded.interval == (1.0, 5.0)

    def test_no_spread_and_one_list_have_no_interval(self) -> None:
        for above, below in (([2.0, 4.0], [10.0, 20.0]), ([1.0], [2.0]), ([0.0, 0.0], [0.0, 0.0])):
            found = ratio_with_error(above, below)
            assert math.isnan(found.interval.low) and math.isnan(found.standard_error)
        tight = ratio_with_error([2.0, 4.000001], [10.0, 20.0])
        assert tight.interval.high > tight.interval.low
