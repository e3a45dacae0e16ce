"""The first samples of every validation loader, the same ones for a whole fit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningModule, Trainer

from dmlik_pl.modules.training.offers import LikelihoodProblem, OffersLikelihoods

__all__ = ["FixedSamples", "Posed"]


@dataclass
class Posed:
    """What is to be measured, and what cannot be.

    Attributes:
        problems: The samples of which likelihoods can be asked for.
        failures: Why it cannot be asked for, by the names of the others.
    """

    problems: list[LikelihoodProblem] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Of the samples that can be measured, in order."""
        return [str(name) for problem in self.problems for name in problem.sample_ids]

    def __len__(self) -> int:
        return sum(len(problem.sample_ids) for problem in self.problems) + len(self.failures)

    def __add__(self, other: "Posed") -> "Posed":
        return Posed(self.problems + other.problems, self.failures | other.failures)


class FixedSamples:
    """Keeps the first validation batches of this process, and poses their samples again for each measurement.

    Args:
        trainer: A trainer that fits. Names of its validation loaders are the keys of a dictionary of loaders, or the
            data module's `validation_names`; a single loader may have no name.
        module: The training that poses problems.
        count: Number of samples of each loader, over all processes: they go round them.

    Raises:
        ValueError: If there is no validation data, names do not fit the loaders, or two samples have one name.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, count: int) -> None:
        self._trainer = trainer
        self._module = module
        self._batches: dict[str, list[Any]] = {}
        self.first: dict[str, LikelihoodProblem | None] = {}
        for place, (name, loader) in enumerate(validation_loaders(trainer).items()):
            kept: list[Any] = []
            names: set[str] = set()
            left, first = max(1, self._share(count)), None  # the first one shows what a sample costs
            for batch in loader:
                kept.append(batch)
                posed = self._pose(batch, left, place)
                _refuse_repeated(posed.names, names, name)
                first = first or next(iter(posed.problems), None)
                left -= len(posed)
                if left <= 0:
                    break
            self._batches[name], self.first[name] = kept, first

    def __iter__(self) -> Iterator[str]:
        return iter(self._batches)

    def posed(self, name: str, count: int) -> Posed:
        """The problems of this process's share of the first samples of a loader, with the present weights."""
        place, share = list(self._batches).index(name), self._share(count)
        everything = Posed()
        for batch in self._batches[name]:
            if len(everything) >= share:
                break
            everything += self._pose(batch, share - len(everything), place)
        return everything

    def _share(self, count: int) -> int:
        return len(range(self._trainer.global_rank, count, self._trainer.world_size))

    def _pose(self, batch: Any, limit: int, place: int) -> Posed:
        """Pose the first samples of a batch; of one that cannot be posed the others are posed without it."""
        assert isinstance(self._module, OffersLikelihoods)
        try:
            with torch.no_grad():
                here = self._trainer.strategy.batch_to_device(batch, dataloader_idx=place)
                return Posed(self._module.likelihood_problems(here, limit))
        except Exception as error:
            names = [str(name) for name in getattr(batch, "sample_id", ["a batch"])][:limit]
            if len(names) < 2 or not hasattr(batch, "select"):
                return Posed(failures=dict.fromkeys(names, str(error)))
            return sum((self._pose(batch.select([b]), 1, place) for b in range(len(names))), Posed())


def _refuse_repeated(names: Sequence[str], known: set[str], loader: str) -> None:
    """Add names to those that are known; one that is there already is another sample's."""
    for name in names:
        if name in known:
            where = f" of the validation loader {loader!r}" if loader else ""
            raise ValueError(
                f"two samples{where} are called {name!r}: names key the probes and pair measurements, so each must be "
                "one sample's for the whole training. Take a file's name or an index into the data set, not a position "
                "in the batch"
            )
        known.add(name)


def validation_loaders(trainer: Trainer) -> dict[str, Any]:
    """The validation loaders by name; the only one without a name is called "".

    Raises:
        ValueError: If there is no validation data, or names do not fit the loaders.
    """
    trainer.fit_loop.epoch_loop.val_loop.setup_data()  # does nothing the second time
    loaders: Any = trainer.val_dataloaders
    names: Sequence[str] | None = getattr(trainer.datamodule, "validation_names", None)  # type: ignore[attr-defined]
    if isinstance(loaders, Mapping):
        names, loaders = (list(loaders) if names is None else names), list(loaders.values())
    elif not isinstance(loaders, list | tuple):
        loaders = [] if loaders is None else [loaders]
    if not loaders:
        raise ValueError("likelihoods are measured on validation data, and there is none: give a validation loader")
    if names is None and len(loaders) == 1:
        names = [""]
    if names is None or len(set(names)) != len(loaders):
        raise ValueError(
            f"{len(loaders)} validation loaders need as many different names, got {names}: set the data module's "
            "`validation_names`, or return the loaders as a dictionary"
        )
    return dict(zip(names, loaders, strict=True))
