"""A likelihood to an error that is asked for, instead of by so many nodes and probes.

A pilot without derivatives finds the grid: it is made finer until what a :class:`~dmlik_pl.flow.ripple.Ripple` sees is
at most half of the error that is asked for. Then each node gets one probe, and the nodes that leave most of the noise
get more of them, until probes and grid together are within the target. Samples of one name are a group: they have the
finest grid that one of them needs, so that differences within it are paired.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.refinement import Refinement, allocate
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.solvers import Multistep, Solution
from dmlik_pl.flow.traces import Traces

__all__ = ["LADDER", "Found", "Target", "solve_again", "solve_to"]

LADDER = (17, 25, 33, 49, 65, 97, 129, 193, 257)
"""Nodes that a pilot tries, one after another."""

_GRID = 0.5  # share of the target that the grid may take
_AIM = 0.8  # share of the variance allowed that probes are added for: what they will leave is not known for certain


@dataclass(frozen=True)
class Target:
    """The error that a likelihood may have.

    Attributes:
        error: Standard error of bits per dimension, of probes and grid together.
        max_nfe: Network evaluations of one sample, derivatives among them, beyond which no more is spent on it; None
            for any number.
    """

    error: float
    max_nfe: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.error < math.inf:
            raise ValueError(f"target={self.error!r} must be an error above 0, in bits/dim, e.g. 0.01")
        if self.max_nfe is not None and self.max_nfe < 3 * LADDER[0]:
            raise ValueError(
                f"max_nfe={self.max_nfe} is not enough for any likelihood: the coarsest grid with one probe per node "
                f"takes {3 * LADDER[0]}"
            )

    def nats(self, dims: Tensor) -> Tensor:
        """The error in nats for samples of so many dimensions, [B]."""
        return self.error * math.log(2) * dims

    def shortfalls(self, dims: Tensor, errors: Tensor, calls: Tensor) -> list[str | None]:
        """What samples lack to the error: None where theirs [B], in nats, is within it or not known."""
        ratio = (errors / self.nats(dims)).tolist()
        return [
            None
            if not each > 1 + 1e-6
            else f"an error of {self.error * each:.2g} bits/dim instead of {self.error:g} after {spent} evaluations: "
            + ("no finer grid, no more probes" if self.max_nfe is None else f"max_nfe={self.max_nfe}")
            for each, spent in zip(ratio, calls.sum(1).tolist(), strict=True)
        ]


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
    """

    index: list[int]
    dynamics: Dynamics
    solution: Solution
    calls: Tensor
    nodes: int
    colours: Tensor

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
        )


def solve_to(
    target: Target, solver: Multistep, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], max_batch: int
) -> list[Found]:
    """Integrate samples u [B, ...] through some levels to the error that is asked for.

    Args:
        target: The error, of the density at the level with the least noise.
        solver: Its order and spacing are taken, its nodes are not.
        dynamics: Flow, condition and names of the samples.
        u: Unit-scale states.
        levels: Where they are, and where they are to go.
        max_batch: Samples that go through the network at once.
    """
    groups: dict[str | int, list[int]] = {}
    for b, name in enumerate(dynamics.sample_ids):
        groups.setdefault(name, []).append(b)
    pending, spent, found = list(groups.values()), 0, list[Found]()
    budget = math.inf if target.max_nfe is None else target.max_nfe / dynamics.flow.evaluations_per_call
    for nodes, finer in zip(LADDER, [*LADDER[1:], math.inf], strict=True):
        index = [b for group in pending for b in group]
        pilot = _Pilot.of(dynamics.select(index), max_batch)
        solution = replace(solver, nodes=nodes).integrate(pilot, u[index], levels, trace=True)
        spent += pilot.nfe.forward
        goals = target.nats(pilot.dims(u[index]))
        rough = (solution.discretisation[_last(levels)] > _GRID * goals).tolist()
        open_ = {
            pilot.sample_ids[i] for i, failure in enumerate(pilot.failures) if rough[i] and failure is None
        }
        if spent + 3 * finer > budget:
            open_ = set()
        pending = [group for group in pending if dynamics.sample_ids[group[0]] in open_]
        if done := [i for i, name in enumerate(pilot.sample_ids) if name not in open_]:
            start = _Start.of(pilot, solution, index, done, _last(levels), spent)
            found.append(start.to_error(goals[done], budget))
        if not pending:
            break
    return found


def solve_again(solver: Multistep, found: Found, u: Tensor, levels: Sequence[NoiseLevel], max_batch: int) -> Found:
    """The same samples from states u [samples, ...] nearby, on the same grid and with as many probes."""
    everyone = list(range(len(found.index)))
    pilot = _Pilot.of(found.dynamics.select(everyone), max_batch)
    solution = replace(solver, nodes=found.nodes).integrate(pilot, u, levels, trace=True)
    start = _Start.of(pilot, solution, found.index, everyone, _last(levels), pilot.nfe.forward)
    start.refinement.to(found.colours)
    return start.found()


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

    @classmethod
    def of(
        cls, pilot: "_Pilot", solution: Solution, index: list[int], chosen: list[int], last: int, spent: int
    ) -> "_Start":
        own = pilot.select(chosen)
        dynamics = Dynamics(**{each.name: getattr(own, each.name) for each in fields(Dynamics) if each.init})
        path = [(u[chosen], level) for _, (u, level) in sorted(pilot.path.items())]
        refinement = Refinement(dynamics, path, pilot.max_batch)
        return cls([index[i] for i in chosen], dynamics, _select(solution, chosen), last, len(path), spent, refinement)

    def to_error(self, goals: Tensor, budget: float) -> Found:
        """Add probes until the error of each sample is within its goal, nats, or its budget is spent."""
        assert self.solution.integrals is not None
        refinement, whole = self.refinement, self.solution.integrals[self.last]
        grid = self.solution.discretisation[self.last]
        allowed = (goals**2 - grid**2).clamp(min=(1 - _GRID**2) * goals**2)
        well = torch.tensor([failure is None for failure in self.dynamics.failures])
        colours = well.long().repeat(self.nodes, 1)
        while (colours > refinement.colours).any():
            refinement.to(colours)
            integral = refinement.fill(whole)
            error, shares = integral.standard_error, integral.shares
            for b in (error**2 > allowed).nonzero()[:, 0].tolist():
                left = budget - self.spent - int(refinement.calls[b].sum())
                wanted = _AIM * float(allowed[b] * (integral.variance[b] / error[b] ** 2))
                colours[:, b] = allocate(shares[:, b], refinement.colours[:, b], wanted, refinement.most, left)
        return self.found()

    def found(self) -> Found:
        """What is known now."""
        assert self.solution.integrals is not None
        self.dynamics.settle()
        integrals = [self.refinement.fill(integral) for integral in self.solution.integrals]
        calls = self.refinement.calls + torch.tensor([self.spent, 0, 0])
        solution = replace(self.solution, integrals=integrals)
        return Found(self.index, self.dynamics, solution, calls, self.nodes, self.refinement.colours.clone())


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
