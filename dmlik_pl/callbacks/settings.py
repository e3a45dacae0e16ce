"""Hands the settings of a training to its loggers."""

import yaml
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

__all__ = ["SettingsLogger"]


class SettingsLogger(SaveConfigCallback):
    """Writes the resolved configuration into the log folder, and gives it to every logger as hyperparameters."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the settings to the loggers; the first process does, once."""
        settings = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(settings)
