"""Files that are whole: written to a draft beside the target, synced, and renamed over it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["draft_of", "write_text"]


@contextmanager
def draft_of(path: str | Path) -> Iterator[Path]:
    """Give a draft to write to; it replaces the file when the block ends, and is removed if the block fails.

    A reader sees the old file or the new one, never a part, whenever the process is killed.

    Args:
        path: The file; its folder is made if needed.

    Raises:
        OSError: If it cannot be written; it names the file, not its draft.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The extension stays last: writers of pictures and archives choose their format by it.
    draft = path.with_name(f".draft{os.getpid()}-{path.name}")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.filename == str(draft):  # nobody knows a draft
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            draft.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as a whole, UTF-8; what cannot be encoded is written as an escape.

    Args:
        path: The file; its folder is made if needed.
        text: Its content.
    """
    with draft_of(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
