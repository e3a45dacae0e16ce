"""Figures of a sweep over time and settings: curves over time, guidance and quality against likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
from dmlik_pl.results.parts import Part, of_part, parts_of
from dmlik_pl.results.time_sweep.summaries import sweep_summary

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
_INTERVAL = ("", "_low", "_high")
_DATA_PLACE, _DATA_WIDTH = 0.16, 0.1


def time_sweep_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """Curves over time; for several settings also guidance against likelihood, and quality against likelihood."""
    summary, parts = sweep_summary(frame), list(parts_of(frame))
    if len(parts) == 1:
        figure = _one_part(summary)
        return {} if figure is None else {study: figure}
    figures = {study: _every_part(summary, parts), f"{study}_quality": _quality(summary, parts)}
    if len({part.guidance for part in parts}) > 1:
        figures[f"{study}_guidance"] = _guidance(summary, parts)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _one_part(summary: pd.DataFrame) -> Figure | None:
    """A panel per measure, with the data as a line across."""
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


def _every_part(summary: pd.DataFrame, parts: Sequence[Part]) -> Figure | None:
    """Rows of panels for sizes, a panel per measure, a line per setting; the data beside the end of each line."""
    samples = summary[summary["stage"] == "sample"]
    panels = [(name, label) for name, label in _PANELS if samples[name].notna().any()]
    if not panels:
        return None
    sizes = list(dict.fromkeys(part.size for part in parts))
    weights = sorted({part.guidance for part in parts}, key=lambda weight: weight or 0.0)
    columns = len(panels) if len(sizes) > 1 else min(3, len(panels))
    rows = len(sizes) * -(-len(panels) // columns)
    figure = Figure(figsize=(0.8 + 3.1 * columns, 0.9 + 3.0 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).reshape(len(sizes), -1)
    for size, line in zip(sizes, places, strict=True):
        for axes, (name, label) in zip(line, panels, strict=False):
            for part in parts:
                if part.size == size:
                    shift = _DATA_WIDTH * (weights.index(part.guidance) / max(1, len(weights) - 1) - 0.5)
                    _draw_part(axes, of_part(summary, part), name, _style(part, parts), _DATA_PLACE + shift)
            time_axis(
                axes, of_part(summary, next(part for part in parts if part.size == size)).query("stage == 'sample'")
            )
            if len(axes.containers):
                _make_room_for_data(axes)
            axes.set_ylabel(label, fontsize=9)
            if len(sizes) > 1:
                axes.set_title(f"{size} px", fontsize=9, loc="left")
        for axes in line[len(panels) :]:
            axes.axis("off")
    n = int(summary["n"].min())
    figure.suptitle(f"From noise to data, {n} samples per setting; bands, bars: 95 % interval", fontsize=10)
    _legend(figure, parts)
    return figure


def _draw_part(axes: Axes, summary: pd.DataFrame, name: str, style: dict[str, Any], behind: float) -> None:
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


def _guidance(summary: pd.DataFrame, parts: Sequence[Part]) -> Figure | None:
    """Bits per dimension of the data and of the finished samples against the weight of guidance."""
    last = summary["time"].min()
    stages = [
        ("data", summary[summary["stage"] == "data"], GREY),
        (f"samples, t = {last:g}", _along_own_path(summary[summary["time"] == last]), BLUE),
    ]
    sizes = list(dict.fromkeys(part.size for part in parts))
    figure = Figure(figsize=(1.0 + 3.8 * len(sizes), 3.9), layout="constrained")
    for axes, size in zip(figure.subplots(1, len(sizes), squeeze=False)[0], sizes, strict=True):
        for again in sorted({part.reconstructed for part in parts}):
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
        axes.set_xticks(sorted({part.guidance for part in parts if part.guidance is not None}))
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


def _along_own_path(finished: pd.DataFrame) -> pd.DataFrame:
    """Densities of samples along the path that made them; those without one, or not at t = 0, stay read as data.

    At t = 0 both are one density, but under strong guidance the way back to noise amplifies every error.
    """
    known = finished["bpd_marginal"].notna() & (finished["time"] == 0)
    both = {f"bpd{part}": finished[f"bpd_marginal{part}"].where(known, finished[f"bpd{part}"]) for part in _INTERVAL}
    return finished.assign(**both)


def _quality(summary: pd.DataFrame, parts: Sequence[Part]) -> Figure | None:
    """What a setting's finished samples are worth against how likely they are; lines join the weights of guidance."""
    finished = _along_own_path(summary[summary["time"] == summary["time"].min()])
    panels = [(name, label) for name, label in _PANELS[2:] if finished[name].notna().any()]
    if not panels or finished["bpd"].isna().all():
        return None
    sizes = list(dict.fromkeys(part.size for part in parts))
    figure = Figure(figsize=(0.8 + 3.6 * len(panels), 4.0), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for group in dict.fromkeys((part.size, part.reconstructed) for part in parts):
            line = pd.concat([of_part(finished, part) for part in parts if (part.size, part.reconstructed) == group])
            axes.plot(line["bpd"], line[name], color=GREY, linewidth=0.8, zorder=1)
        for part in parts:
            row = of_part(finished, part)
            if row[name].notna().any():
                errors = [_reach(row, measure) for measure in (name, "bpd")]
                style = _style(part, parts) | {"linestyle": "none", "marker": _MARKERS[sizes.index(part.size) % 5]}
                axes.errorbar(row["bpd"], row[name], *errors, **style | {"markersize": 6}, elinewidth=0.8)
        axes.set_xlabel("bits per dimension of the samples")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        open_axes(axes)
    n = int(summary["n"].min())
    figure.suptitle(
        f"Quality against likelihood at t = {finished['time'].iloc[0]:g}, {n} samples per setting, bars: 95 % interval",
        fontsize=10,
    )
    _legend(figure, parts, joined=False)
    return figure


def _legend(figure: Figure, parts: Sequence[Part], joined: bool = True) -> None:
    """What colours, styles and markers are; below the panels."""
    weights = list(dict.fromkeys(part.guidance for part in parts))
    line: Literal["-", "none"] = "-" if joined else "none"
    entries = {
        f"w = {weight:g}" if weight is not None else "w unknown": Line2D(
            [], [], color=colour, marker="o", linestyle=line
        )
        for weight, colour in ((w, _colour(w, weights)) for w in sorted(weights, key=lambda w: w or 0.0))
    }
    if len({part.reconstructed for part in parts}) > 1:
        for meaning, again in (("not reconstructed", False), ("reconstructed", True)):
            shape = _shape(again) | ({} if joined else {"linestyle": "none"})
            entries[meaning] = Line2D([], [], color="black", **shape)
    sizes = list(dict.fromkeys(part.size for part in parts))
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


def _style(part: Part, parts: Sequence[Part]) -> dict[str, Any]:
    """Colour for guidance, dashes and hollow markers for reconstructions."""
    return {"color": _colour(part.guidance, [other.guidance for other in parts]), **_shape(part.reconstructed)}


def _shape(reconstructed: bool) -> dict[str, Any]:
    shape: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "-"}
    return shape | {"linestyle": "--", "markerfacecolor": "white"} if reconstructed else shape


def _colour(weight: float | None, weights: Sequence[float | None]) -> str:
    order = sorted({w for w in weights if w is not None})
    return GREY if weight is None else _COLOURS[order.index(weight) % len(_COLOURS)]
