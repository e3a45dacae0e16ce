"""What tables and figures ask of the records: settings in words, scores as a matrix, likelihoods of the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

__all__ = [
    "Decisions",
    "attribute_columns",
    "column",
    "data_likelihoods",
    "decisions",
    "describe",
    "failure_count",
    "feature_matrix",
    "kind_of",
]

# Text columns that say how a number was made; any other text column of a sweep is an attribute of the sample.
_SETTINGS = {
    *("sample_id", "prompt", "stage", "density", "space", "solver", "probes", "divergence", "model", "prior", "kind"),
    *("text", "transcript", "alignment", "durations", "alternative", "recogniser", "speaker_encoder", "vocoder"),
    *("protocol", "deviations"),
}
_MOST_LISTED = 4


@dataclass(frozen=True)
class Decisions:
    """All decisions about one attribute.

    Attributes:
        attribute: For instance "colour".
        rows: The records, one row a sample, [N].
        candidates: The K values that compete, in the order of the columns of `scores`.
        scores: Log-likelihood of each candidate in nats, [N, K].
        truth: Column of the true value of each sample, [N].
    """

    attribute: str
    rows: pd.DataFrame
    candidates: list[str]
    scores: np.ndarray
    truth: np.ndarray

    def truth_mask(self) -> np.ndarray:
        """Where the true candidate stands, [N, K] booleans."""
        return np.arange(len(self.candidates)) == self.truth[:, None]

    def ranks(self) -> np.ndarray:
        """Rank of the true value among the candidates, [N]: 1 is best, equal scores count against it."""
        true_score = self.scores[self.truth_mask()][:, None]
        return 1 + ((self.scores >= true_score) & ~self.truth_mask()).sum(1)

    def scores_of(self, baseline: str) -> np.ndarray | None:
        """Scores of another method in the order of `candidates`, [N, K], or None where any sample has none."""
        name = f"{baseline}_scores"
        if name not in self.rows or not len(self.rows) or self.rows[name].isna().any():
            return None
        return _score_matrix(self.rows, name, self.candidates)

    def correct_on_average(self, scores: np.ndarray) -> np.ndarray:
        """Whether each true value is first by scores [N, K] averaged over all its samples, a tie being a miss.

        One boolean for each value that has samples; this is how the paper's code decides.
        """
        means = {value: scores[self.truth == value].mean(0) for value in np.unique(self.truth)}
        return np.array([bool((np.delete(mean, value) < mean[value]).all()) for value, mean in means.items()])

    def centred_correct(self) -> np.ndarray:
        """Whether each decision is right after each candidate's mean over all samples was taken off, [N]."""
        centred = self.scores - self.scores.mean(0)
        return centred.argmax(1) == self.truth


def kind_of(study: str, frame: pd.DataFrame) -> str:
    """What kind of study made the records: their column `kind`, or the study's name where there is none.

    Args:
        study: Name of the study.
        frame: Its records.
    """
    return str(frame["kind"].iloc[0]) if "kind" in frame and len(frame) else study


def decisions(frame: pd.DataFrame) -> list[Decisions]:
    """Split the records of a prompt accuracy study into attributes.

    Args:
        frame: The records; samples with a score that is not finite are left out (see `column` for counting them).

    Returns:
        One entry per attribute, in order of appearance.
    """
    result = []
    for attribute, rows in frame.groupby("attribute", sort=False):
        candidates = list(dict.fromkeys(name for text in rows["candidates"] for name in text.split("|")))
        scores = _score_matrix(rows, "scores", candidates)
        usable = np.isfinite(scores).all(1)
        rows = rows[usable].reset_index(drop=True)
        truth = np.array([candidates.index(value) for value in rows["truth"]], dtype=int)
        result.append(Decisions(str(attribute), rows, candidates, scores[usable], truth))
    return result


def data_likelihoods(frame: pd.DataFrame) -> pd.DataFrame | None:
    """Log-likelihood of the data themselves under their own prompts, one row a sample.

    Args:
        frame: The records of any study.

    Returns:
        A copy of the records with at least sample_id, log_p, standard_error (nats) and dims, or None if the study has
        no likelihood of data.
    """
    if "scores" in frame:
        first = frame[frame["attribute"] == frame["attribute"].iloc[0]].reset_index(drop=True) if len(frame) else frame
        log_p = [_scores(row.scores, row.candidates.split("|")).get(row.truth, np.nan) for row in first.itertuples()]
        first = first.assign(log_p=log_p, standard_error=np.nan)
        if "scores_standard_error" in first:
            errors = zip(first["scores_standard_error"], first["candidates"], first["truth"], strict=True)
            first["standard_error"] = [_scores(e, c.split("|")).get(truth, np.nan) for e, c, truth in errors]
        return first
    if not {"log_p", "dims"} <= set(frame.columns):
        return None
    if "stage" in frame:
        frame = frame[frame["stage"] == "data"].drop_duplicates("sample_id")  # of several means, the first
    elif (
        "alternative" in frame
    ):  # a record for each text that was compared: the own text's likelihood is in all of them
        frame = frame[frame["alignment"] == frame["alignment"].iloc[0]].drop_duplicates("sample_id")
    return frame.assign(standard_error=column(frame, "standard_error")).reset_index(drop=True)


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


def feature_matrix(frame: pd.DataFrame) -> np.ndarray | None:
    """The feature column as a matrix [N, F], or None if any row has none."""
    if "feature" not in frame or not len(frame) or any(value is None for value in frame["feature"]):
        return None
    return np.stack(frame["feature"].tolist()).astype(np.float64)


def failure_count(failures: pd.DataFrame, study: str) -> int:
    """Number of samples on which a study failed."""
    names = failures["study"].str.partition("/")[0] if len(failures) else failures["study"]
    return int(failures.loc[names == study, "sample_id"].nunique())


def describe(frame: pd.DataFrame, failed: int) -> str:
    """The settings behind a frame of likelihoods, in sentences for a caption.

    Args:
        frame: The records of one study.
        failed: Number of failed samples.
    """
    sentences = [f"{frame['sample_id'].nunique()} samples, {failed} failed."]
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


def _score_matrix(rows: pd.DataFrame, name: str, candidates: Sequence[str]) -> np.ndarray:
    matrix = np.full((len(rows), len(candidates)), np.nan)
    for i, (text, offered) in enumerate(zip(rows[name], rows["candidates"], strict=True)):
        scores = _scores(text, offered.split("|"))
        matrix[i] = [scores.get(candidate, np.nan) for candidate in candidates]
    return matrix


def _scores(text: str, candidates: Sequence[str]) -> dict[str, float]:
    """Scores stored as JSON, either an object by candidate or a list in the candidates' order."""
    stored = json.loads(text)
    named = stored if isinstance(stored, dict) else dict(zip(candidates, stored, strict=True))
    return {name: np.nan if value is None else float(value) for name, value in named.items()}
