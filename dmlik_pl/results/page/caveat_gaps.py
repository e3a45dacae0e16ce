"""Rules for caveats on what is not there: samples that failed or are missing, values that could not be taken."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.frames import column
from dmlik_pl.records.missing import HEARD, missing_measures, undefined
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.page.caveat_rows import Finding, Rule, by_mean, likelihoods, some

__all__ = ["GAPS", "failed_samples", "unfinished"]


def failed_samples(failed: pd.DataFrame) -> Iterator[Finding]:
    """Samples without a result, with the reasons."""
    if not len(failed):
        return
    reasons = [
        f"{one_line(error)} ({len(rows)}: {some(rows['sample_id'].map(one_line).drop_duplicates())})"
        for error, rows in failed.groupby("error", sort=False)
    ]
    what = f"{failed['sample_id'].nunique()} samples failed and are in no number"
    yield Finding("failures", f"{what}: {some(reasons, '; ')}.", "serious")


def unfinished(missing: Collection[str], run: int, kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Samples of the run that a study has not measured, and means that have fewer samples than others.

    Args:
        missing: Names of the samples that it should have.
        run: How many samples the run is of.
        kind: The kind of the study.
        frame: The records of the study.
    """
    texts = []
    if missing:
        texts.append(f"{len(missing)} of the run's {run} samples are missing: the run was not finished.")
    if len(frame):
        counts = {place: rows["sample_id"].nunique() for place, rows in by_mean(kind, frame)}
        fewest, most = min(counts.values()), max(counts.values())
        if fewest < most:
            fewer = [f"{place}{count}" for place, count in counts.items() if count < most]
            texts.append(f"Means are of {fewest} to {most} samples, not all of the same ones; {some(fewer, '; ')}.")
    if texts:
        yield Finding("unfinished", " ".join(texts), "serious" if missing else "caution")


def _not_finite(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    rows = likelihoods(kind, frame)
    count = int((~np.isfinite(rows["bpd"])).sum())
    if count:
        yield Finding(
            "not finite",
            f"{count} of {len(rows)} likelihoods are not finite and are left out of every mean.",
            "serious",
        )


def _unmeasured(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """What could not be measured beside the likelihood."""
    for found in missing_measures(frame):
        reasons = [f"{reason} ({count})" for reason, count in found.reasons.items()]
        text = f"{found.words}, whose likelihoods stay: {some(reasons, '; ')}."
        yield Finding("missing", text, "serious" if found.samples == found.of else "caution")


def _undefined(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Measures of sound that some waves do not have."""
    if "stage" in frame:
        frame = frame[frame["stage"] != "round trip"]
    missing = {}
    for name, meaning in HEARD.items():
        if np.isfinite(column(frame, name)).any() and (count := int(undefined(frame, name).sum())):
            missing[meaning] = count
    if missing:
        text = ", ".join(f"{meaning} {count}" for meaning, count in missing.items())
        yield Finding("undefined", f"Not defined for some of {len(frame)} waves, and left out: {text}.", "caution")


def _left_out(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Hypotheses that broke a rule of the lists."""
    if "excluded" not in frame:
        return
    reasons = frame.loc[frame["excluded"].fillna("") != "", "excluded"]
    reasons = reasons.str.replace(r" row \d+$", " row", regex=True).value_counts()
    if len(reasons):
        text = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
        yield Finding("left out", f"{reasons.sum()} of {len(frame)} rows of the lists are left out: {text}.", "note")


GAPS: tuple[Rule, ...] = (_not_finite, _unmeasured, _undefined, _left_out)
