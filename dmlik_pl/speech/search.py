"""Folders of users: which of their files count."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

__all__ = ["find_files", "require_file"]

# Kept beside people's files by systems, archives and network drives, often with copies or thumbnails of them.
HIDDEN = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


def find_files(root: str | Path, suffixes: Collection[str]) -> list[Path]:
    """Find the files of a folder and of all folders in it, in the order of their names.

    What is hidden is left out at every depth: names that begin with a dot, and what systems keep beside the files. So
    is everything but files (a FIFO, a device, a socket). Links are followed; one that leads nowhere is listed, so that
    opening it raises an error.

    Args:
        root: The folder.
        suffixes: How the names end, in lower case, e.g. ".png".

    Raises:
        ValueError: If one of the folders cannot be read.
    """
    wanted = tuple(suffixes)
    return [path for path in _walk(Path(root), frozenset()) if path.name.lower().endswith(wanted)]


def require_file(path: str | Path) -> None:
    """Raise unless a path is a file, before anything waits for what a FIFO or a device may never give.

    Raises:
        OSError: If there is nothing of that name.
        ValueError: If there is something else.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is a folder, a FIFO or a device, not a file")


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files of a folder; `above` holds those that it lies in, to which a link may lead back."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise ValueError(f"the folder {folder} cannot be read: {error.strerror}") from error
    place = (status.st_dev, status.st_ino)
    if place in above:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name in HIDDEN:
            continue
        if os.path.isdir(entry.path):
            yield from _walk(folder / entry.name, above | {place})
        elif os.path.isfile(entry.path) or not os.path.exists(entry.path):
            yield folder / entry.name
