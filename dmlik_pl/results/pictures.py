"""Which of the pictures that a run keeps are shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dmlik_pl.records.sharing import file_name

__all__ = ["kept_pictures"]


def kept_pictures(folder: str | Path, sample_ids: Iterable[str], most: int) -> list[tuple[str, Path]]:
    """Samples of which a run kept a picture, with the files, evenly from all.

    Args:
        folder: Where the pictures are, one per sample.
        sample_ids: Names of the samples, which may be repeated.
        most: How many are chosen at most.
    """
    named = [(name, Path(folder) / f"{file_name(name)}.png") for name in dict.fromkeys(sample_ids)]
    kept = [(name, path) for name, path in named if path.is_file()]
    return kept[:: -(-len(kept) // most)][:most] if kept else []
