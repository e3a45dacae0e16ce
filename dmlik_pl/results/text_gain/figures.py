"""The figure of text gains: the gain in every utterance with its probe error."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmlik_pl.records.frames import column
from dmlik_pl.results.drawing import BLUE, GREY, VERMILION, open_axes
from dmlik_pl.stats.estimate import NORMAL

__all__ = ["text_gain_figures"]


def text_gain_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """The gain of the text in every utterance, sorted, with its probe error: a panel an alignment and alternative."""
    frame = frame[np.isfinite(column(frame, "gain"))]
    groups = list(frame.groupby(["alignment", "alternative"], sort=False))
    if not groups:
        return {}
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(0.8 + 4 * columns, 0.4 + 3 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, ((alignment, alternative), group) in zip(places, groups, strict=False):
        _draw_gains(axes, group)
        axes.set_title(f"{alignment}: text against {alternative} (n = {len(group)})", fontsize=10)
    for axes in places[len(groups) :]:
        axes.axis("off")
    figure.supylabel("gain of the text (nats per frame)", fontsize=10)
    figure.supxlabel("utterances, sorted; bars ±1.96 probe standard errors", fontsize=8, color="dimgrey")
    return {study: figure}


def _draw_gains(axes: Axes, group: pd.DataFrame) -> None:
    frames = column(group, "frames")
    rows = group.assign(
        gain_=column(group, "gain") / frames,
        error_=NORMAL * np.nan_to_num(column(group, "gain_standard_error")) / frames,
    ).sort_values("gain_", ignore_index=True)
    decided, above = rows["decided"].to_numpy(bool), (rows["gain_"] > 0).to_numpy(bool)
    kinds = (
        ("helps", decided & above, BLUE),
        ("undecided", ~decided, GREY),
        ("hurts", decided & ~above, VERMILION),
    )
    for label, chosen, colour in kinds:
        part = rows[chosen]
        axes.vlines(part.index, part["gain_"] - part["error_"], part["gain_"] + part["error_"], color=colour, alpha=0.5)
        axes.plot(part.index, part["gain_"], "o", color=colour, markersize=3, label=f"{label}: {len(part)}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks([])
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    open_axes(axes)
