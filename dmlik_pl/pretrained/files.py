"""Single files of a model's folder, read with a message that names them where they are damaged."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

__all__ = ["first_line", "quiet", "read_json", "refuse_damaged"]


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file's object.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds anything else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no {file.name} in {file.parent}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON, or cut short: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a JSON object")
    return content


def refuse_damaged(file: Path) -> None:
    """Read the header of a safetensors file, which states how long the file must be.

    Raises:
        ValueError: If they disagree, or it is not such a file; the message says what to do.
    """
    try:
        with safe_open(file, "pt"):
            return
    except (SafetensorError, OSError) as error:
        reason = f"it is damaged or cut short ({first_line(error)}): get it again"
        with file.open("rb") as stream:
            if stream.read(40).startswith(b"version https://git-lfs"):
                reason = "it is a pointer of Git LFS, not the weights: run `git lfs pull` in its folder"
        raise ValueError(f"cannot read {file}: {reason}") from error


def first_line(error: Exception) -> str:
    """What an error says first, in libraries whose messages go on for pages."""
    return str(error).strip().split("\n")[0] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Keep bars and warnings of the libraries out of the way: what they warn of is refused here, in one message."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    loggers = [of_transformers, of_diffusers]
    before = [logger.get_verbosity() for logger in loggers]
    bars = of_transformers.is_progress_bar_enabled()
    of_transformers.disable_progress_bar()
    for logger in loggers:
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, verbosity in zip(loggers, before, strict=True):
            logger.set_verbosity(verbosity)
        if bars:
            of_transformers.enable_progress_bar()
