"""Figures of the studies of speech: curves over time, mels as in Fig. 2 of Cross and Ragni, gains of the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dmlik_pl.results.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    curve,
    named,
    open_axes,
    time_axis,
)
from dmlik_pl.results.figures import register_figures
from dmlik_pl.results.frames import column
from dmlik_pl.results.pictures import kept_pictures
from dmlik_pl.results.speech_summaries import speech_sweep_summary

__all__ = ["mel_sheet", "speech_sweep_figures", "text_gain_figures"]

_UTTERANCES = 4
_STAGES = 6
_PANELS = (
    ("bits per dimension", [("bpd", "xₜ read as data", BLUE), ("bpd_marginal", "at its own time t", VERMILION)]),
    ("log-F0 RMSE (nats)", [("log_f0_rmse", "samples", PURPLE)]),
    ("MCD (dB)", [("cepstral_distortion", "samples", ORANGE)]),
    ("WER", [("wer", "samples", GREEN)]),
    ("ASV, cosine", [("speaker_similarity", "samples", SKY)]),
)


@register_figures("speech_sweep")
def speech_sweep_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """A panel for each measure against time, with the recording and its vocoded mel as lines."""
    summary = speech_sweep_summary(frame)
    samples = summary[summary["stage"] == "sample"]
    panels = [(label, [c for c in curves if samples[c[0]].notna().any()]) for label, curves in _PANELS]
    panels = [(label, curves) for label, curves in panels if curves]
    if not panels:
        return {}
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.2 + 3.4 * columns, 0.4 + 3.2 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (label, curves) in zip(places, panels, strict=False):
        for name, meaning, colour in curves:
            curve(axes, samples, name, meaning, colour)
        _level(axes, summary, curves[0][0], "data", "--")
        _level(axes, summary, curves[0][0], "vocoded", ":")
        time_axis(axes, samples)
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=8)
    for axes in places[len(panels) :]:
        axes.axis("off")
    figure.suptitle(
        f"Speech from noise to data, {int(summary['n'].min())} utterances, bands: 95 % intervals over utterances",
        fontsize=10,
    )
    return {study: figure}


def _level(axes: Axes, summary: pd.DataFrame, name: str, stage: str, style: str) -> None:
    """The value of the recording, or of its vocoded mel, with its interval."""
    row = summary[summary["stage"] == stage]
    if not len(row) or not np.isfinite(row[name].iloc[0]):
        return
    axes.axhline(row[name].iloc[0], color=GREY, linestyle=style, linewidth=1.2, label=stage)
    low, high = row[f"{name}_low"].iloc[0], row[f"{name}_high"].iloc[0]
    if np.isfinite(low) and np.isfinite(high):
        axes.axhspan(low, high, color=GREY, alpha=0.15, linewidth=0)


@register_figures("text_gain")
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
    figure.supylabel("gain of the text (nats a frame)", fontsize=10)
    figure.supxlabel("utterances, sorted; bars ±1.96 probe standard errors", fontsize=8, color="dimgrey")
    return {study: figure}


def _draw_gains(axes: Axes, group: pd.DataFrame) -> None:
    frames = column(group, "frames")
    rows = group.assign(
        gain_=column(group, "gain") / frames,
        error_=1.96 * np.nan_to_num(column(group, "gain_standard_error")) / frames,
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


def mel_sheet(folder: str | Path, sweep: pd.DataFrame) -> Figure | None:
    """Mels of at most four utterances, a row each: the recording, the encoder's mean, and x_t from noise to data.

    Args:
        folder: Where the pictures are, one an utterance with its mels side by side.
        sweep: The records of the sweep.

    Returns:
        The figure, or None if there are no pictures.
    """
    shown = kept_pictures(folder, sweep["sample_id"], _UTTERANCES)
    if not shown:
        return None
    stages = sweep[(sweep["sample_id"] == shown[0][0]) & (sweep["stage"] == "sample")]
    times = stages["time"].tolist()
    # Pictures hold the encoder's mean, x_t at every time, and the recording.
    chosen = sorted({round(k) for k in np.linspace(0, len(times) - 1, min(len(times), _STAGES - 2))})
    panels = [(len(times) + 1, "recording"), (0, "encoder, μ")]
    panels += [(1 + k, f"decoder, t = {times[k]:g}") for k in chosen]
    texts = sweep.drop_duplicates("sample_id").set_index("sample_id")["text"]
    figure = Figure(figsize=(2.3 * len(panels), 0.3 + 1.5 * len(shown)), layout="constrained")
    rows = figure.subplots(len(shown), len(panels), squeeze=False)
    for axes, (_, title) in zip(rows[0], panels, strict=True):
        axes.set_title(title, fontsize=9)
    for (name, path), row in zip(shown, rows, strict=True):
        picture = np.asarray(Image.open(path).convert("RGB"))
        width = picture.shape[1] // (len(times) + 2)
        for axes, (place, _) in zip(row, panels, strict=True):
            axes.imshow(picture[:, place * width : (place + 1) * width], aspect="auto")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_xlabel(named(texts[name]), fontsize=8, loc="left")
    return figure
