"""What comes in at the mouth: conditions and names that do not fit, and what a network is told."""

import re
from pathlib import Path

import pytest
import torch

from dmlik_pl.flow import (
    VE,
    Condition,
    Exact,
    LinearVP,
    Multistep,
    ProbabilityFlow,
    RectifiedFlow,
    SolverError,
    elbo,
    log_likelihood,
    pointwise_information,
)

MATHEMATICS = Path(__file__).parents[1] / "docs" / "mathematics.md"
FAST = Multistep(9)


@pytest.fixture(scope="module")
def example():
    """What the example of the document leaves behind."""
    (text,) = re.findall(r"```python\n(.*?)```", MATHEMATICS.read_text(), re.DOTALL)
    torch.manual_seed(0)
    scope = {}
    exec(compile(text, MATHEMATICS.name, "exec"), scope)
    return scope


def closed_form(example):
    return torch.distributions.Normal(example["mean"], example["variance"] ** 0.5).log_prob(example["x"]).sum(1)


def test_networks_told_sigma_or_the_time_from_noise_give_the_closed_form(example):
    for result in example["results"]:
        torch.testing.assert_close(result.log_p, closed_form(example), rtol=0, atol=3e-3)


def test_told_something_else_they_do_not(example):
    """The example would notice: these are the wrong numbers that it guards against."""
    for network, schedule, prediction in (
        (example["denoiser"], VE(0.002, 2000.0), "x0"),
        (example["velocity"], RectifiedFlow(), "velocity"),
    ):
        wrong = log_likelihood(ProbabilityFlow(network, schedule, prediction), example["x"], divergence=Exact())
        assert ((wrong.log_p - closed_form(example)).abs() > 0.1).any()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("schedule", lambda level: level.t),
        ("sigma", lambda level: level.r),
        ("log_snr", lambda level: -2 * level.r.log()),
        ("reversed", lambda level: 1 - level.t),
        (lambda level: 999 * level.t, lambda level: 999 * level.t),
    ],
)
def test_the_network_is_told_what_is_asked_for(name, told):
    asked = []

    def network(x, time, inputs):
        asked.append(time)
        return 0 * x

    flow = ProbabilityFlow(network, LinearVP(), network_time=name)
    level = flow.schedule.at(torch.tensor([0.2, 0.7]))
    flow.velocity(torch.zeros(2, 3, dtype=torch.float64), level, Condition())
    assert asked[0].tolist() == pytest.approx(told(level).tolist(), rel=1e-12)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown network_time 'Sigma': there are schedule, sigma, log_snr, reversed"):
        ProbabilityFlow(torch.nn.Identity(), VE(), network_time="Sigma")
    with pytest.raises(ValueError, match="unknown prediction 'eps': there are epsilon, x0, v, velocity, score"):
        ProbabilityFlow(torch.nn.Identity(), VE(), "eps")


class TestConditions:
    """One condition is that of all samples; any other number that is not theirs is told."""

    @pytest.fixture
    def x(self, mixture, generator):
        return mixture.sample(4, generator)

    @pytest.mark.parametrize("guidance", [1.0, 2.0])
    def test_one_for_all_is_each(self, mixture, x, guidance):
        flow, shift = mixture.flow(LinearVP(), guidance=guidance), torch.full((1, 8), 0.3, dtype=torch.float64)
        one = log_likelihood(flow, x, mixture.condition(shift), solver=FAST)
        each = log_likelihood(flow, x, mixture.condition(shift.repeat(4, 1)), solver=FAST)
        assert one.log_p.equal(each.log_p)

    def test_bounds_and_information_take_one_for_all_too(self, mixture, x):
        flow, shift = mixture.flow(LinearVP()), torch.full((1, 8), 0.3, dtype=torch.float64)
        one, each = mixture.condition(shift), mixture.condition(shift.repeat(4, 1))
        assert elbo(flow, x, one, draws=3).draws.equal(elbo(flow, x, each, draws=3).draws)
        found, wanted = (pointwise_information(flow, x, c, draws=3)[0].standard.draws for c in (one, each))
        assert found.equal(wanted)

    @pytest.mark.parametrize("count", [0, 3, 5])
    def test_other_numbers_are_told(self, mixture, x, count):
        condition = mixture.condition(torch.zeros(count, 8, dtype=torch.float64))
        message = rf"the inputs of the condition are of {count} samples \(\[{count}, 8\]\), and x is of 4"
        for ask in (log_likelihood, elbo, pointwise_information):
            with pytest.raises(ValueError, match=message):
                ask(mixture.flow(LinearVP()), x, condition)

    def test_means_and_masks_that_do_not_fit(self, mixture, x):
        flow = mixture.flow(LinearVP())
        with pytest.raises(ValueError, match=r"the mean of the condition is \[4, 7\], and x is \[4, 8\]"):
            log_likelihood(flow, x, Condition(mean=torch.zeros(4, 7)))
        with pytest.raises(ValueError, match=r"the mask of the condition is \[3, 8\], and x is \[4, 8\]"):
            log_likelihood(flow, x, Condition(mask=torch.ones(3, 8, dtype=torch.bool)))
        with pytest.raises(ValueError, match=r"mask of a condition must be boolean, got torch\.float32"):
            log_likelihood(flow, x, Condition(mask=torch.ones(4, 8)))


class TestSamples:
    @pytest.mark.parametrize(
        ("x", "ids", "message"),
        [
            (torch.zeros(8), None, r"x must be a batch \[B, ...\] of one sample or more, got \[8\]"),
            (torch.zeros(0, 8), None, r"x must be a batch .* got \[0, 8\]"),
            (torch.zeros(2, 8, dtype=torch.uint8), None, "the state must be float32 or float64, got torch.uint8"),
            (torch.zeros(2, 8), ["a"], "1 sample ids for a batch of 2"),
            (torch.zeros(2, 8), "ab", "sample_ids is the text 'ab', and a list with a name for each sample is wanted"),
        ],
    )
    def test_what_is_no_batch_with_names_is_told(self, mixture, x, ids, message):
        condition = mixture.condition(torch.zeros(1, 8, dtype=torch.float64))
        with pytest.raises(ValueError, match=message):
            log_likelihood(mixture.flow(LinearVP()), x, condition, sample_ids=ids)

    def test_a_sample_that_is_not_finite_is_that_samples_failure(self, mixture, generator):
        x = mixture.sample(3, generator)
        condition, flow = mixture.condition(torch.zeros_like(x)), mixture.flow(LinearVP())
        whole = log_likelihood(flow, x, condition, solver=FAST, sample_ids=["a", "b", "c"])
        x[1, 2] = torch.nan
        result = log_likelihood(flow, x, condition, solver=FAST, sample_ids=["a", "b", "c"], on_failure="record")
        assert result.failures == [None, "the sample itself holds NaN or infinity", None]
        assert result.log_p[[0, 2]].equal(whole.log_p[[0, 2]]) and bool(result.log_p[1].isnan())
        with pytest.raises(SolverError, match="1 of 3 samples have no likelihood; b: the sample itself holds NaN"):
            log_likelihood(flow, x, condition, solver=FAST, sample_ids=["a", "b", "c"])
