"""Components of a configuration, made one after another; all that are missing or wrong are named in one message."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from dmlik_pl.announce import say
from dmlik_pl.plain_text import one_line
from dmlik_pl.shipped import locate

__all__ = ["Components"]

_MENDABLE = (OSError, ImportError, ValueError, MisconfigurationException)


class Components:
    """Makes the parts of a configuration in the order in which they are asked for.

    The first fault ends nothing: the other components are looked at for what is missing, so that a machine without
    weights and data is told of all of them at once. From then on nothing is downloaded, and no component is made whose
    files are there, since it could not be used.

    Attributes:
        config: The configuration; what has been made is in the place of its settings.

    Args:
        parser: The parser of the configuration.
        config: The configuration, which is not changed.
        inspect: Looks at each component once it is made, and raises an error if it will not do.
    """

    def __init__(
        self, parser: ArgumentParser, config: Namespace, inspect: Callable[[Any], None] = lambda component: None
    ) -> None:
        self.config = config.clone()
        self._parser = parser
        self._inspect = inspect
        self._faults: dict[str, list[str]] = {}  # places by message
        self._errors: list[Exception] = []
        self._hollow: list[Any] = []

    @property
    def sound(self) -> bool:
        """Whether nothing has been found missing or wrong."""
        return not self._errors

    def make(self, key: str) -> None:
        """Make the components under a key, if there are any.

        Args:
            key: Names of nested settings, separated by dots, e.g. "model.studies".
        """
        if self.config.get(key) is None:
            return
        part = Namespace()
        if "subcommand" in self.config:
            part.subcommand = self.config.subcommand
        part[key] = self.config[key]

        def instantiate(kind: type, *arguments: Any, **options: Any) -> Any:
            return self._instantiate(key, kind, *arguments, **options)

        made = self._parser.instantiate(part, instantiate_groups=False, instantiators=[(instantiate, object, True)])
        self.config[key] = made[key]

    @contextmanager
    def noting(self, place: str) -> Iterator[None]:
        """Note an error instead of raising it.

        Args:
            place: Where it came from, for the message.
        """
        try:
            yield
        except Exception as error:
            self._errors.append(error)
            self._faults.setdefault(str(error), []).append(place)

    def finish(self) -> None:
        """Raise what has been noted.

        Raises:
            Exception: The only error unchanged, or the first one that is a program's fault rather than an input's.
            ValueError: If there were several; the message has all of them.
        """
        faults = [error for error in self._errors if not isinstance(error, _MENDABLE)]
        if len(self._faults) == 1 or faults:
            raise (faults or self._errors)[0]
        if self._faults:
            listed = "".join(f"\n- {', '.join(places)}: {text}" for text, places in self._faults.items())
            later = "" if constants.HF_HUB_OFFLINE else "; models on the hub are downloaded once the rest is in place"
            raise ValueError(f"{len(self._faults)} things are missing or wrong{later}:{listed}")

    def _instantiate(self, key: str, kind: type, *arguments: Any, **options: Any) -> Any:
        """A component, or a hollow one of its class if it cannot be made."""
        place = f"{key} ({kind.__name__})"
        incomplete = any(part is hollow for part in _within([arguments, options]) for hollow in self._hollow)
        if not (incomplete or self._errors):
            with self.noting(place):
                _announce(kind, options)
                component = _made(kind, *arguments, **options)
                self._inspect(component)
                return component
        elif not _names_something_there(options.values()):
            with self.noting(place), _offline():
                try:
                    component = kind(*arguments, **options)
                    self._inspect(component)
                except Exception as error:
                    if isinstance(error, _MENDABLE) and not (incomplete and isinstance(error, ValueError)):
                        raise
        self._hollow.append(object.__new__(kind))
        return self._hollow[-1]


def _announce(kind: type, options: Mapping[str, Any]) -> None:
    """Tell of what may take long: a component that is read from somewhere."""
    source = next((options[name] for name in ("path", "root") if options.get(name)), None)
    if isinstance(source, str | Path):
        say(f"Loading {kind.__name__} from {one_line(source)}")


def _made(kind: type, *arguments: Any, **options: Any) -> Any:
    """A component; of its settings one that is passed on unseen, as to a network's architecture, may be unknown."""
    try:
        return kind(*arguments, **options)
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise ValueError(f"a setting of {kind.__name__} is unknown: {error}") from error
        raise


def _within(value: Any) -> Iterator[Any]:
    """A value, and what it holds if it is a collection."""
    yield value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _within(each)


def _names_something_there(options: Iterable[Any]) -> bool:
    """Whether one of a component's own options is the name of a file, a folder or a shipped model."""
    return any(isinstance(option, str) and option and Path(locate(option)).exists() for option in options)


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid downloads from the Hugging Face hub."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
