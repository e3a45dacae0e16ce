"""Lightning's command line as training and evaluation share it: faults are found soon, and processes wait."""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from dmlik_pl.cli import DEBUG, DEBUG_HELP, configurations, program
from dmlik_pl.modules.components import Components
from dmlik_pl.modules.suggestions import unknown_options, with_suggestion

__all__ = ["CommandLine", "Passed"]

PATIENCE = timedelta(days=7)  # processes meet at the end only, and may need very different times to get there


class Parser(LightningArgumentParser):
    """A parser that raises its errors; those of a file name the file. Its help begins with what is not Lightning's."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"exit_on_error": False} | options)

    def parse_path(self, path: Any, *arguments: Any, **options: Any) -> Namespace:
        """Parse a configuration file.

        Raises:
            argparse.ArgumentError: If it cannot be read, or says what no option takes.
        """
        try:
            return super().parse_path(path, *arguments, **options)
        except (argparse.ArgumentError, ValueError) as error:
            raise argparse.ArgumentError(None, f"{path}: {error}") from error

    def format_help(self, *arguments: Any) -> str:
        """The help, with the trainer's options behind the project's own."""
        self._action_groups = sorted(self._action_groups, key=_of_trainer)
        if self._subcommands_action is None:
            self.usage = f"{self.prog.replace(' [options]', '')} --config NAME.yaml [--option value ...]"
        return super().format_help(*arguments)


def _of_trainer(group: Any) -> bool:
    return any(name.startswith("--trainer") for action in group._group_actions for name in action.option_strings)


class Passed(argparse.Action):
    """A flag that the parser lets pass, and no configuration knows: the program looks for it among the arguments."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=options["help"])

    def __call__(self, *_: Any) -> None:
        """Do nothing."""


class CommandLine(LightningCLI):
    """Makes the data first, then the trainer, and what may be large last; all faults are told in one message.

    Attributes:
        verb: Name of the command.
        about: What it does, for its help.
        order: Keys of components that are made after data and trainer, in this order.
        rooms: Packages whose classes can be called by their names alone; the parser knows those that are imported.
    """

    verb = "evaluate"
    about = ""
    order: tuple[str, ...] = ("model",)
    rooms: tuple[str, ...] = ("dmlik_pl.data",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        for room in self.rooms:
            for module in iter_modules(import_module(room).__path__):
                import_module(f"{room}.{module.name}")
        super().__init__(*arguments, **options | {"parser_class": Parser})

    def init_parser(self, **options: Any) -> LightningArgumentParser:
        """A parser that raises its errors, and lets ``--debug`` pass."""
        named = {"prog": program(self.verb).removesuffix(" fit"), "description": self.about}
        parser = super().init_parser(**named | options)
        parser.add_argument(DEBUG, action=Passed, help=DEBUG_HELP)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments.

        Raises:
            argparse.ArgumentError: If one cannot be used; for an unknown setting, with the files that may have it.
        """
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            words = sys.argv[1:] if args is None else list(args)
            options = _options(parser, words)
            told = str(error)
            followed = "are required" in told or "argument subcommand" in told  # from an option that is none
            if followed and (unknown := unknown_options(words, options)):
                told = f"unrecognized arguments: {unknown}"
            elif (files := [name for _, name in configurations(words)]) and "not accept" in told:
                told = f"{told}, in {' or '.join(files)} or on the command line"
            raise argparse.ArgumentError(None, with_suggestion(told, options)) from error

    def inspect(self, component: Any) -> None:
        """Look at a component once it is made; an error that this raises is told with the others.

        Args:
            component: The component, such as a study or a model.
        """

    def instantiate_classes(self) -> None:
        """Make everything; nothing is made of components that are missing or wrong."""
        prefix = f"{self.subcommand}." if self.subcommand else ""
        components = Components(self.parser, self.config, self.inspect)
        for key in ("data", "trainer"):
            components.make(prefix + key)
        self.config_init = components.config
        if components.sound:
            with components.noting("trainer"):
                self.trainer = self.instantiate_trainer()
        for key in self.order:
            components.make(prefix + key)
        components.finish()
        self.config_init = self.parser.instantiate(components.config)
        self.datamodule = self.config_init.get(f"{prefix}data")
        self.model = self.config_init.get(f"{prefix}model")

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """A trainer whose processes wait for one another as long as it takes; a strategy may have a time of its own.

        Raises:
            ValueError: If there is no such trainer, or no such device.
        """
        try:
            trainer = super().instantiate_trainer(**options)
        except (MisconfigurationException, TypeError, AttributeError) as error:
            raise ValueError(f"there is no trainer with these settings: {error}") from error
        # Where Lightning takes it from when processes connect; "auto" is decided by then, and has no option for it.
        if getattr(trainer.strategy, "_timeout", None) == default_pg_timeout:
            vars(trainer.strategy)["_timeout"] = PATIENCE
        return trainer


def _options(parser: LightningArgumentParser, words: Sequence[str]) -> list[str]:
    """The options of a parser, and those of the subcommand that is called."""
    subcommands = parser._subcommands_action
    parsers = {} if subcommands is None else dict(subcommands.choices)
    called = [parsers[word] for word in words if word in parsers][:1]
    return [name for each in (parser, *called) for name in each._option_string_actions if name.startswith("--")]
