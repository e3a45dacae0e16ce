"""Utterances with their texts, and how they are put side by side: unpadded to evaluate, padded to train on."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.data.base import Failure

__all__ = ["TrainingBatch", "Utterance", "UtteranceBatch", "collate_training", "collate_utterances", "describe"]

FRAME_MULTIPLE = 4  # the decoder halves the time axis twice
NAMED_FAILURES = 10  # that a warning names; it counts the others


@dataclass
class Utterance:
    """One utterance with what is true of it.

    Attributes:
        sample_id: A stable name such as ``"LJ001-0001"``, never a position.
        text: The words that are spoken.
        tokens: Ids of the text, [L].
        audio: The wave at 22 050 Hz in [-1, 1], [N].
        mel: Its log-mel spectrogram (natural log), [80, T].
        speaker: The speaker's number; 0 for one speaker.
        attributes: True values by attribute name, e.g. ``{"voice": "en-us"}``.
        converted: What is odd about the wave, in words; empty where nothing is.
    """

    sample_id: str
    text: str
    tokens: Tensor
    audio: Tensor
    mel: Tensor
    speaker: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    converted: str = ""


@dataclass
class UtteranceBatch:
    """Utterances side by side, none padded: no number of an evaluation may depend on its neighbours.

    Attributes:
        sample_id: Stable names, B of them.
        text: The words of each.
        tokens: Ids of each text, [L_b].
        audio: Waves at 22 050 Hz, [N_b].
        mel: Log-mel spectrograms, [80, T_b].
        speaker: The speaker's number of each.
        attributes: True values by attribute name, B of each.
        failures: Utterances that could not be read; they are not counted in B.
        converted: What is odd about each wave, B texts.
    """

    sample_id: list[str]
    text: list[str]
    tokens: list[Tensor]
    audio: list[Tensor]
    mel: list[Tensor]
    speaker: list[int]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sample_id)

    def to(self, device: torch.device | str, **options: Any) -> "UtteranceBatch":
        """Return the batch with its tensors on `device`; further `options` go to `torch.Tensor.to`."""
        return replace(
            self,
            tokens=[tokens.to(device, **options) for tokens in self.tokens],
            audio=[audio.to(device, **options) for audio in self.audio],
            mel=[mel.to(device, **options) for mel in self.mel],
        )

    def select(self, index: Sequence[int]) -> "UtteranceBatch":
        """Return some utterances of the batch, without its failures."""
        return UtteranceBatch(
            sample_id=[self.sample_id[b] for b in index],
            text=[self.text[b] for b in index],
            tokens=[self.tokens[b] for b in index],
            audio=[self.audio[b] for b in index],
            mel=[self.mel[b] for b in index],
            speaker=[self.speaker[b] for b in index],
            attributes={name: [values[b] for b in index] for name, values in self.attributes.items()},
            converted=[self.converted[b] for b in index] if self.converted else [],
        )


@dataclass
class TrainingBatch:
    """Padded utterances, as Grad-TTS is trained on.

    Attributes:
        sample_id: Stable names, B of them.
        tokens: Ids, [B, L], 0 behind the end of a text.
        token_lengths: Real tokens, [B].
        mel: Log-mel spectrograms, [B, 80, T], 0 behind the end; T is a multiple of 4.
        mel_lengths: Real frames, [B].
        speaker: Speakers' numbers, [B].
    """

    sample_id: list[str]
    tokens: Tensor
    token_lengths: Tensor
    mel: Tensor
    mel_lengths: Tensor
    speaker: Tensor

    def __len__(self) -> int:
        return len(self.sample_id)

    def select(self, index: Sequence[int]) -> "TrainingBatch":
        """Return some utterances of the batch, without changing their padding."""
        chosen = list(index)
        return TrainingBatch(
            sample_id=[self.sample_id[b] for b in chosen],
            tokens=self.tokens[chosen],
            token_lengths=self.token_lengths[chosen],
            mel=self.mel[chosen],
            mel_lengths=self.mel_lengths[chosen],
            speaker=self.speaker[chosen],
        )

    def to(self, device: torch.device | str, **options: Any) -> "TrainingBatch":
        """Return the batch with its tensors on `device`; further `options` go to `torch.Tensor.to`."""
        return replace(
            self,
            tokens=self.tokens.to(device, **options),
            token_lengths=self.token_lengths.to(device, **options),
            mel=self.mel.to(device, **options),
            mel_lengths=self.mel_lengths.to(device, **options),
            speaker=self.speaker.to(device, **options),
        )


def collate_utterances(items: Sequence[Utterance | Failure | None]) -> UtteranceBatch:
    """Join utterances to a batch and set failures apart; None, "nothing to do", is dropped."""
    found = [item for item in items if isinstance(item, Utterance)]
    names = found[0].attributes.keys() if found else ()
    return UtteranceBatch(
        sample_id=[item.sample_id for item in found],
        text=[item.text for item in found],
        tokens=[item.tokens for item in found],
        audio=[item.audio for item in found],
        mel=[item.mel for item in found],
        speaker=[item.speaker for item in found],
        attributes={name: [item.attributes[name] for item in found] for name in names},
        failures=[item for item in items if isinstance(item, Failure)],
        converted=[item.converted for item in found],
    )


def collate_training(items: Sequence[Utterance | Failure]) -> TrainingBatch:
    """Pad utterances to a training batch; those that cannot be read are left out with a warning."""
    found = [item for item in items if isinstance(item, Utterance)]
    failures = [item for item in items if isinstance(item, Failure)]
    if failures:
        warnings.warn(f"left out of a training batch: {describe(failures)}", stacklevel=2)
    tokens = torch.zeros(len(found), max((len(item.tokens) for item in found), default=0), dtype=torch.long)
    longest = max((item.mel.shape[-1] for item in found), default=0)
    frames = -(-longest // FRAME_MULTIPLE) * FRAME_MULTIPLE
    mel = torch.zeros(len(found), found[0].mel.shape[0] if found else 0, frames)
    for row, item in enumerate(found):
        tokens[row, : len(item.tokens)] = item.tokens
        mel[row, :, : item.mel.shape[-1]] = item.mel
    return TrainingBatch(
        sample_id=[item.sample_id for item in found],
        tokens=tokens,
        token_lengths=torch.tensor([len(item.tokens) for item in found]),
        mel=mel,
        mel_lengths=torch.tensor([item.mel.shape[-1] for item in found]),
        speaker=torch.tensor([item.speaker for item in found]),
    )


def describe(failures: Sequence[Failure]) -> str:
    """Name failures with their reasons, the first few of many."""
    named = "; ".join(f"{failure.sample_id}: {failure.error}" for failure in failures[:NAMED_FAILURES])
    more = len(failures) - NAMED_FAILURES
    return f"{named}; and {more} more" if more > 0 else named
