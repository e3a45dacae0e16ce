"""What figures share: colours, curves over time with their bands, axes."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "SKY", "VERMILION", "curve", "open_axes", "time_axis"]

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY = "#999999"


def curve(
    axes: Axes, samples: pd.DataFrame, name: str, meaning: str, colour: str, shade: float = 0.25, **style: Any
) -> None:
    """Draw a column against time with the 95 % interval of its mean.

    The interval is that of the columns `name`_low and `name`_high; where it is not known there is no band. `shade` is
    the opacity of its band; further arguments are the line's style.
    """
    known = samples[samples[name].notna()]
    low, high = (known[f"{name}_{end}"].fillna(known[name]) for end in ("low", "high"))
    axes.fill_between(known["time"], low, high, color=colour, alpha=shade, linewidth=0)
    look: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4}
    axes.plot(known["time"], known[name], label=meaning, **look | style)


def time_axis(axes: Axes, samples: pd.DataFrame) -> None:
    """Time from noise (left) to data (right), with the noise-to-signal ratio under each time if there is room."""
    axes.set_xlim(samples["time"].max() + 0.04, samples["time"].min() - 0.04)
    axes.set_xlabel("t   (1 noise, 0 data)")
    if len(samples) <= 6 and samples["sigma"].notna().all():
        axes.set_xticks(
            samples["time"], [f"{row.time:.2f}\nσ {row.sigma:.2g}" for row in samples.itertuples()], fontsize=8
        )
    axes.grid(axis="y", alpha=0.3)
    open_axes(axes)


def open_axes(axes: Axes) -> None:
    """Leave out the lines above and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
