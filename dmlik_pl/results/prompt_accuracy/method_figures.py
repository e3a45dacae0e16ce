"""How well each method tells prompts apart: as bars, against guidance, against its cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from dmlik_pl.results.drawing import BLUE, GREEN, ORANGE, PURPLE, SKY, arms, named, open_axes
from dmlik_pl.results.prompt_accuracy.decisions import LIKELIHOOD, METHODS
from dmlik_pl.results.prompt_accuracy.summaries import CHANCE

__all__ = ["accuracy_figure", "cost_figure", "guidance_figure"]

_COLOURS = {LIKELIHOOD: BLUE, "screened": SKY, "elbo": GREEN, "pmi": PURPLE, "clip": ORANGE}
_MARKERS = "os^DvPX*"


def accuracy_figure(summary: pd.DataFrame) -> Figure:
    """One panel per part, a group of bars per attribute, a bar per method."""
    parts, attributes = summary["part"].unique(), list(summary["attribute"].unique())
    methods = [method for method in METHODS if (summary["method"] == method).any()]
    columns = min(2, len(parts))
    rows = -(-len(parts) // columns)
    width = 1.8 + 0.65 * len(methods) * max(2, len(attributes))
    figure = Figure(figsize=(min(width, 18 / columns) * columns, 0.5 + 3.3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, part in zip(panels, parts, strict=False):
        _bars(axes, summary[summary["part"] == part], methods, attributes)
        title = ", ".join(filter(None, (part, "bars: Wilson 95 % interval")))
        axes.set_title(title, fontsize=8, loc="left", color="dimgrey")
    for axes in panels[len(parts) :]:
        axes.set_axis_off()
    for axes in panels[::columns]:
        axes.set_ylabel("true prompt first (%)")
    labels = [METHODS[method] for method in methods]
    handles: list[Artist] = [Patch(color=_COLOURS[method]) for method in methods]
    handles += [
        Patch(facecolor=BLUE, edgecolor="white", hatch="////", linewidth=0),
        Line2D([], [], color="black", linestyle="--", linewidth=1.2),
    ]
    labels += ["right, but undecided", CHANCE]
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def _bars(axes: Axes, summary: pd.DataFrame, methods: Sequence[str], attributes: list[str]) -> None:
    width = 0.8 / len(methods)
    for k, method in enumerate(methods):
        known = summary[summary["method"] == method]
        x = np.array([attributes.index(name) for name in known["attribute"]]) + (k - (len(methods) - 1) / 2) * width
        height = 100 * known["accuracy"]
        axes.bar(x, height, 0.9 * width, color=_COLOURS[method])
        if known["undecided_share"].notna().any():
            certain = 100 * known["accuracy_decided"].fillna(0) * (1 - known["undecided_share"])
            unsure = (height - certain).clip(lower=0)
            axes.bar(x, unsure, 0.9 * width, certain, color="none", edgecolor="white", hatch="////", linewidth=0)
        axes.errorbar(x, height, arms(known, "accuracy", 100), fmt="none", ecolor="black", elinewidth=1, capsize=3)
    counts = []
    for place, name in enumerate(attributes):
        own = summary[summary["attribute"] == name]
        axes.hlines(100 * own["chance"].max(), place - 0.46, place + 0.46, color="black", linestyle="--", linewidth=1.2)
        fewest, most = own["n"].min(), own["n"].max()
        n = most if fewest == most else f"{fewest} to {most}"
        counts.append(f"{named(name)}\n(n = {n})")
    axes.set_xticks(range(len(attributes)), counts)
    axes.set_ylim(0, 105)
    open_axes(axes)


def guidance_figure(summary: pd.DataFrame) -> Figure:
    """Accuracy of every method against guidance, one panel per attribute; reconstructed images are dashed."""
    attributes = summary["attribute"].unique()
    weights = np.sort(summary["guidance"].unique())
    methods = [method for method in METHODS if (summary["method"] == method).any()]
    step = 0.06 * np.diff(weights).min()
    figure = Figure(figsize=(1 + 4 * len(attributes), 4), layout="constrained")
    for axes, attribute in zip(
        np.atleast_1d(figure.subplots(1, len(attributes), sharey=True)), attributes, strict=True
    ):
        own = summary[summary["attribute"] == attribute]
        for k, method in enumerate(methods):
            for moved, style in ((False, "-"), (True, "--")):
                line = own[(own["method"] == method) & (own["reconstructed"] == moved)].sort_values("guidance")
                if len(line):
                    _line(axes, line, (k - (len(methods) - 1) / 2) * step, _COLOURS[method], style)
        axes.axhline(100 * own["chance"].max(), color="black", linestyle=":", linewidth=1.2)
        axes.set_xticks(weights, [f"{weight:g}" for weight in weights])
        axes.set_xlabel("guidance w   (1: conditional)")
        axes.set_title(named(attribute), fontsize=10)
        axes.set_ylim(0, 105)
        axes.grid(axis="y", alpha=0.3)
        open_axes(axes)
    figure.axes[0].set_ylabel("true prompt first (%)")
    handles = [Line2D([], [], color=_COLOURS[method], marker="o", markersize=4) for method in methods]
    labels = [METHODS[method] for method in methods]
    if summary["reconstructed"].nunique() > 1:
        handles.append(
            Line2D([], [], color="dimgrey", linestyle="--", marker="o", markersize=4, markerfacecolor="white")
        )
        labels.append("reconstructed")
    handles.append(Line2D([], [], color="black", linestyle=":", linewidth=1.2))
    figure.legend(handles, [*labels, CHANCE], frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def _line(axes: Axes, line: pd.DataFrame, shift: float, colour: str, style: str) -> None:
    face = colour if style == "-" else "white"
    axes.errorbar(
        line["guidance"] + shift,
        100 * line["accuracy"],
        arms(line, "accuracy", 100),
        color=colour,
        linestyle=style,
        marker="o",
        markersize=4,
        markerfacecolor=face,
        capsize=2,
        elinewidth=0.8,
        linewidth=1.2,
    )


def cost_figure(summary: pd.DataFrame) -> Figure:
    """Accuracy against network evaluations: one panel per attribute, a colour per method, a marker per part."""
    attributes, parts = summary["attribute"].unique(), list(summary["part"].unique())
    methods = [method for method in METHODS if (summary["method"] == method).any()]
    figure = Figure(figsize=(1 + 4 * len(attributes), 4.2), layout="constrained")
    for axes, attribute in zip(
        np.atleast_1d(figure.subplots(1, len(attributes), sharey=True)), attributes, strict=True
    ):
        own = summary[summary["attribute"] == attribute]
        for row in own[own["method"] != CHANCE].to_dict("records"):
            _cost_point(axes, row, parts)
        axes.axhline(100 * own["chance"].max(), color="black", linestyle="--", linewidth=1.2)
        axes.set_xscale("log")
        axes.set_xlim(own.loc[own["nfe"] > 0, "nfe"].min() / 1.6, own["nfe"].max() * 1.6)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(-2, 105)
        axes.set_xlabel("network evaluations per decision" + (", parts side by side" if len(parts) > 1 else ""))
        axes.set_title(named(attribute), fontsize=10)
        axes.grid(axis="y", alpha=0.3)
        open_axes(axes)
    figure.axes[0].set_ylabel("true prompt first (%), Wilson 95 % interval")
    handles, labels = [], []
    for method in methods:
        free = summary.loc[summary["method"] == method, "nfe"].isna().all()
        handles.append(
            Line2D([], [], color=_COLOURS[method], linestyle="-" if free else "", marker="" if free else "o")
        )
        labels.append(f"{METHODS[method]} (no evaluations)" if free else METHODS[method])
    for k, part in enumerate(parts if len(parts) > 1 else ()):
        handles.append(Line2D([], [], color="dimgrey", linestyle="", marker=_MARKERS[k % len(_MARKERS)]))
        labels.append(part)
    handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1.2))
    figure.legend(handles, [*labels, CHANCE], frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def _cost_point(axes: Axes, row: dict[str, Any], parts: list[str]) -> None:
    """A method's accuracy at its cost, parts beside each other; a line for a method without network evaluations."""
    value, colour, reach = 100 * row["accuracy"], _COLOURS[row["method"]], arms(pd.DataFrame([row]), "accuracy", 100)
    if not np.isnan(row["nfe"]):
        place = parts.index(row["part"])
        spread = 1.05 ** (place - (len(parts) - 1) / 2)
        marker = _MARKERS[place % len(_MARKERS)]
        axes.errorbar(row["nfe"] * spread, value, reach, fmt=marker, color=colour, markersize=5, capsize=2, linewidth=1)
        return
    axes.axhline(value, color=colour, linewidth=1.2 if len(parts) == 1 else 0.7)
    if len(parts) == 1:
        axes.axhspan(value - reach[0, 0], value + reach[1, 0], color=colour, alpha=0.12, linewidth=0)
