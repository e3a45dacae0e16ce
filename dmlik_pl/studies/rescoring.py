"""Which hypothesis of an n-best list the likelihood of its speech prefers (Table 2 of Cross and Ragni).

A record is one hypothesis with its scores and word errors; choices, error rates, tests and reliability are made of them
in :mod:`dmlik_pl.results.rescoring.summaries` and :mod:`dmlik_pl.stats.reliability`.

All hypotheses of an utterance are scored for the same mel on the same grid and the same probes, so that what noise
their likelihoods have in common cannot change a choice. They are scored again with other probes, which shows how much
of a choice is noise.
"""

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dmlik_pl.flow import Hutchinson, LogLikelihood, ProbabilityFlow, Rivals, TorchDiffEq
from dmlik_pl.metrics.recogniser import Recogniser
from dmlik_pl.ranges import at_least
from dmlik_pl.speech.nbest import Duplicates, Normalisation, check
from dmlik_pl.speech.text import EnglishFrontEnd
from dmlik_pl.studies.base import Estimator, Outcome, Study, likelihood_columns
from dmlik_pl.studies.speech import Aligned, Policy, SpeechModel, module_name

__all__ = ["Lists", "Rescoring", "StoredRescoring"]

RulesName = Literal["repaired", "published"]

PUBLISHED_SOLVER = TorchDiffEq("dopri5", "t", rtol=1e-5, atol=1e-5)
PUBLISHED_START = 1e-8

# Of a likelihood; the values themselves are scores.
_SETTINGS = (
    *("dims", "nfe_forward", "nfe_vjp", "nfe_jvp", "density", "guidance", "space", "r_min", "r_max"),
    *("interpolation", "solver", "probes", "discretisation", "rounding"),
)


@runtime_checkable
class Lists(Protocol):
    """A batch of n-best lists, whose rows :func:`dmlik_pl.speech.nbest.check` has checked."""

    sample_id: list[str]
    lists: list[pd.DataFrame]


@runtime_checkable
class Heard(Protocol):
    """A batch of recordings, with n-best lists or with the texts and waves that lists are made of."""

    sample_id: list[str]
    mel: list[Tensor]
    speaker: list[int]
    attributes: dict[str, list[str]]


class StoredRescoring(Study):
    """Rescore n-best lists by the scores that are stored with them: no model is needed.

    Args:
        protocol: "repaired", or "published": choices are made as the paper's code made them, to compare with its
            numbers. Records are the same.
    """

    kind = "rescoring"
    asks = object
    reads = Lists

    def __init__(self, protocol: RulesName = "repaired") -> None:
        super().__init__()
        self.protocol = protocol

    def measure(self, model: Any, batch: Lists, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        self.check(batch)
        return [
            Outcome(name, rows=rows.assign(protocol=self.protocol).to_dict("records"))
            for name, rows in zip(batch.sample_id, batch.lists, strict=True)
        ]


class Rescoring(Study):
    """Score every hypothesis of n-best lists by the likelihood of its speech.

    Lists come with the data, or a recogniser makes them of each recording. Recorded for each hypothesis are, in nats,
    the log-density of the mel under the means of its text (`score_likelihood`), with its value from other, independent
    probes and the standard error over probes that is left of it in comparisons within the list, where the probes are
    shared; the log-probability of the durations that its alignment gave it
    (`score_duration`); and the log-density under the average of these means over time, which keeps the voice and loses
    every word (`score_unconditional`). `behind` is how far it lies below the list's likeliest, with the standard error
    of this paired difference.

    A hypothesis that cannot be aligned, that has a character without a token, or that has no likelihood stays in the
    records with the reason, and takes part in no choice.

    Args:
        alignment: How tokens get their frames: "search" is the best path for this mel, "durations" the predicted
            durations, stretched to its length without looking at it.
        recogniser: Makes the lists if the data have none.
        hypotheses: Largest length of its lists.
        normalisation: How its texts and the references are made comparable before errors are counted.
        duplicates: Which repeated texts of its lists are left out.
        unconditional: Whether to also take the log-density without the words, at the same cost again.
        repeat: Whether to take `score_likelihood` again with other probes.
        dictionary: Look words up (True, or the path of a CMUdict file), or spell them in letters (False).
        protocol: "published" does as the paper's code: one probe for the whole path, another one for each hypothesis;
            dopri5 at a tolerance of 1e-5 from t = 1e-8; the likelihood alone. Its faults of the recogniser (LJSpeech
            heard at the wrong rate) are not repeated.
    """

    kind = "rescoring"
    asks = SpeechModel
    reads = Heard

    def __init__(
        self,
        alignment: Policy = "search",
        recogniser: Recogniser | None = None,
        hypotheses: int = 10,
        normalisation: Normalisation = "whisper",
        duplicates: Duplicates = "texts",
        unconditional: bool = True,
        repeat: bool = True,
        dictionary: bool | str = True,
        protocol: RulesName = "repaired",
    ) -> None:
        super().__init__()
        at_least(1, hypotheses=hypotheses)
        self.alignment: Policy = alignment
        self.recogniser = recogniser
        self.hypotheses = hypotheses
        self.normalisation: Normalisation = normalisation
        self.duplicates: Duplicates = duplicates
        self.published = protocol == "published"
        self.unconditional = unconditional and not self.published
        self.repeat = repeat and not self.published
        self.front_end = EnglishFrontEnd(dictionary)

    def check(self, batch: Heard) -> None:
        """Refuse data without recordings, and those without lists if there is no recogniser to make them."""
        super().check(batch)
        if not isinstance(batch, Lists) and self.recogniser is None:
            raise ValueError("the data have no n-best lists: give the study a recogniser that makes them")

    @torch.no_grad()
    def measure(self, model: SpeechModel, batch: Heard, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        return [self._measure(model, batch, b, estimator) for b in range(len(batch.sample_id))]

    def _measure(self, model: SpeechModel, batch: Heard, b: int, estimator: Estimator) -> Outcome:
        name, mel = batch.sample_id[b], batch.mel[b]
        rows = self._list(model, batch, b)
        excluded = rows["excluded"].tolist()
        aligned: dict[int, Aligned] = {}
        for place in np.flatnonzero(rows["excluded"] == "").tolist():
            try:
                tokens = self._tokens(rows["hypothesis"][place]).to(mel.device)
                aligned[place] = model.align(tokens, mel, self.alignment, batch.speaker[b])
            except ValueError as error:
                excluded[place] = str(error)
        columns, made, failures = self._scores(model, mel, batch.speaker[b], name, rows, aligned, estimator)
        for place, failure in failures.items():
            excluded[place] = f"no likelihood: {failure}"
        rules = str(rows["normalisation"].iloc[0]), str(rows["duplicates"].iloc[0])
        rows = check(rows.assign(**columns, excluded=excluded), *rules)  # type: ignore[arg-type]
        settings = {
            "probe_count": max(1, (Hutchinson(1) if self.published else estimator.divergence).probes),
            "alignment": self.alignment,
            "recogniser": module_name(self.recogniser),
            "protocol": "published" if self.published else "repaired",
            "frames": mel.shape[-1],
        } | {attribute: values[b] for attribute, values in batch.attributes.items()}
        records = rows.assign(**settings).to_dict("records")
        return Outcome(name, rows=[record | made.get(place, {}) for place, record in enumerate(records)])

    def _list(self, model: SpeechModel, batch: Any, b: int) -> pd.DataFrame:
        """The rows of an utterance's list, from the data or from the recogniser; one without text if it hears none."""
        if isinstance(batch, Lists):
            return batch.lists[b].reset_index(drop=True)
        if self.recogniser is None:
            raise ValueError("the data have no n-best lists: give the study a recogniser that makes them")
        found = self.recogniser.hypotheses(batch.audio[b], model.rate, self.hypotheses)
        about = {"sample_id": batch.sample_id[b], "reference": batch.text[b]}
        rows: list[dict[str, Any]] = [
            about
            | {"row": number, "hypothesis": hypothesis.text, "score_acoustic": hypothesis.score}
            | {f"score_{part}": value for part, value in hypothesis.parts.items()}
            for number, hypothesis in enumerate(found, start=1)
        ]
        nothing = [about | {"row": 1, "hypothesis": "", "score_acoustic": math.nan}]
        return check(pd.DataFrame(rows or nothing), self.normalisation, self.duplicates)

    def _tokens(self, text: str) -> Tensor:
        """Token ids of a text, [L]; ValueError if a character of it would be dropped."""
        if dropped := self.front_end.unknown(text):
            raise ValueError(f"no token for {dropped!r}")
        return self.front_end(text)

    def _scores(
        self,
        model: SpeechModel,
        mel: Tensor,
        speaker: int,
        name: str,
        rows: pd.DataFrame,
        aligned: dict[int, Aligned],
        estimator: Estimator,
    ) -> tuple[dict[str, list[float]], dict[int, dict[str, Any]], dict[int, str]]:
        """Columns of all rows, NaN without a likelihood; how each likelihood was made; why the others failed."""
        scores = ["likelihood", "unconditional"] if self.unconditional else ["likelihood"]
        numbers = [f"{kind}_{score}" for score in scores for kind in ("score", "standard_error")]
        numbers += ["behind", "behind_standard_error"] + ([] if self.published else ["score_duration"])
        numbers += ["repeat_likelihood"] if self.repeat else []
        columns = {key: [math.nan] * len(rows) for key in numbers}
        made: dict[int, dict[str, Any]] = {}
        failures: dict[int, str] = {}
        if not aligned:
            return columns, made, failures
        flow, estimator = self._flow(model), self._estimator(estimator)
        places = list(aligned)
        # Equal texts have one likelihood; only a probe of its own could tell them apart.
        keys = [(f"{place}/" if self.published else "", str(rows["hypothesis"][place])) for place in places]
        order = list(dict.fromkeys(keys))
        means = [aligned[places[keys.index(key)]].mu for key in order]
        if self.unconditional:
            means += [mu.mean(-1, keepdim=True).expand_as(mu) for mu in means]
        ids = [f"{own}{name}" for own, _ in order] * (2 if self.unconditional else 1)
        count = len(order)
        rivals = Rivals([range(start, start + count) for start in range(0, len(means), count)])
        result = self._likelihood(model, flow, estimator, mel, means, speaker, ids, rivals)
        again = None
        if self.repeat:
            others = [f"again/{key}" for key in ids[:count]]
            again = self._likelihood(model, flow, estimator, mel, means[:count], speaker, others)
        lists = [range(start, start + len(order)) for start in range(0, len(means), len(order))]
        errors = {score: self._standard_errors(result.select(part)) for score, part in zip(scores, lists, strict=True)}
        settings = likelihood_columns(result, estimator, flow)
        best = int(result.log_p[: len(order)].nan_to_num(-torch.inf).argmax())
        for place, key in zip(places, keys, strict=True):
            k = order.index(key)
            if failure := result.failures[k]:
                failures[place] = failure
                continue
            for score, at in zip(scores, (k, k + len(order)), strict=False):
                columns[f"score_{score}"][place] = float(result.log_p[at])
                columns[f"standard_error_{score}"][place] = float(errors[score][k])
            if again is not None:
                columns["repeat_likelihood"][place] = float(again.log_p[k])
            behind, error = result.select([best]).minus(result.select([k]))
            columns["behind"][place], columns["behind_standard_error"][place] = float(behind), float(error)
            if not self.published:
                columns["score_duration"][place] = aligned[place].duration_log_p
            made[place] = {setting: settings[k][setting] for setting in _SETTINGS}
        return columns, made, failures

    def _standard_errors(self, scores: LogLikelihood) -> Tensor:
        """Standard errors of a list's scores, nats, [M]: of what is not common to all of them, where probes are shared.

        They are those of independent errors that would make scores differ as much.
        """
        count = len(scores.log_p)
        if self.published:
            return scores.standard_error
        usable = [failure is None for failure in scores.failures]
        variance = scores.integral.apart_from_common(usable).variance
        return (variance * count / (count - 1)).sqrt() if count > 1 else torch.full_like(variance, torch.nan)

    def _likelihood(
        self,
        model: SpeechModel,
        flow: ProbabilityFlow,
        estimator: Estimator,
        mel: Tensor,
        means: Sequence[Tensor],
        speaker: int,
        ids: Sequence[str],
        rivals: Rivals | None = None,
    ) -> LogLikelihood:
        """Likelihoods of one mel under many means."""
        x = estimator.state(model.pad(mel))
        condition = model.condition(means, [speaker] * len(means))
        return estimator.log_likelihood(flow, x.expand(len(means), *x.shape[1:]), condition, ids, rivals)

    def _flow(self, model: SpeechModel) -> ProbabilityFlow:
        flow = model.flow()
        if not self.published:
            return flow
        schedule = copy(flow.schedule)
        schedule.t_min = PUBLISHED_START
        return replace(flow, schedule=schedule)

    def _estimator(self, estimator: Estimator) -> Estimator:
        if not self.published:
            return estimator
        return replace(estimator, solver=PUBLISHED_SOLVER, divergence=Hutchinson(1), target=None)
