"""Speaker encoders, waves to unit vectors that tell voices apart, and the similarity of two recordings' speakers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.extras import load
from dmlik_pl.metrics.speech_model import SpeechModel
from dmlik_pl.metrics.utterance_mean import UtteranceMean
from dmlik_pl.metrics.voice_encoder import RATE, VoiceEncoder, raise_volume, shorten_pauses
from dmlik_pl.pretrained import load_with_processor

__all__ = ["Resemblyzer", "SpeakerEncoder", "SpeakerSimilarity", "TitaNet", "XVector", "speaker_similarity"]


class SpeakerEncoder(SpeechModel):
    """From waves to unit vectors. The vector of a wave does not depend on the other waves."""

    @torch.no_grad()
    def embed(self, waves: Sequence[Tensor], rate: int) -> Tensor:
        """Encode the voice of each wave.

        Args:
            waves: B waves, [N] each, full scale [-1, 1].
            rate: Their sampling rate in Hz; resampled to the encoder's own where they differ.

        Returns:
            Unit vectors, [B, D], float32, on the encoder's device; NaN for a wave of zeros, which has no voice.

        Raises:
            ValueError: If a wave is not one channel, is empty or not finite.
        """
        vectors = []
        for wave in self.heard(waves, rate):
            vector = self.embed_one(wave).float()
            vectors.append(vector / vector.norm() if bool(wave.any()) else torch.full_like(vector, torch.nan))
        return torch.stack(vectors)

    @abstractmethod
    def embed_one(self, wave: Tensor) -> Tensor:
        """Encode one wave [N] on the CPU at the encoder's rate as a vector [D] of any length."""


class Resemblyzer(SpeakerEncoder):
    """The speaker encoder of Resemblyzer (256 values), whose weights are in this package: no download.

    As in that package a quiet wave is raised to -30 dBFS and pauses are shortened before encoding. A wave in which the
    voice detector finds nothing, noise for instance, is encoded whole.

    References:
        | Generalized End-to-End Loss for Speaker Verification (Wan et al., 2018)
        | Resemblyzer (Jemine, 2019), https://github.com/resemble-ai/Resemblyzer
    """

    rate = RATE

    def __init__(self) -> None:
        super().__init__()
        for library in ("librosa", "webrtcvad"):
            load(library, "the embedded speaker encoder")
        self.encoder = VoiceEncoder()
        self.freeze()

    def embed_one(self, wave: Tensor) -> Tensor:
        """Encode one wave [N] at 16 kHz."""
        # the voice detector's 16-bit samples would wrap around beyond full scale
        samples = (wave / wave.abs().max().clamp(min=1)).numpy()
        voiced = shorten_pauses(raise_volume(samples)) if samples.any() else samples
        return self.encoder.embed(voiced if len(voiced) else samples)


class XVector(SpeakerEncoder):
    """A speaker verification model of transformers with an x-vector head (WavLM, wav2vec 2.0, UniSpeech-SAT, ...).

    Args:
        path: A folder in the layout of transformers, or a model of the Hugging Face hub
            ("microsoft/wavlm-base-plus-sv").
        local_files_only: Never download; a hub model must then be in the local cache.

    Raises:
        FileNotFoundError: If there is no such model at hand.
        ValueError: If it is another model, or a damaged one.
    """

    def __init__(self, path: str | Path, local_files_only: bool = True) -> None:
        super().__init__()
        from transformers import AutoModelForAudioXVector, Wav2Vec2FeatureExtractor

        self.model, self.features = load_with_processor(
            AutoModelForAudioXVector,
            Wav2Vec2FeatureExtractor,
            path,
            what="x-vector model",
            example="microsoft/wavlm-base-plus-sv",
            local_files_only=local_files_only,
        )
        self.rate = int(self.features.sampling_rate)
        self.freeze()

    def embed_one(self, wave: Tensor) -> Tensor:
        """Encode one wave [N]."""
        inputs = self.features(wave.numpy(), sampling_rate=self.rate, return_tensors="pt")
        return self.model(inputs["input_values"].to(self.device, self.model.dtype)).embeddings[0]


class TitaNet(SpeakerEncoder):
    """NVIDIA's TitaNet by NeMo.

    NeMo asks for lightning <= 2.4, older than this package needs: it takes an environment of its own, or one where that
    bound is overruled.

    Args:
        path: A `.nemo` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If NeMo is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"no TitaNet at {str(path)!r}: get it with `hf download nvidia/speakerverification_en_titanet_large "
                "--local-dir FOLDER` and give the .nemo file in the folder"
            )
        try:
            from nemo.collections.asr.models import EncDecSpeakerLabelModel
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"TitaNet needs NeMo ({error}): pip install 'nemo_toolkit[asr]'. It asks for lightning <= 2.4, older "
                "than this package needs, so give it an environment of its own; Resemblyzer and XVector need neither.",
                name=error.name,
            ) from error
        self.model = EncDecSpeakerLabelModel.restore_from(str(path), map_location="cpu")
        self.rate = int(self.model.cfg.preprocessor.sample_rate)
        self.freeze()

    def embed_one(self, wave: Tensor) -> Tensor:
        """Encode one wave [N]."""
        signal = wave[None].to(self.device)
        _, vectors = self.model(
            input_signal=signal, input_signal_length=torch.tensor([signal.shape[1]], device=self.device)
        )
        return vectors[0]


def speaker_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Cosine between the vectors of two voices.

    Args:
        first: Vectors, [B, D].
        second: Vectors, [B, D].

    Returns:
        Cosines in [-1, 1], float64, [B]; NaN where a vector is NaN or zero.

    Example:
        >>> round(float(speaker_similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))), 4)
        0.7071
    """
    first, second = (vectors.double() / vectors.double().norm(dim=-1, keepdim=True) for vectors in (first, second))
    return (first * second).sum(-1).clamp(-1, 1)


class SpeakerSimilarity(UtteranceMean):
    """Mean cosine between the voices of pairs of recordings, by `speaker_similarity`; keys as in `UtteranceMean`.

    Args:
        encoder: The speaker encoder.
        options: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better: bool = True

    def __init__(self, encoder: SpeakerEncoder, **options: Any) -> None:
        super().__init__(**options)
        self.encoder = encoder

    def update(self, references: Sequence[Tensor], waves: Sequence[Tensor], rate: int) -> None:
        """Add a batch.

        Args:
            references: The recordings, B waves [N], full scale [-1, 1].
            waves: The others, B waves [M].
            rate: Sampling rate of all of them in Hz.
        """
        if len(references) != len(waves):
            raise ValueError(f"{len(references)} recordings need as many others, got {len(waves)}")
        self.add(speaker_similarity(self.encoder.embed(references, rate), self.encoder.embed(waves, rate)))
