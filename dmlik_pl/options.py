"""Options of the small commands: an unknown one is named with the nearest that there is."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from dmlik_pl.cli import DEBUG, DEBUG_HELP, nearest

__all__ = ["Options"]


class Options(argparse.ArgumentParser):
    """A parser that raises its errors, and knows ``--debug``.

    Args:
        settings: Arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self.add_argument(DEBUG, action="store_true", help=DEBUG_HELP)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse; an unknown option is told before what else may be wrong because of it.

        Raises:
            ValueError: If something cannot be understood.
        """
        known = self._option_string_actions
        for word in args or ():
            name = word.partition("=")[0]
            if name.startswith("--") and name != "--" and name not in known:
                raise ValueError(f"there is no option {name}{nearest(name, known)}: {self.prog} --help lists all")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises:
            ValueError: Always.
        """
        raise ValueError(message)
