"""Figure of what the network knows of prompts at each noise level."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dmlik_pl.results.drawing import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, named, open_axes
from dmlik_pl.results.prompt_accuracy.bound_summaries import level_summary
from dmlik_pl.results.prompt_accuracy.summaries import CHANCE

__all__ = ["level_figures", "part_styles"]

_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


def part_styles(summary: pd.DataFrame) -> dict[str, tuple[str, bool]]:
    """Colour of each part, one per guidance, and whether its images are reconstructed."""
    parts = summary.drop_duplicates("part")
    weights = list(dict.fromkeys(parts["guidance"].fillna(0)))
    places = [weights.index(weight) for weight in parts["guidance"].fillna(0)]
    return {
        part: (_COLOURS[place % len(_COLOURS)], bool(moved))
        for part, place, moved in zip(parts["part"], places, parts["reconstructed"], strict=True)
    }


def level_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """Accuracy of the least denoising error over log-SNR: one panel per attribute, a curve per part."""
    summary = level_summary(frame)
    if summary.empty:
        return {}
    attributes, styles = summary["attribute"].unique(), part_styles(summary)
    figure = Figure(figsize=(1 + 4.4 * len(attributes), 4.2), layout="constrained")
    for axes, attribute in zip(
        np.atleast_1d(figure.subplots(1, len(attributes), sharey=True)), attributes, strict=True
    ):
        own = summary[summary["attribute"] == attribute]
        for part, (colour, moved) in styles.items():
            line = own[own["part"] == part]
            band = (100 * line["accuracy_low"], 100 * line["accuracy_high"])
            axes.fill_between(
                line["log_snr"], *band, color=colour, alpha=0.2 if len(styles) == 1 else 0.08, linewidth=0
            )
            axes.plot(
                line["log_snr"],
                100 * line["accuracy"],
                marker="o",
                linestyle="--" if moved and len(styles) > 1 else "-",
                markerfacecolor="white" if moved and len(styles) > 1 else colour,
                color=colour,
                markersize=4,
                label=part or "least denoising error",
            )
        axes.axhline(100 * own["chance"].max(), color="black", linestyle="--", linewidth=1.2, label=CHANCE)
        axes.set_ylim(-2, 105)
        axes.set_xlabel("log SNR   (noise to the left, data to the right)")
        axes.set_title(f"{named(attribute)}, n = {own['n'].max()}", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
        open_axes(axes)
        above = axes.secondary_xaxis("top")
        places = np.linspace(own["log_snr"].min(), own["log_snr"].max(), 5)
        above.set_xticks(places, [f"{np.exp(-place / 2):.2g}" for place in places], fontsize=8)
        above.set_xlabel("noise-to-signal ratio σ", fontsize=8)
    figure.axes[0].set_ylabel("true prompt has the least error (%), Wilson 95 % band")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper center", ncols=5)
    return {f"{study}_levels": figure}
