"""Figures of competing prompts: accuracies, what they cost, margins, gains over the empty prompt, confusions."""

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

from dmlik_pl.results.bound_figures import level_figures, part_styles
from dmlik_pl.results.calibration_figures import calibration_figures
from dmlik_pl.results.decisions import LIKELIHOOD, METHODS, Decisions, decisions
from dmlik_pl.results.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, open_axes
from dmlik_pl.results.figures import register_figures
from dmlik_pl.results.frames import column
from dmlik_pl.results.prompt_summaries import (
    CHANCE,
    OVERALL,
    confusion_matrix,
    empty_prompt_summary,
    method_summary,
)

__all__ = ["prompt_accuracy_figures"]

_COLOURS = {LIKELIHOOD: BLUE, "screened": SKY, "elbo": GREEN, "pmi": PURPLE, "clip": ORANGE}
_MARKERS = "os^DvPX*"
_MOST_CONFUSED = 40


@register_figures("prompt_accuracy")
def prompt_accuracy_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """All figures of a prompt accuracy study."""
    split = [decision for decision in decisions(frame) if len(decision.rows)]
    if not split:
        return {}
    summary = method_summary(frame)
    figures = {study: _accuracy_figure(summary)}
    if summary["guidance"].nunique() > 1:
        figures[f"{study}_guidance"] = _guidance_figure(summary)
    if (summary["nfe"] > 0).any():
        figures[f"{study}_cost"] = _cost_figure(summary)
    figures[f"{study}_margins"] = _margin_figure(split)
    gains = empty_prompt_summary(frame)
    if len(gains):
        figures[f"{study}_empty_prompt"] = _gain_figure(gains)
    figures |= level_figures(study, frame)
    for part in _parts(split):
        calibration, confusion = (
            "_".join(filter(None, (study, what, part[0].slug))) for what in ("calibration", "confusion")
        )
        figures |= calibration_figures(calibration, part) | _confusion_figures(confusion, part)
    return figures


def _accuracy_figure(summary: pd.DataFrame) -> Figure:
    """A panel a part, a group of bars an attribute, a bar a method."""
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
        axes.errorbar(x, height, _reach(known), fmt="none", ecolor="black", elinewidth=1, capsize=3)
    counts = []
    for place, name in enumerate(attributes):
        own = summary[summary["attribute"] == name]
        axes.hlines(100 * own["chance"].max(), place - 0.46, place + 0.46, color="black", linestyle="--", linewidth=1.2)
        fewest, most = own["n"].min(), own["n"].max()
        counts.append(f"{name}\n(n = {most})" if fewest == most else f"{name}\n(n = {fewest} to {most})")
    axes.set_xticks(range(len(attributes)), counts)
    axes.set_ylim(0, 105)
    open_axes(axes)


def _reach(summary: pd.DataFrame) -> np.ndarray:
    """Lengths of the interval's arms below and above, per cent, [2, N]."""
    arms = [summary["accuracy"] - summary["accuracy_low"], summary["accuracy_high"] - summary["accuracy"]]
    return np.clip(100 * np.array(arms), 0, None)  # rounding may leave an end a hair outside its interval


def _guidance_figure(summary: pd.DataFrame) -> Figure:
    """A panel an attribute: accuracy of every method against guidance, reconstructed images dashed."""
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
        axes.set_xlabel("guidance w   (1 conditional)")
        axes.set_title(attribute, fontsize=10)
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
        _reach(line),
        color=colour,
        linestyle=style,
        marker="o",
        markersize=4,
        markerfacecolor=face,
        capsize=2,
        elinewidth=0.8,
        linewidth=1.2,
    )


def _cost_figure(summary: pd.DataFrame) -> Figure:
    """A panel an attribute: accuracy against network evaluations, a colour a method, a marker a part."""
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
        axes.set_xlabel("network evaluations a decision" + (", parts side by side" if len(parts) > 1 else ""))
        axes.set_title(attribute, fontsize=10)
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
    value, colour, arms = 100 * row["accuracy"], _COLOURS[row["method"]], _reach(pd.DataFrame([row]))
    if not np.isnan(row["nfe"]):
        place = parts.index(row["part"])
        spread = 1.05 ** (place - (len(parts) - 1) / 2)
        marker = _MARKERS[place % len(_MARKERS)]
        axes.errorbar(row["nfe"] * spread, value, arms, fmt=marker, color=colour, markersize=5, capsize=2, linewidth=1)
        return
    axes.axhline(value, color=colour, linewidth=1.2 if len(parts) == 1 else 0.7)
    if len(parts) == 1:
        axes.axhspan(value - arms[0, 0], value + arms[1, 0], color=colour, alpha=0.12, linewidth=0)


def _margin_figure(split: list[Decisions]) -> Figure:
    """Margin of the true prompt for each sample in order, with its error: a row a part, a column an attribute."""
    parts = _parts(split)
    columns = max(map(len, parts))
    figure = Figure(figsize=(1 + 4 * columns, 0.3 + 3.3 * len(parts)), layout="constrained")
    for row, part in zip(figure.subplots(len(parts), columns, squeeze=False), parts, strict=True):
        for axes, decision in zip(row, part, strict=False):
            _margins(axes, decision.by(LIKELIHOOD) or decision)
        for axes in row[len(part) :]:
            axes.set_axis_off()
    figure.supylabel("log p(true) − log p(best other)   (nats)", fontsize=10)
    return figure


def _margins(axes: Axes, decision: Decisions) -> None:
    rows = decision.rows.assign(
        margin_=column(decision.rows, "true_margin"),
        error_=np.nan_to_num(column(decision.rows, "true_margin_standard_error")),
    ).sort_values("margin_", ignore_index=True)
    decided, correct = rows["decided"].to_numpy(bool), rows["correct"].to_numpy(bool)
    kinds = (
        ("right", decided & correct, BLUE),
        ("undecided", ~decided, GREY),
        ("wrong", decided & ~correct, VERMILION),
    )
    zone = 1.96 * rows["error_"].median()
    axes.axhspan(-zone, zone, color=GREY, alpha=0.18, linewidth=0, label=f"±1.96 median s.e. (±{zone:.2g})")
    for label, chosen, colour in kinds:
        part = rows[chosen]
        reach = (part["margin_"] - part["error_"], part["margin_"] + part["error_"])
        axes.vlines(part.index, *reach, color=colour, alpha=0.5, linewidth=0.7)
        axes.plot(part.index, part["margin_"], "o", color=colour, markersize=3, label=f"{label}: {len(part)}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(f"{decision.heading}, n = {len(rows)}, bars ±1 s.e.", fontsize=10)
    axes.set_xlabel("samples, sorted by margin")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    open_axes(axes)


def _gain_figure(gains: pd.DataFrame) -> Figure:
    """A panel an attribute: mean gain of the true prompt over the empty one of each true value, a colour a part."""
    attributes = [name for name in gains["attribute"].unique() if name != OVERALL]
    styles = part_styles(gains)
    most = max(gains.loc[gains["attribute"] == name, "value"].nunique() for name in attributes)
    height = 1.3 + most * (0.3 + 0.1 * len(styles))
    figure = Figure(figsize=(1 + 4 * len(attributes), height), layout="constrained")
    for axes, attribute in zip(
        np.atleast_1d(figure.subplots(1, len(attributes), sharex=True)), attributes, strict=True
    ):
        own = gains[gains["attribute"] == attribute]
        values = list(own["value"].unique())[::-1]
        for k, (part, (colour, moved)) in enumerate(styles.items()):
            rows, face = own[own["part"] == part], "white" if moved and len(styles) > 1 else colour
            shift = ((len(styles) - 1) / 2 - k) * 0.7 / len(styles)
            y = np.array([values.index(value) for value in rows["value"]]) + shift
            look = {"color": colour, "markerfacecolor": face, "markersize": 4, "capsize": 2, "linewidth": 1}
            reach = 1.96 * rows["standard_error"].fillna(0)
            axes.errorbar(rows["gain"], y, xerr=reach, fmt="o", label=part or "samples of a value", **look)
            [mean] = gains.loc[(gains["part"] == part) & (gains["attribute"] == OVERALL), "gain"]
            axes.axvline(mean, color=colour, linestyle=":" if moved and len(styles) > 1 else "--", linewidth=1)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(values)), values, fontsize=8)
        axes.set_ylim(-0.6, len(values) - 0.4)
        axes.set_title(f"{attribute}, 95 % intervals; dashed: mean of all", fontsize=9)
        axes.set_xlabel("gain over the empty prompt (bits per dimension)")
        open_axes(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def _confusion_figures(name: str, part: list[Decisions]) -> dict[str, Figure]:
    """Counts for every method: one row of panels an attribute whose samples share their candidates."""
    part = [decision for decision in part if decision.shared and len(decision.candidates) <= _MOST_CONFUSED]
    if not part:
        return {}
    methods = [method for method in METHODS if any(decision.by(method) for decision in part)]
    side = min(1.6 + 0.32 * max(len(decision.candidates) for decision in part), 19 / len(methods))
    figure = Figure(figsize=(side * len(methods) + 0.4, side * len(part) + 0.2), layout="constrained")
    panels = figure.subplots(len(part), len(methods), squeeze=False)
    for decision, row in zip(part, panels, strict=True):
        for method, axes in zip(methods, row, strict=True):
            if (found := decision.by(method)) is None:
                axes.set_axis_off()
                continue
            _draw_confusion(axes, confusion_matrix(found))
            axes.set_title(f"{decision.attribute}, {METHODS[method]}", fontsize=9)
            axes.set_xlabel("predicted", fontsize=8)
        row[0].set_ylabel("true", fontsize=8)
    return {name: figure}


def _draw_confusion(axes: Axes, counts: pd.DataFrame) -> None:
    shares = counts.to_numpy() / np.maximum(counts.to_numpy().sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        if counts.iat[i, j]:
            colour = "white" if share > 0.55 else "black"
            axes.text(j, i, str(counts.iat[i, j]), ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(
        range(len(counts)), counts.columns, rotation=90 if max(map(len, counts.columns)) > 2 else 0, fontsize=8
    )
    axes.set_yticks(range(len(counts)), counts.index, fontsize=8)
    axes.tick_params(length=0)


def _parts(split: Sequence[Decisions]) -> list[list[Decisions]]:
    """Decisions of each part."""
    return [[one for one in split if one.part == part] for part in dict.fromkeys(one.part for one in split)]
