"""Adaptation of speech (Table 3 of Cross and Ragni): how its records are shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dmlik_pl.records.frames import column
from dmlik_pl.results.adaptation.figures import adaptation_figures, adaptation_sheet
from dmlik_pl.results.adaptation.schema import SCHEMA
from dmlik_pl.results.adaptation.summaries import adaptation_summary, published_cells
from dmlik_pl.results.adaptation.tables import adaptation_tables
from dmlik_pl.results.columns import estimate, headline_of, share_with_interval
from dmlik_pl.results.kinds import Headline, Kind
from dmlik_pl.results.likelihoods import Data, every_likelihood, of_data, total_errors
from dmlik_pl.results.numbers import with_errors
from dmlik_pl.results.paper import PaperTable, Printed, for_all_systems

__all__ = ["KIND"]


def _data(frame: pd.DataFrame) -> Data | None:
    """The recordings under the first of the blurs."""
    data = frame[frame["stage"] == "data"]
    blurs = data["mean"].unique()
    if len(blurs) < 2:
        return of_data(data)
    return of_data(data[data["mean"] == blurs[0]], f"μ: {blurs[0]}")


def _likelihoods(frame: pd.DataFrame) -> pd.DataFrame:
    """All rows but those that are only heard, or only compared."""
    return every_likelihood(frame[~frame["stage"].isin(("vocoded", "round trip"))])


def _scalars(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each way there and back, and each blur if there are several."""
    summary = adaptation_summary(frame)
    several = summary["mean"].nunique() > 1
    for row in summary.to_dict("records"):
        which = f"{row['forward']}-{row['reverse']}" if row["stage"] == "adapted" else row["stage"]
        which += f"_{row['blur_kernel']:g}_{row['blur_sigma']:g}" if several else ""
        for name in ("wer", "bpd", "speaker_similarity"):
            yield from with_errors(row, name, f"{name}_{which}")


def _headlines(study: str, frame: pd.DataFrame) -> Iterator[Headline]:
    """What is heard in the recordings and after each way there and back."""
    columns = (
        share_with_interval("WER (%)", "wer"),
        estimate("speaker similarity", "speaker_similarity"),
        estimate("BPD", "bpd"),
    )
    names = {"data": "recordings", "vocoded": "vocoded recordings"}
    summary = adaptation_summary(frame)
    several = summary["mean"].nunique() > 1
    for row in summary.to_dict("records"):
        words = names.get(row["stage"]) or f"{row['forward']} there, {row['reverse']} back"
        words += f", μ: {row['mean']}" if several else ""
        yield from headline_of(study, words, row, columns)


def _stages(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """By way there and back, under the first of the blurs, which is the one that is kept to be seen and heard."""
    rows = rows[rows["mean"] == rows["mean"].iloc[0]]
    names = [
        f"{row['forward']}-{row['reverse']}" if row["stage"] == "adapted" else str(row["stage"])
        for row in rows.to_dict("records")
    ]
    values = zip(column(rows, "bpd"), total_errors(rows), strict=True)
    return {name: value for name, value in zip(names, values, strict=True) if np.isfinite(value[0])}


def _sheets(folder: Path, frame: pd.DataFrame) -> dict[str, Figure]:
    sheet = adaptation_sheet(folder, frame)
    return {} if sheet is None else {"pictures": sheet}


KIND = Kind(
    name="adaptation",
    schema=SCHEMA,
    data=_data,
    likelihoods=_likelihoods,
    tables=adaptation_tables,
    figures=adaptation_figures,
    scalars=_scalars,
    headlines=_headlines,
    sheets=_sheets,
    stages=_stages,
    paper={
        3: PaperTable(
            for_all_systems(published_cells),
            "How the published BPD was made is unknown; ASV is (cosine + 1) / 2 in both.",
            Printed("Grad-TTS and TED-LIUM", frozenset({"TEDLIUM"}), "TextToSpeech", "log-mel"),
        )
    },
)
