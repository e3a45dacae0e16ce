"""The voice encoder of Resemblyzer: a network over mel windows, and what a wave goes through before.

Written after the code of that package, whose weights are shipped as safetensors, without its dependence on a detector
of voices that has to be compiled.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.ndimage import binary_dilation
from torch import Tensor, nn

from dmlik_pl.extras import load
from dmlik_pl.shipped import ASSETS

__all__ = ["RATE", "VoiceEncoder", "mel_windows", "raise_volume", "shorten_pauses"]

RATE = 16_000  # Hz

BANDS = 40
HOP = 160  # samples between frames
FRAME = 400  # samples of a frame
WINDOW = 160  # frames that the network hears at once, 1.6 s
STEP = 77  # frames between windows: 1.3 per second
COVERED = 0.75  # share of the last window that must lie in the wave

QUIETEST = -30.0  # dB below full scale, to which quieter waves are raised
FULL_SCALE = 2**15 - 1
DETECTED = 480  # samples that the detector of voices decides on, 30 ms
SMOOTHED = 8  # decisions that are averaged
PAUSE = 6  # decisions by which voiced stretches are lengthened, half at each end

Wave = NDArray[np.float32]


class VoiceEncoder(nn.Module):
    """Three LSTM layers, a linear one and a rectifier; its weights are those of Resemblyzer 0.1.4.

    References:
        Generalized End-to-End Loss for Speaker Verification (Wan et al., 2018)
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.load_state_dict(load_file(ASSETS / "resemblyzer" / "model.safetensors"))

    def forward(self, mels: Tensor) -> Tensor:
        """Unit vectors [B, 256] of mel spectrograms [B, T, 40]."""
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)

    def embed(self, wave: Wave) -> Tensor:
        """The mean vector [256] of all windows of a wave [N] at 16 kHz."""
        mels = torch.from_numpy(mel_windows(wave)).to(self.linear.weight)
        return nn.functional.normalize(self(mels).mean(0), dim=0)


def mel_windows(wave: Wave) -> Wave:
    """Mel power spectrograms of a wave's windows, [B, 160, 40]; the last one is padded with silence, or left out.

    Args:
        wave: The wave, [N] at 16 kHz.
    """
    frames = math.ceil((len(wave) + 1) / HOP)
    starts = list(range(0, max(1, frames - WINDOW + STEP + 1), STEP))
    if len(starts) > 1 and len(wave) / HOP - starts[-1] < COVERED * WINDOW:
        starts.pop()
    silence = max(0, (starts[-1] + WINDOW) * HOP - len(wave))
    librosa = load("librosa", "the embedded speaker encoder")
    mel = librosa.feature.melspectrogram(
        y=np.pad(wave, (0, silence)), sr=RATE, n_fft=FRAME, hop_length=HOP, n_mels=BANDS
    )
    windows: Wave = np.stack([mel.T[start : start + WINDOW] for start in starts]).astype(np.float32)
    return windows


def raise_volume(wave: Wave) -> Wave:
    """A wave [N], raised to a root mean square of -30 dB where it is quieter; it must not be silent."""
    level = 20 * math.log10(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))))
    return wave if level > QUIETEST else wave * np.float32(10 ** ((QUIETEST - level) / 20))


def shorten_pauses(wave: Wave) -> Wave:
    """What is left of a wave [N] at 16 kHz without its longer pauses, by the detector of voices of WebRTC."""
    detector = load("webrtcvad", "the embedded speaker encoder").Vad(3)
    wave = wave[: len(wave) - len(wave) % DETECTED]
    samples = np.round(wave * FULL_SCALE).astype("<i2").reshape(-1, DETECTED)
    voiced = np.array([detector.is_speech(block.tobytes(), RATE) for block in samples], dtype=float)
    around = np.pad(voiced, ((SMOOTHED - 1) // 2, SMOOTHED // 2))
    smooth = np.convolve(around, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid") if len(voiced) else voiced
    kept = binary_dilation(np.round(smooth).astype(bool), np.ones(PAUSE + 1))
    return wave[np.repeat(kept, DETECTED)]
