"""What the command lines of training and evaluation share."""

import argparse
import ctypes
import difflib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dmlik_pl.extras import advice
from dmlik_pl.interruption import Interruption, first_process

__all__ = [
    "CONFIGS",
    "DEBUG",
    "DEBUG_HELP",
    "configurations",
    "find_config",
    "keep_freed_memory",
    "naming",
    "nearest",
    "program",
    "purpose",
    "run",
]

_PACKAGED = Path(__file__).parent / "configs"  # where a wheel has them
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).resolve().parent.parent / "configs"
VERBS = {"an evaluation": "evaluate", "a training": "train"}  # what runs a configuration, by what it configures

DEBUG = "--debug"
DEBUG_HELP = "show where an error came from"
EXPECTED = (OSError, ImportError, ValueError, argparse.ArgumentError)  # of input; others are faults of a program
NOISE = (
    r"Does not validate against any of|Subtypes: |Errors:$|Given value( type)?: "
    r"|Expected a (<class 'NoneType'>|path but .* either not accessible or invalid)"
)
WORDS = {
    r'Parser key "([^"]*)":': r"\1:",
    r"Problem with given class_path '([^']*)':": r"\1:",
    r"[Ee]xpected an? ": "expected ",
    r"<class '(?:\w+\.)*(\w+)'>": r"\1",
    r"typing\.Literal": "one of ",
    r"\. Got value: ": ", got ",
    r":\n": ": ",
}
COURTESY = 3.0  # seconds in which the first process reports its error and ends the others

# Parameters of glibc's mallopt.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def run(command: Callable[[], Any]) -> NoReturn:
    """Run a command and exit: with its status if that is a number, else 0.

    An error is one message and exit status 1; with ``--debug`` among the arguments, where it came from is shown before.
    On a signal, the message says what is kept, and the exit status is that of a shell.

    Modules of the current folder can be imported, behind all that are installed: a configuration can name classes of
    one's own.

    Args:
        command: The command.
    """
    sys.path.append(os.getcwd())
    with Interruption() as interruption:
        try:
            result = command()
            status = result if isinstance(result, int) else 0
        except BaseException as error:
            if isinstance(error, SystemExit) and not interruption.cause:
                status = 1 if error.code else 0
            else:
                interruption.end_others()
                if DEBUG in sys.argv:
                    traceback.print_exc()
                if interruption.cause:
                    status = interruption.end()
                else:
                    status = 1
                    interruption.tell(_reason(error))
    sys.exit(status)


def _reason(error: BaseException) -> str:
    """The message of an error; what the first process reports too is not repeated by the others."""
    if first_process():
        return f"error: {message(error)}"
    time.sleep(COURTESY)
    return f"error in another process of this run: {message(error)}"


def message(error: BaseException) -> str:
    """An error in words: its own message where a user can correct it, else with its kind and where to learn more."""
    if isinstance(error, ImportError) and (told := advice(error)):
        return told
    text = _plain(str(error))
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.strerror, error.filename) if part is not None)
    # A RuntimeError that is raised from another error was put into words on purpose: no memory, no space.
    in_words = isinstance(error, RuntimeError) and error.__cause__ is not None
    if isinstance(error, EXPECTED) or in_words or type(error).__name__ == "MisconfigurationException":
        return text
    return f"{type(error).__name__}{text and ': '}{text}\nAdd {DEBUG} to the command to see where it came from."


def _plain(text: str) -> str:
    """Of the parser's words only what is wrong."""
    if not re.search("Parser key|Does not validate", text):
        return text
    lines = dict.fromkeys(line.strip().removeprefix("- ") for line in text.splitlines())
    plain = "\n".join(line for line in lines if line and not re.match(NOISE, line)) or text
    for pattern, words in WORDS.items():
        plain = re.sub(pattern, words, plain)
    return plain


@contextmanager
def naming(place: str | Path) -> Iterator[None]:
    """Let an error of the system that names no file, such as a full disk, name a place."""
    try:
        yield
    except OSError as error:
        if error.strerror and error.filename is None:
            error.filename = str(place)
        raise


def find_config(args: list[str], wanted: str = "") -> list[str]:
    """Let a configuration be named by its file name alone, from any directory.

    Args:
        args: Command line arguments.
        wanted: What a configuration must be of, "an evaluation" or "a training"; any will do by default.

    Returns:
        The arguments, in which each value of ``--config`` that is not a file where the command runs, but is one in
        `CONFIGS`, is replaced by that file's path.

    Raises:
        FileNotFoundError: If a configuration is in neither place; the message has the name that is nearest to it.
        ValueError: If it is of another purpose; the message says which command runs it.
    """
    found = list(args)
    for position, name in configurations(args):
        path = _locate(name)
        found[position] = args[position].removesuffix(name) + path
        of = purpose(path)
        if wanted and of not in ("", wanted):
            raise ValueError(f"{name} configures {of}, not {wanted}: {program(VERBS[of])} --config {name}")
    return found


def configurations(args: list[str]) -> Iterator[tuple[int, str]]:
    """Where among command-line arguments configurations are named, and how."""
    for position, argument in enumerate(args):
        if argument.startswith("--config="):
            yield position, argument.removeprefix("--config=")
        elif position > 0 and args[position - 1] in ("--config", "-c"):
            yield position, argument


def purpose(path: str | Path) -> str:
    """What a configuration is of: "an evaluation", "a training", or neither, such as a logger; empty then."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return ""  # what is wrong with it is told where it is parsed
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        return ""
    if "class_path" in model:  # of a training any class, of an evaluation always the same
        return "a training"
    return "an evaluation" if model.keys() & {"studies", "diffusion"} else ""


def program(verb: str) -> str:
    """How a command is called: as a script of a clone where one was, else by the name that is installed."""
    words = {"train": "train fit"}.get(verb, verb)
    if Path(sys.argv[0]).name in ("evaluate.py", "train.py"):
        return f"python {words.replace(verb, f'{verb}.py', 1)}"
    return f"dmlik {words}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that a mistyped one is most like, as a question behind a message; nothing if none is like it."""
    found = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _locate(name: str) -> str:
    """Return the path of a configuration that is named as given or lies in `CONFIGS`; ".yaml" may be left out."""
    if Path(name).is_file():
        return name
    for path in (CONFIGS / name, CONFIGS / f"{name}.yaml"):
        if path.is_file():
            return str(path)
    known = sorted(path.name for path in CONFIGS.glob("*.yaml"))
    hint = nearest(Path(name).name.removesuffix(".yaml") + ".yaml", known)
    raise FileNotFoundError(
        f"no configuration {name!r} here or in {CONFIGS}{hint or ', which holds: ' + ', '.join(known)}"
    )


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
