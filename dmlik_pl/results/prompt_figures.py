"""Figures of competing prompts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dmlik_pl.results.drawing import BLUE, GREEN, GREY, ORANGE, VERMILION, open_axes
from dmlik_pl.results.figures import register_figures
from dmlik_pl.results.frames import Decisions, column, decisions
from dmlik_pl.results.prompt_summaries import BASELINES, accuracy_summary, confusion_matrix

__all__ = ["prompt_accuracy_figures"]

_METHODS = {"accuracy": ("likelihood", BLUE), "clip": ("CLIP", ORANGE), "elbo": ("ELBO", GREEN)}


@register_figures("prompt_accuracy")
def prompt_accuracy_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """Accuracies, margins and confusions."""
    split = [decision for decision in decisions(frame) if len(decision.rows)]
    if not split:
        return {}
    return {
        study: _accuracy_figure(accuracy_summary(frame)),
        f"{study}_margins": _margin_figure(split),
        f"{study}_confusion": _confusion_figure(split),
    }


def _accuracy_figure(summary: pd.DataFrame) -> Figure:
    summary = summary[summary["n"] > 0].reset_index(drop=True)
    methods = ["accuracy"] + [name for name in BASELINES if summary[f"{name}_n"].any()]
    figure = Figure(figsize=(1.8 + 0.65 * len(methods) * max(2, len(summary)), 3.8), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(methods)
    for k, method in enumerate(methods):
        label, colour = _METHODS[method]
        known = summary[summary[method].notna()]
        x = known.index.to_numpy() + (k - (len(methods) - 1) / 2) * width
        height, low, high = (100 * known[name] for name in (method, f"{method}_low", f"{method}_high"))
        axes.bar(x, height, 0.9 * width, color=colour, label=label)
        if method == "accuracy":
            certain = 100 * known["accuracy_decided"].fillna(0) * (1 - known["undecided_share"])
            axes.bar(
                x, height - certain, 0.9 * width, certain, color="none", edgecolor="white", hatch="////", linewidth=0
            )
        # Rounding may leave a bar's end a hair outside its interval.
        reach = np.clip([height - low, high - height], 0, None)
        axes.errorbar(x, height, reach, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    for position, row in summary.iterrows():
        ends = (position - 0.46, position + 0.46)
        axes.hlines(100 * row["chance"], *ends, color="black", linestyle="--", linewidth=1.2)
    axes.set_xticks(summary.index, [f"{row.attribute}\n(n = {row.n})" for row in summary.itertuples()])
    axes.set_ylim(0, 105)
    axes.set_ylabel("true prompt first (%)")
    handles, labels = axes.get_legend_handles_labels()
    handles += [
        Patch(facecolor=BLUE, edgecolor="white", hatch="////", linewidth=0),
        Line2D([], [], color="black", linestyle="--", linewidth=1.2),
    ]
    labels += ["right, but undecided", "chance"]
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    axes.set_title("bars: Wilson 95 % interval", fontsize=8, loc="left", color="dimgrey")
    open_axes(axes)
    return figure


def _margin_figure(split: list[Decisions]) -> Figure:
    """Margin of the true prompt for each sample in order, with its error."""
    figure = Figure(figsize=(1 + 4 * len(split), 3.6), layout="constrained")
    for axes, decision in zip(np.atleast_1d(figure.subplots(1, len(split))), split, strict=True):
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
        axes.set_title(f"{decision.attribute} (n = {len(rows)}), bars ±1 s.e.", fontsize=10)
        axes.set_xlabel("samples, sorted by margin")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        open_axes(axes)
    figure.axes[0].set_ylabel("log p(true) − log p(best other)   (nats)")
    return figure


def _confusion_figure(split: list[Decisions]) -> Figure:
    """Counts for likelihood and every baseline: one row of panels an attribute."""
    methods = [("predicted", "likelihood")] + [
        (f"{name}_predicted", _METHODS[name][0])
        for name in BASELINES
        if any(f"{name}_predicted" in d.rows and d.rows[f"{name}_predicted"].notna().any() for d in split)
    ]
    largest = max(len(decision.candidates) for decision in split)
    side = 1.6 + 0.32 * largest
    figure = Figure(figsize=(side * len(methods) + 0.4, side * len(split) + 0.2), layout="constrained")
    panels = figure.subplots(len(split), len(methods), squeeze=False)
    for decision, row in zip(split, panels, strict=True):
        for (name, label), axes in zip(methods, row, strict=True):
            if name not in decision.rows or decision.rows[name].isna().all():
                axes.axis("off")
                continue
            _draw_confusion(axes, confusion_matrix(decision, name))
            axes.set_title(f"{decision.attribute}, {label}", fontsize=9)
            axes.set_xlabel("predicted", fontsize=8)
        row[0].set_ylabel("true", fontsize=8)
    return figure


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
