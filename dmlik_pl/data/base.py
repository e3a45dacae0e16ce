"""What every data set hands over, and the data module that serves each sample of an evaluation exactly once."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from dmlik_pl.data.serving import Delivery, Identified, Identity, Loaded, RankShare, Readable, Served
from dmlik_pl.data.sets import EvaluationSet, Failure, in_words
from dmlik_pl.ranges import at_least

__all__ = [
    "Batch",
    "Delivery",
    "EvaluationData",
    "EvaluationSet",
    "Failure",
    "Identity",
    "RankShare",
    "Readable",
    "Sample",
    "collate",
    "in_order",
    "in_words",
    "spread",
]

GOLDEN_RATIO_CONJUGATE = 0.6180339887498949


@dataclass
class Sample:
    """One image with what is true of it.

    Attributes:
        sample_id: A stable name such as ``"photo/dog/056_0001.jpg"``, never a position.
        image: The image in [-1, 1], [C, H, W].
        prompt: The true prompt.
        attributes: True values by attribute name, e.g. ``{"colour": "red", "shape": "sphere"}``.
        candidates: Prompts that compete for the image, the true one among them; empty where the data name none.
        converted: What was converted or assumed when the image was read, in words; empty where nothing was.
    """

    sample_id: str
    image: Tensor
    prompt: str
    attributes: dict[str, str] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=list)
    converted: str = ""


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
        converted: What was converted or assumed when each image was read, B texts.
    """

    sample_id: list[str]
    image: Tensor
    prompt: list[str]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    candidates: list[list[str]] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)

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
            converted=[self.converted[b] for b in index] if self.converted else [],
        )


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
        converted=[sample.converted for sample in samples],
    )


def in_order(data: EvaluationSet, batch_size: int, num_workers: int = 0) -> DataLoader[Any]:
    """Return a loader of validation samples in their order."""
    return DataLoader(
        Readable(data),
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

    Example:
        >>> spread(["red", "red", "red", "blue", "blue", "green"], 3)
        [0, 3, 5]
    """
    order = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    seen: Counter[str] = Counter()
    turns: list[tuple[int, float, int]] = []
    for position, group in enumerate(groups):
        turns.append((seen[group], order[group] * GOLDEN_RATIO_CONJUGATE % 1.0, position))
        seen[group] += 1
    return sorted(position for _, _, position in sorted(turns)[:limit])


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
        """Return the loader of this process's share of the samples that are left to do; it yields `Delivery`."""
        data = self._tested()
        todo = [position for position in self._selected() if data.sample_ids[position] not in self.skip]
        rank, replicas = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(
            Served(data),
            batch_size=self.batch_size,
            sampler=RankShare(todo, rank, replicas),
            num_workers=self.num_workers,
            collate_fn=self._deliver,
        )

    def identities(self, known: Mapping[str, Collection[Identity]]) -> Iterator[tuple[str, Identity]]:
        """Find out what samples are now; one whose stamp is known is not read again.

        Args:
            known: What each sample has been, by name; other samples are left out.

        Yields:
            Name and identity of each, in order; the fingerprint of one that cannot be read is empty.
        """
        data = self._tested()
        served = Served(data)
        positions = [position for position in self._selected() if data.sample_ids[position] in known]
        unread: list[int] = []
        for position in positions:
            name = data.sample_ids[position]
            stamp = served.stamp(position)
            same = [each for each in known[name] if stamp and each.stamp == stamp and each.fingerprint]
            if same:
                yield name, same[-1]
            else:
                unread.append(position)
        if unread:
            yield from DataLoader(Identified(data), batch_size=None, sampler=unread, num_workers=self.num_workers)

    def _deliver(self, loaded: Sequence[Loaded | None]) -> Delivery:
        """Join samples to a batch; where that fails, each is a batch, and one that cannot be joined fails alone."""
        there = [each for each in loaded if each is not None]
        failures = [each.item for each in there if isinstance(each.item, Failure)]
        read = [each for each in there if not isinstance(each.item, Failure)]
        batches: list[Any] = []
        try:
            batches += [self.collate([each.item for each in read])] if read else []
        except Exception:  # samples that do not fit side by side
            for each in read:
                try:
                    batches.append(self.collate([each.item]))
                except Exception as error:
                    failures.append(Failure(each.sample_id, in_words(error)))
        return Delivery(batches, failures, {each.sample_id: each.identity for each in there})

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
