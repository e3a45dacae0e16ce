"""The folder of a run: found again by the same settings, never shared by different ones.

Runs whose settings differ may still have parts in common, such as a guidance weight of a sweep that both of them list.
Each part has a digest of its own in the run folder's `parts.json`, by which :mod:`dmlik_pl.results.sharing` finds it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dmlik_pl
from dmlik_pl.shipped import locate

__all__ = ["PARTS", "part_digests", "run_folder", "write_settings"]

PARTS = "parts.json"

Units = Mapping[str, tuple[str, str]]

# What may change between two starts of one run: it changes no result.
IRRELEVANT = {"config", "trainer", "runs", "name", "batch_size", "num_workers", "max_batch"}
# What says only how many samples there are: it changes no result of one of them.
_SELECTION = {"limit", "per_cell"}
_NUMBERS = ("flow", "speech", "models", "data", "studies", "metrics")
_WEIGHTS = (".safetensors", ".pt", ".json", ".nemo", ".arpa", ".gz")
_PACKAGES = ("torch", "lightning", "diffusers", "transformers", "torchdiffeq", "torchmetrics", "numpy", "scipy")


def run_folder(root: str | Path, name: str, settings: Mapping[str, Any]) -> Path:
    """The folder of a run: its name and a digest of every setting that a result depends on.

    Folders of weights that the settings name count with their files' names, sizes and times, single files of weights
    or data alike, and the package with the source that numbers are made by: a model that was trained again, other
    lists under the old name, or another solver, starts a new run.

    Args:
        root: Folder of all runs.
        name: Readable part of the folder's name.
        settings: The resolved configuration.
    """
    return Path(root) / f"{name}-{_digest(_without(settings, IRRELEVANT), size=4)}"


def part_digests(settings: Mapping[str, Any], axes: Mapping[str, Sequence[str]], units: Units) -> dict[str, str]:
    """A digest of all that the results of a sample in each part of each study depend on.

    Neither what else the run does, nor what the study is called, nor how many samples there are, is among that.

    Args:
        settings: The resolved configuration.
        axes: By study, the names of its arguments that only list its parts.
        units: By unit, the name of its study and the label of its part.
    """
    relevant = _without(settings, IRRELEVANT | _SELECTION)
    digests = {}
    for unit, (study, label) in units.items():
        model = dict(relevant["model"])
        studies = model.pop("studies")
        own = _without(studies[study], axes[study])
        digests[unit] = _digest({"model": model, "data": relevant.get("data"), "study": own, "part": label}, size=16)
    return digests


def write_settings(folder: Path, config: str, parts: Mapping[str, str]) -> None:
    """Write ``config.yaml``, ``versions.json`` and ``parts.json`` into a run folder.

    Args:
        folder: The run folder; it is made if needed.
        config: The resolved configuration as YAML.
        parts: Digests of what it computes, see :func:`part_digests`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    (folder / PARTS).write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
    versions = {"dmlik_pl": dmlik_pl.__version__, "python": platform.python_version(), "platform": platform.platform()}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    (folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")


def _digest(settings: Mapping[str, Any], size: int) -> str:
    """Digest of settings, of the weights and data files that they name, and of the source that numbers are made by."""
    fingerprints = {text: _fingerprint(text) for text in _texts([settings.get(room) for room in ("model", "study")])}
    fingerprints |= {text: _stamps([Path(text)]) for text in _texts(settings.get("data")) if Path(text).is_file()}
    content = json.dumps([_source_digest(), settings, fingerprints], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=size).hexdigest()


@cache
def _source_digest() -> str:
    """Digest of the modules that results depend on."""
    package = Path(dmlik_pl.__file__).parent
    files = sorted(path for room in _NUMBERS for path in (package / room).rglob("*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in files), digest_size=8).hexdigest()


def _without(settings: Any, names: Collection[str]) -> Any:
    """Settings without the entries of these names, however deep."""
    if isinstance(settings, Mapping):
        return {key: _without(value, names) for key, value in settings.items() if key not in names}
    if isinstance(settings, list | tuple):
        return [_without(value, names) for value in settings]
    return settings


def _texts(settings: Any) -> Iterator[str]:
    if isinstance(settings, Mapping):
        settings = list(settings.values())
    if isinstance(settings, list):
        for value in settings:
            yield from _texts(value)
    elif isinstance(settings, str):
        yield settings


def _fingerprint(text: str) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of the weights in a folder or file; None for a text that names neither."""
    path = Path(locate(text))
    if text and path.is_file() and path.suffix in _WEIGHTS:
        return _stamps([path])
    if not text or not path.is_dir():
        return None
    return _stamps(sorted(file for file in path.rglob("*") if file.suffix in _WEIGHTS), path)


def _stamps(files: Sequence[Path], folder: Path | None = None) -> list[tuple[str, int, int]]:
    """Name, size and time of each file."""
    names = [file.name if folder is None else str(file.relative_to(folder)) for file in files]
    return [(name, file.stat().st_size, file.stat().st_mtime_ns) for name, file in zip(names, files, strict=True)]
