"""The evaluation as a LightningModule: a model, the studies made of it, and how its likelihoods are taken."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import nn

from dmlik_pl.data.base import Delivery, in_words
from dmlik_pl.flow import Divergence, Exact, Hutchinson, Multistep, Solver, SolverError, Target, TorchDiffEq
from dmlik_pl.flow.colouring import learned_from
from dmlik_pl.models import DiffusionModel
from dmlik_pl.records.store import FAILURES, SAMPLES
from dmlik_pl.studies import Estimator, Outcome, Study
from dmlik_pl.studies.base import Measure

__all__ = ["Evaluation", "check_names", "check_precision", "target_of"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

logger = logging.getLogger(__name__)


class Evaluation(LightningModule):
    """Runs studies on a model, batch by batch, and hands over each result at once.

    Attributes:
        done: Samples that need no measurement any more, by unit: a study's name, or "study/part" for one with parts.
        keep: Is given the name of a unit and its outcomes, each time some are there.

    Args:
        diffusion: The model, one of :mod:`dmlik_pl.models`; None for studies that need none.
        studies: What is asked of it, of :mod:`dmlik_pl.studies`, each under a name that its records, tables and figures
            carry. One kind of study may appear under several names.
        solver: How the flow is integrated: ``Multistep`` (fast, fixed grid) or ``TorchDiffEq`` (reference).
        divergence: How its traces are taken: ``Hutchinson`` or ``Exact``.
        seed: Seed of probes, latents and bounds. With it and a sample's name every result is fixed.
        max_batch: Samples that go through the network at once; lower it when memory runs out, no result changes.
        double: Hold state and log-density in float64 instead of float32, whatever the network's dtype.
        dequantisation_bits: For discrete data that were dequantised uniformly: log2(levels / 2) where the levels fill
            [-1, 1]. Shown beside the density's bits per dimension, never hidden in them.
        rounding_every: How often the effect of rounding is measured in guided flows: on one sample in this many, by one
            more solve, which shows how far the last digits of x move its likelihood; 0 measures it on none.
        target: The error that the likelihood of each sample may have, of probes and grid together, bits/dim, e.g. 0.01.
            Nodes and probes are then chosen for each sample, whatever `solver` and `divergence` say of them.
        target_difference: The same in nats for the difference of two conditions of a sample, e.g. 0.5, in place of
            `target`. Rankings end as soon as they are decided, or their differences are within it.
        max_nfe: Network evaluations of one likelihood, derivatives among them, that a target may cost; what it then
            lacks is recorded.
    """

    def __init__(
        self,
        diffusion: DiffusionModel | None = None,
        studies: dict[str, Study] | None = None,
        solver: Solver | None = None,
        divergence: Divergence | None = None,
        seed: int = 0,
        max_batch: int = 64,
        double: bool = False,
        dequantisation_bits: float = 0.0,
        rounding_every: int = 4,
        target: float | None = None,
        target_difference: float | None = None,
        max_nfe: int | None = None,
    ) -> None:
        super().__init__()
        if not studies:
            raise ValueError("there is nothing to do: give at least one study in model.studies")
        check_names(studies)
        for name, study in studies.items():
            if not isinstance(diffusion, study.asks):
                what = "without a model: give one in model.diffusion" if diffusion is None else type(diffusion).__name__
                models = f"{type(study).__name__} cannot measure {what}"
                raise ValueError(f"model.studies.{name}: {models}. {study.asks.__doc__}")
        self.diffusion = diffusion
        self.studies = studies
        self._modules_of_studies = nn.ModuleList(studies.values())  # whose names may be any
        self.estimator = Estimator(
            solver=Multistep() if solver is None else solver,
            divergence=Hutchinson() if divergence is None else divergence,
            seed=seed,
            max_batch=max_batch,
            double=double,
            dequantisation_bits=dequantisation_bits,
            rounding_every=rounding_every,
            target=target_of(target, target_difference, max_nfe, _class_of(solver), _class_of(divergence)),
        )
        _check_colouring(diffusion, self.estimator.divergence)
        self.done: Mapping[str, AbstractSet[str]] = {}
        self.keep: Callable[[str, Sequence[Outcome]], None] = lambda unit, outcomes: None
        self._parts = {name: study.parts() for name, study in studies.items()}

    def setup(self, stage: str) -> None:
        """Refuse a trainer that would change the numbers, or a device that the network's type is not for.

        Raises:
            ValueError: If its precision is not the one that results are recorded for, or float16 meets a CPU.
        """
        check_precision(self.trainer)
        if isinstance(self.diffusion, DiffusionModel):
            self.diffusion.refuse_half_on(self.trainer.strategy.root_device)

    @property
    def units(self) -> dict[str, tuple[str, str]]:
        """Study and part of every unit, by the name that it is stored under."""
        return {
            f"{name}/{label}" if label else name: (name, label)
            for name, parts in self._parts.items()
            for label in parts
        }

    def test_step(  # type: ignore[override]  # outcomes go to callbacks, not to Lightning's own reductions
        self, batch: Any, batch_idx: int
    ) -> list[tuple[str, Outcome]]:
        """Every outcome of a batch, with the name of its unit; units that are done already are left out.

        Args:
            batch: A :class:`Delivery`, or a single batch of the kind that the studies measure.
            batch_idx: Its number.
        """
        batches = batch.batches if isinstance(batch, Delivery) else [batch]
        outcomes: list[tuple[str, Outcome]] = []
        for name in self.studies:
            outcomes += self._keep(
                name, [Outcome(failure.sample_id, error=failure.error) for failure in batch.failures]
            )
        for unit in self.units:
            for each in batches:
                outcomes += self._measure_unit(unit, each)
        return outcomes

    def _measure_unit(self, unit: str, batch: Any) -> list[tuple[str, Outcome]]:
        """One part of a study on what is left of a batch, in pieces that fit the memory."""
        name, label = self.units[unit]
        study, outcomes = self.studies[name], list[tuple[str, Outcome]]()
        assert isinstance(study, Study)
        finished = self.done.get(unit, frozenset())
        left = [b for b, sample in enumerate(batch.sample_id) if sample not in finished]
        size = self.estimator.max_batch
        for start in range(0, len(left), size):
            found = self._measure(study, self._parts[name][label], batch.select(left[start : start + size]))
            outcomes += self._keep(unit, [_with_kind(outcome, study.kind) for outcome in found])
        return outcomes

    def _keep(self, unit: str, outcomes: Sequence[Outcome]) -> list[tuple[str, Outcome]]:
        if outcomes:
            self.keep(unit, outcomes)
        return [(unit, outcome) for outcome in outcomes]

    def _measure(self, study: Study, measure: Measure, batch: Any) -> Sequence[Outcome]:
        """One part of a study on one batch; a sample that cannot be measured fails alone, not with its batch.

        Any error of a sample is its failure, except those that the next one would have too: a memory that is too
        small for `max_batch` of them, and a device that is lost.
        """
        try:
            return measure(self.diffusion, batch, self.estimator)
        except torch.AcceleratorError:  # the device is lost
            raise
        except torch.OutOfMemoryError as error:
            if len(batch) > 1:
                raise RuntimeError(
                    f"out of memory with max_batch={self.estimator.max_batch}: lower --model.max_batch (no result "
                    "changes) and start the same command again; finished samples are kept"
                ) from error
            return [self._failed(study, batch, error)]
        except Exception as error:
            if len(batch) == 1:
                return [self._failed(study, batch, error)]
            alone = [self._measure(study, measure, batch.select([b])) for b in range(len(batch))]
            return [outcome for outcomes in alone for outcome in outcomes]

    @staticmethod
    def _failed(study: Study, batch: Any, error: Exception) -> Outcome:
        reason = str(error) if isinstance(error, SolverError) else in_words(error)
        logger.warning("%s failed on %s: %s", study.kind, batch.sample_id[0], reason)
        logger.debug("details", exc_info=error)
        return Outcome(batch.sample_id[0], error=reason)


def _with_kind(outcome: Outcome, kind: str) -> Outcome:
    """Say in every record what kind of study made it."""
    return replace(outcome, rows=[row | {"kind": kind} for row in outcome.rows])


def target_of(
    error: float | None, difference: float | None, max_nfe: int | None, solver: str | None, divergence: str | None
) -> Target | None:
    """The error that was asked for; None if none was.

    Args:
        error: `target` of :class:`Evaluation`.
        difference: Its `target_difference`.
        max_nfe: Its `max_nfe`.
        solver: Name of the class of its solver, None for the default.
        divergence: Name of the class of its divergence, None for the default.

    Raises:
        ValueError: If it is none, its solver or divergence has no nodes or probes to choose, or `max_nfe` is alone.
    """
    if error is None and difference is None:
        if max_nfe is not None:
            raise ValueError("model.max_nfe bounds what a target costs: give model.target or model.target_difference")
        return None
    if other := [name for name in (solver, divergence) if name in (TorchDiffEq.__name__, Exact.__name__)]:
        raise ValueError(
            "model.target chooses the nodes of Multistep and the probes of Hutchinson, and the configuration has "
            f"{' and '.join(other)}: add --model.solver null --model.divergence null"
        )
    return Target(error, difference, max_nfe)


def _class_of(part: object) -> str | None:
    return None if part is None else type(part).__name__


def check_names(studies: Iterable[str]) -> None:
    """Refuse names of studies that cannot name files, or that name something else in the records.

    Raises:
        ValueError: If there is one.
    """
    for name in studies:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (FAILURES, SAMPLES):
            raise ValueError(
                f"model.studies: a study cannot be called {name!r}: its name is made of letters, digits, '_', '.' and "
                f"'-', and is neither {FAILURES!r} nor {SAMPLES!r}, which are files beside its records"
            )


def _check_colouring(diffusion: DiffusionModel | None, divergence: Divergence) -> None:
    """Say so if a learned colouring is of other weights: means stay right, but the variance may be larger."""
    name = divergence.colouring if isinstance(divergence, Hutchinson) else None
    if diffusion is not None and name is not None and learned_from(name) != diffusion.fingerprint():
        logger.warning(
            "model.divergence: the colouring %r was learned from other weights than the model's. Likelihoods stay "
            "right, but their probe error may be larger than with a lattice (colouring: null).",
            name,
        )


def check_precision(trainer: Trainer) -> None:
    """Refuse a trainer that casts: a network's type is a setting of its model, which results are recorded with.

    Raises:
        ValueError: If its precision is not 32-true.
    """
    if trainer.precision != "32-true":
        raise ValueError(
            f"trainer.precision is {trainer.precision}, which changes numbers and not their records: leave it out. "
            "The network's own type is the model's `dtype` (--model.diffusion.init_args.dtype bfloat16), that of the "
            "state --model.double"
        )
