"""Libraries of the extra ``speech``, imported where they are used."""

import importlib
import warnings
from types import ModuleType

__all__ = ["load"]


def load(module: str, purpose: str) -> ModuleType:
    """Import an optional library.

    Args:
        module: Its name, e.g. ``"soundfile"``.
        purpose: What it is needed for, for the message.

    Raises:
        ModuleNotFoundError: If it is not installed; the message says which extra installs it.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # of no use to its reader
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            if error.name == "pkg_resources":
                raise ModuleNotFoundError(
                    f"{purpose}: {module} needs pkg_resources of an older setuptools: pip install 'setuptools<81'",
                    name=error.name,
                ) from error
            raise  # the library is there, and one that it needs is not
        raise ModuleNotFoundError(
            f"{purpose} needs {module}, which is not installed: pip install 'dmlik-pl[speech]'", name=module
        ) from error
