"""The folder of a run: found again by the same settings, never shared by different ones."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dmlik_pl
from dmlik_pl.shipped import locate

__all__ = ["run_folder", "write_settings"]

# What may change between two starts of one run: it changes no result.
IRRELEVANT = {"config", "trainer", "runs", "name", "batch_size", "num_workers", "max_batch"}
_NUMBERS = ("flow", "speech", "models", "studies", "metrics")
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
    relevant = _relevant(settings)
    fingerprints = {text: _fingerprint(text) for text in _texts(relevant.get("model", {}))}
    fingerprints |= {text: _stamps([Path(text)]) for text in _texts(relevant.get("data", {})) if Path(text).is_file()}
    content = json.dumps([_source_digest(), relevant, fingerprints], sort_keys=True, default=str)
    return Path(root) / f"{name}-{hashlib.blake2b(content.encode(), digest_size=4).hexdigest()}"


def write_settings(folder: Path, config: str) -> None:
    """Write ``config.yaml`` and ``versions.json`` into a run folder.

    Args:
        folder: The run folder; it is made if needed.
        config: The resolved configuration as YAML.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    versions = {"dmlik_pl": dmlik_pl.__version__, "python": platform.python_version(), "platform": platform.platform()}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    (folder / "versions.json").write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")


def _source_digest() -> str:
    """Digest of the modules that results depend on."""
    package = Path(dmlik_pl.__file__).parent
    files = sorted(path for room in _NUMBERS for path in (package / room).rglob("*.py"))
    return hashlib.blake2b(b"".join(path.read_bytes() for path in files), digest_size=8).hexdigest()


def _relevant(settings: Any) -> Any:
    if isinstance(settings, Mapping):
        return {key: _relevant(value) for key, value in settings.items() if key not in IRRELEVANT}
    if isinstance(settings, list | tuple):
        return [_relevant(value) for value in settings]
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
