"""Which prompt a model prefers, decided image by image (Table 6 of Cross and Ragni).

All prompts of an image compete on the same latent, the same grid and the same probes, so that what is ranked is their
difference, with the standard error of the difference. A ranking that its error does not support counts as undecided.
Beside exact likelihood there are cheaper methods: the evidence lower bound, with or without elimination, pointwise
mutual information, and CLIP. Each is recorded with what it cost.

Under the published protocol every prompt of an image has probes of its own, and tables decide on averages over all
images of a true value.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from scipy.stats import norm
from torch import Tensor

from dmlik_pl.flow import reconstruct
from dmlik_pl.metrics import CLIPEncoder, clip_score_matrix
from dmlik_pl.ranges import at_least, between, finite
from dmlik_pl.records.frames import listing
from dmlik_pl.records.protocol import ProtocolName, protocol_columns
from dmlik_pl.studies.aside import Aside
from dmlik_pl.studies.base import Estimator, ImageModel, Images, Measure, Outcome, Study, pieces
from dmlik_pl.studies.prompt_bounds import Bounds, Elimination, take_bounds
from dmlik_pl.studies.prompt_contest import (
    Contest,
    Question,
    attribute_questions,
    check_candidates,
    check_template,
    listed_questions,
)
from dmlik_pl.studies.prompt_decisions import Ranking
from dmlik_pl.studies.prompt_likelihoods import Likelihoods, Screening, take_likelihoods

__all__ = ["PromptAccuracy"]


class PromptAccuracy(Study):
    """Let prompts compete for each image: the values of each attribute, the others being true, or whole prompts.

    Each guidance, with and without reconstruction, is a part of its own.

    Args:
        template: Prompt with the attributes' names in braces, e.g. "a photo of a {colour} {shape}"; None for data that
            name the prompts that compete for each image.
        candidates: The values of each attribute that compete; None with `template` None.
        guidance: w of Eq. 10: 1 is plain conditional. A list measures at each.
        confidence: A decision counts as decided if the best prompt beats the second at this (two-sided) confidence, as
            far as noise of the method goes.
        clip: Folder or hub name of a CLIP model for the baseline; None leaves it out.
        elbo_draws: Draws of the evidence lower bound for the second baseline, noise shared by all prompts; 0 leaves
            it out.
        reconstruct: Replace the latent by its reconstruction under the true prompt first, the same one for all prompts.
            A list measures each.
        local_files_only: Never download the CLIP model.
        protocol: "published" draws new probes for each prompt, decides on averages over all images of a true value
            and lets each prompt reconstruct the latent that it scores, as the paper's code did.
        empty_prompt: Take the likelihood under the empty prompt too (the model's unconditional branch), on the same
            probes. The ratio to it ranks prompts as the likelihood does; it shows whether the true one is any good.
        pmi: Decide by pointwise mutual information too, on the draws of the bound: it ranks as the bound does without
            elimination, and gives in nats how much each prompt says of the image. Its orthogonal form, the information
            of prompts that are true and no score of others, is recorded beside it.
        elimination: Further draws of the bound for the prompts that are best so far.
        screening: Take exact likelihoods only of the prompts that the bound finds best.
    """

    kind = "prompt_accuracy"
    axes = ("guidance", "reconstruct")

    def __init__(
        self,
        template: str | None = None,
        candidates: dict[str, list[str]] | None = None,
        guidance: float | list[float] = 1.0,
        confidence: float = 0.95,
        clip: str | None = None,
        elbo_draws: int = 0,
        reconstruct: bool | list[bool] = False,
        local_files_only: bool = False,
        protocol: ProtocolName = "repaired",
        empty_prompt: bool = False,
        pmi: bool = False,
        elimination: Elimination | None = None,
        screening: Screening | None = None,
    ) -> None:
        super().__init__()
        if (template is None) != (candidates is None):
            raise ValueError("template and candidates belong together: give both, or neither if the data name prompts")
        for attribute, values in (candidates or {}).items():
            check_candidates(attribute, values)
        if template is not None and candidates is not None:
            check_template(template, candidates)
        self.guidance = guidance if isinstance(guidance, list) else [guidance]
        self.reconstruct = reconstruct if isinstance(reconstruct, list) else [reconstruct]
        for name, listed in (("guidance", self.guidance), ("reconstruct", self.reconstruct)):
            if not listed or len(set(listed)) < len(listed):
                raise ValueError(f"{name} must be one value or a list of different ones, got {listed}")
        finite(guidance=self.guidance)
        between(0, 1, confidence=confidence)
        at_least(0, elbo_draws=elbo_draws)
        self.published = protocol == "published"
        if self.published and (empty_prompt or pmi or elimination or screening):
            raise ValueError(
                "the published protocol has no empty_prompt, pmi, elimination or screening: leave them out"
            )
        if elbo_draws == 1 or (elbo_draws == 0 and (pmi or elimination or screening)):
            raise ValueError(
                "elbo_draws must be 2 or more, or 0 for no bound, which pmi, elimination and screening need; got "
                f"{elbo_draws}"
            )
        if elimination is not None and elimination.draws[0] < elbo_draws + 2:
            raise ValueError(f"elimination gives {elimination.draws[0]} draws in all, after elbo_draws={elbo_draws}")
        self.template = template
        self.candidates = candidates
        self.confidence = confidence
        self.threshold = float(norm.ppf(0.5 + confidence / 2))
        self.encoder = None if clip is None else CLIPEncoder.from_pretrained(clip, local_files_only)
        self.elbo_draws = elbo_draws
        self.empty_prompt = empty_prompt
        self.pmi = pmi
        self.elimination = elimination
        self.screening = screening

    @property
    def deviations(self) -> tuple[str, ...]:
        """What the published protocol does otherwise than it should; nothing under the repaired one."""
        return self._deviations(any(self.reconstruct))

    def _deviations(self, reconstructed: bool) -> tuple[str, ...]:
        if not self.published:
            return ()
        return (
            "every prompt is scored with random probes of its own, so that the noise of competing prompts differs",
            "log-likelihoods are averaged over all images of a true value, and one decision is made for all of them, a "
            "tie counting as a miss",
            *([_OWN_RECONSTRUCTION] if reconstructed else []),
            _NOT_REPRODUCED,
        )

    def parts(self) -> Mapping[str, Measure]:
        """One for each guidance, with and without reconstruction."""
        return {
            f"guidance={weight:g}{',reconstructed' if moved else ''}": partial(
                self._measure, guidance=weight, reconstructed=moved
            )
            for weight in self.guidance
            for moved in self.reconstruct
        }

    def check(self, batch: Images) -> None:
        """Refuse data without the attributes that compete, or whose true values do not."""
        super().check(batch)
        self._questions(batch)

    def measure(self, model: ImageModel, batch: Images, estimator: Estimator) -> list[Outcome]:
        """All parts; the rows of a sample follow each other."""
        found = [measure(model, batch, estimator) for measure in self.parts().values()]
        return [_joined(outcomes) for outcomes in zip(*found, strict=True)]

    @torch.no_grad()
    def _measure(
        self, model: ImageModel, batch: Images, estimator: Estimator, *, guidance: float, reconstructed: bool
    ) -> list[Outcome]:
        contest = self._contest(model, batch, estimator, guidance, reconstructed)
        aside = Aside(contest.sample_ids)
        bounds = self._bounds(contest, estimator, aside)
        entries = self._exact_entries(contest, bounds)
        exact = take_likelihoods(
            contest, estimator, entries, self.empty_prompt, own_probes=self.published, confidence=self.confidence
        )
        shown = 0.5 * batch.image + 0.5
        if reconstructed and not self.published and self.encoder is not None:
            shown = model.to_image(contest.x[contest.first].nan_to_num())
        outcomes = [
            Outcome(name, error=exact.failure(b) or self._unscreened(bounds, b, aside))
            for b, name in enumerate(contest.sample_ids)
        ]
        protocol = protocol_columns("published" if self.published else "repaired", self._deviations(reconstructed))
        for number, question in enumerate(contest.questions):
            outcome = outcomes[question.sample]
            if outcome.error is None:
                row = self._row(number, contest, exact, bounds, shown[question.sample], aside)
                outcome.rows.append(row | {"reconstructed": reconstructed} | protocol)
        for b, outcome in enumerate(outcomes):
            for row in outcome.rows:
                row |= aside.columns(b)
        return outcomes

    def _contest(
        self, model: ImageModel, batch: Images, estimator: Estimator, guidance: float, reconstructed: bool
    ) -> Contest:
        """Who competes, on the latents that are scored."""
        questions = self._questions(batch)
        entries = Contest.list_entries(questions)
        samples = [sample for sample, _ in entries]
        first = [samples.index(b) for b in range(len(batch.sample_id))]
        flow, condition = model.flow(guidance), model.condition([prompt for _, prompt in entries])
        latents = estimator.state(model.to_latent(batch.image, batch.sample_id))
        if reconstructed and not self.published:
            latents = reconstruct(flow, latents, condition.select(first), solver=estimator.solver)
        x = latents[samples]
        if reconstructed and self.published:
            parts = pieces(range(len(x)), estimator.max_batch)
            x = torch.cat([reconstruct(flow, x[s], condition.select(s), solver=estimator.solver) for s in parts])
        return Contest(flow, list(batch.sample_id), questions, entries, x, condition, first)

    def _bounds(self, contest: Contest, estimator: Estimator, aside: Aside) -> Bounds | None:
        """The bounds of all entries, if they are taken; what makes them impossible is left to a sample by itself."""
        if not self.elbo_draws:
            return None
        take = partial(take_bounds, contest, estimator, self.elbo_draws, self.elimination, self.pmi)
        alone = len(contest.sample_ids) == 1 and self.screening is None
        return aside.one("ELBO", 0, take) if alone else take()

    def _unscreened(self, bounds: Bounds | None, sample: int, aside: Aside) -> str | None:
        """Why a sample cannot be screened; where nothing is screened a bound that is not finite is only missing."""
        failure = None if bounds is None else bounds.failure(sample)
        if failure and self.screening is None:
            aside.leave_out("ELBO", sample, failure)
            return None
        return failure

    def _questions(self, batch: Images) -> list[Question]:
        if self.template is None or self.candidates is None:
            return listed_questions(batch)  # type: ignore[arg-type]  # it says which data are wanted
        return attribute_questions(batch, self.template, self.candidates)

    def _exact_entries(self, contest: Contest, bounds: Bounds | None) -> list[int]:
        """The entries that get an exact likelihood."""
        if self.screening is None or bounds is None:
            return list(range(len(contest.entries)))
        wanted: set[int] = set()
        for number, question in enumerate(contest.questions):
            checked = self.screening.checks(contest.sample_ids[question.sample])
            values = question.values if checked else bounds.ranking(number).best(self.screening.keep)
            wanted |= {contest.places(question)[value] for value in values}
        return sorted(wanted)

    def _clip(self, image: Tensor, prompts: Mapping[str, str]) -> Ranking:
        """The order of the values by CLIP."""
        assert self.encoder is not None
        scores = clip_score_matrix(self.encoder, image[None].clamp(0, 1).expand(-1, 3, -1, -1), list(prompts.values()))
        return Ranking(dict(zip(prompts, scores[0].tolist(), strict=True)))

    def _row(
        self, number: int, contest: Contest, exact: Likelihoods, bounds: Bounds | None, image: Tensor, aside: Aside
    ) -> dict[str, Any]:
        """The record of one question."""
        question = contest.questions[number]
        truth, sample = question.truth, question.sample
        clip = None
        if self.encoder is not None:
            clip = aside.one("CLIP score", sample, partial(self._clip, image, question.prompts))
        if failure := exact.failure_of_empty(sample):
            aside.leave_out("empty prompt", sample, failure)
        if bounds is not None and bounds.failure(sample):
            bounds = None
        bound = None if bounds is None else bounds.ranking(number)
        information = None if bounds is None else bounds.information_ranking(number)
        beside = {} if bounds is None else bounds.columns(number)
        full, screened, nfe = exact.ranking(number), None, exact.cost(number)
        if self.screening is not None and bound is not None:
            kept = bound.best(self.screening.keep)
            checked = self.screening.checks(contest.sample_ids[question.sample])
            screened = exact.ranking(number, kept)
            beside["screened_nfe"] = beside["elbo_nfe"] + exact.cost(number, kept)
            beside |= {"screened_kept": len(kept), "screened_checked": checked}
            if not checked:
                full, nfe = screened, beside["screened_nfe"]
        true_margin, true_error = full.true_margin(truth)
        methods = {"clip": clip, "elbo": bound, "pmi": information, "screened": screened}
        return (
            {"attribute": question.attribute, "truth": truth, "candidates": listing(question.values)}
            | full.columns(truth, exact.threshold(number, self.threshold))
            | {"true_margin": true_margin, "true_margin_standard_error": true_error, "nfe": nfe}
            | exact.columns(number, full)
            | {
                f"{method}_{name}": value
                for method, ranking in methods.items()
                for name, value in _decision(ranking, truth, self.threshold).items()
            }
            | beside
        )


def _decision(ranking: Ranking | None, truth: str, threshold: float) -> dict[str, Any]:
    if ranking is None:
        return {"predicted": None, "correct": None, "scores": None}
    return ranking.columns(truth, threshold)


def _joined(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes of one sample in all parts as one."""
    error = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
    rows = [] if error else [row for outcome in outcomes for row in outcome.rows]
    return Outcome(outcomes[0].sample_id, rows=rows, error=error)


_OWN_RECONSTRUCTION = "each prompt scores its own reconstruction of an image, not one image"
_NOT_REPRODUCED = (
    "not reproduced: likelihoods of blue and green in each other's columns, a loop variable that made nearly all PACS "
    "cells take one image again and again, network times cut to whole steps"
)
