"""Error of the logarithmic pitch between two recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.extras import load
from dmlik_pl.metrics.cepstral import dtw_path, sixteen_bit, warping
from dmlik_pl.metrics.utterance_mean import UtteranceMean

__all__ = ["LogF0RMSE", "log_f0_rmse", "pitch_and_cepstrum", "pitch_error"]


def pitch_and_cepstrum(
    wave: Tensor, rate: int, f_min: float = 70.0, f_max: float = 400.0, hop: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """WORLD's pitch (Harvest) and mel-cepstrum (CheapTrick) of each frame.

    CheapTrick's transform is the shortest that resolves `f_min` at this rate: 1024 samples for 70 Hz at 22050 Hz. A
    shorter one would take every frame of lower pitch for one of 500 Hz.

    Args:
        wave: [N], full scale [-1, 1].
        rate: 16000, 22050, 24000, 44100 or 48000 Hz.
        f_min: Lowest pitch looked for in Hz.
        f_max: Highest pitch looked for in Hz.
        hop: Step between frames in samples.

    Returns:
        Pitch in Hz, [frames], 0 where unvoiced; mel-cepstrum, [frames, order + 1].
    """
    pyworld, pysptk = load("pyworld", "the pitch"), load("pysptk", "the mel-cepstrum")
    order, alpha = warping(rate)
    samples = sixteen_bit(wave)
    if len(samples) < hop:
        raise ValueError(f"the wave of {len(samples)} samples is shorter than one frame of {hop}")
    pitch, times = pyworld.harvest(samples, rate, f0_floor=f_min, f0_ceil=f_max, frame_period=1000 * hop / rate)
    envelope = pyworld.cheaptrick(samples, pitch, times, rate, fft_size=pyworld.get_cheaptrick_fft_size(rate, f_min))
    return pitch, pysptk.sp2mc(envelope, order, alpha)


def log_f0_rmse(
    reference: Tensor, wave: Tensor, rate: int, f_min: float = 70.0, f_max: float = 400.0, hop: int = 256
) -> float:
    """Root mean square error of ln F0 between two recordings of the same words.

    Frames are paired by dynamic time warping of WORLD's mel-cepstra; the mean is over pairs voiced in both.

    Args:
        reference: The recording, [N], full scale [-1, 1].
        wave: The other, [M].
        rate: Sampling rate of both in Hz.
        f_min: Lowest pitch looked for in Hz.
        f_max: Highest pitch looked for in Hz.
        hop: Step between frames in samples.

    Returns:
        The error in nats (0.0578 is a semitone); NaN where no pair of frames is voiced in both. That is no agreement,
        so it must not be taken for 0.

    Raises:
        ValueError: If a wave is shorter than a frame, or the rate has no settings.
    """
    first, second = (pitch_and_cepstrum(signal, rate, f_min, f_max, hop) for signal in (reference, wave))
    return pitch_error(first, second)


def pitch_error(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """The error in nats between two analyses of `pitch_and_cepstrum`, of which one may be kept for many comparisons.

    Args:
        first: Pitch and mel-cepstrum of the recording.
        second: Pitch and mel-cepstrum of the other.
    """
    rows, columns = dtw_path(first[1], second[1])
    pitch, other = first[0][rows], second[0][columns]
    voiced = (pitch > 0) & (other > 0)
    if not voiced.any():
        return math.nan
    return float(np.sqrt(np.square(np.log(pitch[voiced] / other[voiced])).mean()))


class LogF0RMSE(UtteranceMean):
    """Mean over utterances of the error of ln F0 in nats, by `log_f0_rmse`; keys as in `UtteranceMean`.

    Utterances without a pair of voiced frames are counted as `undefined`.

    Args:
        rate: Sampling rate of all waves in Hz.
        f_min: Lowest pitch looked for in Hz.
        f_max: Highest pitch looked for in Hz.
        hop: Step between frames in samples.
        options: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better: bool = False

    def __init__(
        self, rate: int = 22050, f_min: float = 70.0, f_max: float = 400.0, hop: int = 256, **options: Any
    ) -> None:
        super().__init__(**options)
        warping(rate)  # an unknown rate is an error now, not after the first hours
        self.settings: dict[str, Any] = {"rate": rate, "f_min": f_min, "f_max": f_max, "hop": hop}

    def update(self, references: Sequence[Tensor], waves: Sequence[Tensor]) -> None:
        """Add a batch.

        Args:
            references: The recordings, B waves [N].
            waves: The others, B waves [M].
        """
        pairs = zip(references, waves, strict=True)
        values = [log_f0_rmse(reference, wave, **self.settings) for reference, wave in pairs]
        self.add(torch.tensor(values, dtype=torch.float64))
