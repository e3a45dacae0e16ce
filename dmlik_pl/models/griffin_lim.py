"""The vocoder that needs no weights."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from dmlik_pl.models.vocoder import Vocoder
from dmlik_pl.ranges import at_least, seeds, within
from dmlik_pl.speech.mel import LogMel

__all__ = ["GriffinLim"]

INVERSION_STEPS = 50


class GriffinLim(Vocoder):
    """Magnitudes by non-negative least squares from the mel bands, phases by the fast Griffin-Lim algorithm.

    Deterministic, and the same for a spectrogram whatever its batch.

    Args:
        iterations: Rounds between spectrogram and wave.
        momentum: How far each round overshoots; 0 is the algorithm of Griffin and Lim.
        seed: Seed of the first phases.

    Raises:
        ValueError: If there are no iterations.

    References:
        | Signal estimation from modified short-time Fourier transform (Griffin and Lim, 1984)
        | A fast Griffin-Lim algorithm (Perraudin et al., 2013)
        | Algorithms for non-negative matrix factorization (Lee and Seung, 2000), for the least squares
    """

    def __init__(self, iterations: int = 60, momentum: float = 0.99, seed: int = 0) -> None:
        super().__init__()
        at_least(1, iterations=iterations)
        within(0, 1, momentum=momentum)
        seeds(seed=seed)
        self.analysis = LogMel()
        self.rate = self.analysis.rate
        self.iterations, self.momentum, self.seed = iterations, momentum, seed

    @torch.no_grad()
    def forward(self, mel: Tensor) -> Tensor:
        """Spectrograms [B, 80, T], natural logarithm, to waves [B, 256 T]."""
        analysis = self.analysis
        magnitude = self._magnitude(mel.to(analysis.filters).exp())
        generator = torch.Generator().manual_seed(self.seed)
        angle = 2 * math.pi * torch.rand(magnitude.shape[1:], generator=generator).to(magnitude.device)
        phase = torch.polar(torch.ones_like(angle), angle)
        previous = torch.zeros_like(magnitude, dtype=phase.dtype)
        for _ in range(self.iterations):
            consistent = self._spectrum(self._wave(magnitude * phase))
            ahead = consistent + self.momentum * (consistent - previous)
            phase = ahead / ahead.abs().clamp(min=1e-16)
            previous = consistent
        wave = self._wave(magnitude * phase)
        return wave[:, analysis.margin : wave.shape[1] - analysis.margin].clamp(-1, 1)

    def _magnitude(self, bands: Tensor) -> Tensor:
        """Non-negative magnitudes [B, bins, T] whose bands come closest to those given."""
        filters = self.analysis.filters
        wanted = filters.T @ bands
        value = wanted.clone()
        for _ in range(INVERSION_STEPS):
            value = value * wanted / (filters.T @ (filters @ value)).clamp(min=1e-12)
        return value

    def _wave(self, spectrum: Tensor) -> Tensor:
        """The wave [B, N + 2 margins] whose frames come closest to a spectrum [B, bins, T]."""
        size, hop, window = self.analysis.n_fft, self.analysis.hop, self.analysis.window
        frames = torch.fft.irfft(spectrum, n=size, dim=1) * window[:, None]
        length = (1, size + hop * (spectrum.shape[2] - 1))
        options = {"output_size": length, "kernel_size": (1, size), "stride": (1, hop)}
        weight = (window**2)[None, :, None].expand(1, -1, spectrum.shape[2])
        covered = functional.fold(weight, **options).flatten(1)
        return functional.fold(frames, **options).flatten(1) / covered.clamp(min=1e-3)

    def _spectrum(self, wave: Tensor) -> Tensor:
        frames = wave.unfold(1, self.analysis.n_fft, self.analysis.hop) * self.analysis.window
        return torch.fft.rfft(frames).transpose(1, 2)
