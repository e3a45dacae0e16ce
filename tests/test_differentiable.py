"""Likelihoods have gradients: those of closed forms, with respect to x, to conditions and to parameters."""

import math

import pytest
import torch
from torch import nn

from dmlik_pl.flow import (
    Condition,
    Exact,
    Hutchinson,
    LinearVP,
    Multistep,
    ProbabilityFlow,
    RectifiedFlow,
    TorchDiffEq,
    log_likelihood,
)

SOLVER = Multistep(97)


class Gaussian(nn.Module):
    """The ideal velocity for data N(mean + c, deviation^2) of each dimension, with both as parameters."""

    def __init__(self, mean, log_deviation):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))
        self.log_deviation = nn.Parameter(torch.tensor(log_deviation, dtype=torch.float64))

    def forward(self, x, time, inputs):
        t = time[:, None]
        centre = self.mean + (0 if inputs is None else inputs["shift"])
        variance = (1 - t) ** 2 * (2 * self.log_deviation).exp() + t**2
        away = x - (1 - t) * centre
        noise = t * away / variance
        data = centre + (1 - t) * (2 * self.log_deviation).exp() * away / variance
        return noise - data

    def log_prob(self, x, shift=0.0):
        return torch.distributions.Normal(self.mean + shift, self.log_deviation.exp()).log_prob(x).sum(1)


@pytest.fixture
def network():
    return Gaussian([0.5, -1.0, 0.2], [0.3, -0.4, 0.1])


@pytest.fixture
def x(generator):
    return torch.randn(4, 3, generator=generator, dtype=torch.float64)


def flow(network):
    return ProbabilityFlow(network, RectifiedFlow(t_min=1e-3), "velocity")


def test_the_gradient_in_x_is_a_gaussians_score(network, x):
    leaf = x.clone().requires_grad_()
    found = log_likelihood(flow(network), leaf, solver=SOLVER, divergence=Exact(), differentiable=True)
    assert found.log_p.detach() == pytest.approx(network.log_prob(x).detach(), abs=2e-3)
    (score,) = torch.autograd.grad(found.log_p.sum(), leaf)
    closed = -(x - network.mean) / (2 * network.log_deviation).exp()
    torch.testing.assert_close(score, closed.detach(), rtol=0, atol=5e-3)


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(probes=2)])
def test_gradients_in_parameters_and_conditions_are_those_of_the_closed_form(network, x, divergence):
    # The Jacobian is diagonal: Rademacher probes take its trace exactly.
    shift = torch.full((4, 3), 0.3, dtype=torch.float64, requires_grad=True)
    leaves = [network.mean, network.log_deviation, shift]
    found = log_likelihood(
        flow(network), x, Condition({"shift": shift}), solver=SOLVER, divergence=divergence, differentiable=True
    )
    wanted = torch.autograd.grad(network.log_prob(x, shift).sum(), leaves)
    for got, want in zip(torch.autograd.grad(found.log_p.sum(), leaves), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=2e-3, atol=1e-2)


def test_a_gradient_step_on_the_likelihood_finds_the_mean(x):
    network = Gaussian([0.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    optimizer = torch.optim.LBFGS(network.parameters(), lr=0.5, max_iter=8)

    def loss():
        optimizer.zero_grad()
        value = log_likelihood(flow(network), x, solver=Multistep(17), divergence=Hutchinson(), differentiable=True)
        mean = value.bpd.mean()
        mean.backward()
        return mean

    before = float(loss().detach())
    optimizer.step(loss)
    assert float(loss().detach()) < before - 0.01
    torch.testing.assert_close(network.mean.detach(), x.mean(0), rtol=0, atol=0.02)


def test_it_is_the_gradient_of_the_very_number_that_is_given(x):
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    model = ProbabilityFlow(lambda x, t, _: inner(torch.cat([x, t[:, None]], 1)), LinearVP(t_min=1e-2), "v")
    options = {"solver": Multistep(9), "divergence": Hutchinson(probes=4, colours=1), "seed": 3}
    plain = log_likelihood(model, x, **options)
    leaf = x.clone().requires_grad_()
    found = log_likelihood(model, leaf, **options, differentiable=True)
    torch.testing.assert_close(found.log_p.detach(), plain.log_p)
    torch.testing.assert_close(found.standard_error, plain.standard_error)
    (gradient,) = torch.autograd.grad(found.log_p.sum(), leaf)
    step = torch.zeros_like(x)
    step[2, 1] = 1e-5
    ends = [log_likelihood(model, x + sign * step, **options).log_p[2] for sign in (1, -1)]
    assert float(gradient[2, 1]) == pytest.approx(float((ends[0] - ends[1]) / 2e-5), rel=1e-6)


def test_what_has_no_gradient_is_told(network, x):
    with pytest.raises(ValueError, match="is taken by Multistep, got TorchDiffEq"):
        log_likelihood(flow(network), x, solver=TorchDiffEq(), differentiable=True)
    with pytest.raises(ValueError, match=r"by Exact\(\) or by Hutchinson with vjp, got fd"):
        log_likelihood(flow(network), x, divergence=Hutchinson(method="fd"), differentiable=True)


def test_activations_of_one_node_only_are_kept(x):
    kept = []

    def network(x, t, _):
        wide = x.repeat(1, 400)
        return (wide.tanh() * wide.cos()).reshape(len(x), 400, 3).mean(1)

    model = ProbabilityFlow(network, RectifiedFlow(t_min=1e-2), "velocity")

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        leaf = x.clone().requires_grad_()
        log_likelihood(model, leaf, solver=Multistep(9), differentiable=True)
    assert math.prod((4, 1200)) not in kept
