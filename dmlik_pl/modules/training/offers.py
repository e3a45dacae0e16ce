"""What a training may offer to the callbacks that watch it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from dmlik_pl.flow import Condition, ProbabilityFlow

__all__ = ["LikelihoodProblem", "OffersLikelihoods", "OffersSpeech", "SpokenExample"]


@dataclass(frozen=True)
class LikelihoodProblem:
    """Samples of one shape whose log-likelihood is asked for.

    Attributes:
        flow: The flow of the model, with its present weights.
        x: Samples, [B, ...].
        condition: What they are conditioned on.
        sample_ids: Their stable names, which key the probes.
        alternative: A condition that says less, such as an empty text, for the same samples; None if there is none.
    """

    flow: ProbabilityFlow
    x: Tensor
    condition: Condition
    sample_ids: Sequence[str]
    alternative: Condition | None = None

    def apart(self) -> "Iterator[LikelihoodProblem]":
        """Yield a problem for each sample."""
        conditions = [None if c is None else c.spread(self.x) for c in (self.condition, self.alternative)]
        for b, name in enumerate(self.sample_ids):
            own, other = (None if c is None else c.select(slice(b, b + 1)) for c in conditions)
            assert own is not None
            yield LikelihoodProblem(self.flow, self.x[b : b + 1], own, [name], other)


@runtime_checkable
class OffersLikelihoods(Protocol):
    """A training module whose validation batches can be scored.

    Samples of different shapes go into different problems: a likelihood must not depend on how far its neighbours made
    it be padded.
    """

    def likelihood_problems(self, batch: Any, limit: int) -> list[LikelihoodProblem]:
        """Pose the first `limit` samples of a validation batch, or all if they are fewer."""
        ...


@dataclass(frozen=True)
class SpokenExample:
    """An utterance as the model speaks it, along the reference's own alignment.

    Attributes:
        sample_id: Its stable name.
        reference: Its log-mel spectrogram, [80, T].
        encoder: The text encoder's means along the frames, [80, T].
        decoder: What the decoder makes of them, [80, T].
        durations: How many frames each token has, [L].
        wave: The decoder's spectrogram as sound, [N].
        rate: Sample rate of the wave, Hz.
    """

    sample_id: str
    reference: Tensor
    encoder: Tensor
    decoder: Tensor
    durations: Tensor
    wave: Tensor
    rate: int


@runtime_checkable
class OffersSpeech(Protocol):
    """A training module that can speak the texts of its validation batches."""

    def speech_examples(self, batch: Any, limit: int, seed: int) -> list[SpokenExample]:
        """Speak the first `limit` utterances of a validation batch; the same seed starts from the same noise."""
        ...
