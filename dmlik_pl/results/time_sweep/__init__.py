"""Sweeps over time and settings (Tables 4, 5 and 7 of Cross and Ragni): how their records are shown."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import column
from dmlik_pl.results.columns import estimate, headline_of
from dmlik_pl.results.kinds import Headline, Kind, Series
from dmlik_pl.results.likelihoods import Data, by_stage, of_data
from dmlik_pl.results.numbers import slug, with_errors
from dmlik_pl.results.paper import PaperTable, Printed
from dmlik_pl.results.parts import plainest
from dmlik_pl.results.time_sweep.figures import time_sweep_figures
from dmlik_pl.results.time_sweep.pictures import sweep_sheets
from dmlik_pl.results.time_sweep.published import PIXELS_PER_LATENT, settings_found
from dmlik_pl.results.time_sweep.schema import SCHEMA
from dmlik_pl.results.time_sweep.summaries import sweep_summary
from dmlik_pl.results.time_sweep.tables import time_sweep_tables

__all__ = ["KIND"]

_SERIES = ("bpd", "bpd_marginal", "bpd_pixels", "fid", "kid", "clip", "round_trip")


def _data(frame: pd.DataFrame) -> Data | None:
    """The data in the plainest part of the sweep."""
    return of_data(*plainest(frame[frame["stage"] == "data"]))


def _scalars(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of the data and of the samples at the last time, in each part."""
    parts = list(sweep_summary(frame).groupby("part", sort=False))
    for part, rows in parts:
        which = slug(str(part)) if len(parts) > 1 else ""
        data, samples = rows[rows["stage"] == "data"], rows[rows["stage"] == "sample"]
        for row in data.to_dict("records"):
            yield from with_errors(row, "bpd", f"bpd_data{which}")
        for row in samples.tail(1).to_dict("records"):
            for name in ("bpd", "bpd_marginal", "fid", "kid", "clip"):
                yield from with_errors(row, name, f"{name}_sample{which}")


def _headlines(study: str, frame: pd.DataFrame) -> Iterator[Headline]:
    """The samples at the last time, in each part; finished ones along the path that made them, where that is known."""
    summary = sweep_summary(frame)
    parts = summary[summary["stage"] == "sample"].groupby("part", sort=False)
    for part, rows in parts:
        row = rows.iloc[-1].to_dict()
        density = "bpd_marginal" if row["time"] == 0 and np.isfinite(row["bpd_marginal"]) else "bpd"
        columns = (estimate("BPD", density), estimate("CLIP", "clip"), estimate("FID", "fid"))
        of = f", {part}" if len(parts) > 1 else ""
        yield from headline_of(study, f"samples at t = {row['time']:g}{of}", row, columns)


def _series(frame: pd.DataFrame) -> dict[str, Series]:
    """Every measure against time, a line per part."""
    summary = sweep_summary(frame)
    samples = summary[summary["stage"] == "sample"].assign(line=summary["part"])
    return {name: Series(samples, "time", name, f"{name} over time", "t") for name in _SERIES}


def _stages(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    return by_stage(rows.assign(time=column(rows, "time")))


_LATENTS = (
    f"The paper divides the log-density of the latents by the number of pixels: its BPD are shown times "
    f"{PIXELS_PER_LATENT}, bits per latent dimension as in the run. Its likelihoods of samples are of decoded images; "
    "so are the run's where it has them. Its columns 0.50 and 0.00 are one noise level. FID is of the run's own "
    "features."
)
_ENDS = " Its size columns are those of t = 1.00 in Table 7, its CFG columns of t = 0.00."
_PACS = Printed(
    "SDXL and PACS", frozenset({"PACS"}), "StableDiffusionXL", "VAE latents", frozenset({4 * 64 * 64, 4 * 128 * 128})
)
_SCALE = {"BPD": PIXELS_PER_LATENT}

KIND = Kind(
    name="time_sweep",
    schema=SCHEMA,
    data=_data,
    tables=time_sweep_tables,
    figures=time_sweep_figures,
    scalars=_scalars,
    headlines=_headlines,
    series=_series,
    sheets=sweep_sheets,
    stages=_stages,
    panels=True,
    paper={
        4: PaperTable(settings_found, _LATENTS, _PACS, _SCALE),
        5: PaperTable(settings_found, _LATENTS + _ENDS, _PACS, _SCALE),
        7: PaperTable(settings_found, _LATENTS, _PACS, _SCALE),
    },
)
