"""What the command lines of training and evaluation share."""

import ctypes
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any, NoReturn

__all__ = ["CONFIGS", "find_config", "keep_freed_memory", "run"]

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

# Parameters of glibc's mallopt.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def run(command: Callable[[], Any], told: tuple[type[Exception], ...] = ()) -> NoReturn:
    """Run a command and exit: with its status if that is a number, else 0.

    What a user can mend (a missing file, package or value) is one message and exit status 1.

    Args:
        command: The command.
        told: Further errors whose message is all that a user needs; any other is shown with where it came from.
    """
    known: tuple[type[Exception], ...] = (FileNotFoundError, ImportError, ValueError, *told)
    try:
        result = command()
        status: int | str = result if isinstance(result, int) else 0
    except SystemExit as stop:  # the parser's own errors, already told, come with 2
        status = 1 if stop.code else 0
    except known as error:
        logging.getLogger("dmlik_pl").debug("details", exc_info=True)
        status = f"error: {_plain(str(error))}"
    sys.exit(status)


def _plain(message: str) -> str:
    """A message that names this package's extra, and leaves out what the parser says of a setting's types."""
    if "`tensorboard`" in message:
        return "the TensorBoard logger needs tensorboard, which is not installed: pip install 'dmlik-pl[tensorboard]'"
    optional = re.search(r"^Errors:\n  - (.*)\n  - Expected a <class 'NoneType'>$", message, re.DOTALL | re.MULTILINE)
    if not message.startswith("Does not validate against any of the Union subtypes") or optional is None:
        return message
    return dedent(f"    {optional[1]}")


def find_config(args: list[str]) -> list[str]:
    """Let a configuration be named by its file name alone, from any directory.

    Args:
        args: Command line arguments.

    Returns:
        The arguments, in which each value of ``--config`` that is no file where the command runs, but is one in
        `CONFIGS`, is replaced by that file's path.

    Raises:
        FileNotFoundError: If a configuration is in neither place.
    """
    found = list(args)
    for position, argument in enumerate(found):
        if argument.startswith("--config="):
            found[position] = f"--config={_locate(argument.removeprefix('--config='))}"
        elif position > 0 and found[position - 1] in ("--config", "-c"):
            found[position] = _locate(argument)
    return found


def _locate(name: str) -> str:
    """Return the path of a configuration that is named as given or lies in `CONFIGS`."""
    if Path(name).is_file():
        return name
    if (CONFIGS / name).is_file():
        return str(CONFIGS / name)
    known = ", ".join(sorted(path.name for path in CONFIGS.glob("*.yaml")))
    raise FileNotFoundError(f"no configuration {name!r} here or in {CONFIGS}, which holds: {known}")


def keep_freed_memory(size: int = 2**29) -> None:
    """Let the allocator keep freed memory rather than return it to the system at once.

    Small networks on the CPU otherwise spend up to half their time in the kernel. Only glibc knows the settings;
    elsewhere nothing happens.

    Args:
        size: Bytes that are kept at most.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_TRIM_THRESHOLD, 2 * size), (M_TOP_PAD, size // 4), (M_MMAP_THRESHOLD, size)):
            mallopt(parameter, value)
