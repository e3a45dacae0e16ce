"""Sends tables, figures and the sweep over time to the loggers of a run."""

from pathlib import Path

import pandas as pd
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from callbacks.records import RecordWriter
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
    numbers = {"failures": float(len(records["failures"]))} if "failures" in records else {}
    sweep, accuracy = records.get("time_sweep"), records.get("prompt_accuracy")
    if sweep is not None and len(sweep):
        numbers["bpd/data"] = float(sweep.loc[sweep["stage"] == "data", "bpd"].mean())
    if accuracy is not None:
        for attribute, rows in accuracy.groupby("attribute"):
            numbers[f"accuracy/{attribute}"] = float(rows["correct"].mean())
            numbers[f"undecided/{attribute}"] = float((~rows["decided"].astype(bool)).mean())
    return numbers


def log_to_wandb(logger: WandbLogger, tables: list[Table], records: dict[str, pd.DataFrame], folder: Path) -> None:
    """Tables as W&B tables, figures and pictures as images, the sweep as line series against t."""
    import wandb

    panels: dict[str, object] = {}
    for table in tables:
        panels[f"tables/{table.name}"] = wandb.Table(dataframe=table.shown.reset_index().astype(str))
    for kind in ("figures", "pictures"):
        for path in sorted((folder / kind).glob("*.png")):
            panels[f"{kind}/{path.stem}"] = wandb.Image(str(path))
    sweep = records.get("time_sweep")
    if sweep is not None and len(sweep):
        means = sweep[sweep["stage"] == "sample"].groupby("time")[list(SERIES)].mean(numeric_only=True).dropna(axis=1)
        for name in means.columns:
            panels[f"sweep/{name}"] = wandb.plot.line_series(
                xs=means.index.tolist(), ys=[means[name].tolist()], keys=[name], title=f"{name} over time", xname="t"
            )
    logger.experiment.log(panels)
