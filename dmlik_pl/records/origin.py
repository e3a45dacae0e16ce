"""Where a record comes from: what it is of, and what made it."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from dmlik_pl.records.files import write_text

__all__ = ["Expected", "Origin", "installed_packages", "read_parts", "read_samples", "write_parts", "write_samples"]

PARTS, SAMPLES = "parts.json", "samples.json"

_PACKAGES = ("torch", "diffusers", "transformers", "torchdiffeq", "numpy", "scipy", "pillow")
_OPTIONAL = ("peft", "librosa", "pyworld", "pocketsphinx", "webrtcvad-wheels", "espeakng-loader")


@dataclass(frozen=True)
class Origin:
    """Where the records of one part of a study on one sample come from.

    Attributes:
        part: Digest of all that they depend on but the sample: model, weights, code, settings. Two records with equal
            digests, names and fingerprints are interchangeable.
        fingerprint: Digest of the sample as it was read; empty for one that could not be.
        stamp: Digest of where and when it was read from, which spares reading it again; empty if that does not tell.
        converted: What was changed about the sample when it was read, in words.
        packages: Versions of the packages that numbers are made by.
    """

    part: str = ""
    fingerprint: str = ""
    stamp: str = ""
    converted: str = ""
    packages: str = ""

    def stored(self) -> dict[str, str]:
        """As plain text, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value}

    @staticmethod
    def of_stored(content: Any) -> Origin:
        """From what `stored` returned; anything else is an origin that nothing is known of."""
        if not isinstance(content, Mapping):
            return Origin()
        return Origin(**{field.name: str(content.get(field.name, "")) for field in fields(Origin)})


@dataclass(frozen=True)
class Expected:
    """A sample that a run is of.

    Attributes:
        fingerprint: Its fingerprint; None if it was not read before the run, so whatever the run reads is right.
        stamp: The stamp that it had when its fingerprint was taken.
    """

    fingerprint: str | None = None
    stamp: str = ""


@cache
def installed_packages() -> str:
    """Versions of the installed packages that numbers are made by, as text."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    for name in _OPTIONAL:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def write_parts(folder: Path, parts: Mapping[str, str]) -> None:
    """Write into a run folder the digest of each part that it computes, by the name of its unit."""
    write_text(folder / PARTS, json.dumps(dict(parts), indent=2) + "\n")


def read_parts(folder: Path) -> dict[str, str] | None:
    """Read what :func:`write_parts` wrote; None, with a warning if a file is there, where it cannot be understood."""
    content = _read(folder / PARTS)
    if content is not None and not all(isinstance(digest, str) for digest in content.values()):
        _warn(folder / PARTS, "it holds other values than digests")
        return None
    return content


def write_samples(folder: Path, samples: Mapping[str, Expected]) -> None:
    """Write into a run folder which samples it is of, in their order."""
    content = {name: None if each.fingerprint is None else asdict(each) for name, each in samples.items()}
    write_text(folder / SAMPLES, json.dumps(content, indent=0) + "\n")


def read_samples(folder: Path) -> dict[str, Expected] | None:
    """Read what :func:`write_samples` wrote; None, with a warning if a file is there, where it cannot be understood."""
    content = _read(folder / SAMPLES)
    if content is None:
        return None
    try:
        return {name: Expected() if each is None else Expected(**each) for name, each in content.items()}
    except TypeError as error:
        _warn(folder / SAMPLES, str(error))
        return None


def _read(path: Path) -> dict[str, Any] | None:
    """An object of a JSON file; None without the file, or with a warning if it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _warn(path, str(error))
        return None
    return content


def _warn(path: Path, reason: str) -> None:
    warnings.warn(f"{path} is damaged and left out: {reason}", stacklevel=3)
