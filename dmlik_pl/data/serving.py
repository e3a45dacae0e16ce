"""How samples are handed over: each once, with its identity; one that cannot be read as a failure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import torch
from torch.utils.data import Dataset, DistributedSampler

from dmlik_pl.data.fingerprint import fingerprint
from dmlik_pl.data.sets import EvaluationSet, Failure, in_words

__all__ = ["Delivery", "Identified", "Identity", "Loaded", "RankShare", "Readable", "Served"]

NOTHING = -1


@dataclass(frozen=True)
class Identity:
    """What distinguishes a sample from another of the same name, and from itself after a change.

    Attributes:
        fingerprint: Digest of the sample as read; see :func:`dmlik_pl.data.fingerprint.fingerprint`.
        stamp: Digest of where and when it was read from; empty where that does not show whether it has changed.
        converted: What was changed about it when it was read, in words.
    """

    fingerprint: str
    stamp: str = ""
    converted: str = ""


@dataclass
class Delivery:
    """What a loader of an evaluation hands over.

    Attributes:
        batches: The samples; more than one batch where they do not fit side by side.
        failures: Samples that could not be read or put into a batch.
        identities: What each sample of the batches is, by name.
    """

    batches: list[Any]
    failures: list[Failure] = field(default_factory=list)
    identities: dict[str, Identity] = field(default_factory=dict)

    @property
    def sample_id(self) -> list[str]:
        """Names of the samples that could be read."""
        return [name for batch in self.batches for name in batch.sample_id]

    def to(self, device: torch.device | str, **options: Any) -> "Delivery":
        """Return the delivery with its batches on `device`; further `options` go to `torch.Tensor.to`."""
        return replace(self, batches=[batch.to(device, **options) for batch in self.batches])


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


@dataclass(frozen=True)
class Loaded:
    """A sample, or why there is none, with its identity."""

    sample_id: str
    item: Any
    identity: Identity


class Readable(Dataset[Any]):
    """A data set in which a sample that cannot be read is a `Failure`, whatever reading it raises.

    Args:
        data: The data set.
    """

    def __init__(self, data: EvaluationSet) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, position: int) -> Any:
        """Return the sample at the position, or the reason why there is none."""
        try:
            return self.data[position]
        except Exception as error:  # one sample never ends a run
            return Failure(self.data.sample_ids[position], in_words(error))


class Served(Readable):
    """A data set's samples with their identities, and None at the position `NOTHING`."""

    def __getitem__(self, position: int) -> Loaded | None:
        """Return what the data set has at the position."""
        if position == NOTHING:
            return None
        name = self.data.sample_ids[position]
        try:
            stamp = self.stamp(position)  # before the sample: what changes meanwhile is read again, never missed
            item = super().__getitem__(position)
            if isinstance(item, Failure):
                return Loaded(name, item, Identity("", stamp))
            return Loaded(name, item, Identity(fingerprint(item), stamp, getattr(item, "converted", "")))
        except Exception as error:
            return Loaded(name, Failure(name, in_words(error)), Identity(""))

    def stamp(self, position: int) -> str:
        """Return the digest of the data set's stamp; empty where it has none."""
        text = self.data.stamp(position)
        return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest() if text else ""


class Identified(Served):
    """A data set's names and identities alone: tensors need not travel between processes."""

    def __getitem__(self, position: int) -> tuple[str, Identity]:  # type: ignore[override]
        """Return the name and the identity of the sample at the position."""
        loaded = super().__getitem__(position)
        assert loaded is not None
        return loaded.sample_id, loaded.identity
