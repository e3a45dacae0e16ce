"""Decisions between competing prompts as records hold them: of every method, about every attribute, in every part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import column, listed, named_scores
from dmlik_pl.records.once import once_per_frame

__all__ = ["LIKELIHOOD", "METHODS", "Decisions", "decisions"]

LIKELIHOOD = "likelihood"
METHODS = {
    LIKELIHOOD: "exact likelihood",
    "screened": "screened likelihood",
    "elbo": "ELBO",
    "pmi": "PMI",
    "clip": "CLIP",
}
"""What decides, by the prefix of its columns (the exact likelihood's have none), in the order of tables."""

_OF_A_METHOD = ("predicted", "correct", "decided", "margin", "margin_standard_error", "nfe", "scores")


@dataclass(frozen=True)
class Decisions:
    """All decisions of one method about one attribute in one part of a study.

    Attributes:
        attribute: For instance "colour".
        rows: The records, one per sample, [N]; predicted, correct, decided, margin, nfe and scores are the method's.
        candidates: The K values that compete, in the order of the columns of `scores`.
        scores: Score of each candidate, [N, K], in nats if the method has them. NaN: the sample was not offered it (or
            the method keeps no scores); -inf: it was screened out, and so ranks behind all others.
        truth: Column of the true value of each sample, [N].
        part: What distinguishes the part, e.g. "w = 3, reconstructed"; empty if the study has one part only.
        method: A key of `METHODS`.
        left_out: Number of samples that are not among them because a likelihood was not finite.
    """

    attribute: str
    rows: pd.DataFrame
    candidates: list[str]
    scores: np.ndarray
    truth: np.ndarray
    part: str = ""
    method: str = LIKELIHOOD
    left_out: int = 0

    @property
    def heading(self) -> str:
        """Attribute and part."""
        return f"{self.attribute} ({self.part})" if self.part else self.attribute

    @property
    def slug(self) -> str:
        """The part as an end of file names, e.g. "w3_reconstructed"."""
        return self.part.replace(" = ", "").replace(", ", "_").replace(" ", "_")

    @property
    def offered(self) -> np.ndarray:
        """Which candidates each sample was offered, [N, K] booleans."""
        columns = {name: k for k, name in enumerate(self.candidates)}
        offered = np.zeros((len(self.rows), len(self.candidates)), dtype=bool)
        for i, text in enumerate(self.rows["candidates"]):
            offered[i, [columns[name] for name in listed(text)]] = True
        return offered

    @property
    def shared(self) -> bool:
        """Whether all samples have the same candidates, without which there is no mean or confusion of a candidate."""
        return len(self.rows) > 0 and bool(self.offered.all())

    @property
    def complete(self) -> np.ndarray:
        """Which samples have a finite score for every candidate that they were offered, [N] booleans."""
        return (np.isfinite(self.scores) | ~self.offered).all(1)

    def by(self, method: str) -> Decisions | None:
        """The decisions of a method on the samples on which it made any, or None if there are none.

        Where candidates were screened, the exact likelihood's are those of the samples that were computed in full.
        """
        rows = self.rows
        if method == LIKELIHOOD:
            known = np.ones(len(rows), dtype=bool)
            if "screened_correct" in rows:
                full = rows["screened_checked"].eq(True) if "screened_checked" in rows else False
                known = (rows["screened_correct"].isna() | full).to_numpy(bool)
            scores = self.scores
        else:
            known = rows[f"{method}_correct"].notna().to_numpy() if f"{method}_correct" in rows else np.zeros(0, bool)
            given = self._scores_of(method, known) if known.any() else None
            scores = np.full_like(self.scores, np.nan) if given is None else given
            own = {name: rows.get(f"{method}_{name}", pd.Series(index=rows.index)) for name in _OF_A_METHOD}
            rows = rows.drop(columns=[name for name in rows if str(name).startswith("true_margin")]).assign(**own)
        if not known.any():
            return None
        return replace(self, rows=rows, scores=scores, method=method).select(known)

    def scored_by(self, method: str) -> Decisions | None:
        """The samples that another method has scores of, with these scores; None if it has none."""
        known = (
            self.rows[f"{method}_scores"].notna().to_numpy() if f"{method}_scores" in self.rows else np.zeros(0, bool)
        )
        scores = self._scores_of(method, known) if known.any() else None
        return None if scores is None else replace(self, scores=scores, method=method).select(known)

    def select(self, chosen: np.ndarray) -> Decisions:
        """The decisions on some of the samples, given as booleans [N]."""
        rows = self.rows[chosen].reset_index(drop=True)
        return replace(self, rows=rows, scores=self.scores[chosen], truth=self.truth[chosen])

    def methods(self) -> list[Decisions]:
        """The decisions of every method that made any."""
        return [found for method in METHODS if (found := self.by(method)) is not None]

    def truth_mask(self) -> np.ndarray:
        """Where the true candidate stands, [N, K] booleans."""
        return np.arange(len(self.candidates)) == self.truth[:, None]

    def ranks(self) -> np.ndarray:
        """Rank of the true value among the candidates, [N]: 1 is best, equal scores count against it, NaN without."""
        true_score = self.scores[self.truth_mask()][:, None]
        ranks = 1.0 + ((self.scores >= true_score) & ~self.truth_mask()).sum(1)
        return np.where(np.isnan(true_score[:, 0]), np.nan, ranks)

    def chances(self) -> np.ndarray:
        """Probability that a guess is right, [N]."""
        return 1 / self.offered.sum(1)

    def decided(self) -> np.ndarray | None:
        """Which decisions the errors support, [N] booleans, or None if the method has no errors."""
        known = "decided" in self.rows and self.rows["decided"].notna().all()
        return self.rows["decided"].to_numpy(bool) if known else None

    def costs(self) -> np.ndarray:
        """Network evaluations of each decision, [N]: forward passes, VJPs and JVPs of all candidates; NaN: unknown."""
        if "nfe" in self.rows or self.method != LIKELIHOOD:
            return column(self.rows, "nfe")
        calls = sum(np.nan_to_num(column(self.rows, f"nfe_{kind}")) for kind in ("forward", "vjp", "jvp"))
        return np.where(calls > 0, calls * self.offered.sum(1), np.nan)

    def _scores_of(self, method: str, of: np.ndarray) -> np.ndarray | None:
        """Scores of another method in the order of `candidates`, [N, K], or None where any sample has none.

        Args:
            method: Its prefix.
            of: The samples that must have some, [N] booleans. The others' are NaN.
        """
        name = f"{method}_scores"
        if name not in self.rows or not of.any() or self.rows.loc[of, name].isna().any():
            return None
        scores = np.full((len(self.rows), len(self.candidates)), np.nan)
        scores[of] = _score_matrix(self.rows[of], name, self.candidates)
        return scores

    def correct_on_average(self, scores: np.ndarray) -> np.ndarray:
        """Whether each true value is first by scores [N, K] averaged over all its samples, a tie being a miss.

        One boolean for each value that has samples; this is how the paper's code decides.
        """
        means = {value: scores[self.truth == value].mean(0) for value in np.unique(self.truth)}
        return np.array([bool((np.delete(mean, value) < mean[value]).all()) for value, mean in means.items()])

    def centred_correct(self) -> np.ndarray | None:
        """Whether each decision is right after each candidate's mean over all samples was taken off, [N].

        None if samples differ in their candidates or a score is missing.
        """
        if not self.shared or not self.complete.all():
            return None
        centred = self.scores - self.scores.mean(0)
        return centred.argmax(1) == self.truth


@once_per_frame
def decisions(frame: pd.DataFrame) -> list[Decisions]:
    """Split the records of a prompt accuracy study into its parts (guidance, reconstruction) and attributes.

    Args:
        frame: The records; samples with a likelihood that is not finite are left out.

    Returns:
        One entry for each part and attribute, in order of appearance.
    """
    frame = frame.reset_index(drop=True)
    result = []
    for part, of_part in frame.groupby(_part_names(frame), sort=False):
        for attribute, rows in of_part.groupby("attribute", sort=False):
            candidates = list(dict.fromkeys(name for text in rows["candidates"] for name in listed(text)))
            truth = np.array([candidates.index(value) for value in rows["truth"]], dtype=int)
            found = Decisions(
                str(attribute), rows, candidates, _score_matrix(rows, "scores", candidates), truth, str(part)
            )
            finite = (~np.isnan(found.scores) | ~found.offered).all(1)
            result.append(replace(found, left_out=int((~finite).sum())).select(finite))
    return result


def _part_names(frame: pd.DataFrame) -> pd.Series:
    """What distinguishes the part of each record."""
    names = pd.Series("", index=frame.index)
    weights = column(frame, "guidance")
    if len(np.unique(weights[np.isfinite(weights)])) > 1:
        names = pd.Series([f"w = {weight:g}" for weight in weights], index=frame.index)
    if "reconstructed" in frame and frame["reconstructed"].nunique() > 1:
        moved = frame["reconstructed"].to_numpy(bool)
        plain = names.replace("", "as given")
        names = plain.where(~moved, names.where(names.eq(""), names + ", ") + "reconstructed")
    return names


def _score_matrix(rows: pd.DataFrame, name: str, candidates: Sequence[str]) -> np.ndarray:
    matrix = np.full((len(rows), len(candidates)), np.nan)
    for i, (text, offered) in enumerate(zip(rows[name], rows["candidates"], strict=True)):
        scores = named_scores(text, listed(offered))
        matrix[i] = [scores.get(candidate, np.nan) for candidate in candidates]
    return matrix
