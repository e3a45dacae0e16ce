"""Sweeps of speech over time (Table 1 of Cross and Ragni): how their records are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from dmlik_pl.records.frames import column
from dmlik_pl.records.missing import HEARD
from dmlik_pl.results.columns import estimate, headline_of, share_with_interval
from dmlik_pl.results.kinds import Headline, Kind, Series
from dmlik_pl.results.likelihoods import Data, by_stage, every_likelihood, of_data
from dmlik_pl.results.numbers import with_errors
from dmlik_pl.results.paper import Number, PaperTable, Printed, for_all_systems
from dmlik_pl.results.speech_sweep.figures import mel_sheet, speech_sweep_figures
from dmlik_pl.results.speech_sweep.schema import SCHEMA
from dmlik_pl.results.speech_sweep.summaries import speech_sweep_summary
from dmlik_pl.results.speech_sweep.tables import speech_sweep_tables

__all__ = ["KIND"]


def _data(frame: pd.DataFrame) -> Data | None:
    return of_data(frame[frame["stage"] == "data"])


def _likelihoods(frame: pd.DataFrame) -> pd.DataFrame:
    """All rows but those that are only heard."""
    return every_likelihood(frame[frame["stage"] != "vocoded"])


def _scalars(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of the recordings and of the samples at the last time."""
    rows = speech_sweep_summary(frame).to_dict("records")
    for stage, row in (("data", rows[0]), ("sample", rows[-1])):
        for name in ("bpd", "bpd_marginal", "wer", *HEARD):
            yield from with_errors(row, name, f"{name}_{stage}")


def _headlines(study: str, frame: pd.DataFrame) -> Iterator[Headline]:
    """The recordings, and the samples at the last time."""
    columns = (
        share_with_interval("WER (%)", "wer"),
        estimate("BPD", "bpd"),
        estimate("speaker similarity", "speaker_similarity"),
    )
    rows = speech_sweep_summary(frame).to_dict("records")
    named = {"recordings": rows[0]}
    if rows[-1]["stage"] == "sample":
        named[f"samples at t = {rows[-1]['time']:g}"] = rows[-1]
    for words, row in named.items():
        yield from headline_of(study, words, row, columns)


def _series(frame: pd.DataFrame) -> dict[str, Series]:
    """Every measure against time."""
    summary = speech_sweep_summary(frame)
    samples = summary[summary["stage"] == "sample"].assign(line="")
    names = ("bpd", "bpd_marginal", *HEARD, "wer")
    return {name: Series(samples, "time", name, f"{name} over time", "t") for name in names}


def _stages(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    return by_stage(rows.assign(time=column(rows, "time")))


def _sheets(folder: Path, frame: pd.DataFrame) -> dict[str, Figure]:
    sheet = mel_sheet(folder, frame)
    return {} if sheet is None else {"pictures": sheet}


def _published(frame: pd.DataFrame) -> Iterator[Number]:
    names = {"BPD": "bpd", "LogF0": "log_f0_rmse", "MCD": "cepstral_distortion", "WER": "wer"}
    for row in speech_sweep_summary(frame).to_dict("records"):
        if row["stage"] != "vocoded":
            place = "Ref" if row["stage"] == "data" else f"{row['time']:.2f}"
            for measure, name in {**names, "ASV": "speaker_similarity"}.items():
                yield measure, place, row[name], row[f"{name}_standard_error"]


KIND = Kind(
    name="speech_sweep",
    schema=SCHEMA,
    data=_data,
    likelihoods=_likelihoods,
    tables=speech_sweep_tables,
    figures=speech_sweep_figures,
    scalars=_scalars,
    headlines=_headlines,
    series=_series,
    sheets=_sheets,
    stages=_stages,
    paper={
        1: PaperTable(
            for_all_systems(_published),
            "BPD reads x_t as data at t = 0; MCD and WER depend on vocoder and recogniser.",
            Printed("Grad-TTS and LJSpeech", frozenset({"LJSpeech", "StoredLists"}), "TextToSpeech", "log-mel"),
        )
    },
)
