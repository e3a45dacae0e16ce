"""What the kinds of study share where they name their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["slug", "with_errors"]

_ERRORS = ("_standard_error", "_probe_error", "_low", "_high")


def with_errors(row: Mapping[Any, Any], name: str, called: str) -> Iterator[tuple[str, float]]:
    """A number of a summary's row and all that the row says of its errors, under another name.

    Args:
        row: The row.
        name: Name of the number there.
        called: Its new name.
    """
    yield called, row[name]
    yield from ((f"{called}{end}", row[f"{name}{end}"]) for end in _ERRORS if f"{name}{end}" in row)


def slug(words: str) -> str:
    """Words as the end of a name; nothing for no words."""
    return "_" + re.sub(r"\W+", "_", words).strip("_") if words else ""
