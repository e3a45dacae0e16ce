"""What turns log-mel spectrograms into waves."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

__all__ = ["Vocoder"]


class Vocoder(nn.Module, ABC):
    """A way from log-mel spectrograms of :class:`~dmlik_pl.speech.mel.LogMel` to waves.

    Attributes:
        rate: Sample rate of its waves, Hz.
    """

    rate: int

    @abstractmethod
    def forward(self, mel: Tensor) -> Tensor:
        """Spectrograms [B, 80, T], natural logarithm, to waves [B, 256 T]."""
