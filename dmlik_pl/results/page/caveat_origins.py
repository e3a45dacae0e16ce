"""Rules for caveats on what numbers were made of and with: packages, files, recogniser, guidance, protocol, kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.frames import column
from dmlik_pl.records.protocol import protocol_caption
from dmlik_pl.results.kinds import Kind, kind_called
from dmlik_pl.results.page.caveat_rows import Finding, Rule, some

__all__ = ["ORIGINS"]

MOST_ERRORS = 0.3  # a recogniser that mishears more words of plain recordings measures itself
_NOT_SAID = "not recorded"


def _mixed_packages(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Samples that were measured with different versions of packages."""
    if "packages" not in frame:
        return
    texts = frame.drop_duplicates(["sample_id", "packages"])["packages"]
    texts = texts.map(lambda text: text if isinstance(text, str) else "")
    if texts.nunique() < 2:
        return
    versions = pd.DataFrame([dict(part.rpartition(" ")[::2] for part in text.split(", ") if part) for text in texts])
    differing = []
    for package in versions:
        counts = versions[package].fillna(_NOT_SAID).value_counts(sort=False)
        if len(counts) > 1:
            differing.append(f"{package} {' / '.join(f'{version} ({count})' for version, count in counts.items())}")
    text = f"Measured with different versions of packages (samples): {some(differing, '; ')}."
    yield Finding("packages", text, "caution")


def _converted(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Samples whose files do not hold what was measured without a conversion."""
    if "converted" not in frame:
        return
    texts = frame.drop_duplicates("sample_id")["converted"]
    texts = texts.map(lambda text: text if isinstance(text, str) else "")
    counts = texts[texts != ""].value_counts()
    if len(counts):
        listed = some([f"{one_line(text)} ({count})" for text, count in counts.items()], "; ")
        yield Finding("converted", f"Converted when read, of {len(texts)} samples: {listed}.", "note")


def _deaf_recogniser(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """A recogniser that does not understand the recordings themselves."""
    errors, words = _errors_on_recordings(frame)
    if words > 0 and errors / words > MOST_ERRORS:
        names = sorted(set(frame["recogniser"].dropna())) if "recogniser" in frame else []
        yield Finding(
            "recogniser",
            f"{' / '.join(names) or 'The recogniser'} makes {errors / words:.2f} errors per word on the recordings "
            "themselves, before any model has touched them: word error rates say more of it than of the speech.",
            "serious",
        )


def _errors_on_recordings(frame: pd.DataFrame) -> tuple[float, float]:
    """Word errors and words of untouched recordings; of n-best lists, those of the recogniser's own choice."""
    if {"stage", "word_errors", "words"} <= set(frame.columns):
        known = frame[(frame["stage"] == "data") & frame["word_errors"].notna()]
        return float(column(known, "word_errors").sum()), float(column(known, "words").sum())
    if {"excluded", "errors", "words", "score_acoustic"} <= set(frame.columns):
        usable = frame[frame["excluded"] == ""]
        first = usable.sort_values("score_acoustic", ascending=False, kind="stable").drop_duplicates("sample_id")
        return float(column(first, "errors").sum()), float(column(first, "words").sum())
    return 0.0, 0.0


def _guided(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    weights = sorted({weight for weight in column(frame, "guidance") if weight > 1})
    if weights:
        yield Finding(
            "guidance",
            f"At w = {', '.join(f'{weight:g}' for weight in weights)} the density is that of the guided flow, which "
            "no noised p(x|y) has: it compares samples of one w, not one w with another.",
            "caution",
        )


def _distilled(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Likelihoods by a model that was distilled to sample in few steps, which its space says."""
    if "space" not in frame:
        return
    spaces = frame["space"].dropna().astype(str)
    told = spaces.str.contains("distilled", regex=False)
    if told.any():
        yield Finding(
            "distilled",
            f"{int(told.sum())} of {len(spaces)} rows are of a model distilled to sample in few steps. Its field was "
            "not trained as a score: what its flow gives is no p(x|y) of the model that it was distilled from, and no "
            "comparison with a diffusion's.",
            "caution",
        )


def _protocol(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    if text := protocol_caption(frame):
        yield Finding("protocol", text, "caution")


def _undeclared(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Records of a kind that nobody declares."""
    if kind_called(kind.name) is None:
        text = f"Nobody declares the kind {kind.name!r}: its records are shown by their columns, without headline."
        yield Finding("undeclared", text, "caution")


def _density(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """What the likelihoods are densities of."""
    if "density" not in frame or not frame["density"].notna().any():
        return
    dims = column(frame, "dims")
    low, high = f"{np.nanmin(dims):.6g}", f"{np.nanmax(dims):.6g}"
    space = " / ".join(sorted(frame["space"].dropna().unique())) if "space" in frame else "the model's own space"
    size = low if low == high else f"{low} to {high}"
    text = (
        f"Likelihoods are {' / '.join(sorted(frame['density'].dropna().unique()))}, densities of {space} with {size} "
        "dimensions. Bits per dimension of another space, or in another scale, are no comparison."
    )
    yield Finding("density", text, "note")


ORIGINS: tuple[Rule, ...] = (
    _deaf_recogniser,
    _mixed_packages,
    _converted,
    _guided,
    _distilled,
    _protocol,
    _undeclared,
    _density,
)
