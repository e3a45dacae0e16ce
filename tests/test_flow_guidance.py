"""Classifier-free guidance: its limits, its cost and its names."""

import pytest
import torch

from dmlik_pl.flow import Condition, Exact, LinearVP, Multistep, ProbabilityFlow, TorchDiffEq, log_likelihood


class Counter:
    """A network that counts its calls and remembers the batch sizes."""

    def __init__(self):
        self.batches = []

    def __call__(self, x, time, inputs):
        self.batches.append(len(x))
        return torch.tanh(x + inputs["y"]) * time[:, None]


@pytest.fixture
def case(generator):
    x, y = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    return x, Condition({"y": y}, {"y": torch.zeros_like(y)})


def velocity(weight, x, condition):
    flow = ProbabilityFlow(Counter(), LinearVP(), guidance=weight)
    return flow.velocity(x, flow.schedule.at(0.4), condition)


def test_one_is_conditional_and_zero_unconditional(case):
    x, condition = case
    unconditional = Condition(condition.null)
    torch.testing.assert_close(velocity(0.0, x, condition), velocity(1.0, x, unconditional), rtol=0, atol=0)
    assert float((velocity(1.0, x, condition) - velocity(0.0, x, condition)).abs().max()) > 0.1


@pytest.mark.parametrize("weight", [-0.5, 0.25, 3.0])
def test_the_flow_is_linear_in_the_weight(case, weight):
    x, condition = case
    without, plain = velocity(0.0, x, condition), velocity(1.0, x, condition)
    expected = without + weight * (plain - without)
    torch.testing.assert_close(velocity(weight, x, condition), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weight", [1e-9, 1 - 1e-9])
def test_the_limits_are_continuous(mixture, generator, weight):
    shift = torch.randn(2, 8, dtype=torch.float64, generator=generator)
    x, condition = mixture.sample(2, generator), mixture.condition(shift)
    near, limit = (
        log_likelihood(mixture.flow(LinearVP(), guidance=w), x, condition, divergence=Exact()).log_p
        for w in (weight, round(weight))
    )
    torch.testing.assert_close(near, limit, rtol=0, atol=1e-6)


def test_both_branches_are_one_call_of_twice_the_batch(case):
    x, condition = case
    for weight, size in ((1.0, 3), (0.0, 3), (2.0, 6)):
        network = Counter()
        flow = ProbabilityFlow(network, LinearVP(), guidance=weight)
        result = log_likelihood(flow, x, condition, solver=Multistep(9))
        assert network.batches == [size] * 9
        assert (result.nfe.forward, result.nfe.vjp) == (9 * size // 3, 9 * size // 3)


def test_each_result_names_its_density(case):
    _, condition = case
    names = {w: ProbabilityFlow(Counter(), LinearVP(), guidance=w).density(condition) for w in (0.0, 1.0, 7.5)}
    assert names == {0.0: "p(x)", 1.0: "p(x|y)", 7.5: "guided flow at w=7.5"}
    assert ProbabilityFlow(Counter(), LinearVP()).density(Condition()) == "p(x)"
    reverting = Condition({"y": torch.zeros(1)}, {"y": torch.zeros(1)}, mean=torch.ones(1))
    assert ProbabilityFlow(Counter(), LinearVP(), guidance=0.0).density(reverting) == "p(x|y)"


@pytest.mark.parametrize("solver", [Multistep(9), TorchDiffEq("euler", steps=3)])
def test_a_missing_unconditional_branch_is_named(case, solver):
    x, condition = case
    flow = ProbabilityFlow(Counter(), LinearVP(), guidance=2.0)
    with pytest.raises(ValueError, match=r"guidance w=2 needs the unconditional branch.*Condition\(null="):
        log_likelihood(flow, x, Condition(condition.inputs), solver=solver)


def test_a_flow_without_any_condition_has_one_density(case):
    x, _ = case

    def flow(weight):
        return ProbabilityFlow(lambda x, time, inputs: 0.3 * x, LinearVP(), guidance=weight)

    plain, without = (log_likelihood(flow(weight), x, Condition(), solver=Multistep(9)) for weight in (1.0, 0.0))
    assert torch.equal(plain.log_p, without.log_p) and (plain.density, without.density) == ("p(x)", "p(x)")
    for condition, weight in ((Condition(mean=torch.ones_like(x)), 0.0), (Condition(), 2.0)):
        with pytest.raises(ValueError, match=f"guidance w={weight:g} needs the unconditional branch"):
            log_likelihood(flow(weight), x, condition, solver=Multistep(9))
