"""How far an evaluation is: network evaluations, a clock, and the time that is left by what the results so far took."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from dmlik_pl.announce import Ticker, clock, counting, say, since
from dmlik_pl.data.base import EvaluationData
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.studies import Outcome

__all__ = ["Meter", "Progress"]


@dataclass
class _Unit:
    """A part of a study: results that are left, and what those so far took."""

    left: int
    done: int = 0
    lost: int = 0  # of samples that could not be read, which took no time
    seconds: float = 0.0


class Meter:
    """Counts, and foretells. Parts of studies differ in what a result costs, so each is timed by itself.

    Args:
        left: Results to come, by unit.
        samples: Samples that these are of.
    """

    def __init__(self, left: dict[str, int], samples: int = 0) -> None:
        self._units = {name: _Unit(count) for name, count in left.items()}
        self._last = time.monotonic()
        self.samples = samples
        self.evaluations = 0

    def called(self, count: int) -> None:
        """Note a call of the network on a batch of ``count`` states."""
        self.evaluations += count

    def kept(self, name: str, count: int) -> None:
        """Note results of a unit; the time since the last ones was theirs.

        Args:
            name: The unit; a study with parts stands for all of them, of which a sample that cannot be read is lost.
            count: How many.
        """
        now = time.monotonic()
        if (unit := self._units.get(name)) is not None:
            unit.done, unit.left = unit.done + count, max(0, unit.left - count)
            unit.seconds += now - self._last
        else:
            for part in (unit for other, unit in self._units.items() if other.startswith(f"{name}/")):
                part.lost, part.left = part.lost + count, max(0, part.left - count)
        self._last = now

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, negative if the results so far let one expect less; None before each unit has one."""
        ahead = [unit for unit in self._units.values() if unit.left]
        if not all(unit.done for unit in ahead):
            return None
        return sum(unit.left * unit.seconds / unit.done for unit in ahead) - since(self._last)

    def line(self) -> str:
        """The state in a line, less than 80 letters while numbers are ordinary."""
        done = sum(unit.done + unit.lost for unit in self._units.values())
        left = sum(unit.left for unit in self._units.values())
        parts = [f"{done} of {done + left} results", f"{self.evaluations:,} network evaluations".replace(",", " ")]
        remaining = self.remaining
        if left and remaining is None:
            parts.append("time left not known yet")
        elif left and remaining is not None:
            parts.append(f"{clock(remaining)} left" if remaining >= 0 else "longer than expected")
        return ", ".join(parts)


class Progress(ProgressBar):
    """Shows a :class:`Meter` of the first process by a :class:`~dmlik_pl.announce.Ticker`.

    Args:
        folder: The run folder, where results are kept as they come.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._enabled = True
        self._ticker: Ticker | None = None

    def disable(self) -> None:
        """Show nothing, as Lightning asks of processes other than the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count: what is left is known by now."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not (self._enabled and isinstance(pl_module, Evaluation) and isinstance(data, EvaluationData)):
            return
        names = data.sample_ids()
        left = {unit: set(names) - pl_module.done.get(unit, frozenset()) for unit in pl_module.units}
        share = {unit: -(-len(some) // trainer.world_size) for unit, some in left.items()}
        self.meter = Meter(share, len(set().union(*left.values())))
        if not self.meter.samples:
            return
        self._count(pl_module)
        more = f" of {len(names)}" if self.meter.samples < len(names) else ""
        say(
            f"Measuring {self.meter.samples}{more} samples; results are kept in {self.folder} as they come, "
            "the same command resumes"
        )
        self._ticker = Ticker(self.meter.line)
        self._ticker.__enter__()

    def _count(self, module: Evaluation) -> None:
        """Let results and calls of the network be counted."""
        keep = module.keep

        def counted(unit: str, outcomes: Sequence[Outcome]) -> None:
            keep(unit, outcomes)
            self.meter.kept(unit, len(outcomes))

        module.keep = counted
        model: Any = module.diffusion
        if model is not None:
            flow_of = model.flow
            model.flow = lambda *args, **options: counting(flow_of(*args, **options), self.meter.called)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the terminal to the tables, which are made next."""
        if self._enabled:
            self._end()
            say("Making tables, figures and report")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal to the message."""
        self._end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End in any case."""
        self._end()

    def _end(self) -> None:
        if self._ticker is not None:
            self._ticker.end()
