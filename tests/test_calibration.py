"""Posteriors, calibration errors and temperatures on data whose calibration is known."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from fake_records import CELLS, prompt_units
from scipy.special import log_softmax
from statsmodels.discrete.conditional_models import ConditionalLogit

from dmlik_pl.records.frames import listed
from dmlik_pl.results.prompt_accuracy.calibration import calibration_summary
from dmlik_pl.stats.calibration import calibration_error, fit_temperature, posterior, reliability_bins
from dmlik_pl.stats.rates import share, wilson_interval


def calibrated(n: int, k: int = 4, scale: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax is the distribution that the truth is drawn from, and the truth."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, scale, (n, k))
    gumbel = -np.log(-np.log(generator.random((n, k))))
    return scores, (scores + gumbel).argmax(1)


def test_posterior_by_hand() -> None:
    scores = np.array([[math.log(6), math.log(3), math.log(1)], [-1000.0, -1000.0, np.nan]])
    belief = posterior(scores, np.array([1, 0]))
    np.testing.assert_allclose(np.exp(belief.log_probability), [[0.6, 0.3, 0.1], [0.5, 0.5, 0]])
    assert belief.confidence.tolist() == pytest.approx([0.6, 0.5]) and belief.correct.tolist() == [False, True]
    np.testing.assert_allclose(np.exp(belief.of_truth), [0.3, 0.5])
    flat = posterior(scores, np.array([1, 0]), math.inf)
    np.testing.assert_allclose(np.exp(flat.log_probability), [[1 / 3] * 3, [0.5, 0.5, 0]])


class TestTemperature:
    @pytest.mark.parametrize("factor", [1.0, 3.0, 0.5])
    def test_it_is_what_the_scores_were_multiplied_by(self, factor: float) -> None:
        scores, truth = calibrated(4000)
        fitted = fit_temperature(factor * scores, truth)
        assert fitted.standard_error < 0.05 * factor
        assert abs(fitted.value - factor) < 3 * fitted.standard_error

    def test_its_error_is_the_spread_of_repeated_fits(self) -> None:
        fits = [fit_temperature(*calibrated(300, seed=seed)) for seed in range(200)]
        spread = np.std([fit.value for fit in fits])
        assert np.sqrt(np.mean([fit.standard_error**2 for fit in fits])) == pytest.approx(spread, rel=0.15)
        within = [abs(fit.value - 1) < 1.96 * fit.standard_error for fit in fits]
        assert 0.89 <= np.mean(within) <= 0.99

    def test_its_error_is_that_of_misspecified_likelihoods(self) -> None:
        """White's sandwich for b = 1 / T by finite differences, and the delta method for T."""
        scores, truth = calibrated(60, k=5)
        scores = 3 * scores  # T is about 3
        fitted, step = fit_temperature(scores, truth), 1e-4
        middle = 1 / fitted.value

        def own(b: float) -> np.ndarray:
            return log_softmax(b * scores, axis=1)[np.arange(60), truth]

        slopes = (own(middle + step) - own(middle - step)) / (2 * step)
        curvature = -(own(middle + step) - 2 * own(middle) + own(middle - step)).sum() / step**2
        error = math.sqrt(60 / 59 * (slopes**2).sum()) / curvature
        assert fitted.standard_error == pytest.approx(fitted.value**2 * error, rel=1e-4)

    def test_copies_of_a_sample_are_one_cluster_and_tell_nothing_new(self) -> None:
        scores, truth = calibrated(60, k=5)
        twice = fit_temperature(np.tile(scores, (2, 1)), np.tile(truth, 2), np.tile(np.arange(60), 2))
        once = fit_temperature(scores, truth)
        assert (twice.value, twice.standard_error) == pytest.approx((once.value, once.standard_error), rel=1e-6)
        assert (twice.n, twice.clusters) == (120, 60)

    def test_it_is_a_conditional_logit(self) -> None:
        scores, truth = calibrated(60, k=5)
        chosen = (np.arange(5) == truth[:, None]).astype(float)
        model = ConditionalLogit(chosen.ravel(), scores.reshape(-1, 1), groups=np.repeat(np.arange(60), 5))
        assert fit_temperature(scores, truth).value == pytest.approx(1 / model.fit(disp=0).params[0], rel=1e-4)

    def test_constants_of_a_sample_and_candidates_not_offered_change_nothing(self) -> None:
        scores, truth = calibrated(200)
        offset = np.random.default_rng(1).normal(0, 500, (200, 1))
        padded = np.c_[scores + offset, np.full(200, np.nan)]
        found, expected = fit_temperature(padded, truth), fit_temperature(scores, truth)
        assert found.value == pytest.approx(expected.value, rel=1e-6) and found.n == 200
        assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-6)

    def test_ends(self) -> None:
        scores = calibrated(50)[0]
        assert fit_temperature(scores, scores.argmax(1)).value == 0
        assert fit_temperature(scores, scores.argmin(1)).value == math.inf


class TestReliability:
    def test_bins_by_hand(self) -> None:
        confidence = np.array([0.55, 0.58, 0.92, 0.98, 1.0])
        bins = reliability_bins(confidence, np.array([True, False, True, True, False]))
        assert bins["n"].tolist() == [2, 3] and bins["low"].tolist() == [0.5, 0.9]
        assert bins["confidence"].tolist() == pytest.approx([0.565, 2.9 / 3])
        assert bins["accuracy"].tolist() == pytest.approx([0.5, 2 / 3])
        assert (bins["accuracy_low"][1], bins["accuracy_high"][1]) == wilson_interval(2, 3)

    def test_bins_count_clusters(self) -> None:
        right, names = np.array([True, True, False, False, True, True]), np.array(list("aabbcc"))
        bins = reliability_bins(np.full(6, 0.95), right, clusters=names)
        found = share(right, names).interval
        assert (bins["accuracy_low"][0], bins["accuracy_high"][0]) == found
        assert found.high - found.low > 0.7 > 0.65 > np.ptp(wilson_interval(4, 6))

    def test_the_two_bins_of_the_surest_are_apart(self) -> None:
        """In one bin the errors, 0.04 too low and 0.85 too high, would cancel in part."""
        found = calibration_error(np.array([0.96, 0.85]), np.array([True, False]))
        assert found["ece"] == pytest.approx((0.04 + 0.85) / 2)

    def test_error_by_hand(self) -> None:
        confidence = np.array([0.55, 0.58, 0.92, 0.98, 1.0])
        found = calibration_error(confidence, np.array([True, False, True, True, False]))
        assert found["ece"] == pytest.approx((abs(1 - 1.13) + abs(2 - 2.9)) / 5)

    def test_error_of_calibrated_decisions_is_what_they_are_expected_to_show(self) -> None:
        p_values, errors, expected = [], [], []
        for seed in range(40):
            belief = posterior(*calibrated(200, seed=seed))
            found = calibration_error(belief.confidence, belief.correct)
            p_values.append(found["ece_p"])
            errors.append(found["ece"])
            expected.append(found["ece_calibrated"])
        assert np.mean(errors) == pytest.approx(np.mean(expected), rel=0.1)
        assert 0.3 < np.mean(p_values) < 0.7 and np.mean(np.array(p_values) < 0.05) < 0.2

    def test_overconfidence_is_found(self) -> None:
        scores, truth = calibrated(200)
        belief = posterior(5 * scores, truth)
        assert calibration_error(belief.confidence, belief.correct)["ece_p"] == pytest.approx(0.001)


class TestSummary:
    @pytest.fixture(scope="class")
    def frame(self) -> pd.DataFrame:
        units = prompt_units(120, (CELLS[0], CELLS[2]))
        return pd.DataFrame([{"sample_id": name} | row for name, rows in units.items() for row in rows])

    def test_numbers(self, frame: pd.DataFrame) -> None:
        summary = calibration_summary(frame)
        assert set(summary["method"]) == {"likelihood", "elbo", "pmi"}
        row = summary.query("part == 'w = 1' and attribute == 'shape' and method == 'elbo'").iloc[0]
        rows = frame[(frame["attribute"] == "shape") & (frame["guidance"] == 1)]
        scores = np.array([list(map(float, json.loads(text).values())) for text in rows["elbo_scores"]])
        order = listed(rows["candidates"].iloc[0])
        truth = np.array([order.index(value) for value in rows["truth"]])
        log_p = log_softmax(scores, axis=1)
        assert row["n"] == 120
        assert row["log_loss"] == pytest.approx(-log_p[np.arange(120), truth].mean())
        target = np.eye(3)[truth]
        assert row["brier"] == pytest.approx(((np.exp(log_p) - target) ** 2).sum(1).mean())
        assert row[["log_loss_chance", "brier_chance"]].tolist() == pytest.approx([math.log(3), 2 / 3])
        assert row["log_loss_fitted"] <= min(row["log_loss"], row["log_loss_chance"]) + 1e-9

    def test_calibrated_scores_have_temperature_one_and_tripled_ones_three(self, frame: pd.DataFrame) -> None:
        summary = calibration_summary(frame).query("method == 'likelihood' and attribute == 'shape'").set_index("part")
        for part, true in (("w = 1", 1.0), ("w = 3", 3.0)):
            row = summary.loc[part]
            assert row["n"] == 60  # those that were computed in full
            assert abs(row["temperature"] - true) < 3 * row["temperature_standard_error"]
