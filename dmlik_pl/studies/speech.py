"""What studies of speech share: what they need of a model and of a batch, and how speech is listened to."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from dmlik_pl.flow import Condition
from dmlik_pl.metrics.cepstral import cepstral_distance, mel_cepstrum, sixteen_bit
from dmlik_pl.metrics.pitch import pitch_and_cepstrum, pitch_error
from dmlik_pl.metrics.recognition import Recogniser
from dmlik_pl.metrics.speaker import SpeakerEncoder, speaker_similarity
from dmlik_pl.metrics.word_error import word_errors
from dmlik_pl.records.missing import HEARD
from dmlik_pl.studies.aside import Aside
from dmlik_pl.studies.base import Model

__all__ = ["Aligned", "Listener", "Policy", "SpeechModel", "Utterances", "about", "module_name", "once_each"]

Analyse = Callable[[Tensor], Any]
"""Takes a wave [N]."""

Policy = Literal["search", "durations"]
"""How tokens get their frames: the best path for this mel, or predicted durations, stretched without looking at it."""


class Aligned(Protocol):
    """Which frames belong to which token.

    Attributes:
        durations: Frames of each token, whole numbers [L].
        mu: The text encoder's mean of each frame, [bands, T].
        duration_log_p: Log-probability of the durations, nats.
    """

    durations: Tensor
    mu: Tensor
    duration_log_p: float


@runtime_checkable
class SpeechModel(Model, Protocol):
    """It needs a model of speech, with the methods align, predict, condition, pad and vocode.

    Attributes:
        rate: Sample rate of what it speaks, Hz.
        vocoder: What turns its mels into waves.
    """

    rate: int
    vocoder: nn.Module

    def align(self, tokens: Tensor, mel: Tensor, policy: Policy, speaker: int = 0) -> Aligned:
        """Tokens [L] to the frames of a mel [bands, T]; ValueError if there are fewer frames than tokens."""
        ...

    def predict(self, tokens: Tensor, speaker: int = 0) -> Aligned:
        """Tokens [L] with the durations, and so the length, that the model itself gives them."""
        ...

    def condition(self, mu: Sequence[Tensor], speaker: Sequence[int]) -> Condition:
        """The condition of means [bands, T_i], with a mask of their real frames."""
        ...

    def pad(self, mel: Tensor) -> Tensor:
        """A mel [bands, T] as a state [1, bands, T'] of the network."""
        ...

    def vocode(self, mel: Tensor) -> Tensor:
        """A mel [bands, T] to a wave [N] in [-1, 1]."""
        ...


@runtime_checkable
class Utterances(Protocol):
    """A batch of utterances with their texts and recordings.

    They are not padded: an evaluation must not depend on who its neighbours are.
    """

    sample_id: list[str]
    text: list[str]
    tokens: list[Tensor]
    audio: list[Tensor]
    mel: list[Tensor]
    speaker: list[int]
    attributes: dict[str, list[str]]


def about(batch: Utterances, b: int) -> dict[str, Any]:
    """What every record of an utterance says of it: its text, length in frames, and attributes."""
    attributes = {name: values[b] for name, values in batch.attributes.items()}
    return {"text": batch.text[b], "frames": batch.mel[b].shape[-1]} | attributes


class Listener(nn.Module):
    """Compares waves with the recording of the same words.

    Args:
        recogniser: For the word errors; None for none.
        speaker_encoder: For the similarity of voices; None for none.
        cepstral_distortion: Whether to take the mel-cepstral distortion.
        log_f0: Whether to take the error of the logarithmic pitch.
        published: Analyse waves as the paper's code did: cepstra of frames of 512 samples in [-1, 1], and no error of
            the pitch where none is defined.
    """

    def __init__(
        self,
        recogniser: Recogniser | None,
        speaker_encoder: SpeakerEncoder | None,
        cepstral_distortion: bool,
        log_f0: bool,
        published: bool = False,
    ) -> None:
        super().__init__()
        self.recogniser = recogniser
        self.speaker_encoder = speaker_encoder
        self.cepstral_distortion = cepstral_distortion
        self.log_f0 = log_f0
        self.published = published

    def forward(
        self, text: str, reference: Tensor, waves: Sequence[Tensor | None], rate: int, aside: Aside
    ) -> list[dict[str, Any]]:
        """Listen to waves of one utterance.

        Args:
            text: The words that were spoken.
            reference: The recording, [N].
            waves: What to listen to, [M] each; where it is the recording itself, distances are zero. None for a wave
                that could not be made, of which nothing is heard.
            rate: Sample rate of all, Hz.
            aside: Keeps what cannot be measured of a wave.

        Returns:
            For each wave its transcript, word errors and words of the text, cosine of the voice to the recording's,
            mel-cepstral distortion (dB) and root mean square error of ln F0 (nats). None for what is not asked for, for
            what cannot be measured, and for what is not defined: the pitch where no frame is voiced in both, the voice
            of a wave of zeros.
        """

        def beside_reference(name: str, analyse: Analyse, compare: Callable[[Any, Any], float]) -> list[float | None]:
            known = once_each(analyse)
            values = aside.take(name, lambda some: [compare(known(reference), known(wave)) for wave in some], waves)
            return [None if value is None else _known(value) for value in values]

        columns: dict[str, Sequence[Any]] = {}
        if self.recogniser is not None:
            columns["words"] = aside.take("WER", lambda some: self._words(text, some, rate), waves)
        if (encoder := self.speaker_encoder) is not None:
            voices = beside_reference(HEARD["speaker_similarity"], lambda wave: encoder.embed([wave], rate), _cosine)
            columns["speaker_similarity"] = voices
        if self.cepstral_distortion:
            cepstra = beside_reference(
                HEARD["cepstral_distortion"], partial(self._cepstrum, rate=rate), cepstral_distance
            )
            columns["cepstral_distortion"] = cepstra
        if self.log_f0:
            pitches = beside_reference(HEARD["log_f0_rmse"], partial(pitch_and_cepstrum, rate=rate), self._pitch_error)
            columns["log_f0_rmse"] = pitches
        settings: dict[str, Any] = {
            "recogniser": module_name(self.recogniser),
            "speaker_encoder": module_name(self.speaker_encoder),
            **dict.fromkeys(("transcript", "word_errors", "words", *reversed(HEARD))),
        }
        rows = [settings | {name: values[k] for name, values in columns.items()} for k in range(len(waves))]
        return [row | (row["words"] or {}) for row in rows]

    def _words(self, text: str, waves: Sequence[Tensor], rate: int) -> list[dict[str, Any]]:
        """Transcript, word errors, and words of the text, of each wave."""
        assert self.recogniser is not None
        names = ("transcript", "word_errors", "words")
        heard = [(transcript, *word_errors(text, transcript)) for transcript in self.recogniser.transcribe(waves, rate)]
        return [dict(zip(names, values, strict=True)) for values in heard]

    def _pitch_error(self, first: Any, second: Any) -> float:
        error = pitch_error(first, second)
        return 0.0 if math.isnan(error) and self.published else error

    def _cepstrum(self, wave: Tensor, rate: int) -> np.ndarray:
        if self.published:
            return mel_cepstrum(wave.double().cpu().numpy(), rate, n_fft=512)
        return mel_cepstrum(sixteen_bit(wave), rate)


def once_each(analyse: Analyse) -> Analyse:
    """An analysis that is made once of each wave, however often it is asked for."""
    found: dict[int, Any] = {}

    def known(wave: Tensor) -> Any:
        if id(wave) not in found:
            found[id(wave)] = analyse(wave)
        return found[id(wave)]

    return known


def module_name(module: nn.Module | None) -> str | None:
    """What a table calls a recogniser or encoder: its kind, and the weights if they have a name."""
    if module is None:
        return None
    weights = Path(getattr(getattr(module, "model", None), "name_or_path", "")).name
    return f"{type(module).__name__} ({weights})" if weights else type(module).__name__


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(speaker_similarity(first, second))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
