"""What is measured beside a likelihood: where it cannot be taken it is missing, and the likelihood stays."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.missing import missing_columns

__all__ = ["Aside"]

logger = logging.getLogger(__name__)

_told: set[str] = set()  # measures of which a user knows that they may be missing

Item = TypeVar("Item")
Value = TypeVar("Value")


class Aside:
    """Takes side measures of items, such as the samples of a batch or the waves of an utterance.

    What one item makes impossible is missing for that item alone. A package that is not installed, or a lack of memory,
    is no item's fault and is raised.

    Args:
        names: What the items are called in the log.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._reasons: list[dict[str, str]] = [{} for _ in names]

    def take(
        self, measure: str, values: Callable[[list[Item]], Sequence[Value]], items: Sequence[Item | None]
    ) -> list[Value | None]:
        """Measure all items together, or where that fails one by one.

        Args:
            measure: What is measured, in words, such as "CLIP score".
            values: Takes some of the items; gives the value of each.
            items: The items; None for one that is not measured.

        Returns:
            One value for each item; None where there is none.
        """
        found: list[Value | None] = [None] * len(items)
        present = {place: item for place, item in enumerate(items) if item is not None}
        for place, value in zip(present, self._values(measure, values, present), strict=True):
            found[place] = value
        return found

    def one(self, measure: str, place: int, value: Callable[[], Value]) -> Value | None:
        """Measure one item; None where that fails.

        Args:
            measure: What is measured, in words.
            place: The item.
            value: Gives its value.
        """
        return self._values(measure, lambda _: [value()], {place: None})[0]

    def leave_out(self, measure: str, place: int, reason: str) -> None:
        """Note that an item has no value of a measure.

        Args:
            measure: What is measured, in words.
            place: The item.
            reason: Why it has none.
        """
        first = measure not in _told
        _told.add(measure)
        logger.log(
            logging.WARNING if first else logging.DEBUG,
            "%s of %s is missing: %s%s",
            *(measure, one_line(self._names[place]), one_line(reason), " (further ones are counted)" if first else ""),
        )
        self._reasons[place].setdefault(measure, reason)

    def columns(self, place: int) -> dict[str, Any]:
        """What a record of an item says of its missing measures; nothing where it has all."""
        return missing_columns(self._reasons[place])

    def _values(
        self, measure: str, values: Callable[[list[Item]], Sequence[Value]], items: Mapping[int, Item]
    ) -> list[Value | None]:
        """The value of each item, given by their places."""
        if not items:
            return []
        try:
            return list(values(list(items.values())))
        except (ImportError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if len(items) > 1:
                return [self._values(measure, values, {place: item})[0] for place, item in items.items()]
            [place] = items
            self.leave_out(measure, place, str(error) or type(error).__name__)
            return [None]
