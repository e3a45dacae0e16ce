"""Waves in files, and the one place where a sample rate is changed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.extras import load

__all__ = ["RATE", "length", "read", "remarks", "resample", "write"]

RATE = 22_050  # Hz, what Grad-TTS and HiFi-GAN were trained at

MISSING = 0.1  # s by which a stretch may end behind its file: times in transcripts are rounded
LOUDEST = 2.0  # of full scale; decoders of lossy formats overshoot it a little, other units by thousands
MOST_CLIPPED = 0.1  # share of samples at full scale above which the speech is gone, and below it only hurt
CLIPPED = 0.001
FULL_SCALE = 0.999
QUIETEST = 0.001  # root mean square, -60 dB: speech has 0.02 to 0.2

# What libsndfile notes where a header promises more bytes, or frames, than the file holds, or an Ogg stream has no end.
FEWER_BYTES = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
FEWER_FRAMES = re.compile(r"does not match value from 'ds64' chunk of (\d+)")
NO_END = re.compile(r"File ended unexpectedly|Last page lacks an end-of-stream|Junk after the last page")
SPHERE_COUNT = re.compile(rb"^sample_count -i (\d+)", re.MULTILINE)
STREAMED = 0x7FFF_F000  # bytes: what programs write for a length that they do not know yet


@contextmanager
def _opened(path: str | Path, rate: int, resample: bool, channels: int = 1) -> Iterator[Any]:
    """Open a file of so many channels whose rate is right or may be changed."""
    soundfile = load("soundfile", "reading audio files")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no audio file {path}")
    try:
        with soundfile.SoundFile(path) as file:
            if file.channels != channels:
                raise ValueError(f"{path} has {file.channels} channels, {channels} expected")
            if file.samplerate != rate and not resample:
                found = f"{path} has {file.samplerate} Hz, {rate} Hz expected"
                raise ValueError(f"{found}: convert it, or ask for the change of rate with resample: true")
            _require_whole(file, path)
            yield file
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} cannot be read as audio: {error}") from error


def _require_whole(file: Any, path: str | Path) -> None:
    """Raise if the file's header promises more than the file holds: it was cut, on the disk or on its way."""
    promised, held = file.frames, f"{file.frames / file.samplerate:.2f} s"
    if NO_END.search(file.extra_info):
        raise ValueError(f"{path} is cut: its last page is not whole, {held} come before it")
    if file.format == "NIST":  # its header is not compared
        with open(path, "rb") as stream:
            counts = SPHERE_COUNT.findall(stream.read(1024))
        promised = int(counts[0]) if counts else promised
    elif frames := FEWER_FRAMES.search(file.extra_info):
        promised = int(frames[1])
    elif size := FEWER_BYTES.search(file.extra_info):
        bytes_promised, bytes_held = map(int, size.groups())
        if bytes_promised < STREAMED:
            promised = round(file.frames * bytes_promised / max(bytes_held, 1))
    if promised > file.frames + 1:  # a padding byte may be missing
        raise ValueError(f"{path} is cut: its header promises {promised / file.samplerate:.2f} s, it holds {held}")


def _bounds(file: Any, path: str | Path, start: float, stop: float | None) -> tuple[int, int]:
    """Return the first sample of a stretch and the one behind its last, at the file's own rate."""
    first = min(round(start * file.samplerate), file.frames)
    last = file.frames if stop is None else min(round(stop * file.samplerate), file.frames)
    if last <= first:
        raise ValueError(f"{path} has no samples from {start:g} s to {'its end' if stop is None else f'{stop:g} s'}")
    seconds = file.frames / file.samplerate
    if stop is not None and stop > seconds + MISSING:
        raise ValueError(f"{path} ends at {seconds:.2f} s, and {start:g} s to {stop:g} s are wanted")
    return first, last


def length(
    path: str | Path, rate: int = RATE, *, resample: bool = False, start: float = 0.0, stop: float | None = None
) -> int:
    """Return how many samples `read` with the same arguments gives, to one or two, from the file's header alone."""
    with _opened(path, rate, resample) as file:
        first, last = _bounds(file, path, start, stop)
        return round((last - first) * rate / file.samplerate)


def read(
    path: str | Path,
    rate: int = RATE,
    *,
    resample: bool = False,
    start: float = 0.0,
    stop: float | None = None,
    channels: int | None = None,
) -> Tensor:
    """Read a file, or a stretch of it.

    Args:
        path: A wav, flac, NIST SPHERE or other file that libsndfile knows.
        rate: The sample rate wanted, in Hz.
        resample: Change the rate of a file that has another one; otherwise such a file is an error.
        start: Where the stretch begins, in seconds.
        stop: Where it ends, in seconds; None reads to the end, and so does a time up to 0.1 s behind it.
        channels: Those that the file must have; None for one, without a dimension of its own.

    Returns:
        The wave, float32 [N], or [channels, N]; full scale is [-1, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not audio, has another number of channels, another rate, or no sample in the stretch; if it
            is cut; or if its samples are not speech: not finite, beyond twice full scale, all equal, or a tenth of them
            clipped.
    """
    with _opened(path, rate, resample, channels or 1) as file:
        first, last = _bounds(file, path, start, stop)
        file.seek(first)
        samples = torch.from_numpy(file.read(last - first, dtype="float32", always_2d=channels is not None)).T
        if samples.shape[-1] < last - first:
            lengths = f"{(last - first) / file.samplerate:.2f} s, {samples.shape[-1] / file.samplerate:.2f} s"
            raise ValueError(f"{path} is damaged: of {lengths} can be decoded")
        if flaw := _flaw(samples):
            raise ValueError(f"{path} {flaw}")
        return change_rate(samples, file.samplerate, rate)


def remarks(wave: Tensor) -> str:
    """Return what is odd about a wave [N] of speech that can be measured all the same, in words; or nothing."""
    peak, loudness = float(wave.abs().max()), float(wave.square().mean().sqrt())
    found = []
    if peak > 1:
        found.append(f"peaks at {peak:.2f} of full scale")
    if (share := _clipped(wave)) > CLIPPED:
        found.append(f"{100 * share:.1f} % of its samples are clipped")
    if loudness < QUIETEST:
        found.append(f"very quiet, root mean square {loudness:.1g} of full scale")
    return "; ".join(found)


def _flaw(samples: Tensor) -> str:
    """Return why samples cannot be speech in [-1, 1], or nothing."""
    if not bool(torch.isfinite(samples).all()):
        return "has samples that are not finite"
    peak = float(samples.abs().max())
    if peak > LOUDEST:
        return f"reaches {peak:.3g} times full scale, which is 1: scale its samples to [-1, 1]"
    first = samples.flatten()[0]
    if bool((samples == first).all()):
        return f"is silent: each of its {samples.shape[-1]} samples is {float(first):g}"
    if (share := _clipped(samples)) > MOST_CLIPPED:
        return f"is clipped: {100 * share:.0f} % of its samples are at full scale"
    return ""


def _clipped(wave: Tensor) -> float:
    """Return the share of samples at full scale or beyond."""
    return float((wave.abs() >= FULL_SCALE).double().mean())


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
