"""What a figure shows, in words: captions for everybody, alternative texts for who cannot see it."""

from __future__ import annotations

import re

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmlik_pl.plain_text import one_line

__all__ = ["alternative_text", "caption"]

_KNOWN = {
    "pictures": "Kept pictures, a row each.",
    "bits_per_dim": "Bits per dimension of the data: distribution over samples, and below it the mean of each class.",
    "margins": "Margin of the true prompt over the best other one in every sample, sorted, with its probe error.",
    "confusion": "Predicted against true values, a panel for each method.",
}
_MOST_PANELS = 6
_LONGEST = 2000  # letters


def caption(name: str, figure: Figure) -> str:
    """One line below a figure: what it is, and what is written above it or at its axes.

    Args:
        name: Its name, that of a study and what of it is shown.
        figure: The figure.
    """
    known = next((text for ending, text in _KNOWN.items() if name.endswith(f"_{ending}")), "")
    above = _sentence(figure.get_suptitle())
    drawn = "" if known or above else _sentence(", ".join(dict.fromkeys(filter(None, map(_axes, figure.axes)))))
    return " ".join(filter(None, (_sentence(name.replace("_", " ")), known, above, drawn)))


def alternative_text(figure: Figure) -> str:
    """Axes and curves of a figure, read from the figure itself."""
    panels = [words for axes in figure.axes if axes.axison and (words := _panel(axes))]
    more = f" and {len(panels) - _MOST_PANELS} more panels" if len(panels) > _MOST_PANELS else ""
    text = "; ".join(dict.fromkeys(panels[:_MOST_PANELS])) or "pictures"
    return _sentence(f"Figure of {text}{more}")


def _panel(axes: Axes) -> str:
    curves = ", ".join(_plain(label) for label in axes.get_legend_handles_labels()[1])
    return ": ".join(filter(None, (_plain(axes.get_title()), _axes(axes), curves)))


def _axes(axes: Axes) -> str:
    x, y = _plain(axes.get_xlabel()), _plain(axes.get_ylabel())
    return f"{y} against {x}" if x and y else x or y


def _plain(text: str) -> str:
    """Text without line breaks."""
    return one_line(re.sub(r"\s+", " ", text).strip(), _LONGEST)


def _sentence(text: str) -> str:
    text = _plain(text)
    first = text[:1] if text[1:3] == " =" else text[:1].upper()  # a symbol such as w, or a word
    return f"{first}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""
