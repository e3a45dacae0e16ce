"""Signs of life: what a command is doing, with the time since it began, on the standard error stream."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dmlik_pl.interruption import first_process
from dmlik_pl.plain_text import terminal

if TYPE_CHECKING:
    from dmlik_pl.flow import ProbabilityFlow

__all__ = ["Ticker", "clock", "counting", "say", "since"]

SELDOM = 30.0  # seconds between two lines where there is no terminal
OFTEN = 4  # times per second that a terminal is refreshed

_start = time.monotonic()


def since(start: float | None = None) -> float:
    """Seconds since a moment of the monotonic clock; since this module was imported, by default."""
    return time.monotonic() - (_start if start is None else start)


def clock(seconds: float) -> str:
    """A time as a clock shows it.

    Args:
        seconds: The time.

    Example:
        >>> clock(7), clock(3750)
        ('0:07', '1:02:30')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def say(text: str) -> None:
    """Tell what is going on, once for all processes of a run.

    Args:
        text: A line.
    """
    if first_process():
        print(f"[{clock(since())}] {text}", file=sys.stderr, flush=True)


class Ticker:
    """Shows a state while something is done: a line that ticks in a terminal, else one every half minute.

    Args:
        line: The state in a line; another thread calls it.
    """

    def __init__(self, line: Callable[[], str]) -> None:
        self._line = line
        self._live: Any = None
        self._ended = threading.Event()

    def __enter__(self) -> Ticker:
        from rich.live import Live
        from rich.text import Text

        def shown() -> Text:
            return Text(f"[{clock(since())}] {self._line()}", no_wrap=True, overflow="ellipsis")

        console = terminal(stderr=True)
        if console.is_terminal:
            self._live = Live(get_renderable=shown, console=console, refresh_per_second=OFTEN, transient=True)
            self._live.start()
        else:
            threading.Thread(target=self._tell, daemon=True, name="ticker").start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop, and leave nothing in a terminal; a second call does nothing."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._ended.set()

    def _tell(self) -> None:
        while not self._ended.wait(SELDOM):
            say(self._line())


def counting(flow: ProbabilityFlow, called: Callable[[int], None]) -> ProbabilityFlow:
    """A flow that tells of each call of its network.

    Args:
        flow: The flow.
        called: Is given the number of states of each call.
    """
    network = flow.network

    def noted(x: Any, time: Any, inputs: Any) -> Any:
        called(len(x))
        return network(x, time, inputs)

    return replace(flow, network=noted)
