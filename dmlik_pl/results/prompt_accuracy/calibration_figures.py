"""Reliability diagrams: how often decisions are right against how confident they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from dmlik_pl.records.frames import clusters_of
from dmlik_pl.results.drawing import BLUE, GREY, SKY, arms, named, open_axes
from dmlik_pl.results.prompt_accuracy.calibration import IN_NATS, usable
from dmlik_pl.results.prompt_accuracy.decisions import METHODS, Decisions
from dmlik_pl.stats.calibration import (
    calibration_error,
    fit_temperature,
    posterior,
    reliability_bins,
)

__all__ = ["calibration_figures"]

_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}


def calibration_figures(name: str, part: Sequence[Decisions]) -> dict[str, Figure]:
    """Of one part of a study: one row per attribute, one column per method with scores in nats.

    Args:
        name: Name of the figure.
        part: The decisions of the part, one entry per attribute.
    """
    found = {
        (one.attribute, method): chosen
        for one in part
        for method in IN_NATS
        if (own := one.by(method)) is not None and (chosen := usable(own)) is not None
    }
    attributes, methods = (list(dict.fromkeys(key[i] for key in found)) for i in (0, 1))
    if not found:
        return {}
    size = (0.6 + 3.2 * len(methods), 0.4 + 3.8 * len(attributes))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.08))
    heights = [height for _ in attributes for height in (3, 1)]
    panels = figure.subplots(2 * len(attributes), len(methods), squeeze=False, height_ratios=heights, sharex=True)
    for i, attribute in enumerate(attributes):
        for above, below, method in zip(panels[2 * i], panels[2 * i + 1], methods, strict=True):
            if (attribute, method) in found:
                _draw(above, below, found[attribute, method])
                above.set_title(f"{named(attribute)}, {METHODS[method]}", fontsize=9)
            else:
                above.set_axis_off()
                below.set_axis_off()
        panels[2 * i][0].set_ylabel("right (%), Wilson 95 %")
        panels[2 * i + 1][0].set_ylabel("samples")
    for axes in panels[-1]:
        axes.set_xlabel("confidence (%)")
    return {name: figure}


def _draw(above: Axes, below: Axes, decision: Decisions) -> None:
    belief = posterior(decision.scores, decision.truth)
    bins = reliability_bins(belief.confidence, belief.correct, clusters=clusters_of(decision.rows))
    above.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1)
    x, y = 100 * bins["confidence"], 100 * bins["accuracy"]
    above.errorbar(x, y, arms(bins, "accuracy", 100), fmt="none", ecolor=BLUE, capsize=2, elinewidth=1)
    above.scatter(x, y, 10 + 90 * bins["n"] / bins["n"].max(), color=BLUE, zorder=3, clip_on=False)
    error = calibration_error(belief.confidence, belief.correct)["ece"]
    fitted = fit_temperature(decision.scores, decision.truth)
    spread = f" ± {fitted.standard_error:.2g}" if np.isfinite(fitted.standard_error) else ""
    text = f"n = {len(decision.rows)}\nECE {error:.3f}\nT {fitted.value:.3g}{spread}"
    above.text(0.03, 0.97, text, transform=above.transAxes, ha="left", va="top", fontsize=8, bbox=_BEHIND_TEXT)
    above.set_xlim(-2, 102)
    above.set_ylim(-2, 105)
    open_axes(above)
    below.hist(100 * belief.confidence, bins=range(0, 101, 5), color=SKY, linewidth=0)
    open_axes(below)
