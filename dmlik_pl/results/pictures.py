"""A contact sheet of the pictures that a sweep over time keeps: each sample's data and its way from noise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["contact_sheet", "kept_pictures"]

_ROWS = 12
_INCHES_A_STAGE = 1.1


def kept_pictures(folder: str | Path, sample_ids: Iterable[str], most: int) -> list[tuple[str, Path]]:
    """Samples of which a run kept a picture, with the files, evenly from all.

    Args:
        folder: Where the pictures are, one a sample.
        sample_ids: Names of the samples, which may be repeated.
        most: At most so many are chosen.
    """
    named = [(name, Path(folder) / f"{name.replace('/', '_')}.png") for name in dict.fromkeys(sample_ids)]
    kept = [(name, path) for name, path in named if path.is_file()]
    return kept[:: -(-len(kept) // most)][:most] if kept else []


def contact_sheet(folder: str | Path, sweep: pd.DataFrame) -> Figure | None:
    """Pictures of at most twelve samples, a row each: the data, then X_t from noise to data.

    Args:
        folder: Where the pictures are, one a sample with its stages side by side.
        sweep: The records of the sweep.

    Returns:
        The figure, or None if there are no pictures.
    """
    shown = kept_pictures(folder, sweep["sample_id"], _ROWS)
    if not shown:
        return None
    stages = sweep[sweep["sample_id"] == shown[0][0]]
    titles = ["data", *(f"t = {time:g}\nσ = {sigma:.3g}" for time, sigma in _levels(stages))]
    prompts = sweep.drop_duplicates("sample_id").set_index("sample_id")["prompt"]
    figure = Figure(figsize=(_INCHES_A_STAGE * (len(titles) + 1.6), _INCHES_A_STAGE * len(shown)), layout="constrained")
    for row, axes in enumerate(np.atleast_1d(figure.subplots(len(shown), 1))):
        name, path = shown[row]
        picture = np.asarray(Image.open(path).convert("RGB"))
        axes.imshow(picture)
        axes.set_ylabel(str(prompts[name]).removeprefix("a photo of "), rotation=0, ha="right", va="center", fontsize=8)
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=8)
        width = picture.shape[1] / len(titles)
        axes.set_xticks([(k + 0.5) * width for k in range(len(titles))], titles if row == 0 else [])
        axes.xaxis.tick_top()
    return figure


def _levels(stages: pd.DataFrame) -> list[tuple[float, float]]:
    """Times and noise levels of one sample's stages after its data, in the order of their pictures."""
    samples = stages[stages["stage"] == "sample"]
    return list(zip(samples["time"], samples["sigma"], strict=True))
