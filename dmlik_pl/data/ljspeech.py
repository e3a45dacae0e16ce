"""LJSpeech: 24 hours of one speaker, 22 050 Hz."""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dmlik_pl.data.filelists import Line, below_placeholder, read_filelist
from dmlik_pl.data.names import require_unique, sample_name
from dmlik_pl.data.speech import AudioFiles, Recording, SpeechData, SpeechSet, Split
from dmlik_pl.ranges import at_least
from dmlik_pl.speech.lists import read_lines

__all__ = ["LJSpeech"]

WAVS, METADATA = "wavs", "metadata.csv"
HOME = "https://keithito.com/LJ-Speech-Dataset/"


class LJSpeech(SpeechData):
    """LJSpeech 1.1, split by filelists, such as the official ones of Grad-TTS, or by the names of the files.

    An utterance is named by its path below ``wavs/``, without the suffix.

    Args:
        root: The unpacked folder, which holds ``metadata.csv`` and ``wavs/``.
        train_list: Filelist of the training split, lines ``path|text``. A path, in which a leading ``DUMMY/`` is left
            out, is looked for in ``wavs/`` and in the root; one of another place by the file's name alone. None takes
            what `validation_size` and `test_size` leave of ``metadata.csv``.
        validation_list: Filelist of the validation split. Give all three lists or none.
        test_list: Filelist of the test split.
        validation_size: Without lists, utterances of the validation split, always the same ones.
        test_size: Without lists, utterances of the test split, always the same ones.
        resample: Change the rate of files that have another one than 22 050 Hz; otherwise they are failures.
        **serving: As for :class:`~dmlik_pl.data.speech.SpeechData`.
    """

    def __init__(
        self,
        root: str,
        train_list: str | None = None,
        validation_list: str | None = None,
        test_list: str | None = None,
        validation_size: int = 100,
        test_size: int = 500,
        resample: bool = False,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        lists: dict[Split, str | None] = {"train": train_list, "validation": validation_list, "test": test_list}
        given = {name: path for name, path in lists.items() if path is not None}
        if 0 < len(given) < len(lists):
            raise ValueError(f"give the filelists of all three splits or none, got {', '.join(given)} only")
        self.root = Path(root)
        self.lists = given
        at_least(0, validation_size=validation_size, test_size=test_size)
        self.sizes: dict[Split, int] = {"validation": validation_size, "test": test_size}
        self.audio = AudioFiles(resample)

    def speech_set(self, split: Split) -> SpeechSet:
        """Return one part of the data.

        Raises:
            FileNotFoundError: If the data set or a filelist is missing.
            ValueError: If a list has another form, or two of its lines are of one recording.
        """
        if not os.path.isdir(self.root / WAVS):
            raise FileNotFoundError(
                f"no LJSpeech in {self.root} (no folder {self.root / WAVS}): download LJSpeech-1.1.tar.bz2 from "
                f"{HOME}, unpack it, and give the folder with metadata.csv and wavs/ as root"
            )
        if self.lists:
            lines = read_filelist(self.lists[split], speakers=False)
            source = self.lists[split]
        else:
            lines = self._part(split)
            source = f"{self.root / METADATA}, {split} split by name"
        recordings = [self._recording(line) for line in lines]
        return SpeechSet(recordings, self.audio, source, self.front_end, self.max_seconds)

    def _recording(self, line: Line) -> Recording:
        """Return the recording of a line, from the file that its path means here."""
        path, wavs = below_placeholder(line.path), self.root / WAVS
        places = [Path(os.path.abspath(place / path)) for place in (wavs, self.root)]
        here = [place for place in places if place.is_relative_to(os.path.abspath(self.root)) and os.path.isfile(place)]
        file = here[0] if here else Path(os.path.abspath(wavs / path.name))
        folder = wavs if file.is_relative_to(os.path.abspath(wavs)) else self.root
        name = sample_name(file.with_suffix(""), folder, line.origin)
        return Recording(name, line.text, path=file, origin=line.origin)

    def _part(self, split: Split) -> list[Line]:
        """Return the lines of a split of the metadata, sorted; a file's place depends on its name alone."""
        metadata = self.root / METADATA
        if not os.path.isfile(metadata):
            raise FileNotFoundError(f"no {metadata}: it is part of LJSpeech-1.1.tar.bz2 from {HOME}")
        lines = []
        for number, line in enumerate(read_lines(metadata), start=1):
            if not line.strip():
                continue
            origin = f"{metadata}, line {number}"
            name, *fields = line.split("|")
            if not name or not fields:
                raise ValueError(f"{origin}: expected name|text|normalised text, got {line!r}")
            lines.append(Line(f"{name}.wav", fields[-1] or fields[0], origin=origin))  # normalised, where it is given
        order = sorted(lines, key=lambda line: blake2b(line.path.encode()).digest())
        held_out = self.sizes["validation"] + self.sizes["test"]
        if len(order) <= held_out:
            raise ValueError(f"{metadata} has {len(order)} utterances, too few to hold out {held_out}")
        parts: dict[Split, list[Line]] = {
            "test": order[: self.sizes["test"]],
            "validation": order[self.sizes["test"] : held_out],
            "train": order[held_out:],
        }
        require_unique([line.path for line in lines], [line.origin for line in lines])
        return sorted(parts[split], key=lambda line: line.path)
