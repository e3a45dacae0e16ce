"""Data sets whose samples have stable names, and what stands for a sample that cannot be read."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

__all__ = ["EvaluationSet", "Failure", "in_words"]


@dataclass
class Failure:
    """A sample that could not be read; the run continues and records it.

    Attributes:
        sample_id: The stable name of the sample.
        error: What went wrong, for a person to read.
    """

    sample_id: str
    error: str


class EvaluationSet(Dataset[Any], ABC):
    """A map-style data set whose samples have stable names.

    Attributes:
        sample_ids: The name of every sample, in the order of the positions.
        groups: The class, or cell, of every sample in the same order; `EvaluationData` takes a limited number of
            samples evenly from these. Empty where the set knows no classes.
        kept_together: What must stay on one side of a split, for every sample in the same order: several captions of
            one image have the same value here. Empty where every sample stands alone.
        source: Where the samples come from (folder and pattern, or generator), for messages.
    """

    sample_ids: list[str]
    groups: Sequence[str] = ()
    kept_together: Sequence[str] = ()
    source: str = "this data set"

    def __len__(self) -> int:
        return len(self.sample_ids)

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """Return the sample at a position, or as a :class:`Failure` the reason why it cannot be read."""

    def stamp(self, index: int) -> str | None:
        """Return a text that changes whenever the sample at a position may have, without reading it.

        It saves a resumed run from reading samples that are done. None, the default, means that only reading
        shows it.
        """
        return None


def in_words(error: Exception) -> str:
    """The message of an error, with its kind where the message alone is not enough."""
    message = str(error).strip()
    return message if message and isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {message}"
