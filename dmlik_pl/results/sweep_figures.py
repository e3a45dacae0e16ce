"""Figures of a sweep over time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dmlik_pl.results.drawing import BLUE, GREEN, GREY, ORANGE, VERMILION, curve, time_axis
from dmlik_pl.results.figures import register_figures
from dmlik_pl.results.sweep_summaries import sweep_summary

__all__ = ["time_sweep_figures"]


@register_figures("time_sweep")
def time_sweep_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """Curves over time."""
    summary = sweep_summary(frame)
    samples, data = summary[summary["stage"] == "sample"], summary[summary["stage"] == "data"]
    panels = [
        ("bits per dimension", [("bpd", "x$_t$ read as data", BLUE), ("bpd_marginal", "at its own time t", VERMILION)]),
        ("CLIP score", [("clip", "samples", ORANGE)]),
        ("FID against the data", [("fid", "samples", GREEN)]),
    ]
    panels = [(label, [c for c in curves if samples[c[0]].notna().any()]) for label, curves in panels]
    panels = [(label, curves) for label, curves in panels if curves]
    if not panels:
        return {}
    figure = Figure(figsize=(1.2 + 3.4 * len(panels), 3.6), layout="constrained")
    for axes, (label, curves) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for name, meaning, colour in curves:
            curve(axes, samples, name, meaning, colour)
        name = curves[0][0]
        if name != "fid" and len(data) and np.isfinite(data[name].iloc[0]):
            value, error = data[name].iloc[0], 1.96 * np.nan_to_num(data[f"{name}_standard_error"].iloc[0])
            axes.axhline(value, color=GREY, linestyle="--", linewidth=1.2, label="data")
            axes.axhspan(value - error, value + error, color=GREY, alpha=0.2, linewidth=0)
        time_axis(axes, samples)
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"From noise to data, {int(summary['n'].min())} samples, bands: 95 % interval of the mean", fontsize=10
    )
    return {study: figure}
