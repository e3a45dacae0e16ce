"""From records to figures. A new study registers its own maker with `register_figures("kind")`.

Figures are made without matplotlib's global state, so any thread or callback may draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dmlik_pl.results.drawing import BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, open_axes
from dmlik_pl.results.frames import Decisions, attribute_columns, column, data_likelihoods, decisions, kind_of
from dmlik_pl.results.store import FAILURES
from dmlik_pl.results.summaries import BASELINES, accuracy_summary, confusion_matrix

__all__ = ["FigureMaker", "make_figures", "register_figures"]

FigureMaker = Callable[[str, pd.DataFrame], dict[str, Figure]]
"""Takes the study's name and its records."""

_MAKERS: dict[str, FigureMaker] = {}

_METHODS = {"accuracy": ("likelihood", BLUE), "clip": ("CLIP", ORANGE), "elbo": ("ELBO", GREEN)}
_MOST_CLASSES = 12


def register_figures(kind: str) -> Callable[[FigureMaker], FigureMaker]:
    """Name the function that makes the figures of a kind of study.

    Args:
        kind: The study's kind, as in its records.
    """

    def register(maker: FigureMaker) -> FigureMaker:
        _MAKERS[kind] = maker
        return maker

    return register


def make_figures(records: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """All figures of a run.

    Args:
        records: One frame a study, and `failures`, as the record store returns them.

    Returns:
        Figures by name, the name being that of a file without extension.
    """
    figures: dict[str, Figure] = {}
    for study, frame in records.items():
        if study != FAILURES and len(frame):
            if (kind := kind_of(study, frame)) in _MAKERS:
                figures |= _MAKERS[kind](study, frame)
            figures |= _histograms(study, frame)
    return figures


@register_figures("prompt_accuracy")
def _prompt_accuracy_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
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


def _histograms(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """Bits per dimension of the data: a histogram, and below it a line for each class of each attribute."""
    data = data_likelihoods(frame)
    if data is None or not len(data):
        return {}
    data["bpd_"] = -column(data, "log_p") / column(data, "dims") / np.log(2)
    data = data[np.isfinite(data["bpd_"])]
    if "attribute" in data:  # the first attribute's rows, its classes being the true values
        attributes, titles = ["truth"], [str(data["attribute"].iloc[0])]
    else:
        attributes = [name for name in attribute_columns(data) if 1 < data[name].nunique() <= _MOST_CLASSES]
        titles = attributes
    if not len(data):
        return {}
    if not attributes:
        data, attributes, titles = data.assign(all_="all samples"), ["all_"], [""]
    classes = max(data[name].nunique() for name in attributes)
    heights = (2.2, 0.5 + 0.16 * classes)
    figure = Figure(figsize=(1 + 4 * len(attributes), 1 + sum(heights)), layout="constrained")
    panels = figure.subplots(2, len(attributes), sharex=True, squeeze=False, height_ratios=heights)
    for (above, below), attribute, title in zip(panels.T, attributes, titles, strict=True):
        above.hist(data["bpd_"], bins="auto", color=SKY, linewidth=0)
        above.set_ylabel("samples")
        above.set_title(f"{title} (n = {len(data)})".strip(), fontsize=10)
        open_axes(above)
        _draw_classes(below, data, attribute)
        below.set_xlabel("bits per dimension of the data")
    figure.supxlabel("ticks: samples; points: means of the classes, 95 % intervals", fontsize=8, color="dimgrey")
    return {f"{study}_bits_per_dim": figure}


def _draw_classes(axes: Axes, data: pd.DataFrame, attribute: str) -> None:
    """One line a class: its samples, and their mean with its 95 % interval."""
    names = sorted(data[attribute].unique(), reverse=True)
    for i, name in enumerate(names):
        values = data.loc[data[attribute] == name, "bpd_"]
        axes.plot(values, np.full(len(values), i), "|", color=SKY, markersize=6)
        error = 1.96 * values.std() / np.sqrt(len(values)) if len(values) > 1 else 0
        axes.errorbar(values.mean(), i, xerr=error, fmt="o", color=BLUE, markersize=4, capsize=2)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    open_axes(axes)
