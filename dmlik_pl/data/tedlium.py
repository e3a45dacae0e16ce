"""TED-LIUM: talks by many speakers, 16 kHz, cut into segments by transcripts of the form STM.

References:
    Rousseau et al. 2012, 2014; Hernandez et al. 2018: TED-LIUM, releases 1 to 3
"""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dmlik_pl.data.speech import AudioFiles, Recording, SpeechData, SpeechSet, Split
from dmlik_pl.speech.lists import read_lines
from dmlik_pl.speech.search import find_files

__all__ = ["TEDLIUM", "plain_text"]

IGNORED = "ignore_time_segment_in_scoring"
UNKNOWN = "<unk>"
FOLDERS: dict[Split, str] = {"train": "train", "validation": "dev", "test": "test"}
AUDIO = ("sph", "wav", "flac")

NOISE = re.compile(r"\{[^}]*\}|<[^>]*>")  # {NOISE}, {COUGH}, <sil>, <s>: heard, but no word
VARIANT = re.compile(r"\([0-9]+\)")  # of a pronunciation, "THE(2)"
DETACHED = re.compile(r"(?<=\w) (?='(?:s|t|m|d|re|ve|ll)\b)", re.IGNORECASE)  # "i 'm"


def plain_text(transcript: str) -> str:
    """Return the words of a transcript in plain spelling: without marks, and with apostrophes where they belong."""
    text = VARIANT.sub("", NOISE.sub(" ", transcript))
    return DETACHED.sub("", " ".join(text.split()))


class TEDLIUM(SpeechData):
    """TED-LIUM, releases 1 to 3; every segment of a talk is an utterance.

    Segments marked ``ignore_time_segment_in_scoring`` are left out and counted. Noises, written ``{NOISE}`` or
    ``<sil>``, are taken out of a text. Its files have 16 000 Hz: ``resample: true`` changes that to 22 050 Hz, without
    adding anything above 8 kHz, where the spectrogram ends too. The speakers' names are attributes; all have the
    speaker's number 0.

    Args:
        root: The unpacked folder of a release, which holds ``train/``, ``dev/`` and ``test/``, or ``legacy/`` with
            these and ``data/`` (release 3); in each, ``stm/`` has the transcripts and ``sph/``, ``wav/`` or ``flac/``
            the talks.
        unknown: What becomes of a segment with a word that was not transcribed, ``<unk>``: ``remove`` the mark and keep
            the segment, whose text then lacks a word, or ``drop`` the segment and count it.
        resample: Change the rate of files that have another one than 22 050 Hz; otherwise they are failures.
        split: The part that is evaluated; ``validation`` is the folder ``dev``.
        **serving: As for :class:`~dmlik_pl.data.speech.SpeechData`.
    """

    def __init__(
        self,
        root: str,
        unknown: Literal["remove", "drop"] = "remove",
        resample: bool = False,
        split: Split = "validation",
        **serving: Any,
    ) -> None:
        super().__init__(split=split, **serving)
        if unknown not in ("remove", "drop"):
            raise ValueError(f"unknown must be 'remove' or 'drop', got {unknown!r}")
        self.root = Path(root)
        self.unknown = unknown
        self.audio = AudioFiles(resample)

    def speech_set(self, split: Split) -> SpeechSet:
        """Return one part of the data.

        Raises:
            FileNotFoundError: If the release or this part of it is missing.
            ValueError: If a line of a transcript has another form.
        """
        transcripts = self._transcripts(split)
        talks = self._talks(transcripts)
        left_out: Counter[str] = Counter()
        recordings = []
        for transcript in _files(transcripts, ("stm",)):
            for number, line in enumerate(read_lines(transcript), start=1):
                if not line.strip() or line.startswith(";;"):
                    continue
                recording = self._segment(line, f"{transcript}, line {number}", talks, left_out)
                if recording is not None:
                    recordings.append(recording)
        counts = "".join(f", {count} {reason}" for reason, count in left_out.items())
        source = f"{transcripts} ({len(recordings)} segments{counts})"
        return SpeechSet(recordings, self.audio, source, self.front_end, self.max_seconds, left_out=left_out)

    def _segment(self, line: str, place: str, talks: dict[str, Path], left_out: Counter[str]) -> Recording | None:
        """Return the recording of a line: talk, channel, speaker, start, stop, labels in <>, text. None is left out."""
        fields = line.split(maxsplit=5)
        try:
            talk, _, speaker, start, stop = fields[:5]
            begin, end = float(start), float(stop)
        except ValueError:
            begin = end = math.nan
        if not math.isfinite(begin + end):
            raise ValueError(f"{place}: expected 'talk channel speaker start stop <labels> text', got {line!r}")
        rest = fields[5] if len(fields) > 5 else ""
        transcript = re.sub(r"^<[^>]*,[^>]*>\s*|^<NA>\s*", "", rest)
        if IGNORED in transcript:
            left_out[f"marked {IGNORED}"] += 1
            return None
        if UNKNOWN in transcript.lower() and self.unknown == "drop":
            left_out["with an unknown word"] += 1
            return None
        return Recording(
            sample_id=f"{talk}-{round(begin * 100):07d}-{round(end * 100):07d}",
            text=plain_text(transcript),
            attributes={"speaker": speaker, "talk": talk},
            path=talks.get(talk, Path("sph", f"{talk}.sph")),
            start=begin,
            stop=end,
            origin=place,
        )

    def _transcripts(self, split: Split) -> Path:
        """Return the folder of a split's transcripts."""
        name = FOLDERS[split]
        places = [self.root / name / "stm", self.root / "legacy" / name / "stm"]
        if split == "train":
            places.append(self.root / "data" / "stm")  # release 3 keeps its training talks here
        for place in places:
            if _files(place, ("stm",)):
                return place
        missing = " or ".join(f"{place}/*.stm" for place in places)
        raise FileNotFoundError(
            f"no TED-LIUM {name} split in {self.root} (no transcripts {missing}): download a release from "
            "https://www.openslr.org/ (7, 19 or 51), unpack it, and give its folder as root"
        )

    def _talks(self, transcripts: Path) -> dict[str, Path]:
        """Return the audio files by the names of their talks; those beside the transcripts come first."""
        folders = [folder / kind for folder in (transcripts.parent, self.root / "data") for kind in AUDIO]
        talks: dict[str, Path] = {}
        for folder in folders:
            for file in _files(folder, AUDIO):
                talks.setdefault(file.stem, file)
        if not talks:
            raise FileNotFoundError(
                f"no talks in {' or '.join(map(str, folders))}: sph, wav or flac files are expected"
            )
        return talks


def _files(folder: Path, kinds: Sequence[str]) -> list[Path]:
    """Return the files of some kinds that lie in a folder itself; none if it is not there."""
    found = find_files(folder, [f".{kind}" for kind in kinds]) if os.path.isdir(folder) else []
    return [file for file in found if file.parent == folder]
