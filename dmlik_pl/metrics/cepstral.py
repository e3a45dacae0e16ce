"""Mel-cepstral distortion between two recordings, by ESPnet's definition with an exact alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.extras import load
from dmlik_pl.metrics.utterance_mean import UtteranceMean

__all__ = [
    "MelCepstralDistortion",
    "cepstral_distance",
    "dtw_path",
    "mel_cepstral_distortion",
    "mel_cepstrum",
    "sixteen_bit",
    "warping",
]

# Order of the cepstrum and its all-pass constant by sampling rate in Hz, ESPnet's table.
_ORDER_AND_WARPING = {
    16000: (23, 0.42),
    22050: (34, 0.45),
    24000: (34, 0.46),
    44100: (39, 0.53),
    48000: (39, 0.55),
}


def warping(rate: int) -> tuple[int, float]:
    """Order of the mel-cepstrum and its all-pass constant for a sampling rate.

    Args:
        rate: 16000, 22050, 24000, 44100 or 48000 Hz.

    Raises:
        ValueError: At any other rate.
    """
    if rate not in _ORDER_AND_WARPING:
        known = ", ".join(str(known) for known in _ORDER_AND_WARPING)
        raise ValueError(
            f"no mel-cepstrum settings for {rate} Hz; known are {known} Hz: resample, or give both settings"
        )
    return _ORDER_AND_WARPING[rate]


def sixteen_bit(wave: Tensor) -> np.ndarray:
    """A wave as a 16-bit file holds it: whole numbers from -32768 to 32767.

    Args:
        wave: [N], full scale [-1, 1]; what is louder is cut off, as a file cuts it.

    Returns:
        float64, [N].

    Raises:
        ValueError: If it is not one channel, or not finite.
    """
    if wave.ndim != 1:
        raise ValueError(f"a wave must be one channel [N], got {list(wave.shape)}")
    if not bool(torch.isfinite(wave).all()):
        raise ValueError("the wave holds values that are not finite")
    samples = wave.detach().cpu().double().numpy()
    return np.clip(np.round(samples * 32768), -32768, 32767)


def mel_cepstrum(
    samples: np.ndarray,
    rate: int,
    n_fft: int = 1024,
    hop: int = 256,
    order: int | None = None,
    alpha: float | None = None,
) -> np.ndarray:
    """SPTK's mel-cepstrum of Hamming-windowed frames, unpadded.

    Args:
        samples: float64, [N].
        rate: Sampling rate in Hz.
        n_fft: Frame length in samples, a power of two.
        hop: Step between frames in samples.
        order: Highest coefficient; None takes it, like `alpha`, from `warping`.
        alpha: All-pass constant.

    Returns:
        Coefficients c_0 to c_order of each frame, in nats of amplitude, float64, [frames, order + 1].

    Raises:
        ValueError: If the wave is shorter than a frame, or the rate has no settings.
    """
    pysptk = load("pysptk", "the mel-cepstrum")
    if len(samples) < n_fft:
        raise ValueError(f"the wave of {len(samples)} samples is shorter than one frame of {n_fft}")
    if order is None or alpha is None:
        order, alpha = warping(rate)
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop] * pysptk.hamming(n_fft)
    # eps is added to the periodogram: far below one unit of a 16-bit sample, it only keeps silence finite
    return np.stack([pysptk.mcep(frame, order, alpha, etype=1, eps=1e-6) for frame in frames])


def dtw_path(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic time warping: the monotonic path of least total Euclidean distance from the first to the last frames.

    Args:
        first: [N, D].
        second: [M, D].

    Returns:
        Frame numbers in `first` and in `second` along the path, [P] each; every frame occurs.
    """
    dtw = load("librosa.sequence", "dynamic time warping").dtw
    path = dtw(first.T, second.T, metric="euclidean")[1][::-1]
    return path[:, 0], path[:, 1]


def mel_cepstral_distortion(
    reference: Tensor,
    wave: Tensor,
    rate: int,
    n_fft: int = 1024,
    hop: int = 256,
    order: int | None = None,
    alpha: float | None = None,
    int16_scale: bool = True,
) -> float:
    r"""Mel-cepstral distortion in dB between two recordings of the same words.

    .. math:: \frac{10}{\ln 10} \, \overline{\sqrt{2 \sum_{k=0}^{K} (c_k - c'_k)^2}}

    as the mean over the path of dynamic time warping. This is ESPnet's: c_0 (loudness) is part of it, order and
    all-pass constant depend on the rate, and both signals are analysed as 16-bit integers. The path is the exact
    optimum instead of FastDTW's approximation: values differ from ESPnet's only where FastDTW misses it.

    Args:
        reference: The recording, [N], full scale [-1, 1].
        wave: The other, [M].
        rate: Sampling rate of both in Hz.
        n_fft: Frame length in samples.
        hop: Step between frames in samples.
        order: Highest coefficient; None for the rate's (`warping`).
        alpha: All-pass constant; None for the rate's.
        int16_scale: Analyse whole numbers up to 32768, as ESPnet reads them. False keeps the scale [-1, 1], where the
            added 1e-6 is no longer small against quiet frames and lowers the distortion.

    Returns:
        The distortion in dB.

    Raises:
        ValueError: If a wave is shorter than a frame, or the rate has no settings.
    """
    scale = 1.0 if int16_scale else 1 / 32768
    first, second = (
        mel_cepstrum(sixteen_bit(signal) * scale, rate, n_fft, hop, order, alpha) for signal in (reference, wave)
    )
    return cepstral_distance(first, second)


def cepstral_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The distortion in dB between two mel-cepstra [frames, order + 1], of which one may be kept for many comparisons.

    Args:
        first: Result of `mel_cepstrum` for the signal that `mel_cepstral_distortion` describes.
        second: The same of the other wave.
    """
    rows, columns = dtw_path(first, second)
    distances = np.sqrt(2 * np.square(first[rows] - second[columns]).sum(1))
    return float(10 / math.log(10) * distances.mean())


class MelCepstralDistortion(UtteranceMean):
    """Mean mel-cepstral distortion over utterances in dB, by `mel_cepstral_distortion`; keys as in `UtteranceMean`.

    Args:
        rate: Sampling rate of all waves in Hz.
        n_fft: Frame length in samples.
        hop: Step between frames in samples.
        int16_scale: Analyse whole numbers up to 32768.
        options: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better: bool = False

    def __init__(
        self, rate: int = 22050, n_fft: int = 1024, hop: int = 256, int16_scale: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        warping(rate)  # an unknown rate is an error now, not after the first hours
        self.settings: dict[str, Any] = {"rate": rate, "n_fft": n_fft, "hop": hop, "int16_scale": int16_scale}

    def update(self, references: Sequence[Tensor], waves: Sequence[Tensor]) -> None:
        """Add a batch.

        Args:
            references: The recordings, B waves [N].
            waves: The others, B waves [M].
        """
        pairs = zip(references, waves, strict=True)
        values = [mel_cepstral_distortion(reference, wave, **self.settings) for reference, wave in pairs]
        self.add(torch.tensor(values, dtype=torch.float64))
