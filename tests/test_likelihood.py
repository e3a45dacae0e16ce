"""Likelihoods against closed forms, with their terms, errors, masks and intermediate times."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from dmlik_pl.flow import (
    Condition,
    Cosine,
    DiscreteVP,
    Exact,
    GaussianPrior,
    Hutchinson,
    LinearVP,
    LogLikelihood,
    Multistep,
    ProbabilityFlow,
    TorchDiffEq,
    bits_per_dim,
    decode,
    encode,
    log_likelihood,
    reconstruct,
    trajectory,
)
from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.integral import TraceIntegral, _rank

SDXL = DiscreteVP.scaled_linear()
FINE = Multistep(129)
FOUR = Hutchinson(4)


def worst(result, exact):
    """Largest error in bits per dimension."""
    return float(((result.log_p - exact).abs() / (result.dims * math.log(2))).max())


@pytest.mark.parametrize("model", ["gaussian", "mixture"])
@pytest.mark.parametrize("schedule", [LinearVP(), SDXL], ids=["vp", "sdxl"])
@pytest.mark.parametrize("solver", [FINE, TorchDiffEq(clock="angle", rtol=1e-6, atol=1e-6)], ids=["ours", "dopri5"])
@pytest.mark.parametrize("reverting", [False, True], ids=["", "reverting"])
@pytest.mark.parametrize("conditional", [False, True], ids=["", "conditional"])
def test_closed_forms_are_met(request, generator, model, schedule, solver, reverting, conditional):
    model = request.getfixturevalue(model)
    shift, mean = torch.randn(2, 2, 8, dtype=torch.float64, generator=generator)
    shift = shift * conditional
    x = model.sample(2, generator) + shift
    condition = model.condition(shift, mean=mean if reverting else None)
    result = log_likelihood(model.flow(schedule, shift=shift), x, condition, solver=solver, divergence=Exact())
    assert worst(result, model.log_prob(x, shift, result.r)) < 1e-4


@pytest.mark.parametrize("solver", [FINE, TorchDiffEq(clock="t", rtol=1e-6, atol=1e-6)], ids=["ours", "dopri5"])
@pytest.mark.parametrize("reverting", [False, True], ids=["", "reverting"])
def test_masked_closed_forms_are_met(diagonal, generator, solver, reverting):
    shift, mean = torch.randn(2, 3, 8, dtype=torch.float64, generator=generator)
    mask = torch.arange(8)[None] < torch.tensor([8, 5, 2])[:, None]
    x = diagonal.sample(3, generator) + shift
    condition = diagonal.condition(shift, mean=mean if reverting else None, mask=mask)
    result = log_likelihood(diagonal.flow(LinearVP(), shift=shift), x, condition, solver=solver, divergence=Exact())
    assert result.dims.tolist() == [8, 5, 2]
    assert worst(result, diagonal.log_prob(x, shift, result.r, mask)) < 1e-4


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(), Hutchinson(2, "gaussian")])
@pytest.mark.parametrize(
    "solver", [Multistep(9), TorchDiffEq("dopri5", "t", rtol=1e-3, atol=1e-3)], ids=["ours", "dopri5"]
)
def test_masked_dimensions_change_nothing(diagonal, generator, divergence, solver):
    shift, mean, noise = torch.randn(3, 2, 8, dtype=torch.float64, generator=generator)
    mask = torch.arange(8)[None] < torch.tensor([6, 3])[:, None]
    x = diagonal.sample(2, generator)
    flow = diagonal.flow(LinearVP())

    def solve(filling):
        filled = [torch.where(mask, value, filling * noise) for value in (x, shift, mean)]
        condition = diagonal.condition(filled[1], mean=filled[2], mask=mask)
        return log_likelihood(flow, filled[0], condition, solver=solver, divergence=divergence)

    plain, noisy = solve(0.0), solve(100.0)
    torch.testing.assert_close(noisy.log_p, plain.log_p, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(noisy.prior, plain.prior, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(noisy.discretisation, plain.discretisation, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert float(noisy.latent[~mask].abs().max()) == 0


def test_padding_changes_nothing(generator):
    """A sample of 3 frames in a batch padded to 7 has the likelihood that it has alone."""

    def network(x, time, inputs):
        real = inputs["real"]
        return (torch.tanh(x.cumsum(1)) * torch.sin(time)[:, None, None] + x * 0.3) * real

    flow = ProbabilityFlow(network, LinearVP(0.05, 20.0))
    x, mean = torch.randn(2, 2, 4, 7, dtype=torch.float64, generator=generator)
    mask = (torch.arange(7) < torch.tensor([[3], [7]]))[:, None]
    padded = log_likelihood(
        flow, x, Condition({"real": mask.expand(2, 4, 7)}, mean=mean, mask=mask), sample_ids=["a", "b"]
    )
    short = log_likelihood(
        flow,
        x[:1, :, :3],
        Condition({"real": torch.ones(1, 4, 3, dtype=torch.bool)}, mean=mean[:1, :, :3]),
        sample_ids=["a"],
    )
    assert padded.dims.tolist() == [12, 28]
    torch.testing.assert_close(padded.log_p[:1], short.log_p, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(padded.bpd[:1], short.bpd, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(padded.standard_error[:1], short.standard_error, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", [Multistep(9), TorchDiffEq("rk4", "t", steps=4)], ids=["ours", "rk4"])
def test_mean_and_mask_may_be_shared_by_the_batch(diagonal, generator, solver):
    x, shift = diagonal.sample(3, generator), torch.zeros(3, 8, dtype=torch.float64)
    mean, mask = torch.randn(1, 8, dtype=torch.float64, generator=generator), torch.arange(8)[None] < 5
    flow, inputs = diagonal.flow(LinearVP()), {"shift": shift, "mean": mean.expand(3, 8), "mask": mask.expand(3, 8)}
    shared = log_likelihood(flow, x, Condition(inputs, mean=mean, mask=mask), solver=solver)
    each = log_likelihood(
        flow, x, diagonal.condition(shift, mean=mean.expand(3, 8), mask=mask.expand(3, 8)), solver=solver
    )
    torch.testing.assert_close(shared.log_p, each.log_p, rtol=1e-12, atol=1e-12)


def test_terms_add_up_and_are_what_they_say(mixture, generator):
    x = mixture.sample(3, generator)
    result = log_likelihood(mixture.flow(LinearVP()), x, mixture.condition(torch.zeros_like(x)))
    torch.testing.assert_close(result.prior + result.divergence + result.scale, result.log_p, rtol=1e-12, atol=1e-12)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(result.prior, normal.log_prob(result.latent).sum(1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(result.bpd, -result.log_p / (8 * math.log(2)))
    assert result.scale.tolist() == pytest.approx([8 * math.log(math.cos(math.atan(result.r)))] * 3)
    assert result.r == pytest.approx(float(LinearVP().at(1e-5).r))
    assert result.r_max == pytest.approx(float(LinearVP().at(1.0).r))
    assert (result.density, result.failures) == ("p(x|y)", [None] * 3)


def test_priors_by_name(gaussian, generator):
    """N(0, 1 + r_max^2) and N(0, r_max^2) of z, by their formulas."""
    z = 10 * torch.randn(4, 8, dtype=torch.float64, generator=generator)
    level = SDXL.at(1.0)
    r, cos = float(level.r), math.cos(float(level.angle))
    for name, variance in (("total", 1 + r**2), ("noise", r**2)):
        value = GaussianPrior(name).log_prob(z * cos, level, None) + 8 * math.log(cos)
        expected = torch.distributions.Normal(0 * z, math.sqrt(variance)).log_prob(z).sum(1)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("probes", [1, 2, 4])
@pytest.mark.parametrize("schedule", [LinearVP(), SDXL], ids=["vp", "sdxl"])
def test_standard_errors_cover(mixture, schedule, probes):
    """A 95 % interval from one run holds the exact trace's value in about 95 % of runs, eight samples 50 times each.

    Differences of two conditions are decided at a few noise levels and in few directions.
    """
    x = mixture.sample(8, torch.Generator().manual_seed(7))
    flow, repeated = mixture.flow(schedule), x.repeat_interleave(50, 0)
    results, exact = [], []
    for value in (0.0, 0.3):
        condition = mixture.condition(torch.full_like(repeated, value))
        results.append(log_likelihood(flow, repeated, condition, divergence=Hutchinson(probes)))
        alone = log_likelihood(flow, x, mixture.condition(torch.full_like(x, value)), divergence=Exact())
        exact.append(alone.log_p.repeat_interleave(50))
    difference, paired_error = results[0].minus(results[1])
    for value, error, truth in (
        (results[0].log_p, results[0].standard_error, exact[0]),
        (difference, paired_error, exact[0] - exact[1]),
    ):
        deviation = value - truth
        assert 0.92 <= float((deviation.abs() < 1.96 * error).double().mean()) <= 0.98
        assert float(deviation.mean().abs()) < 3 * float(deviation.std()) / 20
        assert float(error.mean()) < 1.45 * float(deviation.std())
    assert float(paired_error.mean()) < 0.8 * float(results[0].standard_error.mean())
    deviation = results[0].log_p - exact[0]
    assert float(results[0].integral.variance.mean()) == pytest.approx(float(deviation.square().mean()), rel=0.25)
    spread = results[0].integral.variance.reshape(8, 50)
    assert float((spread.std(1) / spread.mean(1)).mean()) < 0.6 / math.sqrt(probes)  # of the trace alone: 1 and more


def test_standard_errors_of_shared_probes_cover(gaussian):
    """One set of eight probes a trajectory: the reference mode."""
    solver, flow = TorchDiffEq("rk4", "log_snr", steps=4), gaussian.flow(SDXL)
    x, shift = gaussian.sample(1, torch.Generator().manual_seed(1)), torch.zeros(1, 8, dtype=torch.float64)
    result = log_likelihood(
        flow, x.expand(200, 8), gaussian.condition(shift.expand(200, 8)), solver=solver, divergence=Hutchinson(8)
    )
    exact = log_likelihood(flow, x, gaussian.condition(shift), solver=solver, divergence=Exact())
    covered = ((result.log_p - exact.log_p).abs() < 1.96 * result.standard_error).double().mean()
    assert 0.9 <= float(covered) <= 0.99


def test_one_probe_a_trajectory_has_no_standard_error(gaussian, generator):
    x = gaussian.sample(2, generator)
    condition = gaussian.condition(torch.zeros_like(x))
    result = log_likelihood(gaussian.flow(SDXL), x, condition, solver=TorchDiffEq("euler", "angle", steps=3))
    assert bool(result.standard_error.isnan().all())
    exact = log_likelihood(gaussian.flow(SDXL), x, condition, divergence=Exact())
    assert exact.standard_error.tolist() == [0, 0]


def test_the_hutchinson_mean_is_the_exact_trace(mixture):
    x = mixture.sample(1, torch.Generator().manual_seed(3))
    flow, shift = mixture.flow(LinearVP()), torch.zeros(400, 8, dtype=torch.float64)
    exact = log_likelihood(flow, x, mixture.condition(shift[:1]), divergence=Exact()).log_p
    for divergence in (Hutchinson(1), Hutchinson(2, "gaussian")):
        many = log_likelihood(flow, x.expand(400, 8), mixture.condition(shift), divergence=divergence).log_p
        assert float((many.mean() - exact).abs()) < 3 * float(many.std()) / 20


def test_fresh_probes_beat_one_kept(mixture):
    """A probe a node costs nothing more than one a trajectory and has several times less variance."""
    x = mixture.sample(1, torch.Generator().manual_seed(3))
    flow, condition = mixture.flow(SDXL), mixture.condition(torch.zeros(100, 8, dtype=torch.float64))
    fresh = log_likelihood(flow, x.expand(100, 8), condition)
    kept = log_likelihood(flow, x.expand(100, 8), condition, solver=TorchDiffEq("rk4", "log_snr", steps=8))
    assert float(kept.log_p.var() / fresh.log_p.var()) > 3
    assert (fresh.nfe.forward, fresh.nfe.vjp) == (33, 33)


def test_differences_need_one_grid(mixture, generator):
    x = mixture.sample(2, generator)
    flow, condition = mixture.flow(SDXL), mixture.condition(torch.zeros_like(x))
    first = log_likelihood(flow, x, condition)
    for other in (
        log_likelihood(flow, x, condition, solver=Multistep(17)),
        log_likelihood(flow, x, condition, divergence=Hutchinson(2)),
        log_likelihood(flow, x, condition, t=0.3),
    ):
        with pytest.raises(ValueError, match="different grids or probes cannot be paired"):
            first.minus(other)
    value, error = first.minus(first)
    assert value.tolist() == [0, 0]
    assert error.tolist() == [0, 0]


def test_the_variance_of_a_difference_is_recorded_beside_its_interval(mixture):
    """Four probes a node: unbiased, where the square of the standard error is too large on average."""
    x = mixture.sample(1, torch.Generator().manual_seed(5)).expand(200, 8)
    flow = mixture.flow(SDXL)
    first, second = (
        log_likelihood(flow, x, mixture.condition(torch.full_like(x, c)), solver=Multistep(17), divergence=FOUR)
        for c in (0.0, 0.3)
    )
    difference, error = first.minus(second)
    variance = first.variance_of_difference(second)
    assert float(variance.mean()) == pytest.approx(float(difference.var()), rel=0.25)
    assert bool((error.square() > variance).all())
    assert torch.equal(first.variance, first.integral.variance)


def test_results_can_be_chosen_and_joined(mixture, generator):
    x = mixture.sample(4, generator)
    flow, condition = mixture.flow(SDXL), mixture.condition(torch.zeros_like(x))
    whole = log_likelihood(flow, x, condition, rounding=[0, 1, 2, 3])
    assert torch.equal(whole.select([1]).rounding, whole.rounding[[1]])
    again = LogLikelihood.cat([whole.select([2, 3]), whole.select([0, 1])]).select([2, 3, 0, 1])
    for name in ("log_p", "prior", "dims", "latent", "standard_error", "variance", "discretisation"):
        assert torch.equal(getattr(again, name), getattr(whole, name))


def test_conditions_can_be_chosen_and_joined():
    condition = Condition({"a": torch.arange(6.0).reshape(3, 2), "b": [torch.arange(3), None]}, mask=torch.eye(3) > 0)
    chosen = condition.select([2, 0])
    assert chosen.inputs["a"].tolist() == [[4, 5], [0, 1]]
    assert chosen.inputs["b"][0].tolist() == [2, 0]
    assert chosen.mask.tolist() == [[False, False, True], [True, False, False]]
    joined = Condition.cat([condition, chosen])
    assert joined.inputs["b"][0].tolist() == [0, 1, 2, 2, 0]
    assert condition.tile(2).inputs["a"].shape == (6, 2)


def test_the_round_trip_returns_with_the_order_of_the_solver(mixture, generator):
    x = mixture.sample(4, generator)
    condition, flow = mixture.condition(torch.zeros_like(x)), mixture.flow(SDXL)
    errors = [
        float((reconstruct(flow, x, condition, solver=Multistep(nodes)) - x).abs().max()) for nodes in (35, 67, 131)
    ]
    assert errors[2] < 1e-4
    assert math.log(errors[0] / errors[2], 4) > 2.5
    reference = TorchDiffEq("dopri8", "angle", rtol=1e-8, atol=1e-8)
    assert float((reconstruct(flow, x, condition, solver=reference) - x).abs().max()) < 1e-6


def test_a_trajectory_passes_through_decode_and_its_closed_form_densities(mixture, generator):
    shift, mean = torch.randn(2, 2, 8, dtype=torch.float64, generator=generator)
    x = mixture.sample(2, generator) + shift
    schedule = LinearVP(0.05, 20.0, t_min=1e-3)
    flow, condition = mixture.flow(schedule, shift=shift), mixture.condition(shift, mean=mean)
    latent = encode(flow, x, condition, solver=FINE)
    times = [1.0, 0.8, 0.45, 0.2, 0.0]
    path = trajectory(flow, latent, condition, times=times, solver=FINE, densities=True, divergence=Exact())
    assert path.times == [1.0, 0.8, 0.45, 0.2, 1e-3]
    assert torch.equal(path.states[0], latent)
    plain = trajectory(flow, latent, condition, times=times, solver=FINE)
    assert plain.marginals is None
    end = schedule.at(schedule.t_min)
    data = (path.states[-1] - (1 - end.alpha) * mean) / end.alpha
    torch.testing.assert_close(data, decode(flow, latent, condition, solver=FINE), rtol=0, atol=2e-5)
    torch.testing.assert_close(data, x, rtol=0, atol=1e-4)
    for time, state, same, marginal in zip(path.times, path.states, plain.states, path.marginals, strict=True):
        torch.testing.assert_close(state, same, rtol=1e-10, atol=1e-10)
        level = schedule.at(time)
        centred = state - (1 - level.alpha) * mean
        closed = mixture.log_prob(centred, shift, level.sigma, scale=float(level.alpha))
        assert worst(marginal, closed) < 1e-4
        assert marginal.r == pytest.approx(float(level.r))
        if time < 1:
            alone = log_likelihood(flow, state, condition, t=time, solver=FINE, divergence=Exact())
            assert worst(alone, closed) < 1e-4


def test_a_trajectory_by_the_reference_solver_agrees(mixture, generator):
    latent = torch.randn(2, 8, dtype=torch.float64, generator=generator)
    condition, flow = mixture.condition(torch.zeros_like(latent)), mixture.flow(SDXL)
    settings = {"times": [0.7, 0.3], "densities": True, "divergence": Exact()}
    ours = trajectory(flow, latent, condition, solver=FINE, **settings)
    for solver in (
        TorchDiffEq(clock="angle", rtol=1e-7, atol=1e-7),
        TorchDiffEq("rk4", "log_snr", steps=40),
        TorchDiffEq(clock="t", rtol=1e-6, atol=1e-6, scale="solver"),
    ):
        reference = trajectory(flow, latent, condition, solver=solver, **settings)
        for k in range(2):
            torch.testing.assert_close(ours.states[k], reference.states[k], rtol=0, atol=1e-4)
            assert worst(ours.marginals[k], reference.marginals[k].log_p) < 1e-4


def test_a_trajectory_starts_at_infinite_noise_and_stops_close_to_it(mixture, generator):
    latent = torch.randn(2, 8, dtype=torch.float64, generator=generator)
    flow, condition = mixture.flow(Cosine(), "v"), mixture.condition(torch.zeros_like(latent))
    times = [1.0, 0.99999, 0.9999, 0.5, 0.1]
    path = trajectory(flow, latent, condition, times=times, solver=FINE, densities=True, divergence=Exact())
    for state, marginal, time in zip(path.states, path.marginals, times, strict=True):
        level = flow.schedule.at(time)
        assert worst(marginal, mixture.log_prob(state, r=level.sigma, scale=float(level.alpha))) < 1e-4


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.5, 0.5], "must fall strictly"),
        ([0.2, 0.5], "must fall strictly"),
        ([1.0], "below t_max"),
        ([], "below t_max"),
    ],
)
def test_impossible_times_are_refused(mixture, generator, times, message):
    latent = torch.randn(1, 8, dtype=torch.float64, generator=generator)
    with pytest.raises(ValueError, match=message):
        trajectory(mixture.flow(SDXL), latent, mixture.condition(torch.zeros_like(latent)), times=times)


@pytest.mark.parametrize("t", [-0.1, 1.0, 1.5])
def test_times_outside_the_schedule_are_refused(mixture, generator, t):
    x = mixture.sample(1, generator)
    with pytest.raises(ValueError, match=r"must lie in \[t_min, t_max\)"):
        log_likelihood(mixture.flow(SDXL), x, mixture.condition(torch.zeros_like(x)), t=t)


def test_a_schedule_without_noise_is_refused(mixture, generator):
    x = mixture.sample(1, generator)
    with pytest.raises(ValueError, match="no noise at t_min=0"):
        log_likelihood(mixture.flow(LinearVP(t_min=0.0)), x, mixture.condition(torch.zeros_like(x)))


def test_half_precision_states_are_refused(mixture):
    with pytest.raises(ValueError, match=r"float32 or float64, got torch.float16: call x.float\(\)"):
        log_likelihood(mixture.flow(SDXL), torch.zeros(1, 8, dtype=torch.float16))


def test_float32_is_close_to_float64(mixture, generator):
    single = type(mixture)(mixture.means, mixture._covariances(), mixture.log_weights.exp()).float()
    x = mixture.sample(8, generator)
    results = [
        log_likelihood(model.flow(SDXL), data, model.condition(torch.zeros_like(data)))
        for model, data in ((mixture, x), (single, x.float()))
    ]
    assert results[1].log_p.dtype == torch.float64
    torch.testing.assert_close(results[1].bpd, results[0].bpd, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "divergence", [Exact(), Hutchinson(), Hutchinson(2), Hutchinson(method="jvp"), Hutchinson(method="fd")]
)
def test_any_loop_may_call(mixture, generator, divergence):
    """Evaluation loops run without gradients, some of them in inference mode."""
    x = mixture.sample(2, generator)
    flow = mixture.flow(SDXL, "velocity")

    def solve():
        return log_likelihood(
            flow, x * 1, mixture.condition(torch.zeros_like(x)), solver=Multistep(9), divergence=divergence
        )

    plain = solve()
    with torch.no_grad():
        assert torch.equal(solve().log_p, plain.log_p)
    with torch.inference_mode():
        assert torch.equal(solve().log_p, plain.log_p)
        condition = mixture.condition(torch.zeros_like(x))
        path = trajectory(
            flow, x * 1, condition, times=[0.5, 0.0], solver=Multistep(9), densities=True, divergence=divergence
        )
    assert bool(path.marginals[-1].log_p.isfinite().all())
    assert not plain.log_p.requires_grad


def test_bits_per_dim():
    assert float(bits_per_dim(torch.tensor(-16 * math.log(2)), 8)) == pytest.approx(2)


def trace_integral(values: list[list[float]], weights: list[float]) -> TraceIntegral:
    """Of one sample, from its draws at each node."""
    nodes = torch.arange(len(weights), dtype=torch.float64)
    return TraceIntegral(torch.tensor(values).double()[..., None], torch.tensor(weights).double(), nodes)


def test_the_error_of_one_node_is_that_of_a_mean():
    """Draws 1, 2 and 6 at a weight of 0.5: Student's t of two degrees of freedom."""
    integral = trace_integral([[1.0, 2.0, 6.0]], [0.5])
    assert float(integral.total) == 1.5
    assert float(integral.variance) == pytest.approx(0.25 * 7 / 3)
    widened = stats.t.ppf(0.975, 2) / stats.norm.ppf(0.975)
    assert float(integral.standard_error) == pytest.approx(widened * math.sqrt(0.25 * 7 / 3))


def test_the_error_of_several_nodes_by_hand():
    """Two draws at each of two nodes: variances w^2 s^2 / 2 of 4 and 1, degrees of freedom 25 / (17 / 3) - 2."""
    integral = trace_integral([[3.0, -1.0], [5.0, 3.0]], [1.0, -1.0])
    assert float(integral.total) == 1 - 4
    assert float(integral.variance) == pytest.approx(4 + 1)
    widened = stats.t.ppf(0.975, 25 / (17 / 3) - 2) / stats.norm.ppf(0.975)
    assert float(integral.standard_error) == pytest.approx(widened * math.sqrt(5))


def test_the_error_of_exact_traces_is_none_and_of_few_single_draws_unknown():
    single = trace_integral([[1.0], [2.0], [3.0]], [1.0, 1.0, 1.0])
    assert math.isnan(float(single.standard_error))
    assert float(replace(single, exact=True).standard_error) == 0


def test_the_error_from_parts_by_hand():
    """Two draws in two parts at one node: variances 2 and 8 of the parts, and a twist of 4 that takes 8 of twice 10."""
    parts = torch.tensor([[[[1.0, 0.0]], [[3.0, 4.0]]]]).double()
    integral = replace(trace_integral([[1.0, 7.0]], [2.0]), parts=parts)
    assert float(integral.variance) == pytest.approx(4 * (2 + 8) / 2)
    twisted = replace(integral, twists=torch.tensor([[[2.0]]]).double())
    assert float(twisted.variance) == pytest.approx(4 * (10 - 4 / 2) / 2)
    widened = stats.t.ppf(0.975, 1) / stats.norm.ppf(0.975)  # one pair of draws at one node
    assert float(twisted.standard_error) == pytest.approx(widened * math.sqrt(16))
    assert float(replace(integral, twists=torch.tensor([[[9.0]]]).double()).variance) == pytest.approx(20 / 2)


def test_directions_that_carry_the_noise_are_counted():
    """Of 200 nodes whose noise has 1, 4 and 40 equal directions."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.ones(200, dtype=torch.float64)
    for directions in (1, 4, 40):
        noise = torch.randn(200, 3, directions, generator=generator, dtype=torch.float64)
        assert _rank(noise, weights, apart=1).tolist() == pytest.approx([directions] * 3, rel=0.2)
    few = _rank(torch.randn(2, 500, 40, generator=generator, dtype=torch.float64), weights[:2], apart=1)
    assert float(few.max()) < 1.5 + 1e-9  # one pair that there is, two that are supposed


def test_integrals_are_chosen_joined_and_freed_of_what_is_common(mixture, generator):
    x = mixture.sample(4, generator)
    integral = log_likelihood(
        mixture.flow(SDXL), x, mixture.condition(torch.zeros_like(x)), solver=Multistep(9), divergence=Hutchinson(2)
    ).integral
    again = TraceIntegral.cat([integral.select([3, 2]), integral.select([1, 0])]).select([3, 2, 1, 0])
    for name in ("values", "parts", "twists", "weights", "log_r"):
        assert torch.equal(getattr(again, name), getattr(integral, name)), name
    assert integral.to(torch.float32).parts.dtype == torch.float32
    apart = integral.apart_from_common([True, True, False, True])
    for name in ("values", "parts", "twists"):
        assert float(getattr(apart, name)[:, :, [0, 1, 3]].sum(2).abs().max()) < 1e-9, name
    assert torch.allclose(apart.values[:, :, 2], integral.values[:, :, 2] - integral.values[:, :, [0, 1, 3]].mean(2))


def test_a_new_grid_keeps_its_error_bar(mixture, generator):
    """The marginal at a later time is integrated over fewer nodes of the same traces."""
    x = mixture.sample(2, generator)
    path = trajectory(
        mixture.flow(SDXL), x, mixture.condition(torch.zeros_like(x)), times=[0.8, 0.0], densities=True, divergence=FOUR
    )
    early, late = path.marginals
    assert bool((early.standard_error < 0.7 * late.standard_error).all()) and bool((early.standard_error > 0).all())


def test_a_solve_waits_for_the_device_once(mixture, generator, monkeypatch):
    calls, waited = [], Dynamics.settle
    monkeypatch.setattr(Dynamics, "settle", lambda dynamics: calls.append(len(dynamics._finite)) or waited(dynamics))
    x, condition = mixture.sample(2, generator), mixture.condition(torch.zeros(2, 8, dtype=torch.float64))
    log_likelihood(mixture.flow(SDXL), x, condition, solver=Multistep(9))
    assert calls == [9]
