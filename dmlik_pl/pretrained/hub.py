"""Models of the Hugging Face hub as local folders: asked for once, and never waited for without a network."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from dmlik_pl.pretrained.files import first_line
from dmlik_pl.shipped import resolved

__all__ = ["from_hub", "is_hub_id", "transformers_folder"]

_logger = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds for the hub's first answer; without a network there is none to wait for
_SMALL_FILES = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("model.safetensors", "model-*.safetensors")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")


def is_hub_id(name: str) -> bool:
    """Whether a text can only be the name of a hub model: OWNER/NAME, not a path below a folder that exists."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).parent.is_dir()


def from_hub(name: str, download: Callable[[], str | Path], revision: str | None, local_files_only: bool) -> Path:
    """The snapshot of a hub model: downloaded, or where the hub cannot be asked, as the local cache holds it.

    Args:
        name: Hub id.
        download: What fetches its files and returns the snapshot's folder; not called before the hub has answered.
        revision: Branch, tag or commit.
        local_files_only: Do not ask the hub; HF_HUB_OFFLINE=1 does the same.

    Raises:
        FileNotFoundError: If neither has it; the message is the reason alone.
    """
    from huggingface_hub import HfApi, is_offline_mode

    reason = "local_files_only or HF_HUB_OFFLINE forbids asking the hub"
    cached = resolved(name, revision)
    if not local_files_only and not is_offline_mode():
        try:
            HfApi().model_info(name, revision=revision, timeout=_PATIENCE)
            return Path(download())
        except Exception as error:  # whatever kept the hub from giving it, the cache is next
            reason = f"the hub did not give it: {first_line(error)}"
        if cached is not None:
            _logger.warning("%s is read from the local cache, %s (%s)", name, cached, reason)
    if cached is None:
        raise FileNotFoundError(f"it is not a folder, the local cache does not hold it, and {reason}")
    return cached


def transformers_folder(name: str | Path, revision: str | None, local_files_only: bool) -> Path:
    """The folder of a model in the layout of transformers.

    Args:
        name: A folder, the name of a shipped model, or a hub id, of which configurations and weights are fetched:
            safetensors, or where there are none, weights in torch's own files.
        revision: Branch, tag or commit on the hub.
        local_files_only: Do not ask the hub.

    Raises:
        FileNotFoundError: If there is none; the message is the reason alone.
    """
    from huggingface_hub import snapshot_download

    def download() -> str:
        def fetch(*patterns: str) -> str:
            return snapshot_download(
                str(name), revision=revision, allow_patterns=list(patterns), ignore_patterns=["*/*"]
            )

        folder = fetch(*_SMALL_FILES, *_WEIGHTS)
        return folder if any(Path(folder).glob("*.safetensors")) else fetch(*_SMALL_FILES, *_PICKLED)

    if is_hub_id(str(name)):
        return from_hub(str(name), download, revision, local_files_only)
    found = resolved(str(name))
    if found is None or not found.is_dir():
        raise FileNotFoundError("there is no such folder" if found is None else "it is a file, but a folder is wanted")
    return found
