"""Lists of audio files with their texts: a line is ``path|text`` or ``path|text|speaker``."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dmlik_pl.speech.lists import read_lines

__all__ = ["Line", "below_placeholder", "read_filelist"]

PLACEHOLDER = "DUMMY"  # what the official lists write for the root

NUMBER = re.compile(r"\s*[0-9]{1,1000}\s*")  # Python reads no number of more than 4300 digits


@dataclass(frozen=True)
class Line:
    """One line of a list.

    Attributes:
        path: The path as written, e.g. ``DUMMY/LJ022-0023.wav``.
        text: The words that are spoken.
        speaker: The speaker's number; 0 where the list has none.
        origin: The list and the number of the line, for messages.
    """

    path: str
    text: str
    speaker: int = 0
    origin: str = ""


def read_filelist(path: str | Path, speakers: bool) -> list[Line]:
    """Read a list of files.

    Args:
        path: The list, UTF-8.
        speakers: Whether its lines end with the speaker's number.

    Raises:
        FileNotFoundError: If there is no such list.
        ValueError: If the list is not UTF-8 text or a line is malformed, with its number.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no filelist {path}: one line 'path|text{'|speaker' if speakers else ''}' per file")
    lines = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        file, *fields = line.split("|")
        origin = f"{path}, line {number}"
        if not file.strip() or len(fields) != (2 if speakers else 1) or (speakers and not NUMBER.fullmatch(fields[1])):
            form = "path|text|speaker, with the speaker's number" if speakers else "path|text"
            raise ValueError(f"{origin}: expected {form}, got {line!r}")
        lines.append(Line(file.strip(), fields[0], int(fields[1]) if speakers else 0, origin))
    return lines


def below_placeholder(path: str) -> Path:
    """Return a path of a list without the ``DUMMY/`` that stands for the root in official lists."""
    parts = Path(path).parts
    return Path(*parts[1:] if parts[0] == PLACEHOLDER else parts)
