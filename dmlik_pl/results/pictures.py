"""Which of the pictures that a run keeps are shown, and sheets of those with panels side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from dmlik_pl.records.sharing import file_name
from dmlik_pl.results.drawing import named

__all__ = ["kept_pictures", "sheet_of_panels"]


def kept_pictures(folder: str | Path, sample_ids: Iterable[str], most: int) -> list[tuple[str, Path]]:
    """Samples of which a run kept a picture, with the files, evenly from all.

    Args:
        folder: Where the pictures are, one per sample.
        sample_ids: Names of the samples, which may be repeated.
        most: How many are chosen at most.
    """
    named = [(name, Path(folder) / f"{file_name(name)}.png") for name in dict.fromkeys(sample_ids)]
    kept = [(name, path) for name, path in named if path.is_file()]
    return kept[:: -(-len(kept) // most)][:most] if kept else []


def sheet_of_panels(
    shown: Sequence[tuple[str, Path]],
    panels: Sequence[tuple[int, str]],
    count: int,
    texts: Mapping[str, str],
    inches: float,
) -> Figure:
    """Some panels of pictures that have them side by side, one row per picture.

    Args:
        shown: Names of samples with their pictures.
        panels: Place of each panel in a picture, from the left, with its title.
        count: How many panels a picture has.
        texts: What stands below each row, by the sample's name.
        inches: Width of a panel.
    """
    figure = Figure(figsize=(inches * len(panels), 0.3 + 1.5 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), len(panels), squeeze=False)
    for axes, (_, title) in zip(rows[0], panels, strict=True):
        axes.set_title(named(title), fontsize=9)
    for (name, path), row in zip(shown, rows, strict=True):
        picture = np.asarray(Image.open(path).convert("RGB"))
        width = picture.shape[1] // count
        for axes, (place, _) in zip(row, panels, strict=True):
            axes.imshow(picture[:, place * width : (place + 1) * width], aspect="auto")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_xlabel(named(texts[name]), fontsize=8, loc="left")
    return figure
