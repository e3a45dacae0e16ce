"""Lists of audio files with their texts: a line is ``path|text`` or ``path|text|speaker``."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Line", "read_filelist"]


@dataclass(frozen=True)
class Line:
    """One line of a list.

    Attributes:
        path: The path as it is written, e.g. ``DUMMY/LJ022-0023.wav``.
        text: What is said.
        speaker: The speaker's number; 0 where the list has none.
    """

    path: str
    text: str
    speaker: int = 0


def read_filelist(path: str | Path, speakers: bool) -> list[Line]:
    """Read a list of files.

    Args:
        path: The list, UTF-8.
        speakers: Whether its lines end with the speaker's number.

    Raises:
        FileNotFoundError: If there is no such list.
        ValueError: If a line has another form, with its number.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no filelist {path}: it has a line 'path|text{'|speaker' if speakers else ''}' a file")
    lines = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        file, *fields = line.split("|")
        if len(fields) != (2 if speakers else 1) or (speakers and not fields[1].strip().isdecimal()):
            form = "path|text|speaker, with the speaker's number" if speakers else "path|text"
            raise ValueError(f"{path}, line {number}: expected {form}, got {line!r}")
        lines.append(Line(file.strip(), fields[0], int(fields[1]) if speakers else 0))
    return lines
