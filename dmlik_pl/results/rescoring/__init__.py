"""Rescoring of n-best lists (Table 2 of Cross and Ragni): how its records are shown."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from dmlik_pl.results.kinds import Headline, Kind
from dmlik_pl.results.paper import Number, PaperTable, Printed, for_all_systems
from dmlik_pl.results.rescoring.figures import rescoring_figures
from dmlik_pl.results.rescoring.schema import SCHEMA
from dmlik_pl.results.rescoring.summaries import BEST, ONE_DRAW, RANDOM, WORST, word_error_rates
from dmlik_pl.results.rescoring.tables import rescoring_tables
from dmlik_pl.results.table import percent_with_interval
from dmlik_pl.stats import Interval
from dmlik_pl.stats.estimate import NORMAL

__all__ = ["KIND"]


def _scalars(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each way to choose a hypothesis."""
    for row in word_error_rates(frame).to_dict("records"):
        yield f"wer_{row['strategy']}", row["wer"]
        yield f"wer_{row['strategy']}_low", row["low"]
        yield f"wer_{row['strategy']}_high", row["high"]


def _headlines(study: str, frame: pd.DataFrame) -> Iterator[Headline]:
    for row in word_error_rates(frame).to_dict("records"):
        interval = percent_with_interval(row["wer"], Interval(row["low"], row["high"]))
        label = f"{study.replace('_', ' ').capitalize()}: word error rate (WER) by {row['strategy']}"
        yield Headline(label, f"{interval} %", f"{row['words']:g} words")


def _published(frame: pd.DataFrame) -> Iterator[Number]:
    columns = {"acoustic": "AM Score", "likelihood": "Grad-TTS LL", RANDOM: "Random", ONE_DRAW: "Random"}
    columns |= {BEST: "Oracle Best", WORST: "Oracle worst"}
    for row in word_error_rates(frame).to_dict("records"):
        if row["strategy"] in columns:
            error = (row["high"] - row["low"]) / (2 * NORMAL)
            yield "WER", columns[row["strategy"]], 100 * row["wer"], 100 * error


KIND = Kind(
    name="rescoring",
    schema=SCHEMA,
    tables=rescoring_tables,
    figures=rescoring_figures,
    scalars=_scalars,
    headlines=_headlines,
    paper={
        2: PaperTable(
            for_all_systems(_published),
            "Published oracles go by rounded rates, its random choice is one draw. WER in %.",
            Printed("Grad-TTS and LJSpeech", frozenset({"LJSpeech", "StoredLists"}), "TextToSpeech", "log-mel"),
        )
    },
)
