"""The numbers of a sweep that Tables 4, 5 and 7 of Cross and Ragni have too."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from dmlik_pl.records.protocol import is_published
from dmlik_pl.results.paper import Found, Number
from dmlik_pl.results.parts import Part, labels, of_part, parts_of
from dmlik_pl.results.time_sweep.summaries import sweep_summary

__all__ = ["PIXELS_PER_LATENT", "settings_found"]

PIXELS_PER_LATENT = 48
"""The paper divides the likelihoods of 4 (H/8) (W/8) latents by 3 H W pixel values, 48 per latent."""

_SETTING = re.compile(r"CFG (\d+) (\d+)(-R)?")
_SIZES = (512, 1024)
_SHOWN_GUIDANCE = 7.0
_WEIGHTS = {"0": 1.0}  # the paper's "CFG 0" is the conditional model without guidance


def settings_found(frame: pd.DataFrame, systems: Sequence[str]) -> dict[str, Found]:
    """The run's numbers for each of the paper's systems that it has settings of.

    Sizes that are not the paper's stand for its own, the largest for 1024 pixels and the smallest for 512. A run of a
    single setting is compared with a single system whatever its setting is.

    Args:
        frame: The records of the sweep.
        systems: Names as in the paper: "CFG 7 1024-R" (Tables 4 and 7), or "SDXL" for Table 5.

    Returns:
        By system what was found of it.
    """
    summary, parts = sweep_summary(frame), list(parts_of(frame))
    words, unit = labels(parts), PIXELS_PER_LATENT if is_published(frame) else 1
    found = {}
    for system in systems:
        if not _SETTING.fullmatch(system):
            if numbers := list(_ends(summary, parts, unit)):
                found[system] = Found(numbers, _stand_ins(parts))
            continue
        part = _matching(_paper_part(system), parts)
        otherwise: tuple[str, ...] = ()
        if part is None and len(parts) == len(systems) == 1:
            part, otherwise = parts[0], (f"its setting is {words[parts[0]]}",)
        if part is not None:
            numbers = [number for row in of_part(summary, part).to_dict("records") for number in _numbers(row, unit)]
            remark = f"The run's setting is {words[part]}. {_stand_ins(parts)}".strip()
            found[system] = Found(numbers, remark, otherwise)
    return found


def _ends(summary: pd.DataFrame, parts: Sequence[Part], unit: float) -> Iterator[Number]:
    """Table 5: data and guidance at t = 0, size and reconstruction at t = 1."""
    places = [("Data", Part(_SIZES[-1], False, _SHOWN_GUIDANCE), "Data")]
    places += [(f"CFG {w}.00", Part(_SIZES[-1], False, _WEIGHTS.get(w, float(w))), "0.00") for w in "0357"]
    places += [
        (f"{size}{'-R' if again else ''}", Part(size, again, _SHOWN_GUIDANCE), "1.00")
        for size in _SIZES
        for again in (False, True)
    ]
    for name, wanted, column in places:
        part = _matching(wanted, parts)
        rows = [] if part is None else of_part(summary, part).to_dict("records")
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


def _paper_part(system: str) -> Part:
    weight, size, again = _SETTING.fullmatch(system).groups()  # type: ignore[union-attr]
    return Part(int(size), again is not None, _WEIGHTS.get(weight, float(weight)))


def _matching(wanted: Part, parts: Sequence[Part]) -> Part | None:
    """The part that has the wanted settings, as far as the records know them."""
    size = _own_sizes(parts).get(wanted.size, wanted.size)
    for part in parts:
        if (
            part.reconstructed == wanted.reconstructed
            and part.guidance in (None, wanted.guidance)
            and part.size in (None, size)
        ):
            return part
    return None


def _own_sizes(parts: Sequence[Part]) -> dict[int | None, int]:
    """The run's sizes by those of the paper that they stand for; none if it has the paper's."""
    sizes = sorted({part.size for part in parts if part.size is not None})
    if not sizes or set(sizes) & set(_SIZES):
        return {}
    return dict(zip(_SIZES[::-1], dict.fromkeys((sizes[-1], sizes[0])), strict=False))


def _stand_ins(parts: Sequence[Part]) -> str:
    named = [f"{own} px stand for {size}" for size, own in _own_sizes(parts).items()]
    return f"Its {', its '.join(named)}." if named else ""
