"""What every data set hands over, and the data module that serves each sample of an evaluation exactly once."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from dmlik_pl.ranges import at_least

__all__ = [
    "Batch",
    "EvaluationData",
    "EvaluationSet",
    "Failure",
    "RankShare",
    "Sample",
    "collate",
    "in_order",
    "spread",
]

GOLDEN_RATIO_CONJUGATE = 0.6180339887498949
NOTHING = -1


@dataclass
class Sample:
    """One image with what is true of it.

    Attributes:
        sample_id: A stable name such as ``"photo/dog/056_0001.jpg"``, never a position.
        image: The image in [-1, 1], [C, H, W].
        prompt: The true prompt.
        attributes: True values by attribute name, e.g. ``{"colour": "red", "shape": "sphere"}``.
        candidates: Prompts that compete for the image, the true one among them; empty where the data name none.
    """

    sample_id: str
    image: Tensor
    prompt: str
    attributes: dict[str, str] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=list)


@dataclass
class Failure:
    """A sample that could not be read; the run goes on and records it.

    Attributes:
        sample_id: The stable name of the sample.
        error: What went wrong, for a person to read.
    """

    sample_id: str
    error: str


@dataclass
class Batch:
    """Samples side by side, and the samples of the same batch that could not be read.

    Attributes:
        sample_id: Stable names, B of them.
        image: Images in [-1, 1], [B, C, H, W]; [0, 0, 0, 0] where there is none.
        prompt: The true prompt of each sample.
        attributes: True values by attribute name, B of each.
        failures: Samples that could not be read; they are not counted in B.
        candidates: The prompts that compete for each sample, B lists; empty where the data name none.
    """

    sample_id: list[str]
    image: Tensor
    prompt: list[str]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    candidates: list[list[str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sample_id)

    def to(self, device: torch.device | str, **options: Any) -> "Batch":
        """Return the batch with its images on `device`; further `options` go to `torch.Tensor.to`."""
        return replace(self, image=self.image.to(device, **options))

    def select(self, index: Sequence[int]) -> "Batch":
        """Return some samples of the batch, without its failures."""
        return Batch(
            sample_id=[self.sample_id[b] for b in index],
            image=self.image[list(index)],
            prompt=[self.prompt[b] for b in index],
            attributes={name: [values[b] for b in index] for name, values in self.attributes.items()},
            candidates=[self.candidates[b] for b in index] if self.candidates else [],
        )


class EvaluationSet(Dataset[Any], ABC):
    """A map-style data set whose samples have stable names.

    Attributes:
        sample_ids: The name of every sample, in the order of the positions.
        groups: The class, or cell, of every sample in the same order; `EvaluationData` takes a limited number of
            samples evenly from these. Empty where the set knows no classes.
        source: Where the samples come from (folder and pattern, or generator), for messages.
    """

    sample_ids: list[str]
    groups: Sequence[str] = ()
    source: str = "this data set"

    def __len__(self) -> int:
        return len(self.sample_ids)

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """Return the sample at a position, or as a :class:`Failure` the reason why it cannot be read."""


def collate(items: Sequence[Sample | Failure | None]) -> Batch:
    """Join samples to a batch and set failures apart.

    Args:
        items: What a data set returned; the images must have one shape and the samples the same attribute names.
            None, which stands for "nothing to do", is dropped.

    Returns:
        The batch; without any sample, its image tensor has shape [0, 0, 0, 0].
    """
    samples = [item for item in items if isinstance(item, Sample)]
    names = samples[0].attributes.keys() if samples else ()
    return Batch(
        sample_id=[sample.sample_id for sample in samples],
        image=torch.stack([sample.image for sample in samples]) if samples else torch.empty(0, 0, 0, 0),
        prompt=[sample.prompt for sample in samples],
        attributes={name: [sample.attributes[name] for sample in samples] for name in names},
        failures=[item for item in items if isinstance(item, Failure)],
        candidates=[sample.candidates for sample in samples],
    )


def in_order(data: EvaluationSet, batch_size: int, num_workers: int = 0) -> DataLoader[Any]:
    """Return a loader of validation samples in their order."""
    return DataLoader(
        data,
        min(batch_size, len(data)),
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
    )


def spread(groups: Sequence[str], limit: int) -> list[int]:
    """Choose positions evenly from all groups; a smaller limit chooses a subset of a larger one.

    Every group gives its first sample before any gives its second. Within such a round the groups take turns by the
    golden ratio, so that a limit below the number of groups does not fall in step with a periodic order of classes.

    Args:
        groups: The group of every sample.
        limit: The number of positions wanted.

    Returns:
        At most `limit` distinct positions, ascending.
    """
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    seen: Counter[str] = Counter()
    turns: list[tuple[int, float, int]] = []
    for position, group in enumerate(groups):
        turns.append((seen[group], order[group] * GOLDEN_RATIO_CONJUGATE % 1.0, position))
        seen[group] += 1
    return sorted(position for _, _, position in sorted(turns)[:limit])


class RankShare(DistributedSampler[int]):
    """The positions of one process: every `replicas`-th of those to do, never padded, never repeated.

    It derives from `DistributedSampler` because Lightning leaves such a sampler alone; any other it replaces, in a
    distributed test loop, by one that repeats samples until all processes have equally many. A process without work
    gets the single position `NOTHING`: Lightning leaves out the hooks of an empty loop, on which the others would wait.

    Args:
        positions: The positions to do, the same list on every process.
        rank: The number of this process.
        replicas: The number of processes.
    """

    def __init__(self, positions: Sequence[int], rank: int, replicas: int) -> None:
        super().__init__(range(len(positions)), num_replicas=replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self.share = list(positions[rank::replicas]) or [NOTHING]

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


class Served(Dataset[Any]):
    """A data set that has None at the position `NOTHING`.

    Args:
        data: The data set.
    """

    def __init__(self, data: EvaluationSet) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, position: int) -> Any:
        """Return what the data set has at the position."""
        return None if position == NOTHING else self.data[position]


class EvaluationData(LightningDataModule, ABC):
    """Serves each sample that is left to do once, on one process of many; one empty batch where none is left.

    A subclass says what is tested in `test_set`, and in `collate` how samples other than images become a batch, which
    has `sample_id`, `failures`, `len`, `select` and `to` as :class:`Batch` has them; one that trains adds Lightning's
    `train_dataloader` and `val_dataloader`. Set `skip` before the loader is made, and on all processes alike, since
    each takes its share of what is left.

    Args:
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all classes; None evaluates all.
    """

    def __init__(self, batch_size: int = 16, num_workers: int = 0, limit: int | None = None) -> None:
        super().__init__()
        at_least(1, batch_size=batch_size, limit=limit)
        at_least(0, num_workers=num_workers)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.limit = limit
        self.skip: AbstractSet[str] = set()
        self._test_set: EvaluationSet | None = None

    @abstractmethod
    def test_set(self) -> EvaluationSet:
        """Return the data set that is evaluated."""

    def collate(self, items: Sequence[Any]) -> Any:
        """Join what the data set returned to a batch; None stands for "nothing to do" and is dropped."""
        return collate(items)

    def sample_ids(self) -> list[str]:
        """Return the names of all samples of the evaluation, within `limit` and done or not, in order."""
        names = self._tested().sample_ids
        return [names[position] for position in self._selected()]

    def examples(self, most: int = 32) -> Iterator[Any]:
        """Yield a readable sample of each class, each as a batch of its own.

        Args:
            most: Samples that are looked at; of data without classes it is the first ones, until one can be read.
        """
        data, chosen = self._tested(), self._selected()
        firsts = {data.groups[position]: position for position in reversed(chosen)} if data.groups else {}
        for position in sorted(firsts.values())[:most] or chosen[:most]:
            try:
                batch = self.collate([data[position]])
            except Exception:  # the run records it as a failure of this sample
                continue
            if len(batch):
                yield batch
                if not firsts:
                    return

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of this process's share of the samples that are left to do."""
        data = self._tested()
        todo = [position for position in self._selected() if data.sample_ids[position] not in self.skip]
        rank, replicas = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            Served(data),
            batch_size=self.batch_size,
            sampler=RankShare(todo, rank, replicas),
            num_workers=self.num_workers,
            collate_fn=self.collate,
        )

    def _tested(self) -> EvaluationSet:
        """Return the data set, made once: listing a folder of files may take long."""
        if self._test_set is None:
            data = self.test_set()
            if len(data) == 0:
                raise ValueError(f"{type(self).__name__} has no sample to evaluate: nothing found in {data.source}")
            if repeated := [name for name, count in Counter(data.sample_ids).items() if count > 1]:
                raise ValueError(f"sample ids must be unique, but {repeated[0]!r} is given to more than one sample")
            self._test_set = data
        return self._test_set

    def _selected(self) -> list[int]:
        """Return the positions within `limit`."""
        data = self._tested()
        if self.limit is None:
            return list(range(len(data)))
        return spread(data.groups or data.sample_ids, self.limit)
