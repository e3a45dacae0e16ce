"""What is known of a kind of study where its records are shown: one declaration per kind, found by discovery.

A kind of the package is a folder of :mod:`dmlik_pl.results` whose `__init__.py` has a :class:`Kind` called `KIND`. One
of another package is an entry point of the group ``dmlik.kinds`` that names such an object; one of a user's own
module is handed to :func:`declare`. Records of a kind that nobody declares are shown by their columns.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from dmlik_pl.records.schema import Schema
from dmlik_pl.results.likelihoods import Data, every_likelihood
from dmlik_pl.results.paper import PaperTable
from dmlik_pl.results.table import Table

__all__ = ["Headline", "Kind", "Series", "declare", "kind_called", "kind_of", "kinds", "own_kinds"]

GROUP = "dmlik.kinds"
_NOT_KINDS = ("page",)

Scalars = Iterator[tuple[str, float]]
"""Names and numbers; those that are not finite are not known."""


class Headline(NamedTuple):
    """A number to be seen first.

    Attributes:
        label: What it is.
        value: The number with its error or interval.
        detail: Of how many samples, and what it is to be compared with.
        errors: What its error is made of; may be empty.
    """

    label: str
    value: str
    detail: str
    errors: str = ""


class Series(NamedTuple):
    """Curves for a dashboard, a line for each value of the column `line`.

    Attributes:
        frame: Columns `line`, `x` and `y`.
        x: Name of the column along the axis.
        y: Name of the column that is drawn.
        title: What is shown.
        axis: What is written along the axis.
    """

    frame: pd.DataFrame
    x: str
    y: str
    title: str
    axis: str


def _no_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    return []


def _no_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    return {}


def _no_scalars(frame: pd.DataFrame) -> Scalars:
    return iter(())


def _no_headlines(study: str, frame: pd.DataFrame) -> Iterator[Headline]:
    return iter(())


def _no_series(frame: pd.DataFrame) -> dict[str, Series]:
    return {}


def _no_sheets(folder: Path, frame: pd.DataFrame) -> dict[str, Figure]:
    return {}


def _no_data(frame: pd.DataFrame) -> Data | None:
    return None


@dataclass(frozen=True)
class Kind:
    """A kind of study: what its records are, and how they are shown.

    Attributes:
        name: As in the column `kind` of its records.
        schema: The columns of its records.
        data: The likelihoods of the data themselves, one row per sample, all of one named part; None if it has none.
        likelihoods: Every row that is a likelihood, for the caveats.
        scores: Every likelihood with its total error, a row each, of the records; of those of `likelihoods` by default.
        tables: Takes the study's name and its records.
        figures: The same for figures, by the names of their files.
        scalars: The numbers by which runs are compared.
        headlines: The numbers at the head of the report; takes the study's name and its records.
        series: Curves for dashboards, by the measure that they show.
        sheets: Figures of the kept pictures, by name: takes the folder where the pictures are, and the records.
        stages: Bits per dimension of one sample's records with their total errors, by stage; those of `data` otherwise.
        panels: Whether a kept picture shows the stages side by side, in the order of the records.
        paper: Tables of the paper that its numbers stand beside, by their numbers.
    """

    name: str
    schema: Schema = field(default_factory=Schema)
    data: Callable[[pd.DataFrame], Data | None] = _no_data
    likelihoods: Callable[[pd.DataFrame], pd.DataFrame] = every_likelihood
    scores: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    tables: Callable[[str, pd.DataFrame], list[Table]] = _no_tables
    figures: Callable[[str, pd.DataFrame], dict[str, Figure]] = _no_figures
    scalars: Callable[[pd.DataFrame], Scalars] = _no_scalars
    headlines: Callable[[str, pd.DataFrame], Iterator[Headline]] = _no_headlines
    series: Callable[[pd.DataFrame], dict[str, Series]] = _no_series
    sheets: Callable[[Path, pd.DataFrame], dict[str, Figure]] = _no_sheets
    stages: Callable[[pd.DataFrame], dict[str, tuple[float, float]]] | None = None
    panels: bool = False
    paper: Mapping[int, PaperTable] = field(default_factory=dict)


_declared: dict[str, Kind] = {}


def declare(kind: Kind) -> Kind:
    """Declare a kind of study from a module of one's own.

    Args:
        kind: The declaration.

    Returns:
        The same.

    Raises:
        ValueError: If another declaration has its name.
    """
    known = _declared.get(kind.name) or _found().get(kind.name)
    if known is not None and known is not kind:
        raise ValueError(f"a kind of study called {kind.name!r} is declared already: choose another name")
    _declared[kind.name] = kind
    return kind


def kinds() -> dict[str, Kind]:
    """All kinds that are declared, by name.

    Raises:
        ValueError: If two have the same name, or a folder of kinds declares none.
    """
    return _found() | _declared


def kind_called(name: str) -> Kind | None:
    """The kind of a name, or None if nobody declares it."""
    return kinds().get(name)


def kind_of(study: str, frame: pd.DataFrame) -> Kind:
    """The kind that made the records of a study: that of their column `kind`, or of the study's name without one.

    Args:
        study: Name of the study.
        frame: Its records.

    Returns:
        Its declaration. Where there is none, one whose records are shown by their columns.
    """
    name = str(frame["kind"].iloc[0]) if "kind" in frame and len(frame) else study
    if (known := kind_called(name)) is not None:
        return known
    from dmlik_pl.results.undeclared import undeclared  # what it makes is a kind

    return undeclared(name)


@cache
def own_kinds() -> dict[str, Kind]:
    """The kinds of this package, by name."""
    package = importlib.import_module("dmlik_pl.results")
    found: dict[str, Kind] = {}
    for child in pkgutil.iter_modules(package.__path__):
        if child.ispkg and child.name not in _NOT_KINDS:
            module = importlib.import_module(f"{package.__name__}.{child.name}")
            _add(found, getattr(module, "KIND", None), module.__name__)
    return found


@cache
def _found() -> dict[str, Kind]:
    """The kinds of this package and of others that are installed."""
    found = dict(own_kinds())
    for entry in entry_points(group=GROUP):
        _add(found, entry.load(), f"{entry.value} (entry point {entry.name!r})")
    return found


def _add(found: dict[str, Kind], kind: object, source: str) -> None:
    if not isinstance(kind, Kind):
        raise ValueError(f"{source} declares no kind of study: it needs a dmlik_pl.results.kinds.Kind called KIND")
    if kind.name in found:
        raise ValueError(f"{source} declares a kind of study called {kind.name!r}, which is declared already")
    found[kind.name] = kind
