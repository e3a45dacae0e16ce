"""What a likelihood monitor has found so far: for the loggers, as a table and as a figure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from dmlik_pl.callbacks.loggers import log_figure
from dmlik_pl.records.files import draft_of, write_text
from dmlik_pl.results.monitor_figures import monitor_figure

__all__ = ["LikelihoodCurve"]


@dataclass
class LikelihoodCurve:
    """All measurements of a fit.

    Attributes:
        rows: One a measurement and loader: step, epoch and loader, and the numbers of the measurement.
        nfe: Network evaluations spent so far, on all processes.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    nfe: int = 0

    def add(self, trainer: Trainer, folder: Path, numbers: Mapping[str, Mapping[str, float]]) -> None:
        """Take up a measurement, the numbers of each loader by its name, and write the table ``likelihood.csv``."""
        when = {"step": trainer.global_step, "epoch": trainer.current_epoch}
        self.rows += [when | {"loader": name, **found, "monitor_nfe": self.nfe} for name, found in numbers.items()]
        if trainer.is_global_zero:
            write_text(folder / "likelihood.csv", pd.DataFrame(self.rows).to_csv(index=False))

    def nothing(self, name: str) -> dict[str, float]:
        """The numbers of a loader of which no sample could be measured: NaN under the names of the last measurement."""
        before = next(row for row in reversed(self.rows) if row["loader"] == name)
        return {key: math.nan for key in before if key not in _ABOUT} | {"bpd_samples": 0.0, "bpd_failed": 0.0}

    def last(self) -> dict[str, float]:
        """The numbers of the last measurement by the names that loggers and callbacks know them by."""
        latest = {row["loader"]: row for row in self.rows if row["monitor_nfe"] == self.nfe}
        named = {"val/monitor_nfe": float(self.nfe)}
        for name, row in latest.items():
            prefix = f"val/{name}/" if name else "val/"
            named |= {f"{prefix}{key}": value for key, value in row.items() if key not in _ABOUT}
        return named

    def draw(self, trainer: Trainer, folder: Path, gain: str) -> None:
        """Draw all measurements: ``likelihood.png`` in the folder, and a picture for every logger that shows them."""
        if not self.rows or not trainer.is_global_zero:
            return
        figure = monitor_figure(pd.DataFrame(self.rows), gain)
        with draft_of(folder / "likelihood.png") as draft:
            figure.savefig(draft, dpi=150)
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):  # it has the file
                log_figure(logger, "val/likelihood", figure, trainer.global_step)


_ABOUT = ("step", "epoch", "loader", "monitor_nfe")
