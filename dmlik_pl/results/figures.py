"""From records to figures: those that each kind of study declares, and the bits per dimension of any data.

Figures are made without matplotlib's global state, so any thread or callback may draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmlik_pl.plain_text import file_stem
from dmlik_pl.records.frames import clusters_of, column, grid_errors, pooled_errors
from dmlik_pl.records.store import studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.drawing import BLUE, SKY, Canvas, named, open_axes
from dmlik_pl.results.kinds import Kind, kind_of
from dmlik_pl.results.likelihoods import nats_per_bpd
from dmlik_pl.stats.significance import mean_with_error

__all__ = ["make_figures"]

_MOST_CLASSES = 12
_MOST_BINS = 60


def make_figures(records: Mapping[str, pd.DataFrame], attempts: Attempts | None = None) -> dict[str, Figure]:
    """All figures of a run, on canvases on which no text is markup.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        attempts: Keeps what could not be drawn; without, it is logged only.

    Returns:
        Figures by name, the name being that of a file without extension.
    """
    attempts = attempts or Attempts()
    figures: dict[str, Figure] = {}
    for study, frame in studies(records).items():
        with attempts.making("Figures", study):
            figures |= kind_of(study, frame).figures(study, frame)
        with attempts.making("The figure of bits per dimension", study):
            figures |= _histograms(study, frame)
    for figure in figures.values():
        Canvas(figure)
    return {file_stem(name): figure for name, figure in figures.items()}


def _histograms(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """Bits per dimension of the data: a histogram, and below it a line for each class of each attribute."""
    kind = kind_of(study, frame)
    found = kind.data(frame)
    if found is None or not len(found.rows):
        return {}
    data = found.rows.assign(bpd_=-column(found.rows, "log_p") / nats_per_bpd(found.rows))
    data = data[np.isfinite(data["bpd_"])]
    if found.attribute is not None:
        attributes, titles = [found.attribute], [named(data["attribute"].iloc[0])] if len(data) else []
    else:
        attributes = [name for name in _attributes(kind, data) if 1 < data[name].nunique() <= _MOST_CLASSES]
        titles = [named(name) for name in attributes]
    if not len(data):
        return {}
    if not attributes:
        data, attributes, titles = data.assign(all_="all samples"), ["all_"], [""]
    classes = max(data[name].nunique() for name in attributes)
    heights = (2.2, 0.5 + 0.16 * classes)
    figure = Figure(figsize=(1 + 4 * len(attributes), 1 + sum(heights)), layout="constrained")
    panels = figure.subplots(2, len(attributes), sharex=True, squeeze=False, height_ratios=heights)
    for (above, below), attribute, title in zip(panels.T, attributes, titles, strict=True):
        above.hist(data["bpd_"], bins=_bins(data["bpd_"]), color=SKY, linewidth=0)
        above.set_ylabel("samples")
        above.set_title(f"{title} (n = {len(data)})".strip(), fontsize=10)
        open_axes(above)
        _draw_classes(below, data, attribute)
        below.set_xlabel("bits per dimension of the data")
    figure.supxlabel("ticks: samples; points: means of the classes, 95 % intervals", fontsize=8, color="dimgrey")
    return {f"{study}_bits_per_dim": figure}


def _attributes(kind: Kind, data: pd.DataFrame) -> list[str]:
    """The columns that are attributes of the samples."""
    return [
        str(name)
        for name in data
        if kind.schema.is_attribute(str(name)) and all(isinstance(value, str) for value in data[name])
    ]


def _bins(values: pd.Series) -> Literal["auto"] | int:
    """Numpy's own choice, unless an outlier far away makes it more bins than there is memory for."""
    width = 2 * float(values.quantile(0.75) - values.quantile(0.25)) / len(values) ** (1 / 3)
    return _MOST_BINS if np.ptp(values) > _MOST_BINS * width > 0 else "auto"


def _draw_classes(axes: Axes, data: pd.DataFrame, attribute: str) -> None:
    """One line per class: its samples, and their mean with its 95 % interval."""
    names = sorted(data[attribute].unique(), reverse=True)
    for i, name in enumerate(names):
        chosen = data[data[attribute] == name]
        values, unit = chosen["bpd_"], nats_per_bpd(chosen)
        axes.plot(values, np.full(len(values), i), "|", color=SKY, markersize=6)
        errors = (pooled_errors(chosen) / unit, grid_errors(chosen) / unit)
        mean = mean_with_error(values, *errors, clusters=clusters_of(chosen))
        reach = np.nan_to_num(mean.interval.high - mean.value)
        axes.errorbar(mean.value, i, xerr=reach, fmt="o", color=BLUE, markersize=4, capsize=2)
    axes.set_yticks(range(len(names)), [named(name) for name in names], fontsize=8)
    axes.set_ylim(-0.6, len(names) - 0.4)
    open_axes(axes)
