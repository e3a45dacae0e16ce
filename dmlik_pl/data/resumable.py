"""Loaders for trainings that are stopped and resumed: the order of samples is known from seed, epoch and position."""

from collections.abc import Iterator
from typing import Any

from lightning import Trainer
from torch.utils.data import DataLoader, DistributedSampler

from dmlik_pl.data.base import EvaluationSet, Readable, collate

__all__ = ["ResumableLoader"]


class EpochOrder(DistributedSampler[int]):
    """Another order in every epoch, the same one whenever that epoch is run.

    Attributes:
        skip: How many positions of the next pass are left out: they were done before a stop.
    """

    skip = 0

    def __iter__(self) -> Iterator[int]:
        left = list(super().__iter__())[self.skip :]
        self.skip = 0
        return iter(left)


class ResumableLoader(DataLoader[Any]):
    """Shuffled, full batches of training samples; a checkpoint notes the position within an epoch.

    Args:
        data: The training samples.
        batch_size: Samples per batch, or all samples if they are fewer.
        seed: Seed of the order.
        num_workers: Processes that load samples; 0 loads in the main process.
        trainer: Knows how many processes share the samples; one if None.
    """

    def __init__(
        self, data: EvaluationSet, batch_size: int, seed: int, num_workers: int = 0, trainer: Trainer | None = None
    ) -> None:
        rank, replicas = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        self.order = EpochOrder(data, replicas, rank, seed=seed)
        self.done = self.found_done = 0
        self.together = min(batch_size, len(self.order))
        super().__init__(
            Readable(data),
            self.together,
            sampler=self.order,
            num_workers=num_workers,
            collate_fn=collate,
            drop_last=True,
            persistent_workers=num_workers > 0,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.done, self.found_done = self.found_done, 0
        self.order.skip = self.done * self.together
        for batch in super().__iter__():
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of this epoch are done; a finished epoch is followed by a new one."""
        return {"done": self.done % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass continue after the batches that are done."""
        self.found_done = state["done"]
