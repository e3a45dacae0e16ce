"""Which prompt the likelihood prefers, decided image by image (Table 6 of Cross and Ragni).

All prompts of an image compete on the same latent, the same grid and the same probes, so that what is ranked is their
difference, with the standard error of the difference. A ranking that its error does not support counts as undecided.

Under the published protocol every prompt of an image has probes of its own, and tables decide on averages over all
images of a true value.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from scipy.stats import norm
from torch import Tensor

from dmlik_pl.flow import Condition, LogLikelihood, ProbabilityFlow, elbo, reconstruct
from dmlik_pl.metrics import CLIPEncoder, clip_score_matrix
from dmlik_pl.results.protocol import ProtocolName, protocol_columns
from dmlik_pl.studies.base import Estimator, ImageModel, Images, Outcome, Study, likelihood_columns, tile

__all__ = ["PromptAccuracy"]


class PromptAccuracy(Study):
    """Let the values of each attribute compete, the other attributes being true.

    Args:
        template: Prompt with the attributes' names in braces, e.g. "a photo of a {colour} {shape}".
        candidates: The values of each attribute that compete.
        guidance: w of Eq. 10: 1 is plain conditional.
        confidence: A decision counts as decided if the best prompt beats the second at this (two-sided) confidence, as
            far as probe noise goes.
        clip: Folder or hub name of a CLIP model for the baseline; none without.
        elbo_draws: Draws of the evidence lower bound for the second baseline, noise shared by all prompts; 0 for none.
        reconstruct: Replace the latent by its reconstruction under the true prompt first, the same one for all prompts.
        local_files_only: Never download the CLIP model.
        protocol: "published" draws the probes of each prompt anew, decides on averages over all images of a true value
            and lets each prompt reconstruct the latent that it scores, as the paper's code did.
    """

    kind = "prompt_accuracy"

    def __init__(
        self,
        template: str,
        candidates: dict[str, list[str]],
        guidance: float = 1.0,
        confidence: float = 0.95,
        clip: str | None = None,
        elbo_draws: int = 0,
        reconstruct: bool = False,
        local_files_only: bool = False,
        protocol: ProtocolName = "repaired",
    ) -> None:
        super().__init__()
        for attribute, values in candidates.items():
            if len(set(values)) < 2 or len(set(values)) < len(values) or any("|" in value for value in values):
                raise ValueError(
                    f"candidates of {attribute!r} must be two or more different values without '|': {values}"
                )
        self.template = template
        self.candidates = candidates
        self.guidance = guidance
        self.threshold = float(norm.ppf(0.5 + confidence / 2))
        self.encoder = None if clip is None else CLIPEncoder.from_pretrained(clip, local_files_only)
        self.elbo_draws = elbo_draws
        self.reconstruct = reconstruct
        self.published = protocol == "published"

    @property
    def deviations(self) -> tuple[str, ...]:
        """What the published protocol does otherwise than it should; nothing under the repaired one."""
        if not self.published:
            return ()
        return (
            "every prompt is scored with random probes of its own, so that the noise of competing prompts differs",
            "log-likelihoods are averaged over all images of a true value, and one decision is made for all of them, a "
            "tie being a miss",
            *([_OWN_RECONSTRUCTION] if self.reconstruct else []),
            _NOT_REPRODUCED,
        )

    @torch.no_grad()
    def measure(self, model: ImageModel, batch: Images, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        flow, ids, count = model.flow(self.guidance), list(batch.sample_id), len(batch.sample_id)
        truths = [{name: batch.attributes[name][b] for name in batch.attributes} for b in range(count)]
        # Prompt 0 of a sample is the true one; every other changes one attribute. The same number for every sample.
        prompts = [self._prompts(truth) for truth in truths]
        copies = len(prompts[0])
        condition = model.condition([prompts[b][k] for k in range(copies) for b in range(count)])
        stacked = self._latents(flow, estimator.state(model.to_latent(batch.image, ids)), condition, copies, estimator)
        keys = [f"{ids[b]}/{prompts[b][k]}" if self.published else ids[b] for k in range(copies) for b in range(count)]
        result = estimator.log_likelihood(flow, stacked, condition, keys)
        bound = self._bound(flow, stacked, condition, ids * copies, estimator)
        columns = likelihood_columns(result, estimator, flow)
        outcomes = []
        for b, name in enumerate(ids):
            places = list(range(b, copies * count, count))
            own = result.select(places)
            if failure := next(filter(None, own.failures), None):
                outcomes.append(Outcome(name, error=failure))
                continue
            clip = self._clip(batch.image[b], prompts[b])
            rows = [
                self._row(attribute, truths[b], prompts[b], own, None if bound is None else bound[places], clip)
                | {key: columns[b][key] for key in _SETTINGS}
                | protocol_columns("published" if self.published else "repaired", self.deviations)
                for attribute in self.candidates
            ]
            outcomes.append(Outcome(name, rows=rows))
        return outcomes

    def _prompts(self, truth: Mapping[str, str]) -> list[str]:
        for attribute, values in self.candidates.items():
            if attribute not in truth:
                raise ValueError(
                    f"the data have no attribute {attribute!r}, only {', '.join(truth)}: mend `candidates`"
                )
            if truth[attribute] not in values:
                raise ValueError(f"the true {attribute}, {truth[attribute]!r}, is not among its candidates {values}")
        changed = [
            {**truth, attribute: value}
            for attribute, values in self.candidates.items()
            for value in values
            if value != truth[attribute]
        ]
        return [self.template.format(**attributes) for attributes in ({**truth}, *changed)]

    def _latents(
        self, flow: ProbabilityFlow, x: Tensor, condition: Condition, copies: int, estimator: Estimator
    ) -> Tensor:
        """What each prompt scores, [copies B, ...], given the latents x [B, ...]."""
        if self.reconstruct and not self.published:
            x = reconstruct(flow, x, condition.select(slice(len(x))), solver=estimator.solver)
        stacked = tile(x, copies)
        if not (self.reconstruct and self.published):
            return stacked
        pieces = _pieces(len(stacked), estimator.max_batch)
        return torch.cat([reconstruct(flow, stacked[s], condition.select(s), solver=estimator.solver) for s in pieces])

    def _bound(self, flow: Any, x: Tensor, condition: Any, ids: Sequence[str], estimator: Estimator) -> Tensor | None:
        if not self.elbo_draws:
            return None
        return torch.cat(
            [
                elbo(
                    flow, x[s], condition.select(s), draws=self.elbo_draws, sample_ids=ids[s], seed=estimator.seed
                ).value
                for s in _pieces(len(x), estimator.max_batch)
            ]
        )

    def _clip(self, image: Tensor, prompts: Sequence[str]) -> Tensor | None:
        if self.encoder is None:
            return None
        shown = (0.5 * image[None] + 0.5).clamp(0, 1)
        return clip_score_matrix(self.encoder, shown.expand(-1, 3, -1, -1), prompts)[0]

    def _row(
        self,
        attribute: str,
        truth: Mapping[str, str],
        prompts: Sequence[str],
        result: LogLikelihood,
        bound: Tensor | None,
        clip: Tensor | None,
    ) -> dict[str, Any]:
        """The record of one attribute of one sample; ``result``, ``bound`` and ``clip`` are over its prompts."""
        values, true = self.candidates[attribute], truth[attribute]
        places = [prompts.index(self.template.format(**{**truth, attribute: value})) for value in values]
        scores = result.select(places)
        best, second = torch.topk(scores.log_p, 2).indices.tolist()
        margin, margin_error = _difference(scores, best, second)
        own = values.index(true)
        rival = second if best == own else best
        true_margin, true_error = _difference(scores, own, rival)
        row: dict[str, Any] = {
            "attribute": attribute,
            "truth": true,
            "candidates": "|".join(values),
            "predicted": values[best],
            "correct": best == own,
            "decided": bool(margin > self.threshold * margin_error) if not math.isnan(margin_error) else False,
            "margin": margin,
            "margin_standard_error": margin_error,
            "true_margin": true_margin,
            "true_margin_standard_error": true_error,
            "scores": json.dumps(dict(zip(values, scores.log_p.tolist(), strict=True))),
            "scores_standard_error": json.dumps(dict(zip(values, scores.standard_error.tolist(), strict=True))),
        }
        for baseline, of_prompt in (("clip", clip), ("elbo", bound)):
            theirs = None if of_prompt is None else of_prompt[places].tolist()
            predicted = None if theirs is None else values[theirs.index(max(theirs))]
            row[f"{baseline}_predicted"] = predicted
            row[f"{baseline}_correct"] = None if predicted is None else predicted == true
            row[f"{baseline}_scores"] = None if theirs is None else json.dumps(dict(zip(values, theirs, strict=True)))
        return row


_OWN_RECONSTRUCTION = "each prompt scores its own reconstruction of an image, not one image"
_NOT_REPRODUCED = (
    "not reproduced: likelihoods of blue and green in each other's columns, a loop variable that made nearly all PACS "
    "cells take one image again and again, network times cut to whole steps"
)

_SETTINGS = (
    *("dims", "nfe_forward", "nfe_vjp", "nfe_jvp", "density", "guidance", "space", "r_min", "r_max"),
    *("solver", "probes", "discretisation", "dequantisation_bits"),
)


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _difference(scores: LogLikelihood, first: int, second: int) -> tuple[float, float]:
    """Difference of two log-likelihoods of one sample and its standard error, nats."""
    value, error = scores.select([first]).minus(scores.select([second]))
    return float(value), float(error)
