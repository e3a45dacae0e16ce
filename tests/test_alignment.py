"""Monotonic alignment search, paths of durations, and the law of durations."""

import itertools
import math
import time

import pytest
import torch
from grad_tts_goldens import load

from dmlik_pl.models.grad_tts.alignment import (
    duration_log_prob,
    fit_duration_deviation,
    generate_path,
    length_mask,
    log_prior,
    maximum_path,
    stretch_durations,
)


@pytest.mark.parametrize("name", ["a", "b", "c", "ties", "zeros"])
def test_search_finds_the_official_path(name):
    golden = load("mas")
    path = maximum_path(golden[f"in.{name}_value"], golden[f"in.{name}_mask"])
    assert torch.equal(path, golden[f"out.{name}_path"])


def test_search_finds_the_best_of_all_paths(generator):
    """Every composition of 7 frames into 4 tokens."""
    value = torch.randn(1, 4, 7, generator=generator)
    best = max(
        sum(float(value[0, token, t]) for token, t in zip(path, range(7), strict=True))
        for cuts in itertools.combinations(range(1, 7), 3)
        for path in [[sum(t >= cut for cut in cuts) for t in range(7)]]
    )
    path = maximum_path(value, torch.ones_like(value))
    assert float((path * value).sum()) == pytest.approx(best, abs=1e-5)


def test_search_does_not_depend_on_the_batch(generator):
    value = 50 * torch.randn(3, 9, 20, generator=generator)
    tokens, frames = torch.tensor([9, 4, 6]), torch.tensor([20, 11, 6])
    mask = (length_mask(tokens, 9)[:, :, None] & length_mask(frames, 20)[:, None]).float()
    together = maximum_path(value, mask)
    assert torch.equal(together.sum((1, 2)), frames.float())
    for b, (rows, columns) in enumerate(zip(tokens, frames, strict=True)):
        alone = value[b : b + 1, :rows, :columns]
        assert torch.equal(maximum_path(alone, torch.ones_like(alone))[0], together[b, :rows, :columns])


def test_search_is_fast(generator):
    """16 utterances of 200 tokens and 800 frames in under 0.2 s of one core."""
    value = 50 * torch.randn(16, 200, 800, generator=generator) - 100
    mask, spent = torch.ones_like(value), []
    for _ in range(3):
        start = time.process_time()
        maximum_path(value, mask)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.2


def test_search_refuses_what_cannot_be_aligned():
    mask = (length_mask(torch.tensor([3, 5]), 5)[:, :, None] & length_mask(torch.tensor([6, 4]), 6)[:, None]).float()
    with pytest.raises(ValueError, match="alignment impossible: 5 tokens, 4 frames"):
        maximum_path(torch.zeros(2, 5, 6), mask)


def test_paths_of_durations_are_the_official_ones():
    golden = load("path")
    rows, columns = golden["in.lx"], golden["in.ly"]
    mask = (length_mask(rows, 4)[:, :, None] & length_mask(columns, 8)[:, None]).float()
    assert torch.equal(generate_path(golden["in.dur"], mask), golden["out.path"])
    frames = golden["out.path_frac_len"]
    assert int(golden["in.dur_frac"].sum()) == int(frames[0])
    mask = length_mask(frames[:1], int(frames[1]))[:, None].expand(1, 4, -1).float()
    assert torch.equal(generate_path(golden["in.dur_frac"], mask), golden["out.path_frac"])


def test_prior_is_the_density_of_unit_gaussians(generator):
    mu, y = torch.randn(2, 80, 5, generator=generator), torch.randn(2, 80, 7, generator=generator)
    expected = torch.distributions.Normal(mu[:, :, :, None], 1.0).log_prob(y[:, :, None]).sum(1)
    torch.testing.assert_close(log_prior(mu, y), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("predicted", "frames", "expected"),
    [
        ([1.0, 1.0, 2.0], 3, [1, 1, 1]),
        ([1.0, 1.0, 2.0], 7, [2, 2, 3]),
        ([1.0, 1.0, 2.0], 11, [3, 3, 5]),
        ([0.1, 9.9], 12, [1, 11]),
    ],
)
def test_predicted_durations_are_stretched_to_the_frames(predicted, frames, expected):
    assert stretch_durations(torch.tensor(predicted), frames).tolist() == expected


def test_stretched_durations_sum_to_the_frames(generator):
    for frames in range(40, 90):
        stretched = stretch_durations(torch.rand(40, generator=generator).exp(), frames)
        assert int(stretched.sum()) == frames
        assert int(stretched.min()) >= 1
    with pytest.raises(ValueError, match="40 tokens, 39 frames"):
        stretch_durations(torch.ones(40), 39)


@pytest.mark.parametrize("deviation", [0.05, 0.4, 1.2])
@pytest.mark.parametrize("centre", [-3.0, 0.2, 2.5])
def test_probabilities_of_durations_sum_to_one(centre, deviation):
    durations = torch.arange(1, 60_001)
    log_p = duration_log_prob(durations, torch.full((60_000,), centre), deviation)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-9)
    assert not log_p.isnan().any()


def test_probability_of_a_duration_is_that_of_its_interval():
    normal = torch.distributions.Normal(torch.tensor(1.2, dtype=torch.float64), 0.5)
    expected = math.log(float(normal.cdf(torch.tensor(4.5).log()) - normal.cdf(torch.tensor(3.5).log())))
    assert float(duration_log_prob(torch.tensor(4), torch.tensor(1.2), 0.5)) == pytest.approx(expected, rel=1e-6)
    # Far in the tails, where both distribution functions round to the same number.
    far = duration_log_prob(torch.tensor([1, 2, 400]), torch.tensor([8.0, 8.0, -3.0]), 0.3)
    assert far.isfinite().all()
    assert bool((far < -200).all())


def test_the_deviation_of_durations_is_found_again(generator):
    centre = 2 + torch.randn(4000, generator=generator)
    durations = (centre + 0.35 * torch.randn(4000, generator=generator)).exp().round().clamp(min=1)
    assert fit_duration_deviation(durations, centre) == pytest.approx(0.35, rel=0.04)
