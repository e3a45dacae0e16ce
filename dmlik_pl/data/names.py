"""Names of samples: valid text, stable, and never two of the same."""

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["readable", "require_unique", "sample_name"]


def sample_name(path: Path, root: Path, origin: str = "") -> str:
    r"""Return the name of a sample that is a file: its path relative to the root, with forward slashes.

    A name of a file need not be valid UTF-8, but one of a sample must: bytes that are not are written as in
    ``caf\xe9.png``, and a backslash as two, so that different files have different names.

    Args:
        path: The file, which need not be there.
        root: The folder that names are relative to.
        origin: Where the file is listed, for the message.

    Raises:
        ValueError: If the file does not lie in the root.

    Example:
        >>> sample_name(Path("data/photo/dog.png"), Path("data"))
        'photo/dog.png'
    """
    relative = os.path.relpath(os.path.normpath(path), os.path.normpath(root))
    parts = Path(relative).parts
    if not parts or parts[0] == os.pardir or os.path.isabs(relative):
        raise ValueError(readable(f"{origin or path}: {path} does not lie in {root}"))
    return "/".join(_escaped(part) for part in parts)


def readable(text: object) -> str:
    """Return a text that any file or terminal takes: bytes of a file's name that are no UTF-8 are escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def require_unique(names: Sequence[str], origins: Sequence[str]) -> None:
    """Raise a ValueError that names both origins if two samples have the same name.

    Args:
        names: The name of each sample.
        origins: Where each is listed, e.g. "train.txt, line 7".
    """
    first: dict[str, str] = {}
    for name, origin in zip(names, origins, strict=True):
        if name in first:
            raise ValueError(
                f"sample ids must be unique, but {name!r} is given to more than one sample: {readable(first[name])}, "
                f"and {readable(origin)}"
            )
        first[name] = origin


def _escaped(part: str) -> str:
    return os.fsencode(part.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
