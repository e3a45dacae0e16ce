"""Images to train on and images held out, from any data set that has no splits of its own."""

import hashlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch.utils.data import DataLoader

from dmlik_pl.data.base import EvaluationData, EvaluationSet, in_order
from dmlik_pl.data.resumable import ResumableLoader
from dmlik_pl.ranges import between, seeds

__all__ = ["HeldOut", "held_out_rank"]


def held_out_rank(sample_id: str) -> float:
    """Return a number in [0, 1) that a sample's name decides, and nothing else.

    Example:
        >>> round(held_out_rank("photo/dog/1.jpg"), 3)
        0.364
    """
    return int.from_bytes(hashlib.blake2b(sample_id.encode(), digest_size=8).digest()) / 2**64


class Chosen(EvaluationSet):
    """Some samples of a data set, in an order of their own.

    Args:
        data: The data set.
        positions: Their positions in it.
    """

    def __init__(self, data: EvaluationSet, positions: list[int]) -> None:
        self.data = data
        self.positions = positions
        self.sample_ids = [data.sample_ids[position] for position in positions]
        self.groups = [data.groups[position] for position in positions] if data.groups else ()
        self.kept_together = [data.kept_together[position] for position in positions] if data.kept_together else ()
        self.source = data.source

    def __getitem__(self, index: int) -> Any:
        """Return the sample at a position."""
        return self.data[self.positions[index]]

    def stamp(self, index: int) -> str | None:
        """Return that of the data set."""
        return self.data.stamp(self.positions[index])


class HeldOut(EvaluationData):
    """Divides the images of another data module by their names: a share of them is never trained on.

    Names decide alone, so the division is the same wherever and in whatever order the images lie, and an image that is
    added moves no other. Several captions of one image stay on one side. Held-out images come in an order that their
    names decide too, so that the first of them are a fair sample of all classes. Tests, as by `evaluate.py`, see
    held-out images only.

    Args:
        images: The data module; all samples of its test are divided, so let nothing limit it.
        domains: Names of domains and patterns of the groups that belong to each, with * and ?: a group of PACS is
            "sketch/dog", one of CLEVR "red/cube". The first domain is trained on; each has a validation of its own, in
            which the others show what is forgotten. All groups are one domain if there is none.
        held_out: Share of the images that is held out.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many held-out samples, taken evenly from all groups; null evaluates all.
        seed: Seed of the order of training.

    Attributes:
        validation_names: The domains, in the order of the validation loaders; None if there is one without a name.
    """

    def __init__(
        self,
        images: EvaluationData,
        domains: Mapping[str, str] | None = None,
        held_out: float = 0.1,
        batch_size: int = 16,
        num_workers: int = 0,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        between(0, 1, held_out=held_out)
        seeds(seed=seed)
        self.images = images
        self.validation_names = tuple(domains) if domains else None
        self.patterns = tuple((domains or {"": "*"}).values())
        self.held_out = held_out
        self.seed = seed
        self._all: EvaluationSet | None = None

    def test_set(self) -> EvaluationSet:
        """Return the held-out images of all domains."""
        return Chosen(self._data(), [position for domain in self.patterns for position in self._held_out(domain)])

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled, full batches of what is trained on."""
        data, domain = self._data(), self.patterns[0]
        kept = [p for p in self._positions(domain) if held_out_rank(self._names()[p]) >= self.held_out]
        if not kept:
            raise ValueError(f"all {len(self._positions(domain))} images of {domain!r} are held out: none to train on")
        return ResumableLoader(Chosen(data, kept), self.batch_size, self.seed, self.num_workers, self.trainer)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return one loader of held-out images for each domain."""
        chosen = [Chosen(self._data(), self._held_out(domain)) for domain in self.patterns]
        return [in_order(data, self.batch_size, self.num_workers) for data in chosen]

    def _data(self) -> EvaluationSet:
        """Return the images, listed once."""
        if self._all is None:
            self._all = self.images._tested()
        return self._all

    def _names(self) -> Sequence[str]:
        """Return the names that decide the split, one for each image."""
        return self._data().kept_together or self._data().sample_ids

    def _positions(self, domain: str) -> list[int]:
        """Return the positions of a domain's images; an empty one is an error."""
        data = self._data()
        groups = data.groups or data.sample_ids
        found = [position for position, group in enumerate(groups) if fnmatchcase(group, domain)]
        if not found:
            known = ", ".join(sorted(set(groups))[:12])
            raise ValueError(f"no image of {data.source} is in {domain!r}; there are {known}")
        return found

    def _held_out(self, domain: str) -> list[int]:
        """Return the positions of a domain's held-out images, in the order that their names decide."""
        names = self._names()
        ranks = {position: held_out_rank(names[position]) for position in self._positions(domain)}
        chosen = sorted((position for position in ranks if ranks[position] < self.held_out), key=ranks.__getitem__)
        if not chosen:
            raise ValueError(
                f"of {len(ranks)} images of {domain!r} none is held out at a share of {self.held_out}: raise `held_out`"
            )
        return chosen
