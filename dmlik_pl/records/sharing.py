"""What another run has computed of the same samples with equal settings is taken over, not computed again."""

from __future__ import annotations

import hashlib
import re
import shutil
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

from dmlik_pl.records.files import draft_of
from dmlik_pl.records.origin import PARTS, read_parts
from dmlik_pl.records.store import RecordStore, Unit

__all__ = ["file_name", "offers", "picture_path", "sound_path", "sound_paths", "take_over"]

_LONGEST = 60  # characters of a sample's name in that of a file
_APART = "--"  # between the name of a sample, which never holds it, and that of its sound


def offers(folder: Path, sample_ids: Collection[str]) -> dict[Path, list[Unit]]:
    """Finished units of the same parts that run folders beside this one have, by folder.

    A folder that cannot be read is left out with a warning: no run depends on another one's files.

    Args:
        folder: The run folder, with its `parts.json`.
        sample_ids: The samples that this run is of.
    """
    wanted, own = set(sample_ids), read_parts(folder) or {}
    found: dict[Path, list[Unit]] = {}
    for other in sorted(path.parent for path in folder.parent.glob(f"*/{PARTS}") if path.parent != folder):
        try:
            theirs = {digest: unit for unit, digest in (read_parts(other) or {}).items()}
            shared = {theirs[digest]: digest for digest in own.values() if digest and digest in theirs}
            units = RecordStore(other).units() if shared else ()
            usable = [
                unit
                for unit in units
                if unit.error is None
                and unit.sample_id in wanted
                and unit.origin.fingerprint
                and unit.study in shared
                and unit.origin.part == shared[unit.study]
            ]
        except OSError as error:
            warnings.warn(f"nothing is taken over from {other}, which cannot be read: {error}", stacklevel=2)
            continue
        if usable:
            found[other] = usable
    return found


def take_over(folder: Path, offered: Mapping[Path, Collection[Unit]]) -> dict[Path, int]:
    """Copy records, pictures and sounds that other runs have of this run's samples as they are now.

    Args:
        folder: The run folder, with its `parts.json` and `samples.json`.
        offered: What other runs have, see :func:`offers`.

    Returns:
        How many results came from which folder.
    """
    own = {digest: unit for unit, digest in (read_parts(folder) or {}).items()}
    taken: dict[Path, int] = {}
    with RecordStore(folder) as store:
        done, counts = store.done(), store.counting()
        for other, units in offered.items():
            for theirs in units:
                unit, name = own[theirs.origin.part], theirs.sample_id
                if name in done.setdefault(unit, set()) or not counts(theirs._replace(study=unit)):
                    continue
                _copy(picture_path(other, theirs.study, name), picture_path(folder, unit, name))
                for sound, path in sound_paths(other, theirs.study, name).items():
                    _copy(path, sound_path(folder, unit, name, sound))
                store.append(unit, name, theirs.rows, theirs.origin)
                done[unit].add(name)
                taken[other] = taken.get(other, 0) + 1
    return taken


def picture_path(folder: Path, unit: str, sample_id: str) -> Path:
    """Where a run keeps the picture of a sample."""
    return folder / "pictures" / unit / f"{file_name(sample_id)}.png"


def sound_path(folder: Path, unit: str, sample_id: str, name: str) -> Path:
    """Where a run keeps a sound of a sample."""
    return folder / "sound" / unit / f"{file_name(sample_id)}{_APART}{name}.wav"


def sound_paths(folder: Path, unit: str, sample_id: str) -> dict[str, Path]:
    """The sounds that a run keeps of a sample, by name."""
    room, start = folder / "sound" / unit, f"{file_name(sample_id)}{_APART}"
    files = sorted(room.iterdir()) if room.is_dir() else []
    return {path.stem[len(start) :]: path for path in files if path.name.startswith(start)}


def file_name(sample_id: str) -> str:
    """A sample's name as that of a file: readable, short, and that of no other sample.

    Only letters, digits, "_", "." and single "-" are kept of the name; a digest tells it from others like it.
    """
    digest = hashlib.blake2b(sample_id.encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()
    readable = re.sub(r"-+", "-", re.sub(r"[^A-Za-z0-9_.-]+", "_", sample_id))[:_LONGEST].strip("._-")
    return f"{readable}-{digest}" if readable else digest


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        with draft_of(target) as draft:
            shutil.copyfile(source, draft)
