"""The log-mel spectrogram of HiFi-GAN, on which Grad-TTS was trained."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["FLOOR", "LOUDEST", "LogMel"]

FLOOR = 1e-5  # of a band's magnitude; its logarithm, -11.51, is the value of digital silence
LOUDEST = 3.23  # no wave in [-1, 1] has more in a band: the logarithm of window and widest filter, summed
MAGNITUDE_EPSILON = 1e-9


class LogMel(nn.Module):
    """Natural logarithm of the mel-band magnitudes of a wave, without any normalisation.

    The wave is mirrored by (n_fft - hop) / 2 samples at both ends, so that N = T hop samples give T frames.

    Args:
        rate: Sample rate of the waves, in Hz.
        n_fft: Window and transform, in samples.
        hop: Samples between frames.
        n_mels: Number of bands.
        f_min: Lower edge of the lowest band, in Hz.
        f_max: Upper edge of the highest band, in Hz.

    References:
        Kong, Kim, Bae 2020, HiFi-GAN
        Slaney 1998, Auditory Toolbox (the filters: equal area, linear below 1 kHz)

    Example:
        >>> mel = LogMel()(torch.zeros(22016))  # 86 hops of digital silence
        >>> mel.shape, round(float(mel.max()), 2)
        (torch.Size([80, 86]), -11.51)
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        rate: int = 22_050,
        n_fft: int = 1024,
        hop: int = 256,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float = 8000.0,
    ) -> None:
        super().__init__()
        if f_max > rate / 2:
            raise ValueError(f"f_max {f_max:g} Hz is beyond half the sample rate, {rate / 2:g} Hz")
        self.rate = rate
        self.n_fft = n_fft
        self.hop = hop
        self.n_mels = n_mels
        self.margin = (n_fft - hop) // 2
        from transformers.audio_utils import mel_filter_bank  # seconds of imports

        filters = mel_filter_bank(n_fft // 2 + 1, n_mels, f_min, f_max, rate, norm="slaney", mel_scale="slaney")
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T).float().contiguous(), persistent=False)

    def frames(self, samples: int) -> int:
        """Return the number of frames of a wave with a given number of samples."""
        return 1 + (samples + 2 * self.margin - self.n_fft) // self.hop

    def forward(self, wave: Tensor) -> Tensor:
        """Analyse waves.

        Args:
            wave: Waves in [-1, 1], [..., N].

        Returns:
            Log-mel spectrograms, [..., n_mels, T].

        Raises:
            ValueError: If a wave is too short to be mirrored at its ends.
        """
        samples = wave.shape[-1]
        if samples <= self.margin or self.frames(samples) < 1:
            shortest = max(self.margin + 1, self.n_fft - 2 * self.margin)
            raise ValueError(f"a wave of {samples} samples is too short for a spectrogram: {shortest} at least")
        flat = wave.reshape(-1, 1, samples).to(self.window.dtype)
        mirrored = pad(flat, (self.margin, self.margin), mode="reflect").squeeze(1)
        transform = torch.stft(
            mirrored, self.n_fft, self.hop, window=self.window, center=False, onesided=True, return_complex=True
        )
        magnitude = (transform.real.square() + transform.imag.square() + MAGNITUDE_EPSILON).sqrt()
        bands = (self.filters @ magnitude).clamp(min=FLOOR).log()
        return bands.reshape(*wave.shape[:-1], *bands.shape[-2:])
