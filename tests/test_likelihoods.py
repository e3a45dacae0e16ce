"""What a monitor measures: numbers, errors and costs, against closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from shifted import DIMS, Shifted, exact_bits, values

from dmlik_pl.flow import Divergence, Exact, Hutchinson, Multistep, Solver, TorchDiffEq
from dmlik_pl.modules.training.likelihoods import (
    Measured,
    bits,
    cost,
    cost_is_fixed,
    measure,
    of_state,
    summary,
    to_state,
)
from dmlik_pl.modules.training.offers import LikelihoodProblem
from dmlik_pl.studies import Estimator


def by(solver: Solver, divergence: Divergence | None = None, seed: int = 0) -> Estimator:
    """How likelihoods are taken."""
    return Estimator(solver=solver, divergence=divergence or Hutchinson(), seed=seed, rounding_every=0)


def problem(error: float, count: int = 8, **options) -> LikelihoodProblem:
    return Shifted(error, **options).likelihood_problems(values(count), count)[0]


def test_conditional_and_unconditional_bits_and_their_gap_are_the_closed_forms():
    found = measure(problem(0.2), by(Multistep(65), Exact()))
    numbers = summary(found, None, "gap")
    own, free = exact_bits(0.2, 8), exact_bits(0.2, 8, conditional=False)
    assert numbers["bpd"] == pytest.approx(float(own.mean()), abs=4e-4)
    assert numbers["bpd_unconditional"] == pytest.approx(float(free.mean()), abs=4e-4)
    assert numbers["gap"] == pytest.approx(float((free - own).mean()), abs=4e-4) and numbers["gap"] > 0.1
    for name, known in {"bpd": own, "bpd_unconditional": free, "gap": free - own}.items():
        assert numbers[f"{name}_probe_error"] == 0
        assert numbers[f"{name}_sampling_error"] == pytest.approx(float(known.std()) / math.sqrt(8), abs=4e-4)
    assert (numbers["bpd_samples"], numbers["bpd_failed"]) == (8, 0)
    assert "bpd_change" not in numbers and "elbo" not in numbers


def test_the_change_between_two_weights_is_the_closed_form_with_an_error_of_its_own():
    estimator = by(Multistep(65), Hutchinson(), seed=1)
    before, after = (measure(problem(error), estimator) for error in (1.0, 0.2))
    numbers = summary(after, before, "gap")
    known = exact_bits(0.2, 8) - exact_bits(1.0, 8)
    assert abs(numbers["bpd_change"] - float(known.mean())) < 3 * numbers["bpd_change_probe_error"] + 2e-4
    assert 0 < numbers["bpd_change_probe_error"] < 0.5 * numbers["bpd_probe_error"], "what is shared cancels"
    assert numbers["bpd_change_sampling_error"] == pytest.approx(float(known.std()) / math.sqrt(8), rel=0.05)
    assert numbers["bpd_change_z"] == pytest.approx(numbers["bpd_change"] / numbers["bpd_change_sampling_error"])
    assert numbers["bpd_change_z"] < -4


def test_probe_errors_of_level_gap_and_change_cover():
    seeds, posed = 20, [problem(error) for error in (0.2, 1.0)]

    def numbers(**options) -> dict[str, float]:
        estimator = by(Multistep(13), **options)
        return summary(measure(posed[0], estimator), measure(posed[1], estimator), "gap")

    exact = numbers(divergence=Exact())  # on the same grid
    scores = {"bpd": [], "gap": [], "bpd_change": []}
    for seed in range(seeds):
        found = numbers(divergence=Hutchinson(2), seed=seed)
        for name, z in scores.items():
            z.append((found[name] - exact[name]) / found[f"{name}_probe_error"])
    for name, z in scores.items():
        assert 0.7 < float(torch.tensor(z).std()) < 1.4, name
        assert abs(float(torch.tensor(z).mean())) < 3 / math.sqrt(seeds), name


def test_the_bound_is_as_high_as_the_likelihood_of_an_exact_model():
    found = measure(problem(0.2, 16), by(Multistep(33), Exact()), 64)
    numbers = summary(found, None, "gap")
    error = numbers["elbo_probe_error"]
    assert 0 < error < 0.3
    assert -3 * error < numbers["elbo"] - numbers["bpd"] < 3 * error
    again = measure(problem(0.2, 16), by(Multistep(33), Exact()), 64)
    assert torch.equal(found.bound, again.bound), "noise and levels are fixed"


@pytest.mark.parametrize("guidance", [1.0, 3.0], ids=["plain", "guided"])
@pytest.mark.parametrize(
    ("estimator", "one"),
    [
        (by(Multistep(17)), 2 * 17),
        (by(Multistep(17), Hutchinson(3)), 4 * 17),
        (by(Multistep(9), Hutchinson(2, method="fd")), 5 * 9),
        (by(Multistep(9), Exact()), (1 + DIMS) * 9),
        (by(TorchDiffEq("rk4", steps=2)), 2 * 4 * 2),
        (by(TorchDiffEq("rk4", steps=4, estimate_error=True)), 2 * 4 * (4 + 2 + 1)),
    ],
    ids=["multistep", "three-probes", "differences", "exact", "rk4", "rk4-thrice"],
)
def test_the_cost_of_a_sample_is_known_before_it_is_measured(estimator, one, guidance):
    branches = 1 if guidance == 1 else 2
    posed = problem(0.2, 3, guidance=guidance)
    assert cost_is_fixed(estimator.solver)
    assert cost(posed, estimator, 5) == branches * (2 * one + 5)
    assert measure(posed, estimator, 5).nfe == 3 * cost(posed, estimator, 5)
    assert cost(replace(posed, alternative=None), estimator, 5) == branches * (one + 5)


def test_solvers_that_choose_their_steps_have_no_known_cost():
    assert not cost_is_fixed(TorchDiffEq("dopri5"))
    assert not cost_is_fixed(TorchDiffEq("implicit_adams"))


def test_changes_are_of_the_samples_that_both_measurements_have():
    estimator = by(Multistep(17), Exact())
    before, after = measure(problem(1.0, 6), estimator), measure(problem(0.2, 8), estimator)
    mixed = before.select([4, 1, 5])
    numbers = summary(after, mixed, "gap")
    change = (after.condition.log_p - measure(problem(1.0, 8), estimator).condition.log_p)[[1, 4, 5]]
    assert numbers["bpd_change"] == pytest.approx(-float(change.mean()) / DIMS / math.log(2), rel=1e-9)
    lost = replace(mixed, condition=replace(mixed.condition, log_p=mixed.condition.log_p.clone().fill_(math.nan)))
    assert math.isnan(summary(after, lost, "gap")["bpd_change"])


def test_parts_are_joined_and_a_sample_counts_once():
    whole = measure(problem(0.3, 6), by(Multistep(17)), 2)
    joined = Measured.cat([whole.select([0, 1, 2]), whole.select([2, 3, 4, 5]), whole.select([0])])
    assert joined.sample_ids == whole.sample_ids and joined.nfe == 3 * whole.nfe
    assert summary(joined, None, "gap") == summary(whole, None, "gap")


def test_a_sample_alone_is_measured_as_in_its_batch():
    estimator = by(Multistep(17))
    posed = problem(0.3, 3)
    alone = Measured.cat([measure(single, estimator) for single in posed.apart()])
    assert torch.allclose(alone.condition.log_p, measure(posed, estimator).condition.log_p, rtol=1e-12)


def test_likelihoods_survive_in_a_checkpoint(tmp_path):
    found = measure(problem(0.3, 3), by(Multistep(17))).condition
    torch.save(to_state(found), tmp_path / "state.ckpt")
    again = of_state(torch.load(tmp_path / "state.ckpt", weights_only=True))
    assert not again.minus(found)[0].any() and not again.variance_of_difference(found).any()
    assert torch.equal(again.variance, found.variance) and again.nfe == found.nfe


def test_samples_weigh_as_much_as_they_have_dimensions():
    nats, dims = torch.tensor([10.0, 60.0, 20.0]).double(), torch.tensor([10, 30, 20]).double()
    found = bits("b", nats, torch.tensor([1.0, 4.0, 4.0]), dims)
    assert found["b"] == pytest.approx(90 / 60 / math.log(2))
    assert found["b_probe_error"] == pytest.approx(3 / 60 / math.log(2))
    # Without each sample in turn the ratio is 80 / 50, 30 / 30 and 70 / 40: a jackknife around 90 / 60.
    jackknife = math.sqrt(2 / 3 * (0.1**2 + 0.5**2 + 0.25**2))
    assert found["b_sampling_error"] == pytest.approx(jackknife / math.log(2))
