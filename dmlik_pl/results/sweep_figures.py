"""Figures of a sweep over time and settings: curves over time, guidance and quality against likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dmlik_pl.results.cells import Cell, cells_of, of_cell
from dmlik_pl.results.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    curve,
    open_axes,
    time_axis,
)
from dmlik_pl.results.figures import register_figures
from dmlik_pl.results.sweep_summaries import sweep_summary

__all__ = ["time_sweep_figures"]

_CURVES = (
    (
        "bits per dimension",
        [
            ("bpd", "xₜ read as data", BLUE),
            ("bpd_pixels", "through 8-bit pixels", SKY),
            ("bpd_marginal", "at its own time t", VERMILION),
        ],
    ),
    ("CLIP score", [("clip", "samples", ORANGE)]),
    ("FID against the data", [("fid", "samples", GREEN)]),
    ("KID against the data", [("kid", "samples", PURPLE)]),
)
_PANELS = (
    ("bpd", "BPD, xₜ read as data"),
    ("bpd_marginal", "BPD at its own time t"),
    ("clip", "CLIP score"),
    ("fid", "FID against the data"),
    ("kid", "KID against the data"),
)
_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
_MARKERS = "os^Dv"
_DATA_PLACE, _DATA_WIDTH = 0.16, 0.1


@register_figures("time_sweep")
def time_sweep_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """Curves over time; for several settings also guidance against likelihood, and quality against likelihood."""
    summary, cells = sweep_summary(frame), list(cells_of(frame))
    if len(cells) == 1:
        figure = _one_cell(summary)
        return {} if figure is None else {study: figure}
    figures = {study: _every_cell(summary, cells), f"{study}_quality": _quality(summary, cells)}
    if len({cell.guidance for cell in cells}) > 1:
        figures[f"{study}_guidance"] = _guidance(summary, cells)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _one_cell(summary: pd.DataFrame) -> Figure | None:
    """A panel a measure, with the data as a line across."""
    samples, data = summary[summary["stage"] == "sample"], summary[summary["stage"] == "data"]
    panels = [(label, [c for c in curves if samples[c[0]].notna().any()]) for label, curves in _CURVES]
    panels = [(label, curves) for label, curves in panels if curves]
    if not panels:
        return None
    figure = Figure(figsize=(1.2 + 3.4 * len(panels), 3.6), layout="constrained")
    for axes, (label, curves) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for name, meaning, colour in curves:
            curve(axes, samples, name, meaning, colour)
        name = curves[0][0]
        if name not in ("fid", "kid") and len(data) and np.isfinite(data[name].iloc[0]):
            value, reach = data[name].iloc[0], _reach(data, name).iloc[0]
            axes.axhline(value, color=GREY, linestyle="--", linewidth=1.2, label="data")
            axes.axhspan(value - reach, value + reach, color=GREY, alpha=0.2, linewidth=0)
        time_axis(axes, samples)
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"From noise to data, {int(summary['n'].min())} samples, bands: 95 % interval of the mean", fontsize=10
    )
    return figure


def _every_cell(summary: pd.DataFrame, cells: Sequence[Cell]) -> Figure | None:
    """Rows of panels for sizes, a panel a measure, a line a setting; the data beside the end of each line."""
    samples = summary[summary["stage"] == "sample"]
    panels = [(name, label) for name, label in _PANELS if samples[name].notna().any()]
    if not panels:
        return None
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    weights = sorted({cell.guidance for cell in cells}, key=lambda weight: weight or 0.0)
    columns = len(panels) if len(sizes) > 1 else min(3, len(panels))
    rows = len(sizes) * -(-len(panels) // columns)
    figure = Figure(figsize=(0.8 + 3.1 * columns, 0.9 + 3.0 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).reshape(len(sizes), -1)
    for size, line in zip(sizes, places, strict=True):
        for axes, (name, label) in zip(line, panels, strict=False):
            for cell in cells:
                if cell.size == size:
                    shift = _DATA_WIDTH * (weights.index(cell.guidance) / max(1, len(weights) - 1) - 0.5)
                    _draw_cell(axes, of_cell(summary, cell), name, _style(cell, cells), _DATA_PLACE + shift)
            time_axis(
                axes, of_cell(summary, next(cell for cell in cells if cell.size == size)).query("stage == 'sample'")
            )
            if len(axes.containers):
                _make_room_for_data(axes)
            axes.set_ylabel(label, fontsize=9)
            if len(sizes) > 1:
                axes.set_title(f"{size} px", fontsize=9, loc="left")
        for axes in line[len(panels) :]:
            axes.axis("off")
    n = int(summary["n"].min())
    figure.suptitle(f"From noise to data, {n} samples a setting; bands, bars: 95 % interval", fontsize=10)
    _legend(figure, cells)
    return figure


def _draw_cell(axes: Axes, summary: pd.DataFrame, name: str, style: dict[str, Any], behind: float) -> None:
    """One setting's curve, and its data `behind` its end on the time axis."""
    samples, data = summary[summary["stage"] == "sample"], summary[summary["stage"] == "data"]
    curve(axes, samples, name, "", style["color"], shade=0.13, **style)
    # The distance of the data to themselves is no news.
    if len(data) and np.isfinite(data[name].iloc[0]) and (name not in ("fid", "kid") or data["reconstructed"].iloc[0]):
        place, reach = samples["time"].min() - behind, _reach(data, name).iloc[0]
        axes.errorbar(place, data[name].iloc[0], reach, capsize=2, **style | {"linestyle": "none"})


def _reach(summary: pd.DataFrame, name: str) -> pd.Series:
    """Half the width of each 95 % interval of a mean; 0 where a single sample leaves it unknown."""
    return (summary[f"{name}_high"] - summary[name]).fillna(0)


def _make_room_for_data(axes: Axes) -> None:
    left, right = axes.get_xlim()
    place = right + 0.04 - _DATA_PLACE
    ticks, labels = list(axes.get_xticks()), [label.get_text() for label in axes.get_xticklabels()]
    if any(labels):
        axes.set_xticks([*ticks, place], [*labels, "data"], fontsize=7)
    axes.set_xlim(left, place - _DATA_WIDTH / 2 - 0.03)


def _guidance(summary: pd.DataFrame, cells: Sequence[Cell]) -> Figure | None:
    """Bits per dimension of the data and of the finished samples against the weight of guidance."""
    last = summary["time"].min()
    stages = [
        ("data", summary[summary["stage"] == "data"], GREY),
        (f"samples, t = {last:g}", summary[summary["time"] == last], BLUE),
    ]
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    figure = Figure(figsize=(1.0 + 3.8 * len(sizes), 3.9), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        for again in sorted({cell.reconstructed for cell in cells}):
            for meaning, rows, colour in stages:
                chosen = rows[(rows["reconstructed"] == again) & rows["bpd"].notna()]
                if size is not None:
                    chosen = chosen[chosen["size"] == size]
                axes.errorbar(
                    chosen["guidance"],
                    chosen["bpd"],
                    _reach(chosen, "bpd"),
                    color=colour,
                    label=f"{meaning}, reconstructed" if again else meaning,
                    capsize=3,
                    **_shape(again),
                )
        axes.set_xticks(sorted({cell.guidance for cell in cells if cell.guidance is not None}))
        axes.set_xlabel("guidance w   (1 conditional)")
        axes.set_ylabel("bits per dimension")
        if len(sizes) > 1:
            axes.set_title(f"{size} px", fontsize=9, loc="left")
        axes.grid(axis="y", alpha=0.3)
        open_axes(axes)
    figure.suptitle("Likelihood against guidance, bars: 95 % interval of the mean", fontsize=10)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside lower center", ncols=2
    )
    return figure


def _quality(summary: pd.DataFrame, cells: Sequence[Cell]) -> Figure | None:
    """What a setting's finished samples are worth against how likely they are; lines join the weights of guidance."""
    finished = summary[summary["time"] == summary["time"].min()]
    panels = [(name, label) for name, label in _PANELS[2:] if finished[name].notna().any()]
    if not panels or finished["bpd"].isna().all():
        return None
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    figure = Figure(figsize=(0.8 + 3.6 * len(panels), 4.0), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for group in dict.fromkeys((cell.size, cell.reconstructed) for cell in cells):
            line = pd.concat([of_cell(finished, cell) for cell in cells if (cell.size, cell.reconstructed) == group])
            axes.plot(line["bpd"], line[name], color=GREY, linewidth=0.8, zorder=1)
        for cell in cells:
            row = of_cell(finished, cell)
            if row[name].notna().any():
                errors = [_reach(row, measure) for measure in (name, "bpd")]
                style = _style(cell, cells) | {"linestyle": "none", "marker": _MARKERS[sizes.index(cell.size) % 5]}
                axes.errorbar(row["bpd"], row[name], *errors, **style | {"markersize": 6}, elinewidth=0.8)
        axes.set_xlabel("bits per dimension of the samples")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        open_axes(axes)
    n = int(summary["n"].min())
    figure.suptitle(
        f"Quality against likelihood at t = {finished['time'].iloc[0]:g}, {n} samples a setting, bars: 95 % interval",
        fontsize=10,
    )
    _legend(figure, cells, joined=False)
    return figure


def _legend(figure: Figure, cells: Sequence[Cell], joined: bool = True) -> None:
    """What colours, styles and markers are; below the panels."""
    weights = list(dict.fromkeys(cell.guidance for cell in cells))
    line: Literal["-", "none"] = "-" if joined else "none"
    entries = {
        f"w = {weight:g}" if weight is not None else "w unknown": Line2D(
            [], [], color=colour, marker="o", linestyle=line
        )
        for weight, colour in ((w, _colour(w, weights)) for w in sorted(weights, key=lambda w: w or 0.0))
    }
    if len({cell.reconstructed for cell in cells}) > 1:
        for meaning, again in (("as it is", False), ("reconstructed", True)):
            shape = _shape(again) | ({} if joined else {"linestyle": "none"})
            entries[meaning] = Line2D([], [], color="black", **shape)
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    if not joined and len(sizes) > 1:
        for size, marker in zip(sizes, _MARKERS, strict=False):
            entries[f"{size} px"] = Line2D([], [], color="black", marker=marker, linestyle="none")
    figure.legend(
        list(entries.values()),
        list(entries),
        frameon=False,
        fontsize=8,
        loc="outside lower center",
        ncols=min(8, len(entries)),
    )


def _style(cell: Cell, cells: Sequence[Cell]) -> dict[str, Any]:
    """Colour for guidance, dashes and hollow markers for reconstructions."""
    return {"color": _colour(cell.guidance, [other.guidance for other in cells]), **_shape(cell.reconstructed)}


def _shape(reconstructed: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "-"}
    return shape | {"linestyle": "--", "markerfacecolor": "white"} if reconstructed else shape


def _colour(weight: float | None, weights: Sequence[float | None]) -> str:
    order = sorted({w for w in weights if w is not None})
    return GREY if weight is None else _COLOURS[order.index(weight) % len(_COLOURS)]
