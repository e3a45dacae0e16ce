"""Whether a file may have changed, without reading it."""

import os
from pathlib import Path

__all__ = ["file_stamp"]


def file_stamp(path: str | Path) -> str:
    """Return a text that changes whenever the content of a file may have changed, and when it is another file.

    Returns:
        Its absolute path, size, times of change and inode; of a file that is not there, the path alone.
    """
    place = os.path.abspath(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return f"{place}: not there"
    return f"{place}: {status.st_size}, {status.st_mtime_ns}, {status.st_ctime_ns}, {status.st_dev}, {status.st_ino}"
