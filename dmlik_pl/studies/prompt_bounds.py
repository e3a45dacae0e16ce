"""Decisions between prompts by the evidence lower bound and by mutual information: one pass of the network gives both.

All prompts of an image share levels and noises, so that what is compared is their difference. With elimination all
begin with few draws, and only the best of each round go on to more (Li et al., 2023).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import Bound, Draws, Information, Noising
from dmlik_pl.studies.base import Estimator, pieces
from dmlik_pl.studies.prompt_contest import Contest
from dmlik_pl.studies.prompt_decisions import Ranking, as_json

__all__ = ["Bounds", "Elimination", "take_bounds"]


@dataclass(frozen=True)
class Elimination:
    """More draws for the most promising prompts only.

    Attributes:
        keep: How many prompts of a question go on after each round, for instance [5, 2].
        draws: How many draws those have, in all, by the end of the next round, for instance [24, 96].
    """

    keep: list[int]
    draws: list[int]

    def __post_init__(self) -> None:
        falls = all(later <= earlier for earlier, later in pairwise(self.keep))
        rises = all(later >= earlier + 2 for earlier, later in pairwise(self.draws))  # two draws have a standard error
        if not self.keep or len(self.keep) != len(self.draws) or min(self.keep) < 2 or not (falls and rises):
            raise ValueError(
                "elimination needs as many numbers of prompts to keep, falling and none below 2, as of draws, rising "
                f"by at least 2; got keep={self.keep}, draws={self.draws}"
            )


@dataclass(frozen=True)
class Bounds:
    """Bounds of the entries of a contest.

    Attributes:
        contest: Who competes.
        first: The bounds of all N entries in the first round.
        information: What each entry's prompt says of its sample, from the draws of the first round; None if not taken.
        blocks: The draws of each entry in every round that it took part in, [draws, 1] each.
        rounds: How many rounds each value of each question took part in.
    """

    contest: Contest
    first: Bound
    information: Information | None
    blocks: list[list[Tensor]]
    rounds: list[dict[str, int]]

    def ranking(self, number: int) -> Ranking:
        """The order of a question's values, given by its number.

        A value that was eliminated is placed by its distance to the best on the draws that both have.
        """
        rounds = self.rounds[number]
        left = self.left(number)
        totals = {value: _pooled(self._of(number, value))[0] for value in left}
        best = max(left, key=totals.__getitem__)

        def difference(value: str, other: str) -> tuple[float, float]:
            pairs = zip(self._of(number, value), self._of(number, other), strict=False)  # the rounds that both have
            return _pooled([one - two for one, two in pairs])

        scores = {
            value: totals[value] if value in totals else totals[best] + difference(value, best)[0] for value in rounds
        }
        return Ranking(scores, difference)

    def left(self, number: int) -> list[str]:
        """The values of a question that took part in its last round."""
        rounds = self.rounds[number]
        return [value for value in rounds if rounds[value] == max(rounds.values())]

    def failure(self, sample: int) -> str | None:
        """Why a sample has no bound; None if it has one."""
        own = [place for place, (each, _) in enumerate(self.contest.entries) if each == sample]
        return None if bool(self.first.value[own].isfinite().all()) else "the evidence lower bound is not finite"

    def best(self, number: int, keep: int) -> list[str]:
        """The best of a question's values that are left."""
        left = self.left(number)
        return [value for value in self.ranking(number).best() if value in left][:keep]

    def information_ranking(self, number: int) -> Ranking | None:
        """The order by pointwise mutual information in its standard form, nats; None if it was not taken.

        It ranks as the bounds of the first round do, and says by how much a prompt is better than none. The orthogonal
        form is no score: it is largest for the prompt that moves the prediction most, often the one that fits least.
        """
        if self.information is None:
            return None
        places, standard = self.contest.places(self.contest.questions[number]), self.information.standard

        def difference(value: str, other: str) -> tuple[float, float]:
            return _pooled([standard.draws[:, [places[value]]] - standard.draws[:, [places[other]]]])

        scores = {value: _pooled([standard.draws[:, [place]]])[0] for value, place in places.items()}
        return Ranking(scores, difference)

    def columns(self, number: int) -> dict[str, Any]:
        """What is recorded beside the decisions: costs, and what each draw found."""
        places = self.contest.places(self.contest.questions[number])
        given = {value: sum(len(block) for block in self._of(number, value)) for value in places}
        calls, draws = self.contest.flow.evaluations_per_call, len(self.first.draws)
        errors = {value: self.first.squared_errors[:, place].tolist() for value, place in places.items()}
        columns: dict[str, Any] = {
            "elbo_nfe": calls * sum(given.values()),
            "elbo_levels": self.first.log_snr[:, next(iter(places.values()))].tolist(),
            "elbo_level_errors": as_json(errors),
            "elbo_eliminated": as_json(given) if max(self.rounds[number].values()) > 1 else None,
        }
        if self.information is not None:
            moved = self.information.orthogonal.draws
            columns["pmi_nfe"] = draws * (calls * len(places) + 1)
            columns["pmi_orthogonal_scores"] = as_json(
                {value: _pooled([moved[:, [place]]])[0] for value, place in places.items()}
            )
        return columns

    def _of(self, number: int, value: str) -> list[Tensor]:
        """The draws of a value in the rounds of a question; another question may have taken it further."""
        question = self.contest.questions[number]
        return self.blocks[self.contest.places(question)[value]][: self.rounds[number][value]]


def take_bounds(
    contest: Contest, estimator: Estimator, draws: int, elimination: Elimination | None, information: bool
) -> Bounds:
    """Score all entries, and those that are not eliminated with more draws.

    Args:
        contest: Who competes.
        estimator: Whose seed and batch size are taken.
        draws: Draws of all entries.
        elimination: Who gets more; nobody by default.
        information: Whether to take mutual information, which needs the network without a condition too.
    """
    everybody = list(range(len(contest.entries)))
    first, said = _round(contest, estimator, everybody, draws, 0, information)
    blocks = [[first.draws[:, [place]]] for place in everybody]
    bounds = Bounds(contest, first, said, blocks, [dict.fromkeys(each.prompts, 1) for each in contest.questions])
    if elimination is None:
        return bounds
    totals = [draws, *elimination.draws]
    for stage, keep in enumerate(elimination.keep, start=1):
        going = [bounds.best(number, keep) for number in range(len(contest.questions))]
        named = zip(contest.questions, going, strict=True)
        entries = sorted({contest.places(question)[value] for question, values in named for value in values})
        more, _ = _round(contest, estimator, entries, totals[stage] - totals[stage - 1], stage, False)
        rows = dict(zip(entries, more.draws.split(1, dim=1), strict=True))
        bounds = replace(
            bounds,
            blocks=[[*blocks, rows[place]] if place in rows else blocks for place, blocks in enumerate(bounds.blocks)],
            rounds=[
                rounds | dict.fromkeys(values, stage + 1) for rounds, values in zip(bounds.rounds, going, strict=True)
            ],
        )
    return bounds


def _round(
    contest: Contest, estimator: Estimator, entries: Sequence[int], draws: int, stage: int, information: bool
) -> tuple[Bound, Information | None]:
    """Draws of some entries, and what their prompts say if asked for."""
    flow, size = contest.flow, estimator.max_batch
    samples, conditions = contest.x[contest.first], contest.condition.select(contest.first)
    noising = Noising.keyed(
        flow, samples, conditions.mask, draws=draws, sample_ids=contest.sample_ids, seed=estimator.seed, stage=stage
    )
    empty: Tensor | None = None
    if information:
        unconditional = replace(flow, guidance=0.0)
        parts = pieces(range(len(samples)), size)
        empty = torch.cat(
            [noising.select(b).predict(unconditional, samples[b], conditions.select(b)) for b in parts], 1
        )
    bounds, said = [], []
    for piece in pieces(entries, size):
        rows = [contest.entries[place][0] for place in piece]
        own, x, condition = noising.select(rows), contest.x[piece], contest.condition.select(piece)
        predicted = own.predict(flow, x, condition)
        bounds.append(Bound.of(flow, x, condition, own, predicted))
        if empty is not None:
            said.append(Information.of(own, predicted, empty[:, rows], condition.mask))
    return Bound.cat(bounds), Information.cat(said) if said else None


def _pooled(blocks: Sequence[Tensor]) -> tuple[float, float]:
    """Mean over all draws of blocks [draws, 1] that were drawn apart, and its standard error, nats."""
    total = sum(len(block) for block in blocks)
    value = sum(float(block.sum()) for block in blocks) / total
    variance = sum(float(Draws(block).standard_error * len(block) / total) ** 2 for block in blocks)
    return value, math.sqrt(variance)
