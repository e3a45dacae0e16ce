"""Figures of competing prompts: accuracies, margins, gains over the empty prompt, confusions, and more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmlik_pl.records.frames import column
from dmlik_pl.results.drawing import BLUE, GREY, VERMILION, named, open_axes
from dmlik_pl.results.prompt_accuracy.bound_figures import level_figures, part_styles
from dmlik_pl.results.prompt_accuracy.calibration_figures import calibration_figures
from dmlik_pl.results.prompt_accuracy.decisions import LIKELIHOOD, METHODS, Decisions, decisions
from dmlik_pl.results.prompt_accuracy.method_figures import accuracy_figure, cost_figure, guidance_figure
from dmlik_pl.results.prompt_accuracy.summaries import (
    OVERALL,
    confusion_matrix,
    empty_prompt_summary,
    method_summary,
)
from dmlik_pl.stats.estimate import NORMAL

__all__ = ["prompt_accuracy_figures"]

_MOST_CONFUSED = 40
_MOST_VALUES = 100  # where whole prompts compete, each is a value of its own


def prompt_accuracy_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """All figures of a prompt accuracy study."""
    split = [decision for decision in decisions(frame) if len(decision.rows)]
    if not split:
        return {}
    summary = method_summary(frame)
    figures = {study: accuracy_figure(summary)}
    if summary["guidance"].nunique() > 1:
        figures[f"{study}_guidance"] = guidance_figure(summary)
    if (summary["nfe"] > 0).any():
        figures[f"{study}_cost"] = cost_figure(summary)
    figures[f"{study}_margins"] = _margin_figure(split)
    gains = empty_prompt_summary(frame)
    if len(gains) and gains.groupby("attribute")["value"].nunique().max() <= _MOST_VALUES:
        figures[f"{study}_empty_prompt"] = _gain_figure(gains)
    figures |= level_figures(study, frame)
    for part in _parts(split):
        calibration, confusion = (
            "_".join(filter(None, (study, what, part[0].slug))) for what in ("calibration", "confusion")
        )
        figures |= calibration_figures(calibration, part) | _confusion_figures(confusion, part)
    return figures


def _margin_figure(split: list[Decisions]) -> Figure:
    """Margin of the true prompt of each sample in order, with its error: a row per part, a column per attribute."""
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
    zone = NORMAL * rows["error_"].median()
    axes.axhspan(-zone, zone, color=GREY, alpha=0.18, linewidth=0, label=f"±1.96 median s.e. (±{zone:.2g})")
    for label, chosen, colour in kinds:
        part = rows[chosen]
        reach = (part["margin_"] - part["error_"], part["margin_"] + part["error_"])
        axes.vlines(part.index, *reach, color=colour, alpha=0.5, linewidth=0.7)
        axes.plot(part.index, part["margin_"], "o", color=colour, markersize=3, label=f"{label}: {len(part)}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title(f"{named(decision.heading)}, n = {len(rows)}, bars ±1 s.e.", fontsize=10)
    axes.set_xlabel("samples, sorted by margin")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    open_axes(axes)


def _gain_figure(gains: pd.DataFrame) -> Figure:
    """Mean gain over the empty prompt for each true value: one panel per attribute, a colour per part."""
    counts = gains[gains["attribute"] != OVERALL].groupby("attribute", sort=False)["value"].nunique()
    attributes, most = list(counts.index), counts.max()
    styles = part_styles(gains)
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
            reach = (rows["gain_high"] - rows["gain"]).fillna(0)
            axes.errorbar(rows["gain"], y, xerr=reach, fmt="o", label=part or "mean over samples", **look)
            [mean] = gains.loc[(gains["part"] == part) & (gains["attribute"] == OVERALL), "gain"]
            axes.axvline(mean, color=colour, linestyle=":" if moved and len(styles) > 1 else "--", linewidth=1)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(values)), [named(value) for value in values], fontsize=8)
        axes.set_ylim(-0.6, len(values) - 0.4)
        axes.set_title(f"{named(attribute)}, 95 % intervals; dashed: mean of all", fontsize=9)
        axes.set_xlabel("gain over the empty prompt (bits per dimension)")
        open_axes(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=4)
    return figure


def _confusion_figures(name: str, part: list[Decisions]) -> dict[str, Figure]:
    """Counts for every method: one row of panels per attribute whose samples share their candidates."""
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
            axes.set_title(f"{named(decision.attribute)}, {METHODS[method]}", fontsize=9)
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
    names = [named(name) for name in counts.columns]
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(length=0)


def _parts(split: Sequence[Decisions]) -> list[list[Decisions]]:
    """Decisions of each part."""
    return [[one for one in split if one.part == part] for part in dict.fromkeys(one.part for one in split)]
