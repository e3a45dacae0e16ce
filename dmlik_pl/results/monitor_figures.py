"""The curve of a likelihood monitor: what a training gains where, and what it loses elsewhere."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmlik_pl.results.drawing import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Canvas, named, open_axes
from dmlik_pl.stats.significance import interval_reach

__all__ = ["monitor_figure"]

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


def monitor_figure(history: pd.DataFrame, gain: str = "guidance_gap") -> Figure:
    """Bits per dimension of every loader against the training step, with 95 % bands over samples.

    Args:
        history: One row per measurement and loader, as in ``likelihood.csv``: `step`, `loader`, `bpd_samples` and, in
            bits per dimension, `bpd` and, where measured, `bpd_change`, the gain, `bpd_unconditional` and `elbo`, each
            with its ``_sampling_error``.
        gain: Name of the excess of the bits per dimension without the condition.

    Returns:
        Panels for bits per dimension, their change since the first measurement, the gain, and the bound.
    """
    history = history.assign(loader=history["loader"].fillna(""))  # as a file has the only one without a name
    panels = [
        ("bpd", "likelihood"),
        ("bpd_change", "likelihood, change since the start"),
        (gain, gain.replace("_", " ")),
        ("elbo", "evidence lower bound"),
    ]
    panels = [(name, title) for name, title in panels if name in history and history[name].notna().any()]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.6 + 4.2 * columns, 0.6 + 3.0 * rows), layout="constrained")
    Canvas(figure)
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, title) in zip(places, panels, strict=False):
        for colour, (loader, part) in zip(cycle(_COLOURS), history.groupby("loader", sort=False), strict=False):
            _draw(axes, part, name, named(f"{loader} (n = {part['bpd_samples'].max():.0f})".strip()), colour)
        if name == "bpd_change":
            axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("training step")
        axes.grid(axis="y", alpha=0.3)
        open_axes(axes)
    for axes in places[len(panels) :]:
        axes.axis("off")
    handles, labels = places[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside upper center", ncols=len(labels))
    figure.supylabel("bits per dimension", fontsize=10)
    dashed = "; dashed: without the condition" if "bpd_unconditional" in history else ""
    figure.supxlabel(f"bands: 95 % over samples; the change is paired by sample{dashed}", fontsize=8)
    return figure


def _draw(axes: Axes, part: pd.DataFrame, name: str, loader: str, colour: str) -> None:
    """The curve of one loader with its band."""
    known = part[part[name].notna()]
    if name == "bpd_change":  # the first measurement is where changes count from
        known = part.assign(**{column: part[column].fillna(0) for column in (name, f"{name}_sampling_error")})
    reach = np.nan_to_num(interval_reach(known[f"{name}_sampling_error"], known["bpd_samples"]))
    axes.fill_between(known["step"], known[name] - reach, known[name] + reach, color=colour, alpha=0.2, linewidth=0)
    axes.plot(known["step"], known[name], color=colour, marker="o", markersize=3, label=loader)
    if name == "bpd" and "bpd_unconditional" in part:
        free = part[part["bpd_unconditional"].notna()]
        axes.plot(free["step"], free["bpd_unconditional"], color=colour, linestyle="--", linewidth=1)
