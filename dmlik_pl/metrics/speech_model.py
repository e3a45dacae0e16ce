"""What speech recognisers and speaker encoders share: a sampling rate of their own and frozen weights."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dmlik_pl.speech.audio import resample

__all__ = ["SpeechModel"]


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
