"""A likelihood to an error that is asked for, instead of by so many nodes and probes.

A pilot without derivatives finds the grid: it is made finer until what a :class:`~dmlik_pl.flow.ripple.Ripple` sees is
at most half of the error that is asked for. Then each node gets one probe, and the nodes that leave most of the noise
get more of them, until probes and grid together are within the target. Samples of one name are a group: they have the
finest grid that one of them needs, so that differences within it are paired.

Where samples are rivals, what counts is who is best. A rival that is behind for certain gets no more probes, and a
ranking ends as soon as nobody else is left, or the difference to whoever is left is within the error that was asked
for. It is looked at several times, and each time it must be more certain for that: see :class:`Rivals`.

References:
    | Group sequential methods in the design and analysis of clinical trials (Pocock, 1977), on repeated looks
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.special import ndtri
from torch import Tensor

__all__ = ["LADDER", "LOOKS", "Rivals", "Target", "batches", "groups_of"]

LADDER = (17, 25, 33, 49, 65, 97, 129, 193, 257)
"""Nodes that a pilot tries, one after another."""

LOOKS = 6
"""How often the noise of a sample is looked at, and probes are added, at most."""


@dataclass(frozen=True)
class Target:
    """The error that a likelihood may have, of probes and grid together.

    Attributes:
        error: Of a likelihood, bits per dimension; None if a difference is given.
        difference: Of the difference of two rivals' log-likelihoods, nats, and of a log-likelihood without rivals; None
            if an error is given.
        max_nfe: Network evaluations of one sample, derivatives among them, beyond which no more is spent on it; None
            for any number.
    """

    error: float | None = None
    difference: float | None = None
    max_nfe: int | None = None

    def __post_init__(self) -> None:
        if (self.error is None) == (self.difference is None):
            raise ValueError("give either target, an error in bits/dim, or target_difference, one in nats")
        if self.error is not None and not 0 < self.error < math.inf:
            raise ValueError(f"target={self.error!r} must be an error above 0, in bits/dim, e.g. 0.01")
        if self.difference is not None and not 0 < self.difference < math.inf:
            raise ValueError(f"target_difference={self.difference!r} must be an error above 0, in nats, e.g. 0.5")
        if self.max_nfe is not None and self.max_nfe < 3 * LADDER[0]:
            raise ValueError(
                f"max_nfe={self.max_nfe} is not enough for any likelihood: the coarsest grid with one probe per node "
                f"takes {3 * LADDER[0]}"
            )

    def nats(self, dims: Tensor) -> Tensor:
        """The error in nats for samples of so many dimensions, [B]."""
        if self.error is None:
            return torch.full_like(dims, self.difference)  # type: ignore[arg-type]  # one of them is given
        return self.error * math.log(2) * dims

    def describe(self) -> str:
        """It in words, for tables."""
        wanted = f"{self.difference:g} nats on a difference" if self.error is None else f"{self.error:g} bits/dim"
        return wanted if self.max_nfe is None else f"{wanted}, {self.max_nfe} evaluations at most"

    def shortfalls(self, errors: Tensor, dims: Tensor, calls: Tensor) -> list[str | None]:
        """What is missing to it.

        Args:
            errors: What was reached, nats, [B]; NaN is not missed.
            dims: Dimensions of each sample, [B].
            calls: What was spent on each, [B, 3].
        """
        texts: list[str | None] = []
        unit = "nats" if self.error is None else "bits/dim"
        goals = self.nats(dims)
        for error, goal, spent in zip(errors.tolist(), goals.tolist(), calls.sum(1).tolist(), strict=True):
            scale = 1.0 if self.error is None else self.error / goal
            limit = "no finer grid, no more probes" if self.max_nfe is None else f"max_nfe={self.max_nfe}"
            missed = f"error {error * scale:.2g} {unit} instead of {goal * scale:g} after {spent} evaluations ({limit})"
            texts.append(missed if error > goal * (1 + 1e-6) else None)
        return texts


@dataclass(frozen=True)
class Rivals:
    """Who competes with whom, for a :attr:`Target.difference`.

    Attributes:
        sets: Positions in the batch of those that compete, each set of samples of one name.
        confidence: Probability of at least which none of the decisions of a set is wrong.
    """

    sets: Sequence[Sequence[int]]
    confidence: float = 0.95

    def threshold(self, count: int) -> float:
        """Standard errors by which the best of ``count`` must be ahead of another to have beaten it for certain.

        It holds for all of them, at each of up to :data:`LOOKS` looks (Bonferroni).
        """
        return float(ndtri(1 - (1 - self.confidence) / (LOOKS * max(1, count - 1))))

    def among(self, index: Sequence[int]) -> "Rivals":
        """Those that are among some positions, counted anew in their order."""
        place = {b: i for i, b in enumerate(index)}
        return Rivals([[place[b] for b in some] for some in self.sets if some[0] in place], self.confidence)


def batches(sample_ids: Sequence[str | int], max_batch: int) -> list[list[int]]:
    """Positions of samples to solve together: those of one name, and as many names as fit.

    Args:
        sample_ids: Name of each sample.
        max_batch: Samples that a batch may hold; one name with more has a batch by itself.
    """
    joined: list[list[int]] = []
    for group in groups_of(sample_ids).values():
        if joined and len(joined[-1]) + len(group) <= max_batch:
            joined[-1] += group
        else:
            joined.append(list(group))
    return joined


def groups_of(sample_ids: Sequence[str | int]) -> dict[str | int, list[int]]:
    """Positions of the samples of each name."""
    groups: dict[str | int, list[int]] = {}
    for b, name in enumerate(sample_ids):
        groups.setdefault(name, []).append(b)
    return groups
