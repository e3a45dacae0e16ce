"""Log-densities along a trajectory: from the state, the trace and the change of scale to a result with its errors."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from dmlik_pl.flow.divergence import NFE, Divergence
from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.pilot import Found, solve_again, solve_to
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow
from dmlik_pl.flow.probes import Purpose, draw
from dmlik_pl.flow.reference import TorchDiffEq
from dmlik_pl.flow.result import LogLikelihood
from dmlik_pl.flow.schedule import NoiseLevel, fit
from dmlik_pl.flow.solvers import Multistep, Solution, Solver
from dmlik_pl.flow.target import Rivals, Target

__all__ = ["Aim", "compare_coarser", "densities_of", "read_at", "shaken"]


def read_at(
    flow: ProbabilityFlow, x: Tensor, level: NoiseLevel, condition: Condition, *, as_data: bool = True
) -> Tensor:
    """The unit-scale state of x [B, ...]: read as data at a level, or as x_t at it."""
    if not as_data:
        return flow.unit_state(x, level, condition)
    u = x * math.cos(float(level.angle))
    return u if condition.mask is None else u * condition.mask


def densities_of(
    solver: Solver, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, as_data: bool
) -> tuple[list[LogLikelihood], list[Tensor]]:
    """Log-likelihood and unit-scale state at every level of one trajectory, in either direction."""
    solution = solver.integrate(dynamics, u, levels, trace=True)
    nfe = dynamics.nfe
    calls = torch.tensor([nfe.forward, nfe.vjp, nfe.jvp]).expand(len(u), -1)
    return results_of(solution, dynamics, levels, calls, as_data=as_data), solution.states


def results_of(
    solution: Solution, dynamics: Dynamics, levels: Sequence[NoiseLevel], calls: Tensor, *, as_data: bool
) -> list[LogLikelihood]:
    """The densities at every level of a solution, whose calls [B, 3] are those of the network's field."""
    flow, condition = dynamics.flow, dynamics.condition
    assert solution.integrals is not None
    end = max(range(len(levels)), key=lambda i: float(levels[i].t))
    noise, mask = levels[end], condition.mask
    prior = flow.prior.log_prob(solution.states[end], noise, mask, condition.mean)
    dims = dynamics.dims(solution.states[end])
    lost = torch.tensor([failure is not None for failure in dynamics.failures], device=prior.device)
    latent = flow.state(solution.states[end], noise, condition)
    results = []
    for level, integral, discretisation in zip(levels, solution.integrals, solution.discretisation, strict=True):
        growth = math.log(math.cos(float(level.angle))) if as_data else -math.log(float(level.scale))
        scale = dims * growth
        log_p = (prior + integral.total + scale).masked_fill(lost, math.nan)
        results.append(
            LogLikelihood(
                log_p=log_p,
                prior=prior.detach(),
                integral=replace(integral, values=integral.values.detach()),
                scale=scale,
                discretisation=discretisation,
                rounding=torch.full_like(prior, math.nan),
                dims=dims,
                latent=latent.detach(),
                calls=calls * flow.evaluations_per_call,
                density=flow.density(condition),
                r=float(level.r),
                r_max=float(noise.r),
                failures=dynamics.failures,
                short=[None] * len(dims),
            )
        )
    return results


def compare_coarser(
    result: LogLikelihood,
    solver: TorchDiffEq,
    dynamics: Dynamics,
    u: Tensor,
    levels: Sequence[NoiseLevel],
    *,
    as_data: bool,
) -> LogLikelihood:
    """Fill in the discretisation estimate by two coarser solves with the same probes; their cost is counted."""
    calls, found, coarser = result.calls, [result.log_p], solver
    for _ in range(2):
        coarser = coarser.coarser()
        again = replace(dynamics, nfe=NFE(), failures=[])
        (other, _), _ = densities_of(coarser, again, u, levels, as_data=as_data)
        found.append(other.log_p)
        calls = calls + other.calls
    change, before = (finer - rougher for finer, rougher in pairwise(found))
    return replace(result, discretisation=solver.error(change, before), calls=calls)


@dataclass(frozen=True)
class Aim:
    """A target with what is to be known to reach it, see :func:`dmlik_pl.flow.log_likelihood`."""

    target: Target
    solver: Multistep
    max_batch: int
    rivals: Rivals | None = None
    grids: Sequence[int] | None = None

    @classmethod
    def of(
        cls,
        target: Target,
        solver: Solver,
        divergence: Divergence | None,
        max_batch: int | None,
        rivals: Rivals | None = None,
        grids: Sequence[int] | None = None,
    ) -> "Aim":
        """An aim, if solver and divergence leave it a choice.

        Raises:
            ValueError: If a divergence is given, or a solver without a number of nodes.
        """
        if not isinstance(solver, Multistep) or divergence is not None:
            raise ValueError("a target chooses nodes and probes itself: leave out the divergence, and take Multistep")
        return cls(target, solver, max_batch or sys.maxsize, rivals, grids)

    def densities(
        self, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, as_data: bool
    ) -> tuple[list[LogLikelihood], list[Tensor], list[Found]]:
        """Log-likelihood and state at every level, in the order of the samples, and how they were found."""
        several = solve_to(self.target, self.solver, dynamics, u, levels, self.max_batch, self.rivals, self.grids)
        results = [self.results(found, levels, as_data=as_data) for found in several]
        order = [b for found in several for b in found.index]
        back = sorted(range(len(order)), key=order.__getitem__)
        for found in several:
            for b, failure in zip(found.index, found.dynamics.failures, strict=True):
                dynamics.failures[b] = failure
        joined = [LogLikelihood.cat(parts).select(back) for parts in zip(*results, strict=True)]
        states = [torch.cat(parts)[back] for parts in zip(*[found.solution.states for found in several], strict=True)]
        return joined, states, several

    def results(self, found: Found, levels: Sequence[NoiseLevel], *, as_data: bool) -> list[LogLikelihood]:
        """The densities of some samples at every level."""
        results = results_of(found.solution, found.dynamics, levels, found.calls, as_data=as_data)
        return [
            replace(result, short=self.target.shortfalls(found.errors, result.dims, result.calls)) for result in results
        ]

    def shaken(
        self,
        result: LogLikelihood,
        several: Sequence[Found],
        x: Tensor,
        levels: Sequence[NoiseLevel],
        chosen: Sequence[int],
    ) -> LogLikelihood:
        """Fill in what rounding does to some samples, on the same grid and with as many probes."""
        for found in several:
            if few := [i for i, b in enumerate(found.index) if b in chosen]:
                some = found.select(few)
                u = read_at(some.dynamics.flow, moved(x[some.index], some.dynamics), levels[0], some.dynamics.condition)
                again = solve_again(self.solver, some, u, levels, self.max_batch)
                result = with_rounding(result, self.results(again, levels, as_data=True)[0], some.index)
        return result


def shaken(
    result: LogLikelihood,
    solver: Solver,
    dynamics: Dynamics,
    x: Tensor,
    level: NoiseLevel,
    *,
    as_data: bool,
    chosen: list[int],
) -> LogLikelihood:
    """Fill in what rounding does to some samples, by a solve with the same probes from x moved by its precision."""
    again = dynamics.select(chosen)
    u = read_at(again.flow, moved(x[chosen], again), level, again.condition, as_data=as_data)
    schedule = again.flow.schedule
    (other, _), _ = densities_of(solver, again, u, [level, schedule.at(schedule.t_max)], as_data=as_data)
    return with_rounding(result, other, chosen)


def moved(x: Tensor, dynamics: Dynamics) -> Tensor:
    """Samples moved by the precision of their floating point type."""
    mask = dynamics.condition.mask
    names, seed = dynamics.sample_ids, dynamics.seed
    signs = draw("rademacher", x, names, seed=seed, probes=1, purpose=Purpose.ROUNDING, mask=mask)
    size = x.square().flatten(1).mean(1).sqrt() * torch.finfo(x.dtype).eps
    return x + fit(size, x) * signs[0]


def with_rounding(result: LogLikelihood, other: LogLikelihood, chosen: list[int]) -> LogLikelihood:
    """A result with what it differs from that of some samples nearby."""
    rounding = result.rounding.clone()
    rounding[chosen] = (other.log_p - result.log_p[chosen]).abs()
    return replace(result, rounding=rounding)
