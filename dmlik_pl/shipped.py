"""The small models that come with the package, and where any named model lies."""

import json
from pathlib import Path

__all__ = ["ASSETS", "locate", "models", "on_disk", "resolved"]

ASSETS = Path(__file__).parent / "assets"


def models() -> list[str]:
    """Names of the shipped models that give likelihoods: pipelines of diffusers, and Grad-TTS."""
    return sorted(path.name for path in ASSETS.iterdir() if (path / "model_index.json").is_file() or _speaks(path))


def locate(name: str | Path) -> str:
    """A model's folder: as given, or the shipped one of that name; any other text is left for a hub to know.

    Args:
        name: A folder, the name of a folder in ``dmlik_pl/assets`` (e.g. ``shapes-sdxl``), or a hub id.
    """
    found = on_disk(name)
    return str(name if found is None else found)


def resolved(name_or_path: str, revision: str | None = None) -> Path | None:
    """The local folder or file behind a name, found without a network.

    Args:
        name_or_path: A file or folder, the name of a shipped model, or a hub id (e.g. "owner/name").
        revision: Branch, tag or commit of a hub model; "main" by default.

    Returns:
        The path as given, the shipped folder, or the hub model's snapshot in the local cache; None if it is none of
        these.
    """
    found = on_disk(name_or_path)
    return _snapshot(name_or_path, revision or "main") if found is None else found


def on_disk(name: str | Path) -> Path | None:
    """What lies at a path, or ships under that name; None for any other text, whatever its length or signs."""
    if not str(name):
        return None
    try:
        path = Path(name).expanduser()
        if path.exists():
            return path
        shipped = ASSETS / path
        return shipped if path.name == str(name) and shipped.is_dir() else None
    except (OSError, RuntimeError, ValueError):  # a text that no file can be called by
        return None


def _speaks(folder: Path) -> bool:
    """Whether a folder holds what :meth:`~dmlik_pl.models.TextToSpeech.save_pretrained` wrote."""
    settings = folder / "config.json"
    return settings.is_file() and json.loads(settings.read_text(encoding="utf-8")).get("kind") == "grad-tts"


def _snapshot(hub_id: str, revision: str) -> Path | None:
    """The snapshot of a hub model in the local cache, by the cache's published layout."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(hub_id)
        cached = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
        reference = cached / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else revision
        snapshot = cached / "snapshots" / commit
        return snapshot if commit and snapshot.is_dir() else None
    except (HFValidationError, OSError, ValueError):
        return None
