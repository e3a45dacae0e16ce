"""A flow bound to one batch: what a solver evaluates, and what its evaluations cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from dmlik_pl.flow.divergence import NFE, Divergence
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow
from dmlik_pl.flow.probes import draw
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.traces import Traces

__all__ = ["Dynamics", "SolverError"]


class SolverError(RuntimeError):
    """A solve that gave no result: it did not converge, or the network returned NaN or infinity."""


@dataclass
class Dynamics:
    """The right-hand side of one batch.

    Attributes:
        flow: The flow.
        condition: Condition of the batch.
        sample_ids: Stable names of its samples; they key the probes.
        seed: Seed of the probes.
        divergence: How traces are taken.
        nfe: Calls so far; multiply by the flow's evaluations per call.
        failures: Why a sample has no result, once :meth:`settle` was called; None while all is well.
    """

    flow: ProbabilityFlow
    condition: Condition
    sample_ids: Sequence[str | int]
    seed: int
    divergence: Divergence
    nfe: NFE = field(default_factory=NFE)
    failures: list[str | None] = field(default_factory=list)
    _finite: list[tuple[Tensor, NoiseLevel]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.failures = self.failures or [None] * len(self.sample_ids)

    def select(self, index: Sequence[int]) -> Self:
        """The dynamics of some samples, with counters of their own."""
        return replace(
            self,
            condition=self.condition.select(list(index)),
            sample_ids=[self.sample_ids[b] for b in index],
            nfe=NFE(),
            failures=[self.failures[b] for b in index],
        )

    def dims(self, u: Tensor) -> Tensor:
        """Number of real dimensions of each sample of u [B, ...], float64, [B]."""
        mask = self.condition.mask
        real = torch.ones_like(u, dtype=torch.float64) if mask is None else mask.expand_as(u).double()
        return real.flatten(1).sum(1)

    def velocity(self, u: Tensor, level: NoiseLevel) -> Tensor:
        """F at u, without derivatives."""
        with torch.no_grad():
            value = self.flow.velocity(u, level, self.condition)
        self.nfe.forward += 1
        self.note(value.isfinite().flatten(1).all(1), level)
        return value

    def velocity_and_trace(self, u: Tensor, level: NoiseLevel, node: int) -> tuple[Tensor, Traces]:
        """F at u and the trace of its Jacobian, by the probes of a node."""
        batch = len(u)

        def velocity(stacked: Tensor) -> Tensor:
            return self.flow.velocity(stacked, level, self.condition.tile(len(stacked) // batch))

        estimate = self.divergence
        probes = draw(
            estimate.distribution,
            u,
            self.sample_ids,
            seed=self.seed,
            probes=estimate.probes,
            node=node,
            mask=self.condition.mask,
        )
        value, traces = estimate(velocity, u, probes, self.nfe)
        self.note(value.isfinite().flatten(1).all(1) & traces.values.isfinite().all(0), level)
        return value, traces

    def note(self, finite: Tensor, level: NoiseLevel) -> None:
        """Keep which samples are well at a level, without waiting for the device to know it."""
        self._finite.append((finite, level))

    def settle(self) -> None:
        """Read, in one wait for the device, where each sample first went wrong; a solver calls it once, at its end."""
        if not self._finite:
            return
        found = torch.stack([finite for finite, _ in self._finite]).tolist()
        for (_, level), samples in zip(self._finite, found, strict=True):
            for b, fine in enumerate(samples):
                if not fine and self.failures[b] is None:
                    self.failures[b] = (
                        f"the network or its derivative returned NaN or infinity at t={float(level.t):.4g} "
                        f"(r={float(level.r):.4g}): check the sample, the weights and the network's dtype"
                    )
        self._finite.clear()
