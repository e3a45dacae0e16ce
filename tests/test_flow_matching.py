"""Flow matching as it is trained: its ends, its directions, and the shift that moves nodes and no density."""

import math

import numpy as np
import pytest
import torch
from conftest import random_covariances

from dmlik_pl.flow import Exact, GaussianPrior, Multistep, RectifiedFlow, log_likelihood
from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.models.schedules import StepCountingFlow


@pytest.fixture
def bits(generator):
    """Bits per dimension of four samples of a mixture by a flow of velocities, and in closed form."""
    covariances = random_covariances(2, 6, generator)
    means = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    mixture = GaussianMixture(means, covariances)
    x, still = mixture.sample(4, generator), torch.zeros(4, 6, dtype=torch.float64)

    def found(solver=None, **schedule):
        flow = mixture.flow(RectifiedFlow(**schedule), "velocity")
        result = log_likelihood(flow, x, mixture.condition(still), solver=solver, divergence=Exact())
        return result, -mixture.log_prob(x) / (6 * math.log(2))

    return found


def test_pure_noise_is_standard_normal_exactly():
    level, x = RectifiedFlow().at(1.0), torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(2, 6)
    wanted = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    for variance in ("total", "noise"):
        torch.testing.assert_close(GaussianPrior(variance).log_prob(x, level, None), wanted, rtol=0, atol=1e-12)
    assert math.isinf(float(level.r))


def test_data_are_read_at_the_smallest_time_of_training():
    schedule = StepCountingFlow(500, shift=3.0)
    assert (schedule.t_min, schedule.t_max, schedule.shift) == (1 / 500, 1.0, 3.0)
    assert StepCountingFlow(500, t_min=0.01).t_min == 0.01
    assert float(schedule.network_time(torch.tensor(0.5))) == 250


def test_nodes_are_those_of_a_sampler_with_its_shift():
    schedule = RectifiedFlow(t_min=0.01, shift=3.0)
    stops = [math.log(0.01 / 0.99), math.log(1e3)]
    nodes, index = Multistep(23, spacing="sampler").grid(stops, schedule.shift)
    t = 1 / (1 + np.exp(-nodes))
    s = t / (3 - 2 * t)  # of which t = 3 s / (1 + 2 s)
    assert np.diff(s[3:]) == pytest.approx(np.full(19, (s[-1] - s[0]) / 20))
    assert [nodes[i] for i in index] == stops and len(nodes) == 23
    assert (np.diff(nodes) > 0).all()
    with pytest.raises(ValueError, match=r"spacing='time' is unknown: take one of \['log_snr', 'sampler'\]"):
        Multistep(spacing="time")
    assert Multistep(9, spacing="sampler").describe() == "multistep(9 nodes, order 4, sampler spacing)"


def test_the_shift_moves_nodes_and_no_density(bits):
    (plain, closed), (shifted, _) = bits(), bits(shift=3.0)
    assert plain.log_p.equal(shifted.log_p)
    placed = {shift: bits(Multistep(257, spacing="sampler"), shift=shift)[0].bpd for shift in (1.0, 3.0)}
    assert not placed[1.0].equal(placed[3.0])
    for found in placed.values():
        torch.testing.assert_close(found, closed, rtol=0, atol=5e-3)
