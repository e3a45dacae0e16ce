"""Decisions between prompts by exact likelihood, of all of them or of those that a cheaper method has left."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dmlik_pl.flow import LogLikelihood, Rivals
from dmlik_pl.studies.base import Estimator, likelihood_columns
from dmlik_pl.studies.prompt_contest import Contest
from dmlik_pl.studies.prompt_decisions import Ranking, as_json

__all__ = ["Likelihoods", "Screening", "take_likelihoods"]

_SETTINGS = (
    *("dims", "nfe_forward", "nfe_vjp", "nfe_jvp", "density", "guidance", "space", "r_min", "r_max"),
    *("interpolation", "solver", "probes", "nodes", "discretisation", "rounding", "dequantisation_bits"),
)
_NULL = (
    *("null_log_p", "null_log_p_standard_error"),
    *("null_margin", "null_margin_standard_error", "null_margin_probe_variance", "null_margin_discretisation"),
)


@dataclass(frozen=True)
class Screening:
    """Exact likelihoods only of the prompts that the evidence lower bound finds best.

    Attributes:
        keep: How many prompts of each question get one.
        check: Share of the samples of which all prompts get one all the same, so that the agreement of both decisions
            can be measured. A sample's name alone decides whether it is one of them.
    """

    keep: int
    check: float = 0.1

    def __post_init__(self) -> None:
        if self.keep < 2 or not 0 <= self.check <= 1:
            raise ValueError(
                f"screening keeps 2 prompts or more and checks a share between 0 and 1 of the samples, got {self}"
            )

    def checks(self, sample_id: str) -> bool:
        """Whether all prompts of a sample get an exact likelihood."""
        number = int.from_bytes(hashlib.blake2b(sample_id.encode(), digest_size=8).digest())
        return number < self.check * 2**64


@dataclass(frozen=True)
class Likelihoods:
    """Exact likelihoods of entries of a contest.

    Attributes:
        contest: Who competes.
        rows: The row of `result` of each entry that has one.
        result: Log-likelihoods of these entries.
        empty: That of each of the B samples under the empty prompt; None if not taken.
        settings: How each row of `result` was made.
        rivals: Who competed for a target of differences; None without one.
    """

    contest: Contest
    rows: Mapping[int, int]
    result: LogLikelihood
    empty: LogLikelihood | None
    settings: Sequence[Mapping[str, Any]]
    rivals: Rivals | None = None

    def cost(self, number: int, among: Sequence[str] | None = None) -> int:
        """Network evaluations of a question's likelihoods, derivatives too; of all its values or only of some."""
        rows = [row for value, row in self._rows(number).items() if among is None or value in among]
        return int(self.result.calls[rows].sum())

    def threshold(self, number: int, usual: float) -> float:
        """Standard errors by which a question's best must be ahead: more where it was looked at again and again."""
        return usual if self.rivals is None else self.rivals.threshold(len(self._rows(number)))

    def failure(self, sample: int) -> str | None:
        """Why a sample lacks a likelihood of a prompt that competes; None if it has all that were taken of it."""
        own = [
            self.result.failures[row] for place, row in self.rows.items() if self.contest.entries[place][0] == sample
        ]
        return next(filter(None, own), None)

    def failure_of_empty(self, sample: int) -> str | None:
        """Why a sample lacks a likelihood under the empty prompt; None if it has one, or none was asked for."""
        return None if self.empty is None else self.empty.failures[sample]

    def ranking(self, number: int, among: Sequence[str] | None = None) -> Ranking:
        """The order of a question's values, given by its number; only of some of them if these are given."""
        rows = self._rows(number)
        scored = [value for value in rows if among is None or value in among]

        def difference(value: str, other: str) -> tuple[float, float]:
            pair = self.result.select([rows[value], rows[other]])
            gap, error = pair.select([0]).minus(pair.select([1]))
            grid = 0.0 if self.rivals is None else float(pair.discretisation.max())
            return float(gap), math.hypot(float(error), grid)

        values = self.contest.questions[number].prompts
        scores = {value: float(self.result.log_p[rows[value]]) if value in scored else math.nan for value in values}
        return Ranking(scores, difference)

    def columns(self, number: int, ranking: Ranking) -> dict[str, Any]:
        """What is recorded beside a ranking: errors, how it was made, and the likelihood ratio to the empty prompt.

        The empty prompt is the same for all that compete, so the ratio ranks as the likelihood does; what it adds is
        whether the true prompt says anything of the image at all.
        """
        question, rows = self.contest.questions[number], self._rows(number)
        # One by one: rounding should not depend on what else is in the batch.
        alone = {value: self.result.select([row]) for value, row in rows.items()}
        columns: dict[str, Any] = {name: self.settings[min(rows.values())][name] for name in _SETTINGS}
        columns["shortfall"] = next(filter(None, (self.result.short[row] for row in rows.values())), None)
        for name, of in {"standard_error": "standard_error", "probe_variance": "variance"}.items():
            columns[f"scores_{name}"] = as_json(
                {
                    value: math.nan if math.isnan(score) else float(getattr(alone[value], of))
                    for value, score in ranking.scores.items()
                }
            )
        columns |= dict.fromkeys(_NULL)
        if self.empty is None or self.failure_of_empty(question.sample):
            return columns
        empty = self.empty.select([question.sample])
        columns |= {"null_log_p": float(empty.log_p), "null_log_p_standard_error": float(empty.standard_error)}
        if question.truth in rows:
            own = self.result.select([rows[question.truth]])
            margin, error = own.minus(empty)
            columns |= {"null_margin": float(margin), "null_margin_standard_error": float(error)}
            columns["null_margin_probe_variance"] = float(own.variance_of_difference(empty))
            columns["null_margin_discretisation"] = float(own.discretisation.hypot(empty.discretisation))
        return columns

    def _rows(self, number: int) -> dict[str, int]:
        places = self.contest.places(self.contest.questions[number])
        return {value: self.rows[place] for value, place in places.items() if place in self.rows}


def take_likelihoods(
    contest: Contest,
    estimator: Estimator,
    entries: Sequence[int],
    empty_prompt: bool,
    own_probes: bool,
    confidence: float = 0.95,
) -> Likelihoods:
    """Exact likelihoods of some entries.

    Args:
        contest: Who competes.
        estimator: How likelihoods are taken.
        entries: Which entries get one.
        empty_prompt: Whether to take the samples' likelihoods under the empty prompt too, on the same probes.
        own_probes: Whether each entry has probes of its own, instead of those of its sample.
        confidence: With which a ranking is to be decided where probes are added until it is.
    """
    named = [(contest.sample_ids[sample], prompt) for sample, prompt in (contest.entries[place] for place in entries)]
    keys = [f"{name}/{prompt}" if own_probes else name for name, prompt in named]
    chosen = list(entries)
    condition = contest.condition.select(chosen)
    rows = {place: row for row, place in enumerate(chosen)}
    sought = estimator.target is not None and estimator.target.difference is not None
    rivals = _rivals(contest, rows, confidence) if sought and not own_probes else None
    result = estimator.log_likelihood(contest.flow, contest.x[chosen], condition, keys, rivals)
    empty = None
    if empty_prompt:
        flow, first = replace(contest.flow, guidance=0.0), contest.first
        condition = contest.condition.select(first)
        own = {contest.entries[place][0]: row for place, row in rows.items()}  # those of one sample have one grid
        paired = result.select([own[b] for b in range(len(first))])
        empty = estimator.log_likelihood(flow, contest.x[first], condition, contest.sample_ids, paired=paired)
    settings = likelihood_columns(result, estimator, contest.flow)
    return Likelihoods(contest, rows, result, empty, settings, rivals)


def _rivals(contest: Contest, rows: Mapping[int, int], confidence: float) -> Rivals:
    """The entries of each question that are scored."""
    asked = ([rows[p] for p in contest.places(q).values() if p in rows] for q in contest.questions)
    return Rivals([some for some in asked if some], confidence)
