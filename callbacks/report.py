"""Sends tables, figures and the sweep over time to the loggers of a run."""

from pathlib import Path

import pandas as pd
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from callbacks.records import RecordWriter
from dmlik_pl.results.frames import kind_of
from dmlik_pl.results.store import FAILURES
from dmlik_pl.results.table import Table

__all__ = ["ReportLogger"]

SERIES = ("bpd", "bpd_marginal", "clip")


class ReportLogger(Callback):
    """Logs the report when a test ends: headline numbers to every logger; tables, images and series to W&B.

    Args:
        writer: The callback that holds the records; it must come before this one.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self.writer = writer

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was written."""
        if not trainer.is_global_zero or not self.writer.tables:
            return
        numbers = headline(self.writer.records)
        for logger in trainer.loggers:
            logger.log_metrics(numbers)
            if isinstance(logger, WandbLogger):
                log_to_wandb(logger, self.writer.tables, self.writer.records, self.writer.folder)
            logger.save()


def headline(records: dict[str, pd.DataFrame]) -> dict[str, float]:
    """The numbers by which runs are compared: mean BPD of the data, accuracies, failures."""
    numbers = {"failures": float(len(records[FAILURES]))}
    for study, frame in records.items():
        if kind_of(study, frame) == "time_sweep":
            numbers[f"{study}/bpd_data"] = float(frame.loc[frame["stage"] == "data", "bpd"].mean())
        elif kind_of(study, frame) == "prompt_accuracy":
            for attribute, rows in frame.groupby("attribute"):
                numbers[f"{study}/accuracy_{attribute}"] = float(rows["correct"].mean())
                numbers[f"{study}/undecided_{attribute}"] = float((~rows["decided"].astype(bool)).mean())
    return numbers


def log_to_wandb(logger: WandbLogger, tables: list[Table], records: dict[str, pd.DataFrame], folder: Path) -> None:
    """Tables as W&B tables, figures and pictures as images, each sweep as line series against t."""
    import wandb

    panels: dict[str, object] = {}
    for table in tables:
        panels[f"tables/{table.name}"] = wandb.Table(dataframe=table.shown.reset_index().astype(str))
    for path in sorted([*folder.glob("figures/*.png"), *folder.glob("pictures/*/*.png")]):
        panels[str(path.relative_to(folder).with_suffix(""))] = wandb.Image(str(path))
    for path in sorted(folder.glob("sound/*/*.wav")):
        panels[str(path.relative_to(folder).with_suffix(""))] = wandb.Audio(str(path))
    for study, frame in records.items():
        if kind_of(study, frame) != "time_sweep":
            continue
        means = frame[frame["stage"] == "sample"].groupby("time")[list(SERIES)].mean(numeric_only=True).dropna(axis=1)
        for name in means.columns:
            panels[f"{study}/{name}"] = wandb.plot.line_series(
                xs=means.index.tolist(), ys=[means[name].tolist()], keys=[name], title=f"{name} over time", xname="t"
            )
    logger.experiment.log(panels)
