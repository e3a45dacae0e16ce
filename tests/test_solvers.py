"""Solvers: convergence, clocks, tolerances, limits and estimates of their own error."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import random_covariances
from torchdiffeq._impl.odeint import SOLVERS

from dmlik_pl.flow import (
    VE,
    Condition,
    Cosine,
    DiscreteVP,
    Exact,
    Hutchinson,
    LinearVP,
    Multistep,
    ProbabilityFlow,
    RectifiedFlow,
    SolverError,
    TorchDiffEq,
    decode,
    encode,
    log_likelihood,
    trajectory,
)
from dmlik_pl.models.closed_form import GaussianMixture

BITS = 8 * math.log(2)
SDXL = DiscreteVP.scaled_linear()


def exact_latent(gaussian, schedule, x):
    """Where the flow of one Gaussian ends: along its axes the deviation grows with the standard deviation."""
    low, high = (float(schedule.at(t).r) for t in (schedule.t_min, schedule.t_max))
    growth = ((gaussian.variances[0] + high**2) / (gaussian.variances[0] + low**2)).sqrt()
    along = torch.einsum("ji,bj->bi", gaussian.bases[0], x - gaussian.means)
    z = gaussian.means + torch.einsum("ij,bj->bi", gaussian.bases[0], growth * along)
    return z * float(schedule.at(schedule.t_max).alpha)


def measured_order(gaussian, x, coarse, fine):
    """log2 of the factor by which the latent's error falls, for a fourfold number of steps."""
    condition, flow = gaussian.condition(torch.zeros_like(x)), gaussian.flow(SDXL)
    exact = exact_latent(gaussian, SDXL, x)
    errors = [float((encode(flow, x, condition, solver=s) - exact).abs().max()) for s in (coarse, fine)]
    return math.log(errors[0] / errors[1], 4)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_multistep_has_its_order(gaussian, generator, order):
    x = gaussian.sample(3, generator)
    # nodes - 3 equal intervals, of which the first is split
    assert measured_order(gaussian, x, Multistep(35, order), Multistep(131, order)) > order - 0.4


@pytest.mark.parametrize(
    ("method", "order"),
    [
        ("euler", 1),
        ("midpoint", 2),
        ("heun2", 2),
        ("heun3", 3),
        ("rk4", 4),
        ("explicit_adams", 4),
        ("implicit_adams", 4),
    ],
)
@pytest.mark.filterwarnings("ignore:Functional iteration")
@pytest.mark.parametrize("clock", ["log_snr", "angle"])
def test_fixed_steps_have_their_order(gaussian, generator, method, order, clock):
    x = gaussian.sample(2, generator)
    coarse, fine = (TorchDiffEq(method, clock, steps=steps, rtol=1e-12, atol=1e-12) for steps in (24, 96))
    assert coarse.order == order
    assert measured_order(gaussian, x, coarse, fine) > order - 0.35


@pytest.mark.parametrize("method", SOLVERS)
def test_every_torchdiffeq_method_reaches_the_closed_form(mixture, generator, method):
    """All that torchdiffeq registers, with the trace in the state."""
    steps, tolerance = {"euler": (512, 1e-3)}.get(method, (64, 5e-4))
    solver = TorchDiffEq(method, "angle", steps=steps, rtol=1e-5, atol=1e-6)
    x, shift = mixture.sample(2, generator), torch.zeros(2, 8, dtype=torch.float64)
    exact = mixture.log_prob(x, r=float(SDXL.at(SDXL.t_min).r))
    result = log_likelihood(
        mixture.flow(SDXL, shift=shift), x, mixture.condition(shift), solver=solver, divergence=Exact()
    )
    assert float((result.log_p - exact).abs().max()) < tolerance * BITS


@pytest.mark.parametrize(
    "schedule", [LinearVP(), SDXL, VE(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__
)
def test_multistep_reaches_the_closed_form(mixture, generator, schedule):
    shift = torch.randn(4, 8, dtype=torch.float64, generator=generator)
    x = mixture.sample(4, generator) + shift
    flow = mixture.flow(schedule, "v", shift=shift)
    result = log_likelihood(flow, x, mixture.condition(shift), solver=Multistep(129), divergence=Exact())
    assert float((result.log_p - mixture.log_prob(x, shift, result.r)).abs().max()) < 1e-4 * BITS
    assert float(result.discretisation.max()) < 2e-4 * BITS  # on the safe side


@pytest.mark.parametrize("clock", ["t", "r", "log_snr", "angle"])
@pytest.mark.parametrize("scale", ["exact", "solver"])
def test_dopri5_reaches_the_closed_form_in_every_clock(mixture, generator, clock, scale):
    shift = torch.randn(2, 8, dtype=torch.float64, generator=generator)
    x = mixture.sample(2, generator) + shift
    solver = TorchDiffEq("dopri5", clock, rtol=1e-6, atol=1e-6, scale=scale)
    for schedule in (LinearVP(), SDXL):
        result = log_likelihood(
            mixture.flow(schedule, shift=shift), x, mixture.condition(shift), solver=solver, divergence=Exact()
        )
        assert float((result.log_p - mixture.log_prob(x, shift, result.r)).abs().max()) < 1e-4 * BITS


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("clock", ["t", "angle"])
def test_dopri5_goes_to_infinite_noise(mixture, generator, schedule, clock):
    shift = torch.zeros(2, 8, dtype=torch.float64)
    x = mixture.sample(2, generator)
    flow = mixture.flow(schedule, "velocity", shift=shift)
    solver = TorchDiffEq("dopri5", clock, rtol=1e-6, atol=1e-6)
    result = log_likelihood(flow, x, mixture.condition(shift), solver=solver, divergence=Exact())
    assert math.isinf(result.r_max)
    assert float((result.log_p - mixture.log_prob(x, r=result.r)).abs().max()) < 1e-4 * BITS


@pytest.mark.parametrize("clock", ["r", "log_snr"])
def test_a_clock_that_never_ends_is_refused(mixture, generator, clock):
    x = mixture.sample(1, generator)
    with pytest.raises(ValueError, match="is infinite at t=1: use 't' or 'angle'"):
        encode(
            mixture.flow(RectifiedFlow(), "v"),
            x,
            mixture.condition(torch.zeros_like(x)),
            solver=TorchDiffEq(clock=clock),
        )


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_infinite_noise_and_back(mixture, generator, schedule):
    """Both directions, and both solvers, agree at r = infinity."""
    x = mixture.sample(4, generator)
    condition, flow = mixture.condition(torch.zeros_like(x)), mixture.flow(schedule, "v")
    latent = encode(flow, x, condition, solver=Multistep(129))
    reference = encode(flow, x, condition, solver=TorchDiffEq(clock="angle", rtol=1e-9, atol=1e-9))
    torch.testing.assert_close(latent, reference, rtol=0, atol=1e-4)
    torch.testing.assert_close(decode(flow, reference, condition, solver=Multistep(129)), x, rtol=0, atol=1e-3)


def test_noise_that_says_nothing_of_the_data_needs_another_prediction(mixture, generator):
    x = mixture.sample(1, generator)
    with pytest.raises(ValueError, match="epsilon prediction says nothing of the data at r = infinity"):
        log_likelihood(mixture.flow(RectifiedFlow(), "epsilon"), x, mixture.condition(torch.zeros_like(x)))


def test_finite_noise_beyond_the_grid_is_reached(gaussian, generator):
    """A schedule that ends at r = 20 000 is followed to its end, not to where the grid in log r stops."""
    schedule = VE(0.01, 20_000)
    x = gaussian.sample(3, generator)
    condition, flow = gaussian.condition(torch.zeros_like(x)), gaussian.flow(schedule, "v")
    latent = encode(flow, x, condition, solver=Multistep(193))
    torch.testing.assert_close(latent / 20_000, exact_latent(gaussian, schedule, x) / 20_000, rtol=0, atol=2e-6)
    back = decode(flow, exact_latent(gaussian, schedule, x), condition, solver=Multistep(193))
    torch.testing.assert_close(back, x, rtol=0, atol=2e-4)


def test_a_loose_log_density_cannot_loosen_the_state(mixture, generator):
    """With the log-density in the norm the steps are those of the state alone, or smaller."""
    x = mixture.sample(2, generator)
    condition, flow = mixture.condition(torch.zeros_like(x)), mixture.flow(LinearVP())
    solver = TorchDiffEq("dopri5", "t", rtol=1e-5, atol=1e-5)
    exact = encode(flow, x, condition, solver=TorchDiffEq("dopri8", "angle", rtol=1e-10, atol=1e-10))
    alone = (encode(flow, x, condition, solver=solver) - exact).abs().max()
    calls_alone = steps_alone(flow, x, condition, solver)
    for divergence in (Exact(), Hutchinson(), Hutchinson(4)):
        together = log_likelihood(flow, x, condition, solver=solver, divergence=divergence)
        assert float((together.latent - exact).abs().max()) < 3 * float(alone)
        assert together.nfe.forward >= 0.95 * calls_alone


def steps_alone(flow, x, condition, solver):
    calls = []

    def counted(*arguments):
        calls.append(1)
        return flow.network(*arguments)

    encode(ProbabilityFlow(counted, flow.schedule), x, condition, solver=solver)
    return len(calls) // len(x)


def test_padding_does_not_dilute_the_error_norm(diagonal, generator):
    """The root mean square is over real dimensions: a thousand masked ones change no step."""
    x = diagonal.sample(1, generator)
    wide = torch.cat([x, torch.zeros(1, 1000, dtype=torch.float64)], 1)
    mask = torch.arange(1008)[None] < 8

    def network(state, time, inputs):
        real = diagonal.flow(LinearVP()).network(state[:, :8], time, {"shift": torch.zeros_like(x)})
        return torch.nn.functional.pad(real, (0, state.shape[1] - 8))

    solver = TorchDiffEq("dopri5", "angle", rtol=1e-4, atol=1e-4)
    flow = ProbabilityFlow(network, LinearVP())
    narrow, padded = (
        log_likelihood(flow, data, condition, solver=solver, divergence=Hutchinson(2))
        for data, condition in ((x, Condition()), (wide, Condition(mask=mask)))
    )
    torch.testing.assert_close(padded.log_p, narrow.log_p, rtol=1e-12, atol=1e-12)
    assert padded.nfe.forward == narrow.nfe.forward


def test_the_network_is_never_asked_beyond_its_times(mixture, generator):
    asked = []

    def network(x, time, inputs):
        asked.append(float(time[0]))
        return flow.network(x, time, inputs)

    x = mixture.sample(1, generator)
    flow = mixture.flow(LinearVP(t_min=1e-3))
    watched = ProbabilityFlow(network, flow.schedule)
    for clock in ("t", "r", "log_snr", "angle"):
        encode(
            watched, x, mixture.condition(torch.zeros_like(x)), solver=TorchDiffEq(clock=clock, rtol=1e-3, atol=1e-3)
        )
    assert min(asked) >= 1e-3 - 1e-12
    assert max(asked) <= 1 + 1e-12


def test_too_many_evaluations_are_an_error_with_advice(mixture, generator):
    x = mixture.sample(3, generator)
    condition, flow = mixture.condition(torch.zeros_like(x)), mixture.flow(LinearVP())
    solver = TorchDiffEq("dopri5", "t", rtol=1e-9, atol=1e-9, max_nfe=40)
    with pytest.raises(SolverError, match=r"max_nfe=40 evaluations.*loosen rtol and atol, raise max_nfe"):
        log_likelihood(flow, x, condition, solver=solver)
    result = log_likelihood(flow, x, condition, solver=solver, on_failure="record")
    assert bool(result.log_p.isnan().all())
    assert all(reason is not None and "max_nfe=40" in reason for reason in result.failures)


@pytest.mark.parametrize("solver", [Multistep(9), TorchDiffEq("dopri5", "angle", rtol=1e-3, atol=1e-3)])
def test_one_bad_sample_leaves_the_others_alone(mixture, generator, solver):
    x = mixture.sample(4, generator)
    condition, flow = mixture.condition(torch.zeros_like(x)), mixture.flow(LinearVP())
    broken = x.clone()
    broken[2, 3] = math.nan
    well = log_likelihood(flow, x, condition, solver=solver)
    result = log_likelihood(flow, broken, condition, solver=solver, on_failure="record")
    others = [0, 1, 3]
    assert torch.equal(result.log_p[others], well.log_p[others])
    assert torch.equal(result.standard_error[others].nan_to_num(), well.standard_error[others].nan_to_num())
    assert math.isnan(float(result.log_p[2]))
    assert [reason is None for reason in result.failures] == [True, True, False, True]
    with pytest.raises(SolverError, match=r"1 of 4 samples have no likelihood; 2: .*NaN or infinity"):
        log_likelihood(flow, broken, condition, solver=solver)


def test_a_derivative_that_is_not_finite_is_a_failure(generator):
    """The square root of zero has a value but no derivative."""
    flow = ProbabilityFlow(lambda x, time, inputs: (x - x.detach()).abs().sqrt() + x, LinearVP())
    x = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    with pytest.raises(SolverError, match="or its derivative returned NaN"):
        log_likelihood(flow, x, solver=Multistep(9))


def test_the_estimate_of_the_grid_error_is_of_its_size(mixture, gaussian, diagonal, generator):
    """Root mean squares of estimate and error over samples: on the safe side, by a factor of ten at the most."""
    for model in (mixture, gaussian, diagonal):
        x = model.sample(24, generator)
        shift = torch.zeros_like(x)
        for schedule, sizes in ((LinearVP(), (17, 25, 33, 49)), (VE(0.05, 50.0), (13, 17, 25, 33))):
            for nodes in sizes:
                result = log_likelihood(
                    model.flow(schedule, shift=shift),
                    x,
                    model.condition(shift),
                    solver=Multistep(nodes),
                    divergence=Exact(),
                )
                error = (result.log_p - model.log_prob(x, r=result.r)).square().mean().sqrt()
                ratio = float(result.discretisation.square().mean().sqrt() / error)
                assert 0.4 < ratio < 10, (type(schedule).__name__, nodes, ratio)


def test_the_estimate_of_the_grid_error_is_hardly_ever_half_the_error(mixture, gaussian, diagonal, generator):
    for model in (mixture, gaussian, diagonal):
        x = model.sample(24, generator)
        shift = torch.zeros_like(x)
        flow, condition = model.flow(LinearVP(), shift=shift), model.condition(shift)
        for nodes in (17, 33):
            result = log_likelihood(flow, x, condition, solver=Multistep(nodes), divergence=Exact())
            ratio = (result.log_p - model.log_prob(x, r=result.r)).abs() / result.discretisation
            assert float((ratio > 1).double().mean()) < 0.05 and float(ratio.max()) < 2


def test_the_estimate_of_the_grid_error_has_no_probe_noise(mixture, generator):
    x = mixture.sample(8, generator)
    shift = torch.zeros_like(x)
    flow, condition = mixture.flow(LinearVP(), shift=shift), mixture.condition(shift)
    exact, noisy = (
        log_likelihood(flow, x, condition, solver=Multistep(17), divergence=divergence)
        for divergence in (Exact(), Hutchinson())
    )
    torch.testing.assert_close(noisy.discretisation, exact.discretisation, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "solver",
    [
        TorchDiffEq("rk4", "log_snr", steps=24, estimate_error=True),
        TorchDiffEq("heun2", "angle", steps=40, estimate_error=True),
        TorchDiffEq("dopri5", "angle", rtol=1e-3, atol=1e-3, estimate_error=True),
    ],
)
def test_the_reference_estimates_its_error_when_asked(mixture, generator, solver):
    x = mixture.sample(6, generator)
    shift = torch.zeros_like(x)
    result = log_likelihood(
        mixture.flow(SDXL, shift=shift), x, mixture.condition(shift), solver=solver, divergence=Exact()
    )
    error = (result.log_p - mixture.log_prob(x, r=result.r)).abs()
    assert 0.5 < float(result.discretisation.square().mean().sqrt() / error.square().mean().sqrt()) < 25
    assert float((error / result.discretisation).max()) < 2
    solves = [replace(solver, estimate_error=False), solver.coarser(), solver.coarser().coarser()]
    each = [
        log_likelihood(
            mixture.flow(SDXL, shift=shift),
            x,
            mixture.condition(shift),
            solver=replace(s, estimate_error=False),
            divergence=Exact(),
        )
        for s in solves
    ]
    assert result.nfe == each[0].nfe + each[1].nfe + each[2].nfe


def test_a_reference_claims_no_order_that_it_has_not_reached():
    """Changes as two coarser solves make them, and what may be said of the third."""
    fixed, adaptive = TorchDiffEq("rk4", steps=40), TorchDiffEq("dopri5")
    change, before = torch.tensor([1.0, -1.0, 0.0, 1.0]), torch.tensor([-16.0, 2.0, 32.0, 0.5])
    assert fixed.error(change, before).tolist() == pytest.approx([1.0, 1.0, 2.0, 1.0])
    assert adaptive.error(change, before).tolist() == pytest.approx([1.6, 1.0, 3.2, 1.0])
    assert bool(TorchDiffEq("rk4", steps=3).error(change, before).isnan().all())
    assert (fixed.coarser().steps, adaptive.coarser().rtol) == (20, pytest.approx(1e-4))


def test_the_default_needs_few_evaluations(generator):
    """Sixty-four dimensions in SDXL's range: 1e-3 bits/dim with at most 51 nodes."""
    means = torch.randn(8, 64, dtype=torch.float64, generator=generator)
    model = GaussianMixture(means, random_covariances(8, 64, generator))
    x = model.sample(6, generator)
    shift = torch.zeros_like(x)
    errors = {}
    for nodes in (27, 51):
        result = log_likelihood(
            model.flow(SDXL, shift=shift), x, model.condition(shift), solver=Multistep(nodes), divergence=Exact()
        )
        errors[nodes] = float((result.bpd + model.log_prob(x, r=result.r) / (64 * math.log(2))).abs().mean())
        assert (result.nfe.forward, result.nfe.vjp) == (nodes, 64 * nodes)
    assert errors[27] < 5e-3
    assert errors[51] < 1e-3


def test_the_grid_is_uniform_with_a_ramp_and_meets_its_stops():
    solver = Multistep(21)
    nodes, index = solver.grid([-3.0, 1.234, 2.0])
    assert len(nodes) == 21
    assert nodes[index].tolist() == [-3.0, 1.234, 2.0]
    step = nodes[4] - nodes[3]
    assert (nodes[1:4] - nodes[:3]).tolist() == pytest.approx([step / 4, step / 4, step / 2])
    backward, index = solver.grid([2.0, 1.234, -3.0])
    assert bool((backward[1:] < backward[:-1]).all())
    assert backward[index].tolist() == [2.0, 1.234, -3.0]


@pytest.mark.parametrize("gap", [1e-9, 1e-4, 1e-2])
def test_stops_close_to_each_other_do_no_harm(gaussian, generator, gap):
    """In float32 too: close nodes must not blow up the weights of the steps."""
    single = GaussianMixture(gaussian.means.float(), torch.diag_embed(gaussian.variances).float())
    x = single.sample(4, generator)
    flow, condition = single.flow(SDXL), single.condition(torch.zeros_like(x))
    latent = encode(flow, x, condition, solver=Multistep(65))
    times = [1 - gap, 0.5 + gap, 0.5, 0.3, gap, 0.0]
    path = trajectory(flow, latent, condition, times=times, solver=Multistep(65))
    data = path.states[-1] / float(SDXL.alpha(0.0))
    assert float((data - x).abs().max()) < 2e-3


@pytest.mark.parametrize("gap", [1e-9, 1e-4, 1e-2])
def test_stops_close_to_each_other_do_not_raise_the_noise(mixture, gap):
    x = mixture.sample(1, torch.Generator().manual_seed(0)).expand(100, 8)
    flow, condition = mixture.flow(SDXL), mixture.condition(torch.zeros_like(x))
    path = trajectory(flow, x, condition, times=[1 - gap, 0.5 + gap, 0.5, gap, 0.0], densities=True)
    plain = trajectory(flow, x, condition, times=[0.0], densities=True)
    assert float(path.marginals[-1].log_p.std()) < 1.4 * float(plain.marginals[-1].log_p.std())
    exact = trajectory(flow, x[:1], condition.select(slice(1)), times=[0.0], densities=True, divergence=Exact())
    error = path.marginals[-1].log_p - exact.marginals[-1].log_p
    assert float(error.mean().abs()) < 3 * float(error.std()) / 10


@pytest.mark.parametrize("method", ["explicit_adams", "implicit_adams"])
def test_equal_steps_cannot_stop_between(gaussian, generator, method):
    latent = torch.randn(1, 8, dtype=torch.float64, generator=generator)
    with pytest.raises(ValueError, match="needs equal steps"):
        trajectory(
            gaussian.flow(SDXL),
            latent,
            gaussian.condition(torch.zeros_like(latent)),
            times=[0.7, 0.2],
            solver=TorchDiffEq(method, steps=10),
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Multistep(5), "nodes >= 7"),
        (lambda: Multistep(33, 6), "order <= 5"),
        (lambda: TorchDiffEq("rk5"), "unknown method 'rk5': torchdiffeq has euler"),
        (lambda: TorchDiffEq("rk4", steps=0), "at least one step"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
