"""Figures of the study of adaptation: the grid's measures, and spectrograms on their way through the flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmlik_pl.results.adaptation.summaries import adaptation_summary
from dmlik_pl.results.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, arms, named, open_axes
from dmlik_pl.results.pictures import kept_pictures, sheet_of_panels

__all__ = ["adaptation_figures", "adaptation_sheet"]

_UTTERANCES = 3
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_PANELS = (
    ("WER", "wer"),
    ("bits per dimension, μ of the recording", "bpd"),
    ("ASV, cosine to the reference", "speaker_similarity"),
)


def adaptation_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """A panel for each measure: every way through the flow by its blur, with the untouched recording as lines."""
    summary = adaptation_summary(frame)
    panels = [(label, name) for label, name in _PANELS if summary[name].notna().any()]
    adapted = summary[summary["stage"] == "adapted"]
    if not panels or adapted.empty:
        return {}
    means = list(dict.fromkeys(summary["mean"]))
    routes = list(dict.fromkeys(zip(adapted["forward"], adapted["reverse"], strict=True)))
    width = 1.6 + 0.28 * len(means) * (len(routes) + 1)
    figure = Figure(figsize=(max(3.6, width) * len(panels), 4.2), layout="constrained")
    for axes, (label, name) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for place, route in enumerate(routes):
            part = adapted[(adapted["forward"] == route[0]) & (adapted["reverse"] == route[1])]
            shift = (place - (len(routes) - 1) / 2) * 0.8 / len(routes)
            _points(axes, part, name, means, shift, named(" → ".join(route)), _COLOURS[place % len(_COLOURS)])
        _untouched(axes, summary, name, means)
        ticks = [named(mean) for mean in means]
        axes.set_xticks(range(len(means)), ticks, fontsize=8, rotation=0 if len(means) < 3 else 45)
        axes.set_xlim(-0.6, len(means) - 0.4)
        axes.set_ylabel(label)
        axes.grid(axis="y", alpha=0.3)
        open_axes(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    figure.suptitle(
        f"{int(summary['n'].min())} utterances, bars and bands: 95 % intervals over utterances", fontsize=10
    )
    return {study: figure}


def _points(axes: Axes, part: pd.DataFrame, name: str, means: list[str], shift: float, label: str, colour: str) -> None:
    x = np.array([means.index(mean) for mean in part["mean"]]) + shift
    value, reach = part[name].to_numpy(dtype=float), np.nan_to_num(arms(part, name))
    axes.errorbar(x, value, reach, fmt="o", color=colour, markersize=4, capsize=2, linewidth=1, label=label)


def _untouched(axes: Axes, summary: pd.DataFrame, name: str, means: list[str]) -> None:
    """The recording, and its mel through the vocoder, as a line with its interval over each blur."""
    for stage, style, label in (("data", "--", "recording"), ("vocoded", ":", "recording, vocoded")):
        rows = summary[(summary["stage"] == stage) & summary[name].notna()]
        for i, row in enumerate(rows.to_dict("records")):
            ends = (means.index(row["mean"]) - 0.5, means.index(row["mean"]) + 0.5)
            axes.hlines(row[name], *ends, color="black", linestyle=style, linewidth=1.2, label="" if i else label)
            if np.isfinite(row[f"{name}_low"]) and np.isfinite(row[f"{name}_high"]):
                axes.fill_between(ends, row[f"{name}_low"], row[f"{name}_high"], color=GREY, alpha=0.18, linewidth=0)


def adaptation_sheet(folder: str | Path, frame: pd.DataFrame) -> Figure | None:
    """Mels of at most three utterances, one per row: the recording, its blur, x_T of each forward, what came out.

    Args:
        folder: Where the pictures are, one per utterance with its mels side by side.
        frame: The records of the study.

    Returns:
        The figure, or None if there are no pictures.
    """
    shown = kept_pictures(folder, frame["sample_id"], _UTTERANCES)
    if not shown:
        return None
    titles = _titles(frame)
    order = [len(titles) - 1, *range(len(titles) - 1)]  # the recording is last in the picture, and first in the sheet
    texts = frame.drop_duplicates("sample_id").set_index("sample_id")["text"]
    panels = [(place, titles[place]) for place in order]
    return sheet_of_panels(shown, panels, len(titles), texts, inches=2.2)


def _titles(frame: pd.DataFrame) -> list[str]:
    """What the panels of a picture hold: those of the first blur, in the order of the records."""
    first = frame[(frame["sample_id"] == frame["sample_id"].iloc[0]) & (frame["mean"] == frame["mean"].iloc[0])]
    ways = first[first["stage"] == "adapted"]
    return [
        f"μ: {frame['mean'].iloc[0]}",
        *(f"x_T, {forward}" for forward in ways["forward"].drop_duplicates()),
        *(f"{row.forward} → {row.reverse}" for row in ways.itertuples()),
        "recording",
    ]
