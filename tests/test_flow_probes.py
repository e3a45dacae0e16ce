"""Probes belong to samples: the same bits, and the same results, whatever the batch."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from dmlik_pl.flow import (
    Condition,
    DiscreteVP,
    Hutchinson,
    Multistep,
    ProbabilityFlow,
    Purpose,
    TorchDiffEq,
    draw,
    log_likelihood,
    noise,
)

KNOWN_SIGNS = "++----+++-------"
KNOWN_NORMALS = [-1.75675794005849, 0.75608091329384, -0.04428333333952]
NAMES = [f"test-{i:05d}" for i in range(16)]
LIKE = torch.zeros(16, 3, 5, 5)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
@pytest.mark.parametrize("size", [1, 7, 16])
def test_probes_are_the_same_to_the_bit_in_any_batch(distribution, size):
    whole = draw(distribution, LIKE, NAMES, seed=5, probes=3, node=11)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(size)).tolist()
    for start in range(0, 16, size):
        chosen = order[start : start + size]
        part = draw(distribution, LIKE[chosen], [NAMES[i] for i in chosen], seed=5, probes=3, node=11)
        assert torch.equal(part, whole[:, chosen])


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_every_key_counts(distribution):
    def probe(**change):
        settings = {"seed": 0, "probes": 2, "node": 0, "purpose": Purpose.TRACE, "sample_ids": ["a"]} | change
        return draw(distribution, LIKE[:1], **settings)

    base = probe()
    different = [
        probe(seed=1),
        probe(sample_ids=["b"]),
        probe(node=1),
        probe(node=2**40),
        probe(purpose=Purpose.LATENT),
        base.flip(0),
    ]
    for other in different:
        assert abs(float((base * other).mean())) < 0.5
    assert torch.equal(probe(), base)
    assert torch.equal(probe(probes=5)[:2], base)
    assert torch.equal(
        draw(distribution, LIKE[:1], [7], seed=0, probes=1), draw(distribution, LIKE[:1], ["7"], seed=0, probes=1)
    )


def test_known_values_do_not_change_between_versions():
    """Records made by one version can be resumed by the next."""
    probe = draw("rademacher", torch.zeros(1, 16), ["photo/dog/056_0001.jpg"], seed=3, probes=1, node=4)
    assert "".join("+" if value > 0 else "-" for value in probe.flatten().tolist()) == KNOWN_SIGNS
    normal = noise(torch.zeros(1, 3, dtype=torch.float64), ["test-00012"], seed=0, purpose=Purpose.LATENT)
    assert normal.flatten().tolist() == pytest.approx(KNOWN_NORMALS, abs=1e-12)


def test_their_distribution():
    signs = draw("rademacher", torch.zeros(200, 1000), range(200), seed=0, probes=1)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 3 / math.sqrt(200_000)
    covariance = signs[0].T @ signs[0] / 200  # of 1000 dimensions over 200 samples
    off_diagonal = covariance[~torch.eye(1000, dtype=torch.bool)]
    assert float(off_diagonal.var()) == pytest.approx(1 / 200, rel=0.02)
    normal = draw("gaussian", torch.zeros(200, 1000), range(200), seed=0, probes=1)
    assert abs(float(normal.mean())) < 3 / math.sqrt(200_000)
    assert float(normal.var()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_padding_changes_no_number(distribution):
    mask = torch.arange(9)[None, None] < torch.tensor([4, 9])[:, None, None]
    padded = draw(distribution, torch.zeros(2, 6, 9), ["a", "b"], seed=2, probes=2, mask=mask)
    short = draw(distribution, torch.zeros(1, 6, 4), ["a"], seed=2, probes=2)
    assert torch.equal(padded[:, :1, :, :4], short)
    assert float(padded[:, 0, :, 4:].abs().max()) == 0
    assert torch.equal(padded[:, 1:], draw(distribution, torch.zeros(1, 6, 9), ["b"], seed=2, probes=2))


class SmallNet(nn.Module):
    """Convolutions, normalisation and attention in float32, with random weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.qkv = nn.Linear(8, 24)
        self.time = nn.Linear(1, 8)
        self.last = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x, time, inputs):
        assert x.dtype == torch.float32
        hidden = self.first(x) + self.time(torch.sin(time[:, None] / 100))[..., None, None] + inputs[:, :, None, None]
        query, key, value = self.qkv(self.norm(hidden).flatten(2).transpose(1, 2)).chunk(3, -1)
        mixed = scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(hidden.shape)
        return self.last(torch.nn.functional.silu(hidden + mixed))


@pytest.mark.parametrize(
    ("solver", "divergence"),
    [
        (Multistep(11), Hutchinson(1)),
        (Multistep(9), Hutchinson(4, colours=4)),
        (Multistep(9), Hutchinson(2, method="jvp")),
        (TorchDiffEq("dopri5", "angle", rtol=1e-3, atol=1e-3), Hutchinson(2)),
    ],
    ids=["multistep", "colours", "jvp", "dopri5"],
)
def test_a_float32_network_gives_one_result_in_any_batch(generator, solver, divergence):
    flow = ProbabilityFlow(SmallNet().requires_grad_(False), DiscreteVP.scaled_linear())
    x, inputs = torch.randn(16, 2, 6, 6, generator=generator), torch.randn(16, 8, generator=generator)

    def solve(chosen):
        return log_likelihood(
            flow,
            x[chosen],
            Condition(inputs[chosen]),
            solver=solver,
            divergence=divergence,
            sample_ids=[NAMES[i] for i in chosen],
            seed=4,
        )

    whole = solve(list(range(16)))
    assert whole.latent.dtype == torch.float32
    order = torch.randperm(16, generator=generator).tolist()
    for size in (1, 7):
        chosen = order[:size]
        part = solve(chosen)
        torch.testing.assert_close(part.bpd, whole.bpd[chosen], rtol=0, atol=1e-6)
        torch.testing.assert_close(part.bpd_standard_error, whole.bpd_standard_error[chosen], rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", [Multistep(17), TorchDiffEq("rk4", "log_snr", steps=5)])
def test_a_closed_form_gives_one_result_in_any_batch(mixture, generator, solver):
    shift = torch.randn(16, 8, dtype=torch.float64, generator=generator)
    x = mixture.sample(16, generator) + shift
    flow = mixture.flow(DiscreteVP.scaled_linear())

    def solve(chosen):
        ids = [NAMES[i] for i in chosen]
        return log_likelihood(flow, x[chosen], mixture.condition(shift[chosen]), solver=solver, sample_ids=ids)

    whole = solve(list(range(16)))
    order = torch.randperm(16, generator=generator).tolist()
    for size in (1, 7):
        torch.testing.assert_close(solve(order[:size]).log_p, whole.log_p[order[:size]], rtol=1e-12, atol=1e-12)


def test_competing_conditions_share_their_probes(mixture, generator):
    x = mixture.sample(1, generator).expand(3, 8)
    shift = torch.tensor([0.0, 1e-7, 2.0], dtype=torch.float64)[:, None].expand(3, 8)
    result = log_likelihood(
        mixture.flow(DiscreteVP.scaled_linear()), x, mixture.condition(shift), sample_ids=["same"] * 3
    )
    traces = result.integral.values
    torch.testing.assert_close(traces[..., 0], traces[..., 1], rtol=1e-4, atol=1e-4)
    assert float((traces[..., 0] - traces[..., 2]).abs().max()) > 0.1


def test_a_seed_changes_the_estimate_and_not_the_trajectory(mixture, generator):
    x = mixture.sample(2, generator)
    condition, flow = mixture.condition(torch.zeros_like(x)), mixture.flow(DiscreteVP.scaled_linear())
    first, second = (log_likelihood(flow, x, condition, seed=seed) for seed in (0, 1))
    assert torch.equal(first.latent, second.latent)
    assert float((first.log_p - second.log_p).abs().min()) > 1e-6


def test_ids_must_match_the_batch(mixture, generator):
    x = mixture.sample(3, generator)
    with pytest.raises(ValueError, match="2 sample ids for a batch of 3"):
        log_likelihood(
            mixture.flow(DiscreteVP.scaled_linear()), x, mixture.condition(torch.zeros_like(x)), sample_ids=["a", "b"]
        )
