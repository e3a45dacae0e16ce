"""How the error that is asked for is reached: a pilot without derivatives, then probes where they are needed.

:mod:`dmlik_pl.flow.target` says what is asked for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

import torch
from torch import Tensor

from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.flow.refinement import Refinement, allocate
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.solvers import Multistep, Solution
from dmlik_pl.flow.target import LADDER, LOOKS, Rivals, Target, groups_of
from dmlik_pl.flow.traces import Traces

__all__ = ["Found", "solve_again", "solve_to"]

_GRID = 0.5  # share of the target that the grid may take
_FEW = 16  # probes per node that are cheaper than to find out how many are needed
_AIM = 0.9  # share of the variance allowed that probes are added for: what they will leave is not known for certain


@dataclass(frozen=True)
class Found:
    """Samples that have a grid in common.

    Attributes:
        index: Their positions in the batch.
        dynamics: These samples alone, with their failures.
        solution: Where they went.
        calls: Forward passes, VJPs and JVPs of each, [samples, 3].
        nodes: Nodes of their grid.
        colours: Probes that each node of each sample had, [nodes, samples].
        errors: What is to be within the target, nats, [samples]: the error of each, or the largest of its differences
            to rivals that it has neither beaten nor lost to.
    """

    index: list[int]
    dynamics: Dynamics
    solution: Solution
    calls: Tensor
    nodes: int
    colours: Tensor
    errors: Tensor

    def select(self, chosen: Sequence[int]) -> "Found":
        """What was found of some of them."""
        chosen = list(chosen)
        return Found(
            [self.index[i] for i in chosen],
            self.dynamics.select(chosen),
            _select(self.solution, chosen),
            self.calls[chosen],
            self.nodes,
            self.colours[:, chosen],
            self.errors[chosen],
        )


def solve_to(
    target: Target,
    solver: Multistep,
    dynamics: Dynamics,
    u: Tensor,
    levels: Sequence[NoiseLevel],
    max_batch: int,
    rivals: Rivals | None = None,
    grids: Sequence[int] | None = None,
) -> list[Found]:
    """Integrate samples u [B, ...] through some levels to the error that is asked for.

    Args:
        target: The error, of the density at the level with the least noise.
        solver: Its order and spacing are taken, its nodes are not.
        dynamics: Flow, condition and names of the samples.
        u: Unit-scale states.
        levels: Where they are, and where they are to go.
        max_batch: Samples that go through the network at once.
        rivals: Who competes; for a target of differences, those of one name by default.
        grids: Nodes of each sample; by default a pilot finds them.
    """
    groups: dict[tuple[str | int, int], list[int]] = {}
    for b, name in enumerate(dynamics.sample_ids):
        groups.setdefault((name, 0 if grids is None else grids[b]), []).append(b)
    if rivals is None:
        rivals = Rivals(list(groups_of(dynamics.sample_ids).values()))
    pending, spent, found = list(groups.values()), 0, list[Found]()
    budget = math.inf if target.max_nfe is None else target.max_nfe / dynamics.flow.evaluations_per_call
    rungs = LADDER if grids is None else tuple(sorted(set(grids)))
    for nodes, finer in zip(rungs, [*rungs[1:], None], strict=True):
        index = [b for group in pending for b in group if grids is None or grids[b] == nodes]
        pilot = _Pilot.of(dynamics.select(index), max_batch)
        solution = replace(solver, nodes=nodes).integrate(pilot, u[index], levels, trace=True)
        spent = pilot.nfe.forward + (spent if grids is None else 0)
        goals = target.nats(pilot.dims(u[index]))
        rough = (solution.discretisation[_last(levels)] > _GRID * goals).tolist()
        again = {
            name
            for name, more, failure in zip(pilot.sample_ids, rough, pilot.failures, strict=True)
            if more and not failure
        }
        if finer is None or grids is not None or spent + 3 * finer > budget:
            again = set()
        done = [i for i, name in enumerate(pilot.sample_ids) if name not in again]
        finished = {index[i] for i in done}
        pending = [group for group in pending if group[0] not in finished]
        if done:
            start = _Start.of(pilot, solution, index, done, levels, spent)
            if target.error is None:
                plan = partial(start.plan_rivals, goals[done], budget, rivals.among(start.index))
            else:
                plan = partial(start.plan_each, goals[done], budget)
            found.append(start.refine(plan, budget))
        if not pending:
            break
    return found


def solve_again(solver: Multistep, found: Found, u: Tensor, levels: Sequence[NoiseLevel], max_batch: int) -> Found:
    """The same samples from states u [samples, ...] nearby, on the same grid and with as many probes."""
    everyone = list(range(len(found.index)))
    pilot = _Pilot.of(found.dynamics.select(everyone), max_batch)
    solution = replace(solver, nodes=found.nodes).integrate(pilot, u, levels, trace=True)
    start = _Start.of(pilot, solution, found.index, everyone, levels, pilot.nfe.forward)
    start.refinement.to(found.colours)
    return start.found(found.errors)


Plan = Callable[[TraceIntegral, Tensor], Tensor]
"""Is shown an integral, raises the colours [nodes, samples] that are wanted, and returns errors, nats, [samples]."""


@dataclass
class _Pilot(Dynamics):
    """Dynamics that keep the path and take no derivatives; the network sees a part of the samples at once."""

    max_batch: int = 64
    path: dict[int, tuple[Tensor, NoiseLevel]] = field(default_factory=dict)

    @classmethod
    def of(cls, dynamics: Dynamics, max_batch: int) -> "_Pilot":
        own = {each.name: getattr(dynamics, each.name) for each in fields(Dynamics) if each.init}
        return cls(**own, max_batch=max_batch)

    def velocity(self, u: Tensor, level: NoiseLevel) -> Tensor:
        pieces = [slice(start, start + self.max_batch) for start in range(0, len(u), self.max_batch)]
        with torch.no_grad():
            value = torch.cat([self.flow.velocity(u[p], level, self.condition.select(p)) for p in pieces])
        self.nfe.forward += 1
        self.note(value.isfinite().flatten(1).all(1), level)
        return value

    def velocity_and_trace(self, u: Tensor, level: NoiseLevel, node: int) -> tuple[Tensor, Traces]:
        self.path[node] = u, level
        return self.velocity(u, level), Traces(torch.zeros(1, len(u), dtype=torch.float64, device=u.device))


@dataclass(frozen=True)
class _Start:
    """What a pilot has found of some samples, and the traces that are taken along it."""

    index: list[int]
    dynamics: Dynamics
    solution: Solution
    last: int
    nodes: int
    spent: int
    refinement: Refinement
    prior: Tensor

    @classmethod
    def of(
        cls,
        pilot: _Pilot,
        solution: Solution,
        index: list[int],
        chosen: list[int],
        levels: Sequence[NoiseLevel],
        spent: int,
    ) -> "_Start":
        some = pilot.select(chosen)
        dynamics = Dynamics(**{each.name: getattr(some, each.name) for each in fields(Dynamics) if each.init})
        path = [(u[chosen], level) for _, (u, level) in sorted(pilot.path.items())]
        refinement = Refinement(dynamics, path, pilot.max_batch)
        own = _select(solution, chosen)
        end = max(range(len(levels)), key=lambda i: float(levels[i].t))
        condition = dynamics.condition
        prior = pilot.flow.prior.log_prob(own.states[end], levels[end], condition.mask, condition.mean)
        index = [index[i] for i in chosen]
        return cls(index, dynamics, own, _last(levels), len(path), spent, refinement, prior)

    def refine(self, plan: Plan, budget: float) -> Found:
        """Take traces, until a plan asks for no more."""
        assert self.solution.integrals is not None
        well = torch.tensor([failure is None for failure in self.dynamics.failures])
        most = self.refinement.most
        first = most if most <= _FEW and self.spent + self.nodes * (1 + most) <= budget else 1
        colours = first * well.long().repeat(self.nodes, 1)
        for _ in range(LOOKS):
            self.refinement.to(colours)
            colours = self.refinement.colours.clone()
            errors = plan(self.refinement.fill(self.solution.integrals[self.last]), colours)
            if torch.equal(colours, self.refinement.colours):
                break
        return self.found(errors)

    def plan_each(self, goals: Tensor, budget: float, integral: TraceIntegral, colours: Tensor) -> Tensor:
        """More colours [nodes, samples] for each sample whose error is beyond its goal, nats; returns the errors."""
        error, variance, shares = integral.standard_error, integral.variance, integral.shares
        allowed = self._allowed(goals)
        for b in (error**2 > allowed).nonzero()[:, 0].tolist():
            # The error is wider than the root of the variance; probes reduce both alike.
            wanted = _AIM * float(allowed[b] * variance[b] / error[b] ** 2)
            colours[:, b] = self._allocate(shares[:, b], b, wanted, budget)
        return torch.hypot(error, self.grid)

    def plan_rivals(
        self, goals: Tensor, budget: float, rivals: Rivals, integral: TraceIntegral, colours: Tensor
    ) -> Tensor:
        """More colours for the best of each set and those that it has not beaten, if they are not told apart well."""
        allowed, errors = self._allowed(goals), torch.zeros_like(goals)
        scores = (self.prior + integral.total).nan_to_num(-math.inf).tolist()
        for some in rivals.sets:
            best = max(some, key=scores.__getitem__)
            least, worst = 0.0, integral
            kept = [best]
            for i in [i for i in some if i != best] or [best]:
                pair = integral.select([i])
                if i != best:
                    pair = pair - integral.select([best])
                error = float(pair.standard_error)
                total = math.hypot(error, float(self.grid[[i, best]].max()))
                if i != best and scores[best] - scores[i] > rivals.threshold(len(some)) * total:
                    continue
                errors[[i, best]] = errors[[i, best]].clamp(min=total)
                if error**2 > float(allowed[i]):
                    kept.append(i)
                    least, worst = max((least, worst), (error, pair), key=lambda known: known[0])
            if least > 0:
                wanted = _AIM * float(allowed[best] * worst.variance[0] / least**2)
                more = self._allocate(worst.shares[:, 0], best, wanted, budget)
                colours[:, kept] = torch.maximum(colours[:, kept], more[:, None])
        return errors

    @property
    def grid(self) -> Tensor:
        """Estimated error of the grid, nats, [samples]."""
        return self.solution.discretisation[self.last]

    def _allowed(self, goals: Tensor) -> Tensor:
        """The variance that the grid leaves to the probes, nats^2; a grid that takes too much leaves what it should."""
        return (goals**2 - self.grid**2).clamp(min=(1 - _GRID**2) * goals**2)

    def _allocate(self, shares: Tensor, b: int, wanted: float, budget: float) -> Tensor:
        left = budget - self.spent - int(self.refinement.calls[b].sum())
        return allocate(shares, self.refinement.colours[:, b], wanted, self.refinement.most, left)

    def found(self, errors: Tensor) -> Found:
        """What is known now."""
        assert self.solution.integrals is not None
        self.dynamics.settle()
        integrals = [self.refinement.fill(integral) for integral in self.solution.integrals]
        calls = self.refinement.calls + torch.tensor([self.spent, 0, 0])
        solution = replace(self.solution, integrals=integrals)
        return Found(self.index, self.dynamics, solution, calls, self.nodes, self.refinement.colours, errors)


def _select(solution: Solution, chosen: list[int]) -> Solution:
    assert solution.integrals is not None
    return Solution(
        [state[chosen] for state in solution.states],
        [integral.select(chosen) for integral in solution.integrals],
        solution.discretisation[:, chosen],
    )


def _last(levels: Sequence[NoiseLevel]) -> int:
    """The level with the least noise."""
    return min(range(len(levels)), key=lambda i: float(levels[i].t))
