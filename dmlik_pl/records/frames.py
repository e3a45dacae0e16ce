"""What tables and figures ask of the records: settings in words, columns as numbers, lists in cells."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

__all__ = [
    "CLUSTER",
    "clusters_of",
    "column",
    "describe",
    "features_of",
    "grid_errors",
    "image_of",
    "listed",
    "listing",
    "named_scores",
    "pooled_errors",
]

CLUSTER = "cluster of the sample"
"""Column that :mod:`dmlik_pl.results.clusters` adds; its blanks keep it apart from every attribute."""

_MOST_LISTED = 4
_CAPTION = re.compile(r"#[0-9a-f]{8}$")


def column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as float64 [N], NaN where it is absent or not known."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[name]).to_numpy(dtype=np.float64, na_value=np.nan)


def pooled_errors(frame: pd.DataFrame, name: str = "log_p") -> np.ndarray:
    """Error over probes of each value, [N], as a mean over samples pools it: the root of an unbiased variance.

    The standard error of a single value is wider, since few probes know their own scatter badly; it stands in where the
    records hold no variance.

    Args:
        frame: Records.
        name: The column of the values; `bpd` has the errors of `log_p` in its own unit.
    """
    of = "log_p" if name == "bpd" else name
    prefix = "" if of == "log_p" else f"{of}_"
    single, variance = column(frame, f"{prefix}standard_error"), column(frame, f"{prefix}probe_variance")
    pooled = np.where(np.isnan(variance), single, np.sqrt(variance))
    if name != "bpd":
        return pooled
    narrower = np.divide(pooled, single, out=np.ones_like(pooled), where=np.isfinite(single) & (single > 0))
    return column(frame, "bpd_standard_error") * narrower


def grid_errors(frame: pd.DataFrame, name: str = "log_p") -> np.ndarray:
    """Size of the time grid's error of each value by the solver's own estimate, [N]; NaN where there is none.

    Args:
        frame: Records.
        name: The column of the values; `bpd` has the error of `log_p` in its own unit.
    """
    if name not in ("log_p", "bpd"):
        return np.abs(column(frame, f"{name}_discretisation"))
    error = np.abs(column(frame, "discretisation"))
    if name == "log_p":
        return error
    single, unit = column(frame, "standard_error"), 1 / (column(frame, "dims") * np.log(2))
    # Published protocols count other dimensions than those of the density in bits; so do their standard errors.
    known = np.isfinite(single) & (single > 0)
    return error * np.divide(column(frame, "bpd_standard_error"), single, out=unit, where=known)


def image_of(sample_id: str) -> str:
    """Name of the image of a sample: of several captions of one image, all but the first add a digest to its name."""
    return _CAPTION.sub("", sample_id)


def clusters_of(frame: pd.DataFrame) -> np.ndarray | None:
    """Label of each record's cluster, [N]: what the report is asked for, else its sample, or the image of its caption.

    Args:
        frame: Records; those that do not know their sample are clusters of their own, and the result is None.
    """
    if CLUSTER in frame:
        return frame[CLUSTER].to_numpy(dtype=str)
    return frame["sample_id"].astype(str).map(image_of).to_numpy(dtype=str) if "sample_id" in frame else None


def named_scores(text: str, candidates: Sequence[str]) -> dict[str, float]:
    """Scores stored as JSON, either an object by candidate or a list in the candidates' order.

    What is not finite is NaN; a null, for a candidate that was screened out, is -inf.
    """
    stored = json.loads(text)
    named = stored if isinstance(stored, dict) else dict(zip(candidates, stored, strict=True))
    return {
        name: -np.inf if value is None else float(value) if np.isfinite(value) else np.nan
        for name, value in named.items()
    }


def features_of(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The feature vector [F] of each sample that has one, by its name; of several the first."""
    found: dict[str, np.ndarray] = {}
    for name, values in zip(frame["sample_id"], frame.get("feature", ()), strict=False):
        if values is not None and np.isfinite(vector := np.asarray(values, dtype=np.float64)).all():
            found.setdefault(str(name), vector)
    return found


def listing(values: Sequence[str]) -> str:
    """Texts as one text, as the column `candidates` holds them; :func:`listed` takes them apart again."""
    return json.dumps(list(values))


def listed(text: str) -> list[str]:
    """The texts of a :func:`listing`; older records have them with "|" between."""
    try:
        values = json.loads(text)
    except ValueError:
        return text.split("|")
    return values if isinstance(values, list) else text.split("|")


def describe(frame: pd.DataFrame) -> str:
    """The settings behind a frame of likelihoods, in sentences for a caption.

    Args:
        frame: The records of one study.
    """
    sentences = []
    if "density" in frame:
        of = f" of {_values(frame, 'space')}" if "space" in frame else ""
        dims = f" with {_values(frame, 'dims')} dimensions" if "dims" in frame else ""
        sentences.append(f"Likelihoods are {_values(frame, 'density')}, a density{of}{dims}.")
    if "guidance" in frame:
        sentences.append(_guidance(frame))
    settings = [
        f"{name} {_values(frame, name)}"
        for name in ("solver", "probes", "r_min", "r_max")
        if frame.get(name) is not None
    ]
    calls = [
        f"{column(frame, f'nfe_{kind}').mean():.4g} {word}"
        for kind, word in (("forward", "forward passes"), ("vjp", "VJPs"), ("jvp", "JVPs"))
        if np.nansum(column(frame, f"nfe_{kind}")) > 0
    ]
    if settings:
        sentences.append(f"Settings: {', '.join(settings)}.")
    if calls:
        sentences.append(f"Network calls per likelihood: {', '.join(calls)}.")
    return " ".join(sentences)


def _guidance(frame: pd.DataFrame) -> str:
    weights = sorted(set(column(frame, "guidance")))
    if weights == [0.0]:
        return "Guidance w = 0: unconditional."
    if weights == [1.0]:
        return "Guidance w = 1: conditional, no extrapolation."
    listed = ", ".join(f"{weight:g}" for weight in weights)
    return f"Guidance w = {listed}: the density of the guided flow, which no noised p(x|y) has (w = 1 is conditional)."


def _values(frame: pd.DataFrame, name: str) -> str:
    """The values of a column, or from where to where they go if they are many numbers."""
    values = sorted(frame[name].dropna().unique())
    shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    if len(shown) > _MOST_LISTED and pd.api.types.is_numeric_dtype(frame[name]):
        return f"{shown[0]} to {shown[-1]}"
    return " / ".join(shown)
