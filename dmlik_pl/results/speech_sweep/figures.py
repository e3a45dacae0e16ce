"""Figures of a sweep of speech: curves over time, and mels as in Fig. 2 of Cross and Ragni."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmlik_pl.results.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    curve,
    time_axis,
)
from dmlik_pl.results.pictures import kept_pictures, sheet_of_panels
from dmlik_pl.results.speech_sweep.summaries import speech_sweep_summary

__all__ = ["mel_sheet", "speech_sweep_figures"]

_UTTERANCES = 4
_STAGES = 6
_PANELS = (
    ("bits per dimension", [("bpd", "xₜ read as data", BLUE), ("bpd_marginal", "at its own time t", VERMILION)]),
    ("log-F0 RMSE (nats)", [("log_f0_rmse", "samples", PURPLE)]),
    ("MCD (dB)", [("cepstral_distortion", "samples", ORANGE)]),
    ("WER", [("wer", "samples", GREEN)]),
    ("ASV, cosine", [("speaker_similarity", "samples", SKY)]),
)


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


def mel_sheet(folder: str | Path, sweep: pd.DataFrame) -> Figure | None:
    """Mels of at most four utterances, one per row: the recording, the encoder's mean, and x_t from noise to data.

    Args:
        folder: Where the pictures are, one per utterance with its mels side by side.
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
    return sheet_of_panels(shown, panels, len(times) + 2, texts, inches=2.3)
