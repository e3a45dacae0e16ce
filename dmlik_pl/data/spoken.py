"""Sentences of a small vocabulary, spoken by espeak-ng from a seed: a speech data set that needs no download.

The words are long nouns, which the recogniser that comes with pocketsphinx hears almost without error in these voices;
so a word error rate is a property of the speech that is judged and not of its judge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.data.speech import Recording, SpeechData, SpeechSet, Split
from dmlik_pl.ranges import finite, within
from dmlik_pl.speech.audio import RATE
from dmlik_pl.speech.espeak import FASTEST, SLOWEST, Espeak
from dmlik_pl.speech.mel import LogMel

__all__ = ["SPOKEN_VOCABULARY", "Channel", "Spoken", "SpokenAudio", "sentences"]

SPOKEN_VOCABULARY = (
    "bicycle",
    "butterfly",
    "castle",
    "computer",
    "crocodile",
    "dinosaur",
    "dolphin",
    "guitar",
    "hospital",
    "kangaroo",
    "mountain",
    "penguin",
    "pineapple",
    "potato",
    "umbrella",
    "window",
)
WORDS = (3, 4)  # per sentence

# Of ten parts of all sentences, these belong to a split: no sentence is in two, whatever the sizes.
PARTS: dict[Split, range] = {"test": range(0, 1), "validation": range(1, 2), "train": range(2, 10)}
LARGEST: dict[Split, int] = {"test": 4_000, "validation": 4_000, "train": 32_000}  # below what the parts hold

HOP = LogMel().hop
PEAK = 0.8
SILENCE = 0.01  # of the peak: where speech begins and ends
MARGIN = 0.075  # s of silence kept at both ends
NOISE_FLOOR = 1e-3  # standard deviation, -60 dB: digital silence has a log-mel that is constant, and no density


def random_numbers(*key: object) -> np.random.Generator:
    """Return a generator that depends on the key alone."""
    digest = blake2b("|".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "big")))


def sentences(split: Split, seed: int = 0) -> Iterator[str]:
    """Yield different sentences of a split, of 3 or 4 different words each; no other split of this seed has them.

    Args:
        split: ``train``, ``validation`` or ``test``.
        seed: Another seed gives other sentences and another split.
    """
    numbers = random_numbers(seed, split, "sentences")
    seen = set()
    while True:
        count = numbers.choice(WORDS)
        sentence = " ".join(numbers.permutation(SPOKEN_VOCABULARY)[:count].tolist())
        part = random_numbers(seed, sentence, "part").integers(10)
        if part in PARTS[split] and sentence not in seen:
            seen.add(sentence)
            yield sentence


@dataclass(frozen=True)
class Channel:
    """What speech goes through before it is recorded.

    Args:
        name: The domain's name, the attribute ``domain`` of its utterances.
        low: Lower edge of the band, in Hz; None is open.
        high: Upper edge of the band, in Hz; None is open.
        snr: White noise is added at this signal-to-noise ratio, in dB; None adds none.
    """

    name: str
    low: float | None = None
    high: float | None = None
    snr: float | None = None

    def __post_init__(self) -> None:
        """Check the edges."""
        finite(low=self.low, high=self.high, snr=self.snr)
        edges = [0.0, *(edge for edge in (self.low, self.high) if edge is not None), RATE / 2]
        if any(upper <= lower for lower, upper in pairwise(edges)):
            raise ValueError(f"the band of channel {self.name!r} must lie in 0 to {RATE / 2:g} Hz, low below high")

    def __call__(self, wave: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
        """Return the wave at the channel's end, [N]; `numbers` gives the noise."""
        from scipy.signal import butter, sosfiltfilt

        edges = [edge for edge in (self.low, self.high) if edge is not None]
        if edges:
            kind = "bandpass" if len(edges) == 2 else "highpass" if self.high is None else "lowpass"
            filtered = butter(4, edges if len(edges) == 2 else edges[0], kind, fs=RATE, output="sos")
            wave = sosfiltfilt(filtered, wave)
        if self.snr is not None:
            power = np.mean(wave**2) * 10 ** (-self.snr / 10)
            wave = wave + numbers.standard_normal(len(wave)) * np.sqrt(power)
        return wave


class SpokenAudio:
    """Speech of espeak-ng with short silences at its ends, at one level, above a faint floor of noise.

    Args:
        seed: Seed of the noise.
        words_per_minute: Speed; at 160, four words take about 2 s.
        channel: What the speech goes through; None leaves it clean.
    """

    def __init__(self, seed: int = 0, words_per_minute: int = 160, channel: Channel | None = None) -> None:
        self.seed = seed
        self.words_per_minute = words_per_minute
        self.channel = channel
        self.espeak = Espeak()
        self._last: tuple[str, str, np.ndarray] | None = None  # the length is asked for just before the wave

    def samples(self, recording: Recording) -> int:
        """Return the number of samples of a recording; it has to be spoken for that."""
        return len(self._speech(recording))

    def wave(self, recording: Recording) -> Tensor:
        """Return the wave of a recording, [N]; N is a multiple of the spectrogram's hop."""
        wave = self._speech(recording)
        if self.channel is not None:
            wave = self.channel(wave, random_numbers(self.seed, recording.sample_id, self.channel.name))
        noise = random_numbers(self.seed, recording.sample_id, "noise floor").standard_normal(len(wave))
        return torch.from_numpy((wave + NOISE_FLOOR * noise).clip(-1, 1).astype(np.float32))

    def _speech(self, recording: Recording) -> np.ndarray:
        """Return the clean speech, float64 [N]."""
        voice = recording.attributes["voice"]
        if self._last is not None and self._last[:2] == (recording.text, voice):
            return self._last[2]
        wave = self.espeak.speak(recording.text, voice, self.words_per_minute).double().numpy()
        wave = PEAK * wave / np.abs(wave).max()
        loud = np.flatnonzero(np.abs(wave) > SILENCE * PEAK)
        first, last, margin = int(loud[0]), int(loud[-1]) + 1, round(MARGIN * RATE)
        samples = -(-(last - first + 2 * margin) // HOP) * HOP
        result = np.zeros(samples)
        result[margin : margin + last - first] = wave[first:last]
        self._last = (recording.text, voice, result)
        return result


class Spoken(SpeechData):
    """Short sentences in several voices, made on the spot; the same seed gives the same samples to the bit.

    Utterance i of a split is spoken by voice i modulo the number of voices; the voice's index is its speaker number.

    Args:
        batch_size: Utterances per evaluated batch.
        num_workers: Processes that make utterances; 0 makes them in the main process.
        limit: Evaluate at most this many utterances, taken evenly from all voices; None evaluates all.
        split: The part that is evaluated.
        voices: Voices of espeak-ng, with variants, e.g. ``en-us+f2``.
        train_size: Utterances of the training split.
        validation_size: Utterances of the validation split.
        test_size: Utterances of the test split.
        words_per_minute: Speed; at 160, four words take about 2 s.
        channel: What the speech goes through; None leaves it clean, which is domain "clean".
        seed: Another seed gives other sentences and other noise.
        train_batch_size: Utterances per training and validation batch.
        drop_last: Leave out a last training batch that is not full.
        reshuffle: Shuffle before every epoch instead of once.
        dictionary: Look words up (True, or the path of a CMUdict file), or spell them in letters (False).
    """

    def __init__(
        self,
        batch_size: int = 8,
        num_workers: int = 0,
        limit: int | None = None,
        split: Split = "test",
        voices: Sequence[str] = ("en-us", "en-us+f2"),
        train_size: int = 400,
        validation_size: int = 40,
        test_size: int = 40,
        words_per_minute: int = 160,
        channel: Channel | None = None,
        seed: int = 0,
        train_batch_size: int = 16,
        drop_last: bool = True,
        reshuffle: bool = True,
        dictionary: bool | str = True,
    ) -> None:
        super().__init__(
            batch_size,
            num_workers,
            limit,
            split,
            train_batch_size=train_batch_size,
            drop_last=drop_last,
            reshuffle=reshuffle,
            seed=seed,
            dictionary=dictionary,
        )
        if not voices or len(set(voices)) != len(voices):
            raise ValueError(f"voices must be distinct, and at least one, got {list(voices)}")
        self.sizes: dict[Split, int] = {"train": train_size, "validation": validation_size, "test": test_size}
        for name, size in self.sizes.items():
            within(1, LARGEST[name], **{f"{name}_size": size})
        within(SLOWEST, FASTEST, words_per_minute=words_per_minute)
        self.voices = tuple(voices)
        self.words_per_minute = words_per_minute
        self.channel = channel
        self._sets: dict[Split, SpeechSet] = {}

    def speech_set(self, split: Split) -> SpeechSet:
        """Return one part of the data, whose utterances are made when they are first asked for, and then kept."""
        if split not in self.sizes:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(self.sizes)}")
        if split not in self._sets:
            domain = "clean" if self.channel is None else self.channel.name
            recordings = []
            for index, sentence in enumerate(islice(sentences(split, self.seed), self.sizes[split])):
                speaker = index % len(self.voices)
                voice = self.voices[speaker]
                name = f"{split}-{index:05d}-{voice}"
                recordings.append(Recording(name, sentence, speaker, {"voice": voice, "domain": domain}))
            audio = SpokenAudio(self.seed, self.words_per_minute, self.channel)
            source = f"the {split} split of the spoken corpus ({len(recordings)} utterances)"
            self._sets[split] = SpeechSet(recordings, audio, source, self.front_end, self.max_seconds, keep=True)
        return self._sets[split]
