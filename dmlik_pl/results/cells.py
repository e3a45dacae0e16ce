"""The cells of a sweep over settings: guidance, size of the image, and whether it was reconstructed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from dmlik_pl.results.frames import column

__all__ = ["Cell", "cells_of", "labels", "of_cell"]


class Cell(NamedTuple):
    """Settings that a sweep goes through.

    Attributes:
        size: Pixels along each side of the image; None where the records do not say.
        reconstructed: Whether what was measured had gone through the flow to noise and back before.
        guidance: Its weight w, 1 being conditional; None where the records do not say.
    """

    size: int | None
    reconstructed: bool
    guidance: float | None


def cells_of(frame: pd.DataFrame) -> dict[Cell, pd.DataFrame]:
    """Split the records of a sweep.

    Args:
        frame: The records; those that know none of the settings are all of one cell.

    Returns:
        The records of each cell, by size, then plain before reconstructed, then guidance.
    """
    reconstructed = np.nan_to_num(column(frame, "reconstructed")).astype(bool)
    places: dict[Cell, list[int]] = {}
    for place, (size, again, weight) in enumerate(
        zip(column(frame, "size"), reconstructed, column(frame, "guidance"), strict=True)
    ):
        cell = Cell(None if np.isnan(size) else int(size), bool(again), None if np.isnan(weight) else float(weight))
        places.setdefault(cell, []).append(place)
    order = sorted(places, key=lambda cell: (cell.size or 0, cell.reconstructed, cell.guidance or 0.0))
    return {cell: frame.iloc[places[cell]] for cell in order}


def of_cell(summary: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """The rows of a summary that belong to a cell.

    Args:
        summary: Rows with the columns size, reconstructed and guidance, NaN where not known.
        cell: The cell.
    """
    chosen = np.ones(len(summary), bool)
    for name, value in cell._asdict().items():
        chosen &= (summary[name].isna() if value is None else summary[name] == value).to_numpy(bool)
    return summary[chosen]


def labels(cells: Iterable[Cell]) -> dict[Cell, str]:
    """Each cell in a few words: its guidance, and whatever else tells it from the others."""
    cells = list(cells)
    several_sizes = len({cell.size for cell in cells}) > 1
    return {
        cell: ", ".join(
            [f"w = {'?' if cell.guidance is None else format(cell.guidance, 'g')}"]
            + ([f"{cell.size} px"] if several_sizes else [])
            + (["reconstructed"] if cell.reconstructed else [])
        )
        for cell in cells
    }
