"""Signals that end a command: it says what is kept and ends soon, whatever it is waiting for.

Python runs the handler of a signal between two steps of its main thread, and a main thread that waits for other
processes in a collective takes none. So a thread of its own hears of each signal first. It gives the main thread time
to end in good order, and ends the process if that does not happen. The same thread watches the processes that a trainer
has started for its other devices: when one of them dies, all end.
"""

from __future__ import annotations

import _thread
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning import Trainer

__all__ = ["Interrupted", "Interruption", "command_line", "first_process", "note", "watch"]

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
POLL = 0.5  # seconds between two looks at the other processes
SAME = 0.5  # seconds within which a repetition is the same signal: `timeout` signals the process and then its group
REACT = 5.0  # seconds for the main thread to take notice; docker kills after ten
UNWIND = 20.0  # seconds for it to close loggers and files; SLURM kills after thirty

NOTHING = "Nothing is kept yet."

_current: Interruption | None = None


class Interrupted(BaseException):
    """The command is to end before its work is done. Not an `Exception`: no failure of a sample is made of it."""


class Interruption:
    """While it is entered, signals and the death of another process of the run end the command.

    Attributes:
        cause: Why the command is to end; empty until then.
        status: The exit status that goes with the cause: 128 and the number of the signal, as shells have it.
    """

    def __init__(self) -> None:
        self.cause = ""
        self.status = 1
        self._kept: Callable[[], str] = lambda: ""
        self._before: Callable[[], str] = lambda: NOTHING
        self._trainer: Trainer | None = None
        self._others: list[subprocess.Popen[Any]] = []
        self._raised = False
        self._told = False
        self._telling = threading.Lock()

    def __enter__(self) -> Interruption:
        global _current
        _current = self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._former_descriptor = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]  # as `nohup` wants it
        self._former = {number: signal.signal(number, self._raise) for number in heard}
        self._thread = threading.Thread(target=self._watch, daemon=True, name="interruption")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raised = True  # from here on a signal is too late to raise anything
        if self.cause:
            return  # the watch continues until the process is gone
        self._forget()
        os.close(self._write)
        self._thread.join()
        os.close(self._read)

    def watch(self, trainer: Trainer, kept: Callable[[], str]) -> None:
        """Watch the processes that a trainer starts, and note how to report the state of the work.

        Args:
            trainer: The trainer.
            kept: Says what is kept and which command resumes, if there is anything; another thread may call it.
        """
        self._trainer, self._kept = trainer, kept

    def note(self, kept: Callable[[], str]) -> None:
        """Note how to report what earlier commands kept, for a signal before anything new is kept."""
        self._before = kept

    def tell(self, reason: str) -> None:
        """Say why the command ends and what is kept, once; processes other than the first say why alone.

        Args:
            reason: Why.
        """
        if not self._telling.acquire(timeout=REACT):
            return
        try:
            if not self._told:
                self._told = True
                kept = self._kept() if first_process() else ""
                kept = kept or (self._before() if self.cause and first_process() else "")
                print("\n".join(filter(None, (reason, kept))), file=sys.stderr, flush=True)
        except OSError:  # the terminal or the disk is gone: the exit status says it alone
            pass
        finally:
            self._telling.release()

    def end(self) -> int:
        """Report the cause, and return its exit status."""
        if first_process() or self.status == 1:
            self.tell(self.cause)
        return self.status

    def end_others(self) -> None:
        """Kill the processes that the trainer started; what they have stored is on the disk."""
        self._adopt()
        for process in self._others:
            process.kill()

    def _raise(self, number: int, frame: object) -> None:
        """The handler of signals, in the main thread."""
        if not self._raised:
            self._raised = True
            self._because_of(number)
            raise Interrupted

    def _watch(self) -> None:
        """Wait for a cause; then see to it that the process ends."""
        while not self.cause:
            number = self._next_signal()
            if number is None:
                return
            self._adopt()
            if number:
                self._because_of(number)
            elif dead := [process for process in self._others if process.poll()]:
                self.cause = f"error: another process of this run ended with status {dead[0].returncode}"
                _thread.interrupt_main(signal.SIGTERM)
        start = time.monotonic()
        self.end_others()
        while (passed := time.monotonic() - start) < (UNWIND if self._raised else REACT):
            if self._next_signal() and passed > SAME:
                break
        self.end()
        os._exit(self.status)

    def _because_of(self, number: int) -> None:
        """Take a signal for the cause, unless there is one."""
        if not self.cause:
            self.cause, self.status = f"stopped by {signal.Signals(number).name}", 128 + number

    def _next_signal(self) -> int | None:
        """The number of a signal that came within `POLL` seconds; 0 if none did, None if none can come any more."""
        if not select.select([self._read], [], [], POLL)[0]:
            return 0
        heard = os.read(self._read, 1)
        return (heard[0] if heard[0] in ENDING else 0) if heard else None

    def _adopt(self) -> None:
        """Take the trainer's processes over from Lightning, which kills this one, untold, when one of them dies."""
        launcher = None if self._trainer is None else self._trainer.strategy.launcher
        started = getattr(launcher, "procs", [])
        while started and isinstance(started[0], subprocess.Popen):
            self._others.append(started.pop(0))

    def _forget(self) -> None:
        """Restore the previous handlers of signals."""
        global _current
        _current = None
        signal.set_wakeup_fd(self._former_descriptor)
        for number, handler in self._former.items():
            signal.signal(number, handler)


def watch(trainer: Trainer, kept: Callable[[], str]) -> None:
    """Let the running command, if any, report what is kept if it ends early: see :meth:`Interruption.watch`."""
    if _current is not None:
        _current.watch(trainer, kept)


def note(kept: Callable[[], str]) -> None:
    """Let the running command, if any, report what earlier ones kept if it is stopped before it keeps anything.

    Args:
        kept: Says what is kept and which command resumes; another thread may call it.
    """
    if _current is not None:
        _current.note(kept)


def first_process() -> bool:
    """Whether this process is the first, or the only one, of its run."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def command_line(option: str = "", value: str = "") -> str:
    """The command that runs, quoted for a shell.

    Args:
        option: An option that is to be given; what was given for it is left out.
        value: Its value.
    """
    words = list(sys.orig_argv)
    if len(words) > 1 and Path(words[1]).name == "dmlik" and words[1] == shutil.which("dmlik"):
        words = ["dmlik", *words[2:]]  # the installed script: nobody typed where it lies and what runs it
    if option:
        words = [word for place, word in enumerate(words) if option not in (word, *words[max(0, place - 1) : place])]
        words = [*(word for word in words if not word.startswith(f"{option}=")), option, value]
    return shlex.join(words)


def _hold_signals() -> None:
    """Let signals wait while a process is forked: its copy would tell this one of those that are meant for it."""
    if _current is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _release_signals(child: bool) -> None:
    """Let signals come again; a process that was forked, such as a worker that loads data, has its own."""
    if _current is not None:
        if child:
            _current._forget()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_signals,
        after_in_parent=partial(_release_signals, child=False),
        after_in_child=partial(_release_signals, child=True),
    )
