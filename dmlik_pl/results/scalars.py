"""The numbers by which runs are compared, as a logger takes them. A study registers its own with `register_scalars`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from dmlik_pl.results.adaptation_summaries import adaptation_summary
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.coverage import coverage, coverage_of_study
from dmlik_pl.results.decisions import LIKELIHOOD
from dmlik_pl.results.frames import kind_of
from dmlik_pl.results.missing import HEARD
from dmlik_pl.results.plain_text import one_line
from dmlik_pl.results.prompt_summaries import method_summary
from dmlik_pl.results.rescoring import strategies, word_error_summary
from dmlik_pl.results.speech_summaries import speech_sweep_summary, text_gain_summary
from dmlik_pl.results.store import FAILURES, studies
from dmlik_pl.results.sweep_summaries import sweep_summary
from dmlik_pl.speech.nbest import NBestLists

__all__ = ["ScalarMaker", "register_scalars", "scalars"]

ScalarMaker = Callable[[pd.DataFrame], Iterator[tuple[str, float]]]
"""Takes the records of a study; yields names and numbers, those that are not finite being unknown."""

_MAKERS: dict[str, ScalarMaker] = {}
_LONGEST_NAME = 120
_ERRORS = ("_standard_error", "_probe_error", "_low", "_high")


def register_scalars(kind: str) -> Callable[[ScalarMaker], ScalarMaker]:
    """Name the function that yields the numbers of a kind of study.

    Args:
        kind: The study's kind, as in its records.
    """

    def register(maker: ScalarMaker) -> ScalarMaker:
        _MAKERS[kind] = maker
        return maker

    return register


def scalars(records: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """The numbers of a run, few enough to compare runs by.

    Args:
        records: One frame a study, `failures` and `samples`, as the record store returns them.

    Returns:
        Finite numbers as "study/name"; where a number's error is known, "study/name_standard_error", the probes' part
        of it ("_probe_error"), and its 95 % interval ("_low", "_high"); "failures", how many units failed; and where
        the records say it, of how many samples the run is ("samples_expected"), how many all studies have measured
        ("samples") and each has ("study/samples").
    """
    numbers = {"failures": float(len(records.get(FAILURES, ())))}
    covered, attempts = coverage(records), Attempts()
    if covered.expected is not None:
        numbers |= {"samples": float(covered.measured), "samples_expected": float(covered.expected)}
    for study, frame in studies(records).items():
        if covered.expected is not None:
            numbers[f"{study}/samples"] = float(coverage_of_study(records, study).measured)
        if kind_of(study, frame) in _MAKERS:
            with attempts.making("Numbers", study):
                for name, value in _MAKERS[kind_of(study, frame)](frame):
                    if math.isfinite(value):
                        numbers[f"{study}/{one_line(name, _LONGEST_NAME)}"] = float(value)
    return numbers


@register_scalars("time_sweep")
def _time_sweep(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of the data and of the samples at the last time, in each cell of the sweep."""
    cells = list(sweep_summary(frame).groupby("cell", sort=False))
    for cell, rows in cells:
        which = _slug(str(cell)) if len(cells) > 1 else ""
        data, samples = rows[rows["stage"] == "data"], rows[rows["stage"] == "sample"]
        for row in data.to_dict("records"):
            yield from _with_errors(row, "bpd", f"bpd_data{which}")
        for row in samples.tail(1).to_dict("records"):
            for name in ("bpd", "fid", "kid", "clip"):
                yield from _with_errors(row, name, f"{name}_sample{which}")


@register_scalars("prompt_accuracy")
def _prompt_accuracy(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each attribute, and of each way to decide; that of the exact likelihood is not named."""
    for row in method_summary(frame).to_dict("records"):
        method = "" if row["method"] == LIKELIHOOD else f"_{row['method']}"
        which = f"{row['attribute']}{_slug(row['part'])}{method}"
        yield from _with_errors(row, "accuracy", f"accuracy_{which}")
        yield from _with_errors(row, "mean_reciprocal_rank", f"mean_reciprocal_rank_{which}")
        yield f"undecided_{which}", row["undecided_share"]


@register_scalars("speech_sweep")
def _speech_sweep(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of the recordings and of the samples at the last time."""
    rows = speech_sweep_summary(frame).to_dict("records")
    for stage, row in (("data", rows[0]), ("sample", rows[-1])):
        for name in ("bpd", "bpd_marginal", "wer", *HEARD):
            yield from _with_errors(row, name, f"{name}_{stage}")


@register_scalars("text_gain")
def _text_gain(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each alignment and alternative text."""
    for row in text_gain_summary(frame).to_dict("records"):
        which = f"{row['alignment']}_{row['alternative']}"
        yield from _with_errors(row, "gain_per_frame", f"nats_a_frame_{which}")
        yield f"helps_{which}", row["helps"]


@register_scalars("adaptation")
def _adaptation(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each way there and back, and each blur if there are several."""
    summary = adaptation_summary(frame)
    several = summary["mean"].nunique() > 1
    for row in summary.to_dict("records"):
        which = f"{row['forward']}-{row['reverse']}" if row["stage"] == "adapted" else row["stage"]
        which += f"_{row['blur_kernel']:g}_{row['blur_sigma']:g}" if several else ""
        for name in ("wer", "bpd", "speaker_similarity"):
            yield from _with_errors(row, name, f"{name}_{which}")


@register_scalars("rescoring")
def _rescoring(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each way to choose a hypothesis."""
    if not (frame["excluded"] == "").any():
        return
    lists = NBestLists.from_records(frame)
    for row in word_error_summary(lists, strategies(lists)).to_dict("records"):
        yield f"wer_{row['strategy']}", row["wer"]
        yield f"wer_{row['strategy']}_low", row["low"]
        yield f"wer_{row['strategy']}_high", row["high"]


def _with_errors(row: Mapping[Any, Any], name: str, called: str) -> Iterator[tuple[str, float]]:
    """A number of a summary's row and all that the row says of its errors, under another name."""
    yield called, row[name]
    yield from ((f"{called}{end}", row[f"{name}{end}"]) for end in _ERRORS if f"{name}{end}" in row)


def _slug(words: str) -> str:
    """Words as the end of a name."""
    return "_" + re.sub(r"\W+", "_", words).strip("_") if words else ""
