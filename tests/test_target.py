"""Likelihoods to an error that is asked for: what is reached, what it costs, and what it depends on."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from benchmarks.problems import Problem, mixture
from dmlik_pl.flow import (
    Condition,
    Exact,
    Hutchinson,
    Multistep,
    Rivals,
    Target,
    TorchDiffEq,
    TraceIntegral,
    log_likelihood,
    trajectory,
)
from dmlik_pl.flow.colouring import hadamard_rows, nested_index
from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.refinement import Refinement, allocate
from dmlik_pl.flow.target import LOOKS
from dmlik_pl.models import load
from dmlik_pl.models import log_likelihood as score
from dmlik_pl.studies import Estimator


@pytest.fixture(scope="module")
def problem() -> Problem:
    return mixture(count=4)


@pytest.fixture(scope="module")
def truth(problem: Problem) -> Tensor:
    return log_likelihood(
        problem.flow,
        problem.x,
        problem.condition,
        solver=Multistep(257),
        divergence=Exact(),
        sample_ids=problem.samples,
    ).log_p


def to(problem: Problem, target: Target, **options: object) -> object:
    return log_likelihood(
        problem.flow, problem.x, problem.condition, sample_ids=problem.samples, target=target, **options
    )


class TestNestedColours:
    @pytest.mark.parametrize("shape", [(4, 8, 8), (1, 8, 8), (80, 44), (64,), (2,), (4, 32, 32), (3, 2, 8, 8)])
    def test_every_power_of_two_has_colours_of_equal_size(self, shape: tuple[int, ...]) -> None:
        index = nested_index(shape)
        assert tuple(index.shape) == shape
        for colours in (2, 4, 8):
            counts = torch.bincount((index % colours).flatten(), minlength=min(colours, math.prod(shape)))
            assert counts.max() - counts.min() <= max(1, 0.1 * math.prod(shape) / colours)

    def test_few_dimensions_have_a_colour_each_in_the_end(self) -> None:
        assert nested_index((4, 8, 8)).unique().numel() == 256

    def test_neighbours_and_channels_of_a_pixel_differ(self) -> None:
        index = nested_index((4, 8, 8)) % 4
        assert (index[:, 1:] != index[:, :-1]).all() and (index[:, :, 1:] != index[:, :, :-1]).all()
        assert all((index[c] != index[d]).all() for c in range(4) for d in range(c))

    def test_the_first_rows_of_a_finer_matrix_are_those_of_a_coarser(self) -> None:
        index = nested_index((1, 8, 8))
        fine = hadamard_rows(range(8), index % 16)
        assert torch.equal(fine, hadamard_rows(range(8), index % 8))
        apart = (index % 8).flatten()[:, None] != (index % 8).flatten()[None]
        products = fine.flatten(1).int().T @ fine.flatten(1).int()
        assert (products[apart] == 0).all() and (products[~apart] == 8).all()


class TestRefinement:
    """On fields that are linear, whose traces are known."""

    dims, nodes, repeats = 16, 9, 400

    @pytest.fixture
    def refinement(self) -> Refinement:
        generator = torch.Generator().manual_seed(1)
        matrix = torch.randn(self.dims, self.dims, generator=generator, dtype=torch.float64)
        self.matrix = matrix + matrix.T
        flow = SimpleNamespace(velocity=lambda u, level, condition: u @ self.matrix.T, evaluations_per_call=1)
        names = [f"repeat-{i}" for i in range(self.repeats)]
        dynamics = Dynamics(flow, Condition(), names, 0, Hutchinson())  # type: ignore[arg-type]
        level = SimpleNamespace(t=0.0, r=0.0)
        path = [(torch.zeros(self.repeats, self.dims, dtype=torch.float64), level)] * self.nodes
        return Refinement(dynamics, path, max_batch=100)  # type: ignore[arg-type]

    def filled(self, refinement: Refinement) -> TraceIntegral:
        weights = torch.ones(self.nodes, dtype=torch.float64)
        grid = torch.linspace(-3, 3, self.nodes).double()
        return refinement.fill(TraceIntegral(torch.zeros(self.nodes, 1, self.repeats).double(), weights, grid))

    def test_more_probes_keep_the_mean_and_lose_what_their_colours_share(self, refinement: Refinement) -> None:
        exact, index = float(self.matrix.diagonal().sum()), nested_index((self.dims,))
        off = self.matrix.clone().fill_diagonal_(0) ** 2
        for colours in (1, 2, 8):
            refinement.to(torch.full((self.nodes, self.repeats), colours))
            draws = self.filled(refinement).values[:, 0].flatten()
            same = (index % colours)[:, None] == (index % colours)[None]
            expected = 2 * float(off[same].sum())
            assert float(draws.var()) == pytest.approx(expected, rel=0.12)
            assert float(draws.mean()) == pytest.approx(exact, abs=4 * math.sqrt(expected / len(draws)))
        refinement.to(torch.full((self.nodes, self.repeats), 16))
        assert self.filled(refinement).values.sub(exact).abs().max() < 1e-9

    def test_adding_in_steps_is_asking_at_once(self, refinement: Refinement) -> None:
        wanted = torch.ones(self.nodes, self.repeats, dtype=torch.long)
        wanted[2:5] = 4
        wanted[3, ::2] = 8
        refinement.to(torch.ones_like(wanted))
        refinement.to(wanted)
        stepwise = self.filled(refinement).values
        again = Refinement(refinement._dynamics, refinement._path, max_batch=37)
        again.to(wanted)
        assert torch.allclose(self.filled(again).values, stepwise, rtol=0, atol=1e-10)
        assert torch.equal(again.colours, wanted)
        assert again.calls[0].tolist() == [9, int(wanted[:, 0].sum()), 0]
        assert refinement.calls[0].tolist() == [9 + 3, int(wanted[:, 0].sum()), 0]


class TestAllocation:
    def test_the_nodes_with_most_of_the_noise_get_the_probes(self) -> None:
        shares, colours = torch.tensor([1.0, 100.0, 1.0]), torch.ones(3, dtype=torch.long)
        wanted = allocate(shares, colours, 20.0, most=64)
        assert wanted.tolist() == [1, 4, 1]

    def test_nothing_is_added_within_the_variance_allowed(self) -> None:
        assert allocate(torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), 3.5, most=64).tolist() == [1, 2]

    def test_a_budget_and_the_last_colour_end_it(self) -> None:
        shares = torch.tensor([100.0, 100.0])
        ones = torch.ones(2, dtype=torch.long)
        assert allocate(shares, ones, 1.0, most=4).tolist() == [4, 4]
        assert allocate(shares, ones, 1.0, most=64, budget=5).sum() == 4  # two nodes asked again, a probe each


class TestTarget:
    @pytest.mark.parametrize("error", [0.05, 0.01])
    def test_the_error_that_was_asked_for_is_reached(self, problem: Problem, truth: Tensor, error: float) -> None:
        found = to(problem, Target(error))
        assert (found.total_error * problem.bits <= error * (1 + 1e-6)).all() and found.short == [None] * 4
        assert float((found.log_p - truth).square().mean().sqrt()) * problem.bits < 2 * error
        assert (found.total_error * problem.bits > 0.2 * error).all()  # no more was spent than had to be

    def test_a_smaller_error_costs_more(self, problem: Problem) -> None:
        spent = [int(to(problem, Target(error)).calls.sum()) for error in (0.05, 0.02, 0.01)]
        assert spent[0] < spent[1] < spent[2]

    def test_errors_over_seeds_are_what_was_asked_for(self, problem: Problem, truth: Tensor) -> None:
        some = replace(problem, x=problem.x[:1].expand(120, -1), condition=problem.condition.select([0] * 120))
        found = log_likelihood(
            some.flow, some.x, some.condition, sample_ids=[f"s{i}" for i in range(120)], target=Target(0.02)
        )
        errors = (found.log_p - truth[0]) * problem.bits
        assert 0.008 < float(errors.square().mean().sqrt()) < 0.02
        assert abs(float(errors.mean())) < 4 * 0.02 / math.sqrt(120)
        assert ((found.log_p - truth[0]).abs() < 1.96 * found.total_error).double().mean() > 0.9

    def test_neighbours_order_and_pieces_change_nothing(self, problem: Problem) -> None:
        whole = to(problem, Target(0.02))
        order = [2, 0, 3, 1]
        mixed = log_likelihood(
            problem.flow,
            problem.x[order],
            problem.condition.select(order),
            sample_ids=[problem.samples[b] for b in order],
            target=Target(0.02),
            max_batch=3,
        )
        assert torch.allclose(mixed.log_p, whole.log_p[order], rtol=0, atol=1e-9)
        assert torch.equal(mixed.calls, whole.calls[order])
        assert mixed.integral.nodes == [whole.integral.nodes[b] for b in order]
        alone = log_likelihood(
            problem.flow,
            problem.x[:1],
            problem.condition.select([0]),
            sample_ids=problem.samples[:1],
            target=Target(0.02),
        )
        assert float(alone.log_p[0]) == pytest.approx(float(whole.log_p[0]), abs=1e-9)

    def test_what_may_be_spent_is_a_limit_that_is_told(self, problem: Problem) -> None:
        found = to(problem, Target(0.001, max_nfe=120))
        assert (found.calls.sum(1) <= 120).all()
        assert all(text is not None and "instead of 0.001" in text and "max_nfe=120" in text for text in found.short)
        guided = log_likelihood(
            replace(problem.flow, guidance=2.0, network=problem.flow.network),
            problem.x,
            replace(problem.condition, null=problem.condition.inputs),
            sample_ids=problem.samples,
            target=Target(0.001, max_nfe=240),
        )
        assert (guided.calls.sum(1) <= 240).all()

    def test_marginals_of_a_trajectory_reach_it_too(self, problem: Problem) -> None:
        path = trajectory(
            problem.flow,
            torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
            problem.condition.select([0, 1]),
            times=[0.5, problem.flow.schedule.t_min],
            densities=True,
            target=Target(0.02),
        )
        assert path.marginals is not None
        precise = trajectory(
            problem.flow,
            torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
            problem.condition.select([0, 1]),
            times=[0.5, problem.flow.schedule.t_min],
            solver=Multistep(257),
            densities=True,
            divergence=Exact(),
        )
        assert precise.marginals is not None
        for found, known in zip(path.marginals, precise.marginals, strict=True):
            assert (found.log_p - known.log_p).abs().max() * problem.bits < 0.06
        assert (path.marginals[-1].total_error * problem.bits <= 0.02).all()

    def test_samples_of_one_name_share_a_grid(self, problem: Problem) -> None:
        both = Condition.cat([problem.condition, problem.rival])
        names = list(problem.samples) * 2
        found = log_likelihood(problem.flow, problem.x.repeat(2, 1), both, sample_ids=names, target=Target(0.02))
        assert found.integral.nodes[:4] == found.integral.nodes[4:]
        _, error = found.select(range(4)).minus(found.select(range(4, 8)))
        assert (error < found.standard_error[:4]).all()
        paired = log_likelihood(
            problem.flow,
            problem.x,
            problem.rival,
            sample_ids=problem.samples,
            target=Target(0.02),
            grids=found.integral.nodes[:4],
        )
        assert paired.integral.nodes == found.integral.nodes[:4]
        assert torch.allclose(paired.log_p, found.log_p[4:], rtol=0, atol=0.02 / problem.bits * 3)

    def test_few_dimensions_have_exact_traces(self) -> None:
        few = mixture(count=3, dims=6, components=2)
        found = to(few, Target(0.002))
        exact = log_likelihood(few.flow, few.x, few.condition, solver=Multistep(257), divergence=Exact())
        assert found.standard_error.tolist() == [0, 0, 0] and found.short == [None] * 3
        assert ((found.log_p - exact.log_p).abs() * few.bits < 0.002).all()

    def test_a_sample_that_fails_leaves_the_others(self, problem: Problem) -> None:
        x = problem.x.clone()
        x[1] = math.nan
        found = log_likelihood(
            problem.flow, x, problem.condition, sample_ids=problem.samples, target=Target(0.05), on_failure="record"
        )
        assert [failure is None for failure in found.failures] == [True, False, True, True]
        whole = to(problem, Target(0.05))
        assert torch.allclose(found.log_p[[0, 2, 3]], whole.log_p[[0, 2, 3]], rtol=0, atol=1e-9)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({}, "either target"),
            ({"error": 0.01, "difference": 1.0}, "either target"),
            ({"error": 0.0}, "above 0"),
            ({"difference": -1.0}, "above 0"),
            ({"error": 0.01, "max_nfe": 20}, "max_nfe=20 is not enough"),
        ],
    )
    def test_what_makes_no_target_is_refused(self, wrong: dict, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            Target(**wrong)

    def test_nodes_and_probes_of_ones_own_are_refused_beside_it(self, problem: Problem) -> None:
        for options in ({"solver": TorchDiffEq()}, {"divergence": Exact()}, {"differentiable": True}):
            with pytest.raises(ValueError, match="target"):
                to(problem, Target(0.01), **options)


@pytest.fixture(scope="module")
def tied(problem: Problem) -> tuple[Condition, Condition]:
    """Two conditions of the first sample, far apart, under which it is equally likely."""
    mixture_model, shift = problem.flow.network.mixture, problem.condition.select([0]).inputs["shift"]
    direction = torch.randn(64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def log_p(along: float) -> float:
        return float(mixture_model.log_prob(problem.x[:1] - shift - along * direction))

    steps = np.linspace(-2, 2, 81)
    top = float(steps[np.argmax([log_p(step) for step in steps])])
    other = brentq(lambda along: log_p(along) - log_p(top - 0.3), top, 3.0)
    return tuple(mixture_model.condition(shift + along * direction) for along in (top - 0.3, other))


class TestRivals:
    def test_a_tie_gets_probes_and_whoever_is_far_behind_gets_none(
        self, problem: Problem, tied: tuple[Condition, Condition]
    ) -> None:
        far = _shifted(tied[0], 0.2)
        found = log_likelihood(
            problem.flow, problem.x[:1], Condition.cat([*tied, far]), sample_ids=["s"], target=Target(difference=0.4)
        )
        (one, other, behind), nodes = found.calls[:, 1].tolist(), found.integral.nodes[0]
        assert behind == nodes and one == other > 1.3 * nodes and found.short == [None] * 3
        _, error = found.select([0]).minus(found.select([1]))
        assert 0.1 < float(error) <= 0.4

    def test_a_decided_ranking_stops_early(self, problem: Problem) -> None:
        found = log_likelihood(
            problem.flow,
            problem.x.repeat(2, 1),
            Condition.cat([problem.condition, _shifted(problem.condition, 0.5)]),
            sample_ids=list(problem.samples) * 2,
            target=Target(difference=0.001 * 64),
        )
        probes = found.calls[:, 1]
        assert (probes.double() == torch.tensor(found.integral.nodes).double()).all()  # one per node, no more
        assert found.short == [None] * 8

    def test_every_look_and_rival_asks_for_more_certainty(self) -> None:
        # 5 % over 6 looks and one rival: the normal quantile of 1 - 0.05 / 6.
        assert LOOKS == 6 and Rivals([]).threshold(2) == pytest.approx(2.394, abs=1e-3)
        assert Rivals([]).threshold(6) == pytest.approx(2.935, abs=1e-3)
        assert Rivals([], confidence=0.5).threshold(2) == pytest.approx(1.383, abs=1e-3)

    def test_a_tie_is_seldom_decided(self, problem: Problem, tied: tuple[Condition, Condition]) -> None:
        count = 100
        found = log_likelihood(
            problem.flow,
            problem.x[:1].expand(2 * count, -1),
            Condition.cat([each.select([0] * count) for each in tied]),
            sample_ids=[f"s{i}" for i in range(count)] * 2,
            target=Target(difference=0.5),
        )
        gap, error = found.select(range(count)).minus(found.select(range(count, 2 * count)))
        assert (gap.abs() > Rivals([]).threshold(2) * error).double().mean() <= 0.05
        assert abs(float(gap.mean())) < 4 * 0.5 / math.sqrt(count)


def test_images_are_scored_to_an_error() -> None:
    model = load("digits")
    images = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8).repeat(2, 1, 1, 1)
    found = score(model, images, ["3", "5"], sample_ids=["same", "same"], target=0.1)
    assert (found.result.total_error / found.result.nats_per_bpd <= 0.1).all()
    assert found.result.integral.nodes[0] == found.result.integral.nodes[1]
    assert found.columns["vjp"] == found.result.calls[:, 1].tolist() and "instead of" not in str(found)
    short = score(model, images[:1], "3", target=0.001, max_nfe=100)
    assert "instead of 0.001" in str(short) and found.columns["shortfall"] == [None, None]


class TestEstimator:
    def test_groups_stay_together_and_order_is_kept(self, problem: Problem) -> None:
        estimator = Estimator(double=True, max_batch=3, target=Target(0.05))
        names = [problem.samples[b] for b in (0, 1, 0, 2, 1)]
        index = [0, 1, 0, 2, 1]
        assert estimator._pieces(names) == [[0, 2], [1, 4, 3]]
        found = estimator.log_likelihood(problem.flow, problem.x[index], problem.condition.select(index), names)
        whole = to(problem, Target(0.05))
        assert torch.allclose(found.log_p, whole.log_p[index], rtol=0, atol=1e-9)

    def test_what_was_asked_for_is_named(self) -> None:
        assert Estimator(target=Target(0.01)).describe_solver() == "multistep(order 4), to an error of 0.01 bits/dim"
        assert (
            "0.5 nats on a difference, 900 evaluations"
            in Estimator(target=Target(difference=0.5, max_nfe=900)).describe_solver()
        )
        assert "as many as the error asks for" in Estimator(target=Target(0.01)).describe_probes()


def _shifted(condition: Condition, by: float) -> Condition:
    return condition.map(lambda tensor: tensor + by)
