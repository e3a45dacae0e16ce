"""The parts of a study over settings: guidance, size of the image, and whether it was reconstructed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import column

__all__ = ["Part", "labels", "of_part", "parts_of", "plainest"]


class Part(NamedTuple):
    """Settings that a study goes through.

    Attributes:
        size: Pixels along each side of the image; None where the records do not say.
        reconstructed: Whether what was measured had gone through the flow to noise and back before.
        guidance: Its weight w, 1 being conditional; None where the records do not say.
    """

    size: int | None
    reconstructed: bool
    guidance: float | None

    @property
    def plainness(self) -> tuple[bool, int, float]:
        """Sorts parts: as given before reconstructed, then by falling size, then guidance by its distance from 1."""
        return self.reconstructed, -(self.size or 0), abs((1.0 if self.guidance is None else self.guidance) - 1)


def parts_of(frame: pd.DataFrame) -> dict[Part, pd.DataFrame]:
    """Split the records of a study.

    Args:
        frame: The records; those that know none of the settings are all of one part.

    Returns:
        The records of each part, by size, then plain before reconstructed, then guidance.
    """
    reconstructed = np.nan_to_num(column(frame, "reconstructed")).astype(bool)
    places: dict[Part, list[int]] = {}
    for place, (size, again, weight) in enumerate(
        zip(column(frame, "size"), reconstructed, column(frame, "guidance"), strict=True)
    ):
        part = Part(None if np.isnan(size) else int(size), bool(again), None if np.isnan(weight) else float(weight))
        places.setdefault(part, []).append(place)
    order = sorted(places, key=lambda part: (part.size or 0, part.reconstructed, part.guidance or 0.0))
    return {part: frame.iloc[places[part]] for part in order}


def plainest(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The records of one part: as given, at the largest size, under the guidance nearest to 1, which is conditional.

    The part is chosen once for all samples: those that it failed on are not among its records.

    Args:
        frame: The records of a study.

    Returns:
        The part's records, and its label; none where all is as given and conditional.
    """
    parts = parts_of(frame)
    if not parts:
        return frame, ""
    chosen = min(parts, key=lambda part: part.plainness)
    plain = len(parts) == 1 and not chosen.reconstructed and chosen.guidance in (None, 1.0)
    return parts[chosen], "" if plain else labels(parts)[chosen]


def of_part(summary: pd.DataFrame, part: Part) -> pd.DataFrame:
    """The rows of a summary that belong to a part.

    Args:
        summary: Rows with the columns size, reconstructed and guidance, NaN where not known.
        part: The part.
    """
    chosen = np.ones(len(summary), bool)
    for name, value in part._asdict().items():
        chosen &= (summary[name].isna() if value is None else summary[name] == value).to_numpy(bool)
    return summary[chosen]


def labels(parts: Iterable[Part]) -> dict[Part, str]:
    """Each part in a few words: its guidance, and whatever else tells it from the others."""
    parts = list(parts)
    several_sizes = len({part.size for part in parts}) > 1
    return {
        part: ", ".join(
            [f"w = {'?' if part.guidance is None else format(part.guidance, 'g')}"]
            + ([f"{part.size} px"] if several_sizes else [])
            + (["reconstructed"] if part.reconstructed else [])
        )
        for part in parts
    }
