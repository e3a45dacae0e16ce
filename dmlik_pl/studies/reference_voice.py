"""The voice that adapted speech is compared with: a set of recordings, and the direction of their mean."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from dmlik_pl.metrics.speaker import SpeakerEncoder, speaker_similarity
from dmlik_pl.ranges import at_least
from dmlik_pl.speech.audio import RATE, read
from dmlik_pl.speech.search import find_files
from dmlik_pl.studies.aside import Aside

__all__ = ["ReferenceVoice", "SpeechCorpus", "Voice"]

_SUFFIXES = (".wav", ".flac")


class SpeechCorpus(Protocol):
    """Any speech data of :mod:`dmlik_pl.data`, with its own split and limit."""

    def sample_ids(self) -> list[str]:
        """Names of the recordings that are taken."""
        ...

    def test_set(self) -> Any:
        """All recordings by position, with ``sample_ids`` of its own."""
        ...


@dataclass(frozen=True)
class Voice:
    """A speaker, as an encoder hears several recordings.

    Attributes:
        direction: Mean of the recordings' unit vectors, of unit length, [D].
        own_similarity: Mean cosine of a recording to the mean of the others: what the same speaker reaches; NaN for a
            single recording.
        size: Number of recordings.
    """

    direction: Tensor
    own_similarity: float
    size: int


class ReferenceVoice:
    """A set of recordings of one speaker.

    Args:
        source: A folder of wav or flac files of any sample rate, searched in depth, or speech data.
        limit: At most this many recordings, spread evenly over all in order of their names; None takes all.

    Raises:
        FileNotFoundError: If there are no recordings.
        ValueError: If the limit leaves none.
    """

    def __init__(self, source: str | SpeechCorpus, limit: int | None = None) -> None:
        at_least(1, reference_limit=limit)
        self.source = source
        self._names = _files(source) if isinstance(source, str) else list(source.sample_ids())
        if limit is not None and limit < len(self._names):
            self._names = [self._names[i * len(self._names) // limit] for i in range(limit)]

    @property
    def name(self) -> str:
        """What tables call it: the folder, or the kind of data."""
        return Path(self.source).name if isinstance(self.source, str) else type(self.source).__name__

    def waves(self) -> list[Tensor]:
        """The recordings, [N] each, at 22 050 Hz; one that cannot be read is left out."""
        if isinstance(self.source, str):
            paths = [Path(self.source) / name for name in self._names]
            found = Aside(self._names).take(
                "recording", lambda some: [read(path, RATE, resample=True) for path in some], paths
            )
            return [wave for wave in found if wave is not None]
        data = self.source.test_set()
        wanted = set(self._names)
        items = [data[position] for position, name in enumerate(data.sample_ids) if name in wanted]
        return [item.audio for item in items if hasattr(item, "audio")]

    def heard_by(self, encoder: SpeakerEncoder) -> Voice:
        """The voice as an encoder hears it; recordings that it cannot hear are left out.

        Raises:
            ValueError: If no recording has a voice.
        """
        waves = self.waves()
        names = [f"recording {number} of {self.name}" for number in range(len(waves))]
        heard = Aside(names).take("voice", lambda some: list(encoder.embed(some, RATE)), waves)
        known = [vector.double() for vector in heard if vector is not None]
        vectors = torch.stack(known) if known else torch.empty(0, 1)
        vectors = vectors[vectors.isfinite().all(1)]
        if len(vectors) == 0:
            raise ValueError(f"no recording of the reference voice, {self.name}, can be used")
        total = vectors.sum(0)
        own = speaker_similarity(vectors, total - vectors)
        similarity = float(own.mean()) if len(vectors) > 1 else float("nan")
        return Voice(total / total.norm(), similarity, len(vectors))


def _files(folder: str) -> list[str]:
    """Names of the audio files of a folder, sorted."""
    found = find_files(folder, _SUFFIXES) if os.path.isdir(folder) else []
    names = [str(path.relative_to(folder)) for path in found]
    if not names:
        raise FileNotFoundError(
            f"no reference voice in {folder!r}: a folder with wav or flac files of one speaker is expected, or speech "
            "data (class_path: dmlik_pl.data.ljspeech.LJSpeech, ...)"
        )
    return names
