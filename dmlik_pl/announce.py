"""Signs of life: what a command is doing, with the time since it began, on the standard error stream."""

import sys
import time

from dmlik_pl.interruption import first_process

__all__ = ["clock", "say", "since"]

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
