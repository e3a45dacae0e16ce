"""One ODE is every ODE: the paper's equations in their own variables, and one likelihood for every prediction."""

import math

import pytest
import torch

from dmlik_pl.flow import (
    VE,
    Condition,
    Cosine,
    DiscreteVP,
    Exact,
    LinearVP,
    Multistep,
    ProbabilityFlow,
    RectifiedFlow,
    log_likelihood,
)
from dmlik_pl.flow.reference import _chart
from dmlik_pl.models.closed_form import GaussianMixture

PREDICTIONS = ["epsilon", "x0", "v", "velocity", "score"]


def right_hand_side(flow, clock, x, t, condition):
    """dy/dtau of the reference solver's chart at x_t, with y and the rate."""
    level = flow.schedule.at(t)
    chart = _chart(clock, flow.schedule, level)
    u = flow.unit_state(x, level, condition)
    mean = torch.zeros_like(x) if condition.mean is None else condition.mean
    field = flow.velocity(u, level, condition)
    rate = chart.d_scale * u + chart.scale * chart.d_angle * field + chart.d_mean * mean
    return chart.scale * u + chart.mean * mean, rate


def score(log_density, x):
    """Gradient of a log-density by autograd: nothing of the flow's own formulas."""
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(log_density(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
def test_variance_preserving_flow_is_equation_3(mixture, generator, t):
    schedule = LinearVP(0.1, 20.0)
    x = torch.randn(5, 8, dtype=torch.float64, generator=generator)
    shift = torch.zeros_like(x)
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    own_score = score(lambda at: mixture.log_prob(at, scale=alpha, r=sigma), x)
    beta = 0.1 + 19.9 * t
    _, rate = right_hand_side(mixture.flow(schedule), "t", x, t, mixture.condition(shift))
    torch.testing.assert_close(rate, -0.5 * beta * (x + own_score), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
def test_mean_reverting_flow_is_equation_6(mixture, generator, t):
    schedule = LinearVP(0.05, 20.0)
    x, shift, mu = torch.randn(3, 5, 8, dtype=torch.float64, generator=generator)
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    own_score = score(lambda at: mixture.log_prob(at - (1 - alpha) * mu, shift, scale=alpha, r=sigma), x)
    beta = 0.05 + 19.95 * t
    state, rate = right_hand_side(mixture.flow(schedule), "t", x, t, mixture.condition(shift, mean=mu))
    torch.testing.assert_close(state, x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(rate, 0.5 * beta * (mu - x - own_score), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("step", [3.0, 400.25, 998.0])
def test_flow_in_sigma_is_equation_9(generator, step):
    asked = []

    def network(x, time, inputs):
        asked.append((x, time))
        return torch.tanh(x * inputs["scale"]) + time[:, None] / 1000

    schedule = DiscreteVP.scaled_linear()
    flow = ProbabilityFlow(network, schedule)
    condition = Condition({"scale": torch.rand(5, 1, dtype=torch.float64, generator=generator)})
    x = torch.randn(5, 8, dtype=torch.float64, generator=generator)
    sigma = float(schedule.at(step / 999).r)
    z = x * math.sqrt(sigma**2 + 1)
    state, rate = right_hand_side(flow, "r", x, step / 999, condition)
    torch.testing.assert_close(state, z, rtol=1e-12, atol=1e-12)
    scaled, time = asked[-1]
    torch.testing.assert_close(scaled, z / math.sqrt(sigma**2 + 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(time, torch.full((5,), step, dtype=torch.float64), rtol=1e-12, atol=1e-9)
    expected = network(z / math.sqrt(sigma**2 + 1), torch.full((5,), step, dtype=torch.float64), condition.inputs)
    torch.testing.assert_close(rate, expected, rtol=1e-9, atol=1e-9)


def test_rectified_flow_in_time_is_its_velocity(mixture, generator):
    x = torch.randn(5, 8, dtype=torch.float64, generator=generator)
    flow, condition = mixture.flow(RectifiedFlow(), "velocity"), mixture.condition(torch.zeros_like(x))
    _, rate = right_hand_side(flow, "t", x, 0.4, condition)
    time = torch.full((5,), 0.4, dtype=torch.float64)
    torch.testing.assert_close(rate, flow.network(x, time, condition.inputs), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "schedule", [LinearVP(), DiscreteVP.scaled_linear(), VE(), Cosine(t_max=0.99)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("reverting", [False, True])
def test_every_prediction_gives_the_same_likelihood(mixture, generator, schedule, reverting):
    shift, mean = torch.randn(2, 3, 8, dtype=torch.float64, generator=generator)
    x = mixture.sample(3, generator) + shift
    condition = mixture.condition(shift, mean=mean if reverting else None)
    values = [
        log_likelihood(mixture.flow(schedule, prediction), x, condition, solver=Multistep(17), divergence=Exact()).log_p
        for prediction in PREDICTIONS
    ]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=1e-10, atol=1e-10)


def test_schedules_of_one_range_give_one_likelihood(gaussian, generator):
    """Only r matters: VP, VE and cosine between the same noise levels are one flow."""
    x = gaussian.sample(3, generator)
    condition = gaussian.condition(torch.zeros_like(x))
    vp = LinearVP()
    low, high = float(vp.at(vp.t_min).r), float(vp.at(vp.t_max).r)
    cosine = Cosine()
    cosine.t_min, cosine.t_max = (float(cosine.time(-2 * math.log(r))) for r in (low, high))
    values = [
        log_likelihood(gaussian.flow(schedule), x, condition, solver=Multistep(17), divergence=Exact()).log_p
        for schedule in (vp, VE(low, high), cosine)
    ]
    torch.testing.assert_close(values[1], values[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(values[2], values[0], rtol=1e-9, atol=1e-9)


def test_flow_of_standard_data_stands_still(generator):
    """For data of unit variance F vanishes: nothing to integrate, nothing to estimate."""
    standard = GaussianMixture(torch.zeros(1, 8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)[None])
    u = torch.randn(4, 8, dtype=torch.float64, generator=generator)
    for prediction in PREDICTIONS:
        flow = standard.flow(LinearVP(), prediction)
        for t in (1e-3, 0.5, 0.99):
            field = flow.velocity(u, flow.schedule.at(t), standard.condition(torch.zeros_like(u)))
            assert float(field.abs().max()) < 1e-10


def test_state_and_denoised_parts_recombine(mixture, generator):
    x, shift, mean = torch.randn(3, 4, 8, dtype=torch.float64, generator=generator)
    flow, condition = mixture.flow(LinearVP()), mixture.condition(shift, mean=mean)
    level = flow.schedule.at(torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64))
    u = flow.unit_state(x, level, condition)
    torch.testing.assert_close(flow.state(u, level, condition), x, rtol=1e-12, atol=1e-12)
    data, noise = flow.denoise(u, level, condition)
    at = level.like(x)
    torch.testing.assert_close(at.alpha * data + (1 - at.alpha) * mean + at.sigma * noise, x, rtol=1e-10, atol=1e-10)
