"""The numbers of a sweep that Tables 4, 5 and 7 of Cross and Ragni have too."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dmlik_pl.results.cells import Cell, cells_of, labels, of_cell
from dmlik_pl.results.protocol import is_published
from dmlik_pl.results.sweep_summaries import sweep_summary

__all__ = ["PIXELS_A_LATENT", "Found", "Number", "settings_cells"]

PIXELS_A_LATENT = 48
"""The paper divides the likelihoods of 4 (H/8) (W/8) latents by 3 H W pixels: so many for each dimension."""

_SETTING = re.compile(r"CFG (\d+) (\d+)(-R)?")
_SIZES = (512, 1024)
_SHOWN_GUIDANCE = 7.0
_WEIGHTS = {"0": 1.0}  # the paper's "CFG 0" is the conditional model without guidance

Number = tuple[str, str, float, float]
"""Measure and column as in the paper, the run's value and its standard error."""


class Found(NamedTuple):
    """The numbers that a run has of one of the paper's systems.

    Attributes:
        numbers: The numbers.
        remark: A sentence on which of the run's settings they are of.
        otherwise: What these settings have otherwise than the paper's, in phrases.
    """

    numbers: list[Number]
    remark: str = ""
    otherwise: tuple[str, ...] = ()


def settings_cells(frame: pd.DataFrame, systems: Sequence[str]) -> dict[str, Found]:
    """The run's numbers for each of the paper's systems that it has settings of.

    Sizes that are not the paper's stand for its own, the largest for 1024 pixels and the smallest for 512. A run of a
    single setting is compared with a single system whatever its setting is.

    Args:
        frame: The records of the sweep.
        systems: Names as in the paper: "CFG 7 1024-R" (Tables 4 and 7), or "SDXL" for Table 5.

    Returns:
        By system what was found of it.
    """
    summary, cells = sweep_summary(frame), list(cells_of(frame))
    words, unit = labels(cells), PIXELS_A_LATENT if is_published(frame) else 1
    found = {}
    for system in systems:
        if not _SETTING.fullmatch(system):
            if numbers := list(_ends(summary, cells, unit)):
                found[system] = Found(numbers, _stand_ins(cells))
            continue
        cell = _matching(_paper_cell(system), cells)
        otherwise: tuple[str, ...] = ()
        if cell is None and len(cells) == len(systems) == 1:
            cell, otherwise = cells[0], (f"its setting is {words[cells[0]]}",)
        if cell is not None:
            numbers = [number for row in of_cell(summary, cell).to_dict("records") for number in _numbers(row, unit)]
            remark = f"The run's setting is {words[cell]}. {_stand_ins(cells)}".strip()
            found[system] = Found(numbers, remark, otherwise)
    return found


def _ends(summary: pd.DataFrame, cells: Sequence[Cell], unit: float) -> Iterator[Number]:
    """Table 5: data and guidance at t = 0, size and reconstruction at t = 1."""
    places = [("Data", Cell(_SIZES[-1], False, _SHOWN_GUIDANCE), "Data")]
    places += [(f"CFG {w}.00", Cell(_SIZES[-1], False, _WEIGHTS.get(w, float(w))), "0.00") for w in "0357"]
    places += [
        (f"{size}{'-R' if again else ''}", Cell(size, again, _SHOWN_GUIDANCE), "1.00")
        for size in _SIZES
        for again in (False, True)
    ]
    for name, wanted, column in places:
        cell = _matching(wanted, cells)
        rows = [] if cell is None else of_cell(summary, cell).to_dict("records")
        for row in rows:
            for measure, own_column, value, error in _numbers(row, unit):
                if own_column == column:
                    yield measure, name, value, error


def _numbers(row: Mapping[Any, Any], unit: float) -> Iterator[Number]:
    """A row of the summary as the paper has it: likelihoods of samples are those of their 8-bit images."""
    data = row["stage"] == "data"
    column = "Data" if data else f"{row['time']:.2f}"
    bpd = "bpd" if data or math.isnan(row["bpd_pixels"]) else "bpd_pixels"
    for measure, name, scale in (("BPD", bpd, unit), ("FID", "fid", 1), ("CLIP", "clip", 1)):
        yield measure, column, scale * row[name], scale * row[f"{name}_standard_error"]


def _paper_cell(system: str) -> Cell:
    weight, size, again = _SETTING.fullmatch(system).groups()  # type: ignore[union-attr]
    return Cell(int(size), again is not None, _WEIGHTS.get(weight, float(weight)))


def _matching(wanted: Cell, cells: Sequence[Cell]) -> Cell | None:
    """The cell that has the wanted settings, as far as the records know them."""
    size = _own_sizes(cells).get(wanted.size, wanted.size)
    for cell in cells:
        if (
            cell.reconstructed == wanted.reconstructed
            and cell.guidance in (None, wanted.guidance)
            and cell.size in (None, size)
        ):
            return cell
    return None


def _own_sizes(cells: Sequence[Cell]) -> dict[int | None, int]:
    """The run's sizes by those of the paper that they stand for; none if it has the paper's."""
    sizes = sorted({cell.size for cell in cells if cell.size is not None})
    if not sizes or set(sizes) & set(_SIZES):
        return {}
    return dict(zip(_SIZES[::-1], dict.fromkeys((sizes[-1], sizes[0])), strict=False))


def _stand_ins(cells: Sequence[Cell]) -> str:
    named = [f"{own} px stand for {size}" for size, own in _own_sizes(cells).items()]
    return f"Its {', its '.join(named)}." if named else ""
