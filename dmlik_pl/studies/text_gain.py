"""Does the likelihood of speech hear the text? How much of log p(mel | text) is lost without it.

The same mel is scored under the means of its own text and under others that say less: their average over time, which
keeps the voice and loses every word, and those of the same words in another order. All are scored on the same grid and
the same probes, so that the gain of the text is a paired difference with an error of its own, utterance by utterance.

An alignment that searches the best path for the mel lets a wrong text look better than it is, and one by predicted
durations does not look at the mel: both are taken, each against alternatives aligned in the same way.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from dmlik_pl.flow import LogLikelihood, Rivals
from dmlik_pl.ranges import between
from dmlik_pl.speech.text.symbols import BLANK, IDS, SPACE
from dmlik_pl.studies.base import Estimator, Outcome, Study, likelihood_columns
from dmlik_pl.studies.speech import Aligned, Policy, SpeechModel, Utterances, about

__all__ = ["TextGain", "shuffle_words"]

Alternative = Literal["mean", "shuffled"]

_MARKS = {IDS[mark] for mark in "!.,:;?"}


class TextGain(Study):
    """Measure what the text adds to the likelihood of a recording.

    Args:
        alignments: How tokens get their frames: "search" is the best path for this mel, "durations" the predicted
            durations, stretched to its length without looking at it.
        alternatives: What the text is compared with: "mean" is the average of its means over all frames, "shuffled" the
            same words in another order, aligned like the text itself. An utterance whose words have no other order has
            no record of "shuffled".
        confidence: A gain counts as decided if it differs from zero at this (two-sided) confidence, as far as probe
            noise goes.
    """

    kind = "text_gain"
    asks = SpeechModel
    reads = Utterances

    def __init__(
        self,
        alignments: Sequence[Policy] = ("search", "durations"),
        alternatives: Sequence[Alternative] = ("mean", "shuffled"),
        confidence: float = 0.95,
    ) -> None:
        super().__init__()
        for name, values in (("alignments", alignments), ("alternatives", alternatives)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be one or more different values, got {list(values)}")
        between(0, 1, confidence=confidence)
        self.alignments = list(alignments)
        self.alternatives = list(alternatives)
        self.confidence = confidence
        self.threshold = float(norm.ppf(0.5 + confidence / 2))

    @torch.no_grad()
    def measure(self, model: SpeechModel, batch: Utterances, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        # An utterance that cannot be aligned is found here, before any costly work on its neighbours.
        means = [self._means(model, batch, b) for b in range(len(batch.sample_id))]
        return [self._measure(model, batch, b, own, estimator) for b, own in enumerate(means)]

    def _means(self, model: SpeechModel, batch: Utterances, b: int) -> dict[tuple[str, str], tuple[Tensor, Any]]:
        """Means [bands, T] and log-probability of their durations (nats, or None) by alignment and text."""
        tokens, mel, speaker = batch.tokens[b], batch.mel[b], batch.speaker[b]
        shuffled = shuffle_words(tokens, batch.sample_id[b])
        means: dict[tuple[str, str], tuple[Tensor, Any]] = {}
        for policy in self.alignments:
            text: Aligned = model.align(tokens, mel, policy, speaker)
            means[policy, "text"] = text.mu, text.duration_log_p
            for alternative in self.alternatives:
                if alternative == "mean":
                    means[policy, "mean"] = text.mu.mean(-1, keepdim=True).expand_as(text.mu), None
                elif shuffled is not None:
                    other: Aligned = model.align(shuffled, mel, policy, speaker)
                    means[policy, "shuffled"] = other.mu, other.duration_log_p
        return means

    def _measure(
        self,
        model: SpeechModel,
        batch: Utterances,
        b: int,
        means: dict[tuple[str, str], tuple[Tensor, Any]],
        estimator: Estimator,
    ) -> Outcome:
        flow, name, count = model.flow(), batch.sample_id[b], len(means)
        x = estimator.state(model.pad(batch.mel[b]))
        condition = model.condition([mu for mu, _ in means.values()], [batch.speaker[b]] * count)
        rivals = Rivals(self._pairs(list(means)), self.confidence)
        result = estimator.log_likelihood(flow, x.expand(count, *x.shape[1:]), condition, [name] * count, rivals)
        if failure := next(filter(None, result.failures), None):
            return Outcome(name, error=failure)
        columns = likelihood_columns(result, estimator, flow)
        places = {key: place for place, key in enumerate(means)}
        rows = []
        for (policy, other), place in places.items():
            if other == "text":
                continue
            own = places[policy, "text"]
            rows.append(
                columns[own]
                | self._gain(result.select([own]), result.select([place]))
                | {
                    "alignment": policy,
                    "alternative": other,
                    "duration_log_p": means[policy, "text"][1],
                    "duration_log_p_alternative": means[policy, other][1],
                }
                | about(batch, b)
            )
        return Outcome(name, rows=rows)

    @staticmethod
    def _pairs(keys: list[tuple[str, str]]) -> list[list[int]]:
        """Places of each text and of what it is compared with."""
        return [[keys.index((policy, "text")), k] for k, (policy, other) in enumerate(keys) if other != "text"]

    def _gain(self, text: LogLikelihood, other: LogLikelihood) -> dict[str, Any]:
        """What one text adds to the log-density beside another, nats."""
        gain, error = (float(value) for value in text.minus(other))
        return {
            "bpd_alternative": float(other.bpd),
            "gain": gain,
            "gain_standard_error": error,
            "gain_probe_variance": float(text.variance_of_difference(other)),
            "gain_discretisation": float(text.discretisation.hypot(other.discretisation)),  # what cancels is not known
            "decided": abs(gain) > self.threshold * error,  # False if the error is not known
        }


def shuffle_words(tokens: Tensor, sample_id: str) -> Tensor | None:
    """The words of a text in another order.

    Words are what stands between spaces, with the blanks around their symbols; marks that end the text stay at its end.

    Args:
        tokens: Ids of :mod:`dmlik_pl.speech.text`, with blanks between or without, [L].
        sample_id: Decides the order.

    Returns:
        As many ids [L], or None if the words have no other order.
    """
    ids = tokens.tolist()
    blanks = len(ids) % 2 == 1 and all(number == BLANK for number in ids[::2])
    symbols = ids[1::2] if blanks else ids
    end = len(symbols)
    while end > 0 and symbols[end - 1] in _MARKS:
        end -= 1
    words: list[list[int]] = [[]]
    for number in symbols[:end]:
        if number == SPACE:
            words.append([])
        else:
            words[-1].append(number)
    if len({tuple(word) for word in words}) < 2:
        return None
    seed = int.from_bytes(hashlib.blake2b(sample_id.encode(), digest_size=8).digest(), "little")
    generator = np.random.default_rng(seed)
    order = list(range(len(words)))
    while [words[place] for place in order] == words:
        order = generator.permutation(len(words)).tolist()
    shuffled = [number for place in order for number in (*words[place], SPACE)][:-1] + symbols[end:]
    if blanks:
        spread = [BLANK] * len(ids)
        spread[1::2] = shuffled
        shuffled = spread
    return torch.tensor(shuffled, dtype=tokens.dtype, device=tokens.device)
