"""What another run has computed with equal settings is taken over, not computed again."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from dmlik_pl.results.run import PARTS
from dmlik_pl.results.store import RecordStore

__all__ = ["file_name", "picture_path", "sound_paths", "take_over"]


def take_over(folder: Path, sample_ids: Iterable[str]) -> dict[Path, int]:
    """Copy records, pictures and sounds that run folders beside this one have of the same parts.

    Args:
        folder: The run folder, with its `parts.json`.
        sample_ids: The samples that this run needs.

    Returns:
        How many results came from which folder.
    """
    wanted = set(sample_ids)
    own = _parts(folder)
    taken: dict[Path, int] = {}
    with RecordStore(folder) as store:
        done = store.done()
        for other in sorted(path.parent for path in folder.parent.glob(f"*/{PARTS}") if path.parent != folder):
            theirs = {digest: unit for unit, digest in _parts(other).items()}
            shared = {theirs[digest]: unit for unit, digest in own.items() if digest in theirs}
            if all(wanted <= done.get(unit, set()) for unit in shared.values()):
                continue
            for their_unit, name, rows in RecordStore(other).finished():
                unit = shared.get(their_unit)
                if unit is None or name not in wanted or name in done.setdefault(unit, set()):
                    continue
                _copy(picture_path(other, their_unit, name), picture_path(folder, unit, name))
                for path in sound_paths(other, their_unit, name):
                    _copy(path, folder / "sound" / unit / path.name)
                store.append(unit, name, rows)
                done[unit].add(name)
                taken[other] = taken.get(other, 0) + 1
    return taken


def picture_path(folder: Path, unit: str, sample_id: str) -> Path:
    """Where a run keeps the picture of a sample."""
    return folder / "pictures" / unit / f"{file_name(sample_id)}.png"


def sound_paths(folder: Path, unit: str, sample_id: str) -> list[Path]:
    """The sounds that a run keeps of a sample."""
    return sorted((folder / "sound" / unit).glob(f"{file_name(sample_id)}-*.wav"))


def file_name(sample_id: str) -> str:
    """A sample's name as that of a file."""
    return sample_id.replace("/", "_")


def _parts(folder: Path) -> dict[str, str]:
    path = folder / PARTS
    parts: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return parts


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
