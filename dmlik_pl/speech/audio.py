"""Waves in files, and the one place where a sample rate is changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.speech.extra import load

__all__ = ["RATE", "length", "read", "resample", "write"]

RATE = 22_050  # Hz, what Grad-TTS and HiFi-GAN were trained at


@contextmanager
def _opened(path: str | Path, rate: int, resample: bool) -> Iterator[Any]:
    """Open a file of one channel whose rate is right or may be changed."""
    soundfile = load("soundfile", "reading audio files")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no audio file {path}")
    try:
        with soundfile.SoundFile(path) as file:
            if file.channels != 1:
                raise ValueError(f"{path} has {file.channels} channels, 1 expected")
            if file.samplerate != rate and not resample:
                found = f"{path} has {file.samplerate} Hz, {rate} Hz expected"
                raise ValueError(f"{found}: convert it, or ask for the change of rate with resample: true")
            yield file
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} cannot be read as audio: {error}") from error


def _bounds(file: Any, path: str | Path, start: float, stop: float | None) -> tuple[int, int]:
    """Return the first sample of a stretch and the one behind its last, at the file's own rate."""
    first = min(round(start * file.samplerate), file.frames)
    last = file.frames if stop is None else min(round(stop * file.samplerate), file.frames)
    if last <= first:
        raise ValueError(f"{path} has no samples from {start:g} s to {'its end' if stop is None else f'{stop:g} s'}")
    return first, last


def length(
    path: str | Path, rate: int = RATE, *, resample: bool = False, start: float = 0.0, stop: float | None = None
) -> int:
    """Return how many samples `read` with the same arguments gives, to one or two, from the file's header alone."""
    with _opened(path, rate, resample) as file:
        first, last = _bounds(file, path, start, stop)
        return round((last - first) * rate / file.samplerate)


def read(
    path: str | Path, rate: int = RATE, *, resample: bool = False, start: float = 0.0, stop: float | None = None
) -> Tensor:
    """Read a file of one channel, or a stretch of it.

    Args:
        path: A wav, flac, NIST SPHERE or other file that libsndfile knows.
        rate: The sample rate wanted, in Hz.
        resample: Change the rate of a file that has another one; otherwise such a file is an error.
        start: Where the stretch begins, in seconds.
        stop: Where it ends, in seconds; None reads to the end, and so does a time beyond it.

    Returns:
        The wave, float32 [N]; full scale is [-1, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no audio, has several channels, another rate, or no sample in the stretch.
    """
    with _opened(path, rate, resample) as file:
        first, last = _bounds(file, path, start, stop)
        file.seek(first)
        samples = torch.from_numpy(file.read(last - first, dtype="float32"))
        return change_rate(samples, file.samplerate, rate)


def resample(wave: Tensor, source_rate: int, rate: int) -> Tensor:
    """Change the sample rate of a wave (soxr, high quality).

    Args:
        wave: A wave, [..., N].
        source_rate: Its rate, in Hz.
        rate: The rate wanted, in Hz.

    Returns:
        The wave at the new rate, [..., about N rate / source_rate], in float32; the same tensor where nothing changes.
    """
    if source_rate == rate:
        return wave
    soxr = load("soxr", "resampling")
    flat = wave.detach().cpu().float().reshape(-1, wave.shape[-1])
    changed = soxr.resample(flat.T.contiguous().numpy(), source_rate, rate)  # soxr takes [samples, channels]
    result = torch.from_numpy(np.ascontiguousarray(changed.T)).reshape(*wave.shape[:-1], -1)
    return result.to(wave.device)


change_rate = resample  # `read` has an option of the same name


def write(path: str | Path, wave: Tensor, rate: int = RATE) -> None:
    """Write a wave as a 16-bit file; samples beyond full scale are clipped.

    Args:
        path: The file; its suffix (.wav, .flac) names the format.
        wave: The wave in [-1, 1], [N].
        rate: Its sample rate, in Hz.

    Raises:
        ValueError: If it is not one channel of finite samples.
    """
    if wave.dim() != 1 or not bool(torch.isfinite(wave).all()):
        raise ValueError(f"a wave to write has one dimension and finite samples; {path} would not")
    samples = wave.detach().cpu().float().clamp(-1, 1).numpy()
    load("soundfile", "writing audio files").write(str(path), samples, rate, subtype="PCM_16")
