"""Sends what an evaluation found to the loggers of its run."""

import logging
from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from dmlik_pl.callbacks.loggers import log_image
from dmlik_pl.callbacks.records import RecordWriter
from dmlik_pl.results.page.caveats import markdown_list
from dmlik_pl.results.page.report import Report
from dmlik_pl.results.page.scalars import scalars
from dmlik_pl.results.page.wandb_run import log_run, log_settings

__all__ = ["ReportLogger"]

log = logging.getLogger(__name__)


class ReportLogger(Callback):
    """Logs settings when a test starts and the report when it ends, from the first process alone.

    W&B gets all that :func:`dmlik_pl.results.page.wandb_run.log_run` makes of the records. Every other logger gets the
    numbers by which runs are compared, with their errors; TensorBoard and CSV also the figures, and TensorBoard
    settings, tables and caveats as text.

    Args:
        writer: The callback that holds the records; it must come before this one.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self.writer = writer

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the loggers with the settings; one that cannot be reached says so before anything is computed.

        Raises:
            ValueError: If one cannot.
        """
        for logger in trainer.loggers if trainer.is_global_zero else ():
            try:
                self._start(logger)
            except Exception as error:
                raise ValueError(
                    f"{type(logger).__name__} cannot be started: {error}. Take another logger, or none: "
                    "--trainer.logger false"
                ) from error

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was written; a logger that fails takes nothing from the run folder, which is complete by now."""
        if not trainer.is_global_zero or self.writer.report is None:
            return
        for logger in trainer.loggers:
            try:
                self._log(logger, self.writer.report)
                logger.save()
            except Exception as error:
                self._warn(logger, error)

    def _start(self, logger: Logger) -> None:
        if isinstance(logger, WandbLogger):
            log_settings(logger.experiment, self.writer.folder)
        elif isinstance(logger, TensorBoardLogger):
            for name in ("config.yaml", "versions.json"):
                logger.experiment.add_text(name, _indented(self.writer.folder / name))

    def _warn(self, logger: Logger, error: Exception) -> None:
        log.warning("%s failed, and the report is in %s: %s", type(logger).__name__, self.writer.folder, error)

    def _log(self, logger: Logger, report: Report) -> None:
        """Numbers, figures, and where text can be read, tables and caveats."""
        if isinstance(logger, WandbLogger):
            log_run(logger.experiment, self.writer.folder, report.records, report)
            return
        logger.log_metrics(scalars(report.records))
        for path in sorted(self.writer.folder.glob("figures/*.png")):
            log_image(logger, f"figures/{path.stem}", path)
        if isinstance(logger, TensorBoardLogger):
            for table in report.tables:
                logger.experiment.add_text(f"tables/{table.name}", table.markdown())
            logger.experiment.add_text("caveats", markdown_list(report.caveats) or "None.")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the W&B run: the next evaluation in this process has one of its own."""
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, WandbLogger):
                try:
                    logger.experiment.finish()
                except Exception as error:
                    self._warn(logger, error)


def _indented(path: Path) -> str:
    """A file as a block of code in Markdown."""
    return "".join(f"    {line}\n" for line in path.read_text(encoding="utf-8").splitlines())
