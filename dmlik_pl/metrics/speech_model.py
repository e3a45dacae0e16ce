"""What speech recognisers and speaker encoders share: a sampling rate of their own and frozen weights."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dmlik_pl.shipped import locate
from dmlik_pl.speech.audio import resample

__all__ = ["SpeechModel", "from_folder_or_hub"]


class SpeechModel(nn.Module, ABC):
    """A frozen model that listens at one sampling rate.

    Its waves are heard one by one: padding to a common length would make the result depend on the neighbours.
    """

    rate: int
    """The sampling rate the model was trained at, Hz."""

    def freeze(self) -> None:
        """Fix the weights and leave training mode; called once they are in place."""
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> SpeechModel:
        """Stay in evaluation mode, also as part of a model that is being trained."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a model without weights."""
        weights = next(self.parameters(), None)
        return torch.device("cpu") if weights is None else weights.device

    def heard(self, waves: Sequence[Tensor], rate: int) -> list[Tensor]:
        """Waves as the model hears them: at its own rate, float32, on the CPU, where all these models' front ends work.

        Args:
            waves: B waves, [N] each, full scale [-1, 1].
            rate: Their sampling rate in Hz; resampled where it is not the model's.

        Raises:
            ValueError: If a wave is not one channel, is empty or holds values that are not finite.
        """
        if rate <= 0:
            raise ValueError(f"a sampling rate must be positive, got {rate} Hz")
        for number, wave in enumerate(waves):
            if wave.ndim != 1 or wave.numel() == 0:
                raise ValueError(f"wave {number} must be one channel [N] with samples, got {list(wave.shape)}")
            if not bool(torch.isfinite(wave).all()):
                raise ValueError(f"wave {number} holds values that are not finite")
        return [resample(wave.detach().float().cpu(), rate, self.rate) for wave in waves]


def from_folder_or_hub(
    load: Callable[..., Any], name_or_path: str | Path, local_files_only: bool, kind: str, example: str
) -> Any:
    """Call a `from_pretrained` of transformers, with a message that helps when there is no such model.

    Args:
        load: The `from_pretrained`.
        name_or_path: A folder, the name of a shipped model, or that of a model on the Hugging Face hub.
        local_files_only: Never download; a hub model must then be in the local cache.
        kind: What is wanted, for the message: "Whisper model".
        example: A hub model of this kind, for the message.

    Raises:
        FileNotFoundError: If there is no such folder and no such model at hand.
    """
    try:
        return load(locate(name_or_path), local_files_only=local_files_only)
    except OSError as error:
        raise FileNotFoundError(
            f"no {kind} at {str(name_or_path)!r}: it is neither a complete folder of transformers, nor a model in the "
            f"Hugging Face cache. Get one with `hf download {example} --local-dir FOLDER`, or let it be downloaded "
            f"with local_files_only: false. ({error})"
        ) from error
