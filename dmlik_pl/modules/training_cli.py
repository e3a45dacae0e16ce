"""Lightning's command line for trainings: a fit that ends early says which command resumes it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from dmlik_pl.data.base import EvaluationData
from dmlik_pl.interruption import command_line, watch
from dmlik_pl.modules.command_line import CommandLine

__all__ = ["TrainingCLI"]


class TrainingCLI(CommandLine):
    """Builds and runs a training; its arguments are those of `LightningCLI`."""

    verb = "train"
    about = "Train or fine-tune a model by a configuration; `dmlik list` names them."

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments, and see whether a checkpoint that is named can be read.

        Raises:
            ValueError: If it cannot.
        """
        super().parse_arguments(parser, args)
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path and Path(path).is_file():
            try:
                content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
            except Exception as error:  # damaged files raise almost anything
                raise ValueError(f"--ckpt_path {path} is damaged, or not a checkpoint of a training") from error
            if not isinstance(content, dict) or "state_dict" not in content:
                raise ValueError(f"--ckpt_path {path} is not a checkpoint of a training: it has no state_dict")

    def inspect(self, component: Any) -> None:
        """See whether the files of the data are there, before any model is loaded."""
        if isinstance(component, EvaluationData):
            with suppress(ValueError):  # of an evaluation's own settings; a fit says what it lacks
                component.sample_ids()

    def after_instantiate_classes(self) -> None:
        """Note how to report the state of the fit if it ends early."""
        watch(self.trainer, lambda: _kept(self.trainer))


def _kept(trainer: Trainer) -> str:
    """The last checkpoint of a fit, if there is one, and the command that resumes it."""
    named: list[Any] = [trainer.ckpt_path]
    for keeper in trainer.checkpoint_callbacks:
        named += [getattr(keeper, "last_model_path", ""), *getattr(keeper, "best_k_models", ())]
    written = [path for path in map(Path, filter(None, named)) if path.is_file()]
    if not written:
        return ""
    last = max(written, key=lambda path: path.stat().st_mtime_ns)
    return f"The last checkpoint is {last}. To resume:\n    {command_line('--ckpt_path', str(last))}"
