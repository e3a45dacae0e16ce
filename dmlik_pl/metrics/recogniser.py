"""What every speech recogniser offers: transcripts, and n-best lists of those that make them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dmlik_pl.metrics.speech_model import SpeechModel

__all__ = ["Hypothesis", "Recogniser", "best_of_each_text"]


@dataclass(frozen=True)
class Hypothesis:
    """One entry of an n-best list.

    Attributes:
        text: The words that may have been spoken.
        score: How well the recogniser likes it, nats; higher is better. Only differences within a list mean something.
        parts: Parts of the score, by names that all hypotheses of a recogniser share.
    """

    text: str
    score: float
    parts: dict[str, float] = field(default_factory=dict)


class Recogniser(SpeechModel):
    """From waves to text. The transcript of a wave does not depend on the other waves."""

    @torch.no_grad()
    def transcribe(self, waves: Sequence[Tensor], rate: int) -> list[str]:
        """Recognise each wave.

        Args:
            waves: B waves, [N] each, full scale [-1, 1].
            rate: Their sampling rate in Hz; resampled to the recogniser's own where they differ.

        Returns:
            B texts, "" where nothing is recognised.

        Raises:
            ValueError: If a wave is not one channel, is empty or not finite, or is too long for the recogniser.
        """
        return [self.transcribe_one(wave) for wave in self.heard(waves, rate)]

    @abstractmethod
    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N] on the CPU at the recogniser's rate."""

    @torch.no_grad()
    def hypotheses(self, wave: Tensor, rate: int, n: int) -> list[Hypothesis]:
        """Make an n-best list.

        Args:
            wave: One wave, [N], full scale [-1, 1].
            rate: Its sampling rate in Hz; resampled to the recogniser's own where it differs.
            n: The most entries wanted.

        Returns:
            At most n hypotheses of different texts, best first; none where nothing is recognised.

        Raises:
            ValueError: If the recogniser makes no lists, or the wave is not one channel, is empty or not finite, or is
                too long for it.
        """
        if n < 1:
            raise ValueError(f"an n-best list needs an n of at least 1, got {n}")
        (heard,) = self.heard([wave], rate)
        return self.hypotheses_of_one(heard, n)

    def hypotheses_of_one(self, wave: Tensor, n: int) -> list[Hypothesis]:
        """The n-best list of one wave [N] on the CPU at the recogniser's rate."""
        raise ValueError(f"{type(self).__name__} makes no n-best lists: take WordLoop, Wav2Vec2 or Whisper")


def best_of_each_text(hypotheses: Iterable[Hypothesis], n: int) -> list[Hypothesis]:
    """The n best hypotheses of different texts, best first; what is empty is dropped."""
    best: dict[str, Hypothesis] = {}
    for hypothesis in sorted(hypotheses, key=lambda hypothesis: -hypothesis.score):
        if hypothesis.text:
            best.setdefault(hypothesis.text, hypothesis)
    return list(best.values())[:n]
