"""What one measurement of a likelihood monitor finds: on this process, and on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import Trainer

from dmlik_pl.modules.training.likelihoods import Measured
from dmlik_pl.modules.training.offers import LikelihoodProblem

__all__ = ["Findings", "Measure", "gathered"]

Measure = Callable[[LikelihoodProblem], Measured]


@dataclass
class Findings:
    """What was measured of the samples of each validation loader, and what could not be.

    Attributes:
        parts: What was measured, by loader.
        failures: Why samples were not, by loader and by the samples' names.
    """

    parts: dict[str, list[Measured]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def nfe(self) -> int:
        """Network evaluations that were spent."""
        return sum(part.nfe for parts in self.parts.values() for part in parts)

    @property
    def count(self) -> int:
        """Samples that were measured."""
        return sum(len(part.sample_ids) for parts in self.parts.values() for part in parts)

    def measure(self, measure: Measure, loader: str, problem: LikelihoodProblem) -> None:
        """Measure some samples; one that cannot be measured fails alone, and ends no training."""
        try:
            self.parts[loader].append(measure(problem))
        except Exception as error:
            if len(problem.sample_ids) == 1:
                self.failures[loader][str(problem.sample_ids[0])] = str(error)
                return
            for single in problem.apart():
                self.measure(measure, loader, single)

    def of_all(self, trainer: Trainer, loaders: Iterable[str]) -> Findings:
        """Put together what all processes found."""
        everyone: list[Findings] = gathered(trainer, self)
        whole = Findings()
        for name in loaders:
            whole.parts[name] = [part for each in everyone for part in each.parts.get(name, [])]
            whole.failures[name] = {k: v for each in everyone for k, v in each.failures.get(name, {}).items()}
        return whole


def gathered(trainer: Trainer, own: Any) -> list[Any]:
    """What every process has, in their order."""
    everyone = [own] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(everyone, own)
    return everyone
