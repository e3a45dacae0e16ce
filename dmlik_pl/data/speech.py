"""Speech data sets: recordings with their texts, read, analysed and served."""

import json
import random
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor
from torch.utils.data import DataLoader, Subset

from dmlik_pl.data.base import EvaluationData, EvaluationSet, Failure, Readable
from dmlik_pl.data.names import readable, require_unique
from dmlik_pl.data.stamps import file_stamp
from dmlik_pl.data.utterance import (
    TrainingBatch,
    Utterance,
    UtteranceBatch,
    collate_training,
    collate_utterances,
    describe,
)
from dmlik_pl.ranges import above, at_least, seeds
from dmlik_pl.speech.audio import RATE, length, read, remarks
from dmlik_pl.speech.mel import LogMel
from dmlik_pl.speech.text import EnglishFrontEnd

__all__ = [
    "Audio",
    "AudioFiles",
    "Recording",
    "SpeechData",
    "SpeechSet",
    "Split",
    "TrainingBatch",
    "Utterance",
    "UtteranceBatch",
    "collate_training",
    "collate_utterances",
]

Split = Literal["train", "validation", "test"]

LAST_SPEAKER = 2**31 - 1  # what an embedding's index can hold


@dataclass(frozen=True)
class Recording:
    """Where an utterance comes from, before anything of it is read.

    Attributes:
        sample_id: A stable name.
        text: The words that are spoken.
        speaker: The speaker's number; 0 for one speaker.
        attributes: True values by attribute name, e.g. ``{"voice": "en-us"}``.
        path: Its audio file, where it has one.
        start: Where it begins in the file, in seconds.
        stop: Where it ends, in seconds; None is the file's end.
        origin: Where it is listed, for messages, e.g. "train.txt, line 7".
    """

    sample_id: str
    text: str
    speaker: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    path: Path | None = None
    start: float = 0.0
    stop: float | None = None
    origin: str = ""


class Audio(Protocol):
    """A source of waves at 22 050 Hz."""

    def samples(self, recording: Recording) -> int:
        """Return the number of samples of a recording, as cheaply as the source can."""

    def wave(self, recording: Recording) -> Tensor:
        """Return the wave of a recording, [N]."""


class AudioFiles:
    """Waves from the recordings' files.

    Args:
        resample: Change the rate of files that have another one than 22 050 Hz; otherwise they are an error.
    """

    def __init__(self, resample: bool = False) -> None:
        self.resample = resample

    def samples(self, recording: Recording) -> int:
        """Return the number of samples of a recording, from the file's header."""
        return length(self._path(recording), resample=self.resample, start=recording.start, stop=recording.stop)

    def wave(self, recording: Recording) -> Tensor:
        """Return the wave of a recording, [N]."""
        return read(self._path(recording), resample=self.resample, start=recording.start, stop=recording.stop)

    @staticmethod
    def _path(recording: Recording) -> Path:
        if recording.path is None:
            raise ValueError(f"{recording.sample_id} has no audio file")
        return recording.path


class SpeechSet(EvaluationSet):
    """Recordings read, analysed and turned into tokens; one that cannot be is a `Failure` with the reason.

    Args:
        recordings: What there is.
        audio: Gives their waves.
        source: Where they come from, for messages.
        front_end: Turns text into ids; None takes `EnglishFrontEnd` with its dictionary and blanks.
        max_seconds: A longer utterance is a failure; one that is too long for memory would take the others with it.
        keep: Keep utterances in memory once they are read (0.1 MB per second of speech).
        left_out: How many recordings the source has beside these, by the reason why they are not used.

    Raises:
        ValueError: If two recordings have one name.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        audio: Audio,
        source: str,
        front_end: EnglishFrontEnd | None = None,
        max_seconds: float = 30.0,
        keep: bool = False,
        left_out: Mapping[str, int] | None = None,
    ) -> None:
        self.recordings = list(recordings)
        self.audio = audio
        self.source = source
        self.front_end = front_end or EnglishFrontEnd()
        self.max_seconds = max_seconds
        self.left_out = dict(left_out or {})
        self.sample_ids = [recording.sample_id for recording in self.recordings]
        self.groups = [recording.attributes.get("speaker", str(recording.speaker)) for recording in self.recordings]
        self.log_mel = LogMel()
        require_unique(self.sample_ids, [each.origin or str(each.path or self.source) for each in self.recordings])
        self._kept: dict[int, Utterance | Failure] | None = {} if keep else None

    def __getitem__(self, index: int) -> Utterance | Failure:
        """Return the utterance at a position, or the reason why it cannot be used."""
        if self._kept is None:
            return self._load(index)
        if index not in self._kept:
            self._kept[index] = self._load(index)
        return self._kept[index]

    def stamp(self, index: int) -> str | None:
        """Return what the utterance at a position is made of, tokens included; None if it has no file or no text."""
        recording = self.recordings[index]
        if recording.path is None:
            return None
        try:
            tokens = self.front_end(recording.text).tolist()
        except Exception:
            return None
        settings = [self.max_seconds, getattr(self.audio, "__dict__", None), tokens]
        return json.dumps([asdict(recording), settings, file_stamp(recording.path)], default=str, sort_keys=True)

    def flaw(self, index: int) -> Failure | None:
        """Return the reason why a recording cannot be used, from its text and length alone, or None.

        A file that is damaged inside is not found out.
        """
        if self._kept is not None:
            item = self[index]
            return item if isinstance(item, Failure) else None
        recording = self.recordings[index]
        try:
            self._checked_tokens(recording)
        except ImportError:  # what every recording meets
            raise
        except Exception as error:
            return Failure(recording.sample_id, readable(error))
        return None

    def usable(self) -> list[int]:
        """Return the positions of the recordings without a flaw; one warning names the others.

        Raises:
            ValueError: If none is left.
        """
        flaws = {index: flaw for index in range(len(self)) if (flaw := self.flaw(index)) is not None}
        if len(flaws) == len(self):
            reason = f": {describe(list(flaws.values()))}" if flaws else ""
            raise ValueError(f"no utterance in {self.source} can be used{reason}")
        if flaws:
            left_out = f"{len(flaws)} of {len(self)} utterances in {self.source} are left out"
            warnings.warn(f"{left_out}: {describe(list(flaws.values()))}", stacklevel=2)
        return [index for index in range(len(self)) if index not in flaws]

    def _load(self, index: int) -> Utterance | Failure:
        """Read one recording."""
        recording = self.recordings[index]
        try:
            tokens = self._checked_tokens(recording)
            wave = self.audio.wave(recording)
            mel = self.log_mel(wave)
        except ImportError:  # what every recording meets
            raise
        except Exception as error:  # of a number of 37 digits in the text, of a damaged file: almost anything
            return Failure(recording.sample_id, readable(error))
        return Utterance(
            *(recording.sample_id, recording.text, tokens, wave, mel, recording.speaker, dict(recording.attributes)),
            converted=remarks(wave),
        )

    def _checked_tokens(self, recording: Recording) -> Tensor:
        """Return the tokens of a text, and refuse a recording too long for memory or too short for them."""
        if not 0 <= recording.speaker <= LAST_SPEAKER:
            raise ValueError(f"{recording.speaker} is not the number of a speaker")
        tokens = self.front_end(recording.text)
        samples = self.audio.samples(recording)
        if samples > self.max_seconds * RATE:
            raise ValueError(f"{samples / RATE:.1f} s of speech are longer than max_seconds, {self.max_seconds:g}")
        frames = self.log_mel.frames(samples)
        if frames < len(tokens):
            raise ValueError(f"alignment impossible: {len(tokens)} tokens of text, {frames} frames of speech")
        return tokens


class SpeechData(EvaluationData):
    """Serves utterances to evaluate, unpadded, and padded batches to train on.

    A subclass says in `speech_set` what its splits are. The defaults are those of the official training of one
    speaker: the list is shuffled once, and a last batch that is not full is left out.

    Args:
        batch_size: Utterances per evaluated batch.
        num_workers: Processes that load utterances; 0 loads in the main process.
        limit: Evaluate at most this many utterances, taken evenly from all speakers; None evaluates all.
        split: The part that is evaluated.
        train_batch_size: Utterances per training and validation batch.
        drop_last: Leave out a last training batch that is not full.
        reshuffle: Shuffle before every epoch (the official training of several speakers) instead of once.
        seed: Seed of the one shuffle.
        dictionary: Look words up (True, or the path of a CMUdict file), or spell them in letters (False).
        max_seconds: Longer utterances are left out, as failures.
    """

    def __init__(
        self,
        batch_size: int = 8,
        num_workers: int = 0,
        limit: int | None = None,
        split: Split = "test",
        train_batch_size: int = 16,
        drop_last: bool = True,
        reshuffle: bool = False,
        seed: int = 37,
        dictionary: bool | str = True,
        max_seconds: float = 30.0,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, train_batch_size=train_batch_size)
        above(0, max_seconds=max_seconds)
        seeds(seed=seed)
        self.split: Split = split
        self.train_batch_size = train_batch_size
        self.drop_last = drop_last
        self.reshuffle = reshuffle
        self.seed = seed
        self.max_seconds = max_seconds
        self.front_end = EnglishFrontEnd(dictionary)

    @abstractmethod
    def speech_set(self, split: Split) -> SpeechSet:
        """Return one part of the data."""

    def test_set(self) -> SpeechSet:
        """Return the split that is evaluated."""
        return self.speech_set(self.split)

    def collate(self, items: Sequence[Any]) -> UtteranceBatch:
        """Join utterances without padding; None stands for "nothing to do" and is dropped."""
        return collate_utterances(items)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training split in padded batches."""
        data = self.speech_set("train")
        readable, positions = Readable(data), data.usable()
        random.Random(self.seed).shuffle(positions)
        full = len(positions) >= self.train_batch_size  # a set smaller than one batch is still trained on
        return self._padded(Subset(readable, positions), shuffle=self.reshuffle, drop_last=self.drop_last and full)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation split in padded batches, in order."""
        data = self.speech_set("validation")
        return self._padded(Subset(Readable(data), data.usable()), shuffle=False, drop_last=False)

    def _padded(self, data: Subset[Any], shuffle: bool, drop_last: bool) -> DataLoader[Any]:
        return DataLoader(
            data,
            batch_size=self.train_batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,  # they keep what they have read
            collate_fn=collate_training,
        )
