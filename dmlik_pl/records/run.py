"""The folder of a run, found again by the same settings, and the digests of what it computes.

Runs whose settings differ may still have parts in common, such as a guidance weight of a sweep that both of them list.
Each part has a digest of its own in the run folder's `parts.json`. A record is known by this digest and by the name and
fingerprint of its sample, never by the folder that it lies in; see :mod:`dmlik_pl.records.sharing`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dmlik_pl
from dmlik_pl.records.content import file_digest, folder_digest, own_code_digest, package_digest
from dmlik_pl.records.files import write_text
from dmlik_pl.shipped import on_disk, resolved

__all__ = ["part_digests", "run_folder", "write_settings"]

Units = Mapping[str, tuple[str, str]]
Place = tuple[str, ...]

# What may change between two starts of one run, by its place in the configuration: it changes no result. Precision,
# the one setting of the trainer that would, is refused.
_IRRELEVANT: frozenset[Place] = frozenset(
    {
        ("config",),
        ("trainer",),
        ("runs",),
        ("name",),
        ("cluster",),
        ("model", "max_batch"),
        *(
            ("data", *nested, "init_args", name)
            for nested in ((), ("init_args", "images"))
            for name in ("batch_size", "num_workers")
        ),
    }
)
_NUMBERS = ("flow", "speech", "pretrained", "models", "studies", "metrics")
_PACKAGES = ("torch", "lightning", "diffusers", "transformers", "torchdiffeq", "torchmetrics", "numpy", "scipy")


def run_folder(root: str | Path, name: str, settings: Mapping[str, Any]) -> Path:
    """The folder of a run: its name and a digest of every setting that a result depends on.

    Weights on this machine count by their content, data by the place that they are looked for in, this package and the
    user's own classes by their source. So a model that was trained again, or another solver, starts a new run; what
    has changed among the data is found out sample by sample.

    Args:
        root: Folder of all runs.
        name: Readable part of the folder's name.
        settings: The resolved configuration.
    """
    relevant = _without(settings, _IRRELEVANT)
    data = {text: on_disk(text) for text in _texts(settings.get("data"))}
    places = {text: str(place.absolute()) for text, place in data.items() if place is not None}
    relevant["model"] = _by_content(relevant.get("model"), lambda text, revision: on_disk(text))
    digest = _digest([relevant, places, _code(settings)], size=4)
    return Path(root) / f"{name}-{digest}"


def part_digests(settings: Mapping[str, Any], axes: Mapping[str, Sequence[str]], units: Units) -> dict[str, str]:
    """A digest of all that the results of a sample in each part of each study depend on, but the sample itself.

    Neither what else the run does, nor what the study is called, nor what the data are, is among that. Call it when
    the model is there: weights from a hub are in the local cache by then and count by their content too.

    Args:
        settings: The resolved configuration.
        axes: By study, the names of its arguments that only list its parts.
        units: By unit, the name of its study and the label of its part.
    """
    relevant = _without(settings, _IRRELEVANT)
    model = dict(relevant["model"])
    studies = model.pop("studies")
    code, model = _code(model), _by_content(model, resolved)
    digests = {}
    for unit, (study, label) in units.items():
        arguments = frozenset({("init_args", name) for name in axes[study]} | {(name,) for name in axes[study]})
        own = _without(studies[study], arguments)
        digests[unit] = _digest([model, code, _by_content(own, resolved), _code(own), label], size=16)
    return digests


def write_settings(folder: Path, config: str) -> None:
    """Write ``config.yaml`` and ``versions.json`` into a run folder.

    Args:
        folder: The run folder; it is made if needed.
        config: The resolved configuration as YAML.
    """
    write_text(folder / "config.yaml", config)
    versions = {"dmlik_pl": dmlik_pl.__version__, "python": platform.python_version(), "platform": platform.platform()}
    versions |= {package: importlib.metadata.version(package) for package in _PACKAGES}
    write_text(folder / "versions.json", json.dumps(versions, indent=2) + "\n")


def _digest(content: Sequence[Any], size: int) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()


def _code(settings: Any) -> tuple[str, str]:
    """Digests of the package's source that numbers are made by, and of the user's own that a configuration names."""
    return package_digest(_NUMBERS), own_code_digest(_texts(settings))


def _without(settings: Any, places: Collection[Place], here: Place = ()) -> Any:
    """Settings without the entries at these places."""
    if not isinstance(settings, Mapping):
        return settings
    kept = {key: value for key, value in settings.items() if (*here, key) not in places}
    return {key: _without(value, places, (*here, key)) for key, value in kept.items()}


def _texts(settings: Any) -> Iterator[str]:
    """All texts of a configuration, keys left out."""
    if isinstance(settings, Mapping):
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value)
    elif isinstance(settings, str | Path):
        yield str(settings)


def _by_content(settings: Any, place: Callable[[str, str | None], Path | None], revision: str | None = None) -> Any:
    """A configuration in which names of files and folders are replaced by digests of their content.

    Args:
        settings: The configuration.
        place: Gives the file or folder that a text names, in a revision of the hub if one is asked for, or None.
        revision: The revision that is asked for.
    """
    if isinstance(settings, Mapping):
        revision = settings.get("revision") or revision
        return {key: _by_content(value, place, revision) for key, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [_by_content(value, place, revision) for value in settings]
    named = place(str(settings), revision) if isinstance(settings, str | Path) else None
    return settings if named is None else ["content", _content(named)]


def _content(place: Path) -> str:
    return folder_digest(place) if place.is_dir() else file_digest(place)
