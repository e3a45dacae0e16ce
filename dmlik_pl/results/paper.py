"""What the numbers of the paper's tables are of, and how a kind of study finds its own beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

__all__ = ["Found", "Number", "PaperTable", "Printed", "for_all_systems"]

Number = tuple[str, str, float, float]
"""Measure and column of the paper's table, the run's number, and its standard error."""


class Found(NamedTuple):
    """The numbers of a run that stand beside a published row.

    Attributes:
        numbers: The numbers.
        remark: A sentence on what they are of; may be empty.
        otherwise: What the run has otherwise than the published row, in phrases; without any they are comparable.
    """

    numbers: list[Number]
    remark: str = ""
    otherwise: Sequence[str] = ()


class Printed(NamedTuple):
    """What the numbers of a published table are of.

    Attributes:
        words: The same for a reader.
        data: Classes of the data that a run of the same has.
        model: Class of its model.
        space: How the name of the space of its densities begins.
        dims: Numbers of dimensions of its densities; empty where they vary.
    """

    words: str
    data: frozenset[str]
    model: str
    space: str
    dims: frozenset[int] = frozenset()


class PaperTable(NamedTuple):
    """A table of the paper, as a kind of study stands beside it.

    Attributes:
        find: Takes the records of a study and names of systems; gives the numbers of those that the study has.
        remark: What has to be known of the comparison.
        printed: What the published numbers are of.
        scale: What published numbers are multiplied by to be in the run's unit, by measure.
    """

    find: Callable[[pd.DataFrame, Sequence[str]], dict[str, Found]]
    remark: str
    printed: Printed
    scale: Mapping[str, float] = {}


def for_all_systems(numbers: Callable[[pd.DataFrame], Iterator[Number]]) -> Callable[..., dict[str, Found]]:
    """Compare the same numbers with every system.

    Args:
        numbers: Takes the records of a study.
    """
    return lambda frame, systems: dict.fromkeys(systems, Found(list(numbers(frame))))
