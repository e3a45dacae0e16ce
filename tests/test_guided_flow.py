"""Guided flows, of which one is known in closed form: two Gaussians, and the flow between them at any weight."""

import math

import pytest
import torch

from dmlik_pl.flow import (
    NFE,
    Condition,
    DiscreteVP,
    Exact,
    Multistep,
    ProbabilityFlow,
    Purpose,
    decode,
    draw,
    log_likelihood,
    trajectory,
)
from dmlik_pl.flow.solvers import _stable

SDXL = DiscreteVP.scaled_linear()
DIMS, NARROW = 64, 4
LOW, HIGH = (float(SDXL.at(t).r) for t in (0.0, 1.0))
WEIGHTS = pytest.mark.parametrize("w", [1.0, 3.0, 5.0, 7.0, 10.0])


class TwoGaussians:
    r"""Unconditional data N(0, I); the condition narrows four directions to a standard deviation of 0.05.

    The guided flow :math:`d \ln z / d \ln r = w r^2 / (r^2 + s_c^2) + (1 - w) r^2 / (r^2 + s_u^2)` has the solution
    :math:`z(r) \propto (r^2 + s_c^2)^{w/2} (r^2 + s_u^2)^{(1-w)/2}`, direction by direction.
    """

    deviations = torch.cat([torch.full((NARROW,), 0.05), torch.ones(DIMS - NARROW)]).double()

    def flow(self, w):
        return ProbabilityFlow(self.network, SDXL, guidance=w)

    def condition(self, count):
        wide = torch.ones(count, DIMS, dtype=torch.float64)
        return Condition(self.deviations.expand(count, DIMS), wide)

    @staticmethod
    def network(x, time, deviations):
        """eps = r z / (r^2 + s^2)."""
        level = SDXL.at(time.double() / 999)
        r, alpha = level.r.to(x)[:, None], level.alpha.to(x)[:, None]
        return r * (x / alpha) / (r**2 + deviations.to(x) ** 2)

    def growth(self, w):
        """z at the noise end over z at the data end, [DIMS]."""

        def size(r):
            return (r**2 + self.deviations**2) ** (w / 2) * (r**2 + 1) ** ((1 - w) / 2)

        return size(HIGH) / size(LOW)

    def log_p(self, z, w):
        """Log-density of z read as data: that of where it ends, and how the flow has grown on the way."""
        end = z.double() * self.growth(w)
        prior = torch.distributions.Normal(0.0, math.sqrt(1 + HIGH**2)).log_prob(end).sum(1)
        return prior + self.growth(w).log().sum()


MODEL = TwoGaussians()


def latent_and_sample(w, count=3):
    """x_T, and the data that its exact flow makes of it."""
    z = math.sqrt(1 + HIGH**2) * torch.randn(count, DIMS, generator=torch.Generator().manual_seed(1)).double()
    return z * float(SDXL.at(1.0).alpha), z / MODEL.growth(w)


def bits(nats):
    return nats / DIMS / math.log(2)


@WEIGHTS
@pytest.mark.parametrize("nodes", [25, 33, 49])
def test_samples_of_a_guided_flow_are_where_they_belong(w, nodes):
    """A method that is unstable throws them by half a standard deviation of the data at w = 7."""
    latent, exact = latent_and_sample(w)
    found = decode(MODEL.flow(w), latent, MODEL.condition(3), solver=Multistep(nodes))
    assert float((found - exact).abs().max()) < 2e-2
    path = trajectory(
        MODEL.flow(w),
        latent,
        MODEL.condition(3),
        times=[0.0],
        solver=Multistep(nodes),
        densities=True,
        divergence=Exact(),
    )
    marginal = path.marginals[-1]
    closed = MODEL.log_p(exact, w) - DIMS * math.log(float(SDXL.at(0.0).alpha))  # of x_0, not of z
    assert float(bits(marginal.log_p - closed).abs().max()) < 0.03
    assert float(((marginal.log_p - closed).abs() / marginal.discretisation).max()) < 2


@pytest.mark.parametrize("w", [3.0, 5.0])
def test_rounding_moves_a_likelihood_as_far_as_the_closed_form_says(w):
    _, x = latent_and_sample(w)
    result = log_likelihood(
        MODEL.flow(w), x, MODEL.condition(3), solver=Multistep(129), divergence=Exact(), rounding=[2, 0]
    )
    signs = draw("rademacher", x, [0, 1, 2], seed=0, probes=1, purpose=Purpose.ROUNDING)[0]
    size = x.square().mean(1, keepdim=True).sqrt() * 2**-52
    moved = (MODEL.log_p(x + size * signs, w) - MODEL.log_p(x, w)).abs()
    assert math.isnan(float(result.rounding[1]))
    torch.testing.assert_close(result.rounding[[0, 2]], moved[[0, 2]], rtol=0.4, atol=1e-12)
    plain = log_likelihood(MODEL.flow(w), x, MODEL.condition(3), solver=Multistep(129), divergence=Exact())
    assert torch.equal(plain.log_p, result.log_p) and bool(plain.rounding.isnan().all())
    assert plain.nfe == result.nfe


def test_the_inverse_of_a_guided_flow_amplifies_rounding():
    """In float32 samples of the flow at w = 7 have no density of their own, and no number of nodes gives them one."""
    found = {}
    for w in (1.0, 7.0):
        _, x = latent_and_sample(w)
        condition = MODEL.condition(3).map(lambda tensor: tensor.float())
        result = log_likelihood(MODEL.flow(w), x.float(), condition, divergence=Exact(), rounding=range(3))
        found[w] = bits(result.rounding)
        assert float(bits(result.discretisation).max()) < 1e-3
    assert float(found[1.0].max()) < 1e-5
    assert float(found[7.0].min()) > 1


@pytest.mark.parametrize(
    ("step", "order", "guidance", "expected"),
    [
        (1.0, 4, 1.0, (1, 4)),  # without guidance as it was
        (1.0, 4, 0.0, (1, 4)),
        (0.2, 4, 3.0, (1, 3)),
        (0.2, 4, 5.0, (1, 2)),
        (0.2, 2, 3.0, (1, 2)),
        (0.2, 4, 10.0, (2, 2)),
        (0.1, 4, 3.0, (1, 4)),
        (0.2, 4, -4.0, (1, 2)),  # eps_u + w (eps_c - eps_u) holds 1 - w of eps_u
        (1.0, 4, 7.0, (5, 2)),
    ],
)
def test_a_step_is_cut_and_its_order_lowered_where_guidance_contracts(step, order, guidance, expected):
    assert _stable(step, order, guidance) == expected


def test_steps_between_nodes_cost_passes_but_no_derivatives():
    latent, _ = latent_and_sample(10.0)
    flow, condition = MODEL.flow(10.0), MODEL.condition(3)
    path = trajectory(flow, latent, condition, times=[0.0], solver=Multistep(33), densities=True)
    assert (path.marginals[-1].nfe.forward, path.marginals[-1].nfe.vjp) == (2 * 62, 2 * 33)  # both branches
    assert trajectory(
        MODEL.flow(7.0), latent, condition, times=[0.6, 0.3, 0.0], solver=Multistep(33), densities=True
    ).marginals[-1].nfe == NFE(66, 66)
    assert torch.equal(trajectory(flow, latent, condition, times=[0.0]).states[-1], path.states[-1])
    path = trajectory(flow, latent, condition, times=[0.5, 0.0], densities=True)
    assert bool((path.marginals[0].discretisation < path.marginals[1].discretisation).all())
