"""What figures share: colours, curves over time with their bands, axes, and a canvas on which no text is markup."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg

from dmlik_pl.plain_text import one_line

__all__ = [
    *("BLUE", "GREEN", "GREY", "ORANGE", "PURPLE", "SKY", "VERMILION"),
    *("Canvas", "arms", "curve", "named", "open_axes", "time_axis"),
]

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY = "#999999"

_LONGEST_LABEL, _LONGEST_LINE = 40, 200  # letters of what users write, and of any line


class _Renderer(RendererAgg):
    """Draws every text letter by letter, whatever it holds: every label of every figure comes through here."""

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:
        with _unknown_letters_as_boxes():
            super().draw_text(gc, x, y, one_line(s, _LONGEST_LINE), prop, angle, False, mtext)

    def draw_tex(self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, *, mtext: Any = None) -> None:
        self.draw_text(gc, x, y, s, prop, angle, mtext=mtext)

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> tuple[float, float, float]:
        with _unknown_letters_as_boxes():
            return super().get_text_width_height_descent(one_line(s, _LONGEST_LINE), prop, False)


class Canvas(FigureCanvasAgg):
    """A canvas on which texts are what they say: no formula, no endless line, a box for a letter that the font lacks.

    It becomes the canvas of its figure, so that `Figure.savefig` draws on it.

    Args:
        figure: The figure.
    """

    def get_renderer(self) -> RendererAgg:
        """The renderer of the figure's present size."""
        renderer = super().get_renderer()
        if not isinstance(renderer, _Renderer):
            renderer = self.renderer = _Renderer(renderer.width, renderer.height, renderer.dpi)
        return renderer


def named(text: object) -> str:
    """What a user calls something as a short label; a legend leaves out those that begin with an underscore."""
    words = one_line(text, _LONGEST_LABEL)
    return f" {words}" if words.startswith("_") else words


@contextmanager
def _unknown_letters_as_boxes() -> Iterator[None]:
    """Leave out that a letter of a prompt is drawn as a box, or from left to right, once for every letter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support")
        yield


def arms(rows: pd.DataFrame, name: str, scale: float = 1.0) -> np.ndarray:
    """How far the intervals of a column reach below and above it, [2, N], as error bars are given.

    Args:
        rows: The numbers, with the columns `name`, `name`_low and `name`_high.
        name: The column.
        scale: What lengths are multiplied by.
    """
    reach = [rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]]
    return np.clip(scale * np.array(reach), 0, None)  # rounding may leave a value a hair outside its interval


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
