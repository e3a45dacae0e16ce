"""What tables and figures ask of the records: settings in words, columns as numbers, likelihoods of the data."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

__all__ = [
    "attribute_columns",
    "column",
    "data_likelihoods",
    "describe",
    "features_of",
    "kind_of",
    "listed",
    "listing",
    "named_scores",
    "too_dense",
]

# Text columns that say how a number was made; any other text column of a sweep is an attribute of the sample.
_SETTINGS = {
    *("sample_id", "prompt", "stage", "density", "space", "solver", "probes", "divergence", "model", "prior", "kind"),
    *("text", "transcript", "alignment", "durations", "alternative", "recogniser", "speaker_encoder", "vocoder"),
    *("protocol", "deviations", "fingerprint", "packages", "converted", "missing"),
}
_MOST_LISTED = 4


def kind_of(study: str, frame: pd.DataFrame) -> str:
    """What kind of study made the records: their column `kind`, or the study's name where there is none.

    Args:
        study: Name of the study.
        frame: Its records.
    """
    return str(frame["kind"].iloc[0]) if "kind" in frame and len(frame) else study


def data_likelihoods(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Log-likelihood of the data themselves under their own prompts, one row a sample.

    Args:
        frame: The records of any study.

    Returns:
        A copy of the records with at least sample_id, log_p, standard_error (nats) and dims, or None if the study has
        no likelihood of data. Of a sweep over settings: those without reconstruction, at the largest size, under the
        guidance nearest to 1, which is conditional.
    """
    if "scores" in frame:
        if "reconstructed" in frame:
            frame = frame.sort_values("reconstructed", kind="stable")  # the data as they are, if there are such
        # The own prompt is among the candidates of every attribute and in every part.
        first = frame.drop_duplicates("sample_id").reset_index(drop=True)
        first["log_p"] = _of_truth(first, "scores")
        first["standard_error"] = _of_truth(first, "scores_standard_error")
        return first[~np.isneginf(first["log_p"])].reset_index(drop=True)
    if not {"log_p", "dims"} <= set(frame.columns):
        return None
    if "stage" in frame:
        frame = frame[frame["stage"] == "data"]
        frame = _of_one_setting(frame)
        frame = frame.drop_duplicates("sample_id")  # of several means, the first
    elif (
        "alternative" in frame
    ):  # a record for each text that was compared: the own text's likelihood is in all of them
        frame = frame[frame["alignment"] == frame["alignment"].iloc[0]].drop_duplicates("sample_id")
    return frame.assign(standard_error=column(frame, "standard_error")).reset_index(drop=True)


def _of_one_setting(data: pd.DataFrame) -> pd.DataFrame:
    """The records of a sweep over settings that are of its plainest one; all, if it has no settings."""
    order = pd.DataFrame(
        {
            "reconstructed": np.nan_to_num(column(data, "reconstructed")),
            "size": -np.nan_to_num(column(data, "size")),
            "guidance": np.abs(np.nan_to_num(column(data, "guidance"), nan=1.0) - 1),
        },
        index=data.index,
    )
    return data[(order == order.sort_values(list(order)).head(1).squeeze()).all(axis=1)] if len(data) else data


def attribute_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the columns that hold attributes of the samples, such as colour or class."""
    return [
        str(name)
        for name in frame.columns
        if name not in _SETTINGS and len(frame) and all(isinstance(value, str) for value in frame[name])
    ]


def column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as float64 [N], NaN where it is absent or not known."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    return pd.to_numeric(frame[name]).to_numpy(dtype=np.float64, na_value=np.nan)


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


def too_dense(frame: pd.DataFrame) -> np.ndarray:
    """Which likelihoods are higher than any of data seen through noise of size r_min, [N] booleans.

    No such density is above that of the noise at its peak: a higher one is not converged, or not of a noised density.
    """
    densest = -0.5 * column(frame, "dims") * np.log(2 * np.pi * column(frame, "r_min") ** 2)
    return column(frame, "log_p") > densest


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
        sentences.append(f"Network calls a likelihood: {', '.join(calls)}.")
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


def _of_truth(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Of scores by candidate that of the true one; NaN without."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    texts = zip(frame[name], frame["candidates"], frame["truth"], strict=True)
    return np.array([named_scores(text, listed(offered)).get(truth, np.nan) for text, offered, truth in texts])
