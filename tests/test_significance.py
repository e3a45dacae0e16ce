"""Intervals and tests against published or hand-computed numbers."""

import math

import numpy as np
import pytest

from dmlik_pl.stats.rates import wilson_interval
from dmlik_pl.stats.significance import binomial_p_value, holm, interval_reach, mcnemar, mean_with_error


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
    # (1 - 7) / 16 of the samples, and the unbiased variance of the mean of such differences
    assert (result.value, result.n) == (-6 / 16, 16)
    assert result.standard_error == pytest.approx(math.sqrt((8 / 16 - (6 / 16) ** 2) / 15))
    assert result.interval.low < -6 / 16 < result.interval.high < 0.05
    assert result.p == pytest.approx(18 / 256)
    same = mcnemar(a, a)
    assert same.p == 1.0 and math.isnan(same.standard_error)
    assert same.interval.low == -same.interval.high == pytest.approx(-math.hypot(0, wilson_interval(0, 16).high))
    assert math.isnan(mcnemar([], []).value)
    with pytest.raises(ValueError, match="same samples"):
        mcnemar(a, b[:-1])


def test_binomial_p_value_by_hand() -> None:
    # 6 of 7 right with chance 1/7: outcomes no likelier than this one are 6 and 7 right
    assert binomial_p_value([True] * 6 + [False], 1 / 7) == pytest.approx((7 * 6 + 1) / 7**7)
    assert binomial_p_value([True, False] * 5, 0.5) == pytest.approx(1.0)
    assert binomial_p_value([], 0.25) == 1.0
    assert binomial_p_value([True] * 6 + [False], 1 / 7, list("abcdefg")) == pytest.approx((7 * 6 + 1) / 7**7)


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


class TestTotalError:
    """One error of a mean: sampling (with the probes' noise in it), never below the probes', and the grid's."""

    def test_by_hand(self) -> None:
        # sd^2 = 10/3 of four samples: a sampling error of 0.9129, above the probes' 1.3 / 4
        mean = mean_with_error([1.0, 2.0, 4.0, 5.0], [0.3, 0.4, 0.0, 1.2], [0.5, -0.7, 0.6, -0.6])
        assert (mean.sampling_error, mean.probe_error) == pytest.approx((math.sqrt(10 / 12), 1.3 / 4))
        assert mean.grid_error == pytest.approx(0.6), "signs do not cancel: all samples share the grid"
        assert mean.standard_error == pytest.approx(math.sqrt(10 / 12 + 0.36))
        reach = math.hypot(3.182446 * math.sqrt(10 / 12), 1.959964 * 0.6)
        assert mean.interval == pytest.approx((3 - reach, 3 + reach), rel=1e-5)

    def test_samples_that_agree_by_chance_are_no_better_than_their_probes(self) -> None:
        mean = mean_with_error([2.0, 2.001, 1.999], [0.3, 0.3, 0.3], [0.0, 0.0, 0.0])
        assert mean.probe_error == mean.standard_error == pytest.approx(0.3 / math.sqrt(3))
        assert mean.interval.high - mean.value == pytest.approx(1.959964 * 0.3 / math.sqrt(3))

    def test_no_part_is_larger_than_the_whole(self) -> None:
        generator = np.random.default_rng(0)
        for n in (2, 3, 10):
            for scale in 10.0 ** generator.integers(-4, 5, (20, 3)):
                values = scale[0] * generator.normal(size=n)
                mean = mean_with_error(values, scale[1] * generator.random(n), scale[2] * generator.random(n))
                assert max(mean.sampling_error, mean.probe_error, mean.grid_error) <= mean.standard_error * (1 + 1e-12)

    def test_unknown_parts_and_values_are_left_out(self) -> None:
        mean = mean_with_error([1.0, math.nan, 3.0], [0.1, 0.1, math.nan], [math.nan] * 3)
        assert (mean.value, mean.n, mean.standard_error) == pytest.approx((2.0, 2, 1.0))
        assert math.isnan(mean.probe_error) and math.isnan(mean.grid_error)

    def test_without_spread_nothing_is_known_but_what_probes_and_grid_say(self) -> None:
        silent = mean_with_error([2.0, 2.0, 2.0])
        assert silent.value == 2 and math.isnan(silent.standard_error) and math.isnan(silent.interval.low)
        told = mean_with_error([2.0, 2.0, 2.0], grid_errors=[0.1, 0.1, 0.1])
        assert (told.standard_error, told.interval.high) == pytest.approx((0.1, 2 + 1.959964 * 0.1))

    def test_weights_make_a_ratio_of_sums(self) -> None:
        # 18 bits of 4 + 8 dimensions; left out in turn: 10/8 and 8/4, half of the squares of -.25 and .5
        mean = mean_with_error([8 / 4, 10 / 8], [1 / 4, 1 / 8], [0.25, 0.5], weights=[4, 8])
        assert mean.value == pytest.approx(1.5)
        assert mean.sampling_error == pytest.approx(math.sqrt((0.25**2 + 0.5**2) / 2))
        assert mean.probe_error == pytest.approx(math.sqrt(2) / 12)
        assert mean.grid_error == pytest.approx((4 * 0.25 + 8 * 0.5) / 12)

    @pytest.mark.parametrize("bias", [0.0, 0.3, 1.0, 3.0])
    def test_the_interval_covers_whatever_the_grid_adds(self, bias: float) -> None:
        generator, covered, error = np.random.default_rng(1), 0, bias / math.sqrt(6)
        for _ in range(1500):
            values = generator.normal(5 + error, 1, 6)
            low, high = mean_with_error(values, grid_errors=np.full(6, error)).interval
            covered += low <= 5 <= high
        assert covered / 1500 >= 0.935
