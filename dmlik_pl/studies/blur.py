"""Gaussian blur of a spectrogram: what an adaptation has in place of a text's means."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Blur", "Edges"]

Edges = Literal["symmetric", "mirrored"]
"""What lies beyond the edges: ``c b a | a b c | c b a``, or ``c b | a b c | b a``, which leaves the edge itself out."""


@dataclass(frozen=True)
class Blur:
    """A Gaussian filter over bands and frames, cut off at a square window.

    Attributes:
        kernel: Width of the window in bands and frames, odd; 1 leaves the spectrogram unchanged.
        sigma: Standard deviation, in bands and frames.
    """

    kernel: int = 5
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0 or not self.sigma > 0:
            raise ValueError(
                f"a blur needs an odd kernel and a sigma above 0, got kernel={self.kernel}, sigma={self.sigma:g}"
            )

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"blur {self.kernel}×{self.kernel}, σ {self.sigma:g}"

    def __call__(self, mel: Tensor, edges: Edges = "symmetric") -> Tensor:
        """Blur a spectrogram.

        With symmetric edges a constant stays what it is, and so does the sum over all bands and frames: nothing comes
        in from beyond the edges, and nothing is lost there.

        Args:
            mel: Spectrogram, [bands, T].
            edges: What is taken to lie beyond them.

        Returns:
            The blurred spectrogram, [bands, T].

        Example:
            >>> Blur(kernel=3, sigma=1.0)(torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]]))
            tensor([[0.0000, 0.2741, 0.4519, 0.2741, 0.0000]])
        """
        reach = self.kernel // 2
        places = torch.arange(-reach, reach + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (places / self.sigma) ** 2)
        weights = (weights / weights.sum()).to(mel)
        for axis in (0, 1):
            beyond = _extended(mel.shape[axis], reach, edges).to(mel.device)
            mel = mel.index_select(axis, beyond).unfold(axis, self.kernel, 1) @ weights
        return mel


def _extended(size: int, reach: int, edges: Edges) -> Tensor:
    """Positions of an axis with `reach` more on either side, folded back into it."""
    places = torch.arange(-reach, size + reach)
    if edges == "symmetric":
        places = places.remainder(2 * size)
        return torch.minimum(places, 2 * size - 1 - places)
    period = max(1, 2 * size - 2)
    places = places.remainder(period)
    return torch.minimum(places, period - places)
