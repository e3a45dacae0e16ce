"""What a mistyped option or class may have been meant to be."""

import inspect
import re
import sys
from collections.abc import Collection, Sequence
from pydoc import locate

from dmlik_pl.cli import nearest

__all__ = ["unknown_options", "with_suggestion"]

_UNKNOWN = re.compile(r"unrecognized arguments: (--[^\s=]+)")
_SETTING = re.compile(r"Option '([^']+)' is not accepted")
_GROUP = re.compile(r"Group '([^']+)' does not accept option '([^']+)'")
_OF_CLASS = re.compile(r"class_path '([^']+)'")
_NO_CLASS = re.compile(r"import path string: (\w+)")


def with_suggestion(message: str, options: Collection[str]) -> str:
    """A message with the name that is nearest to a mistyped one; as it is where none is like it.

    Args:
        message: What the parser says.
        options: The options that it knows, e.g. "--model.seed".
    """
    bare = [option.removeprefix("--") for option in options]
    hint, found = "", None
    if found := _UNKNOWN.search(message):
        hint = nearest(found[1], options)
    elif found := _GROUP.search(message):
        hint = nearest(f"{found[1]}.{found[2]}", bare)
    elif found := _SETTING.search(message):
        classes = _OF_CLASS.findall(message[: found.start()])
        hint = nearest(found[1], _settings(classes[-1]) if classes else bare)
    elif found := _NO_CLASS.search(message):
        hint = nearest(found[1], _classes())
    if found is None:
        return message
    end = re.compile("$", re.MULTILINE).search(message, found.end())
    place = end.start() if end else len(message)
    return f"{message[:place]}{hint}{message[place:]}"


def unknown_options(args: Sequence[str], options: Collection[str]) -> str:
    """The first option of a command line that belongs to nothing that the parser knows; empty if all do.

    Args:
        args: The command line.
        options: The options that the parser knows.
    """
    roots = {option.partition(".")[0].removesuffix("+") for option in options}
    words = [arg.partition("=")[0] for arg in args if arg.startswith("--") and arg != "--"]
    return next((word for word in words if word.partition(".")[0].removesuffix("+") not in roots), "")


def _settings(class_path: str) -> list[str]:
    """Names of the arguments of a class and of those it is made of."""
    kind = locate(class_path)
    classes = inspect.getmro(kind) if inspect.isclass(kind) else ()
    return [name for each in classes if "__init__" in vars(each) for name in inspect.signature(each).parameters]


def _classes() -> list[str]:
    """Names of all classes of this package that are imported."""
    rooms = [module for name, module in sys.modules.copy().items() if name.startswith("dmlik_pl.")]
    return sorted({name for room in rooms for name, value in vars(room).items() if inspect.isclass(value)})
