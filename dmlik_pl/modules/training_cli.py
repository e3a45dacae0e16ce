"""Lightning's command line for trainings: a fit that ends early tells which command goes on."""

from pathlib import Path

from lightning import Trainer

from dmlik_pl.interruption import command_line, watch
from dmlik_pl.modules.command_line import CommandLine

__all__ = ["TrainingCLI"]


class TrainingCLI(CommandLine):
    """Builds and runs a training; its arguments are those of `LightningCLI`."""

    def after_instantiate_classes(self) -> None:
        """Know what to tell when the fit ends early."""
        watch(self.trainer, lambda: _kept(self.trainer))


def _kept(trainer: Trainer) -> str:
    """The last checkpoint of a fit, and the command that goes on with it."""
    named = [trainer.ckpt_path] if trainer.ckpt_path else []
    for keeper in trainer.checkpoint_callbacks:
        named += [getattr(keeper, "last_model_path", ""), *getattr(keeper, "best_k_models", ())]
    written = [path for path in map(Path, filter(None, named)) if path.is_file()]
    if not written:
        return "No checkpoint is written yet."
    last = max(written, key=lambda path: path.stat().st_mtime_ns)
    return f"The last checkpoint is {last}. To go on:\n    {command_line('--ckpt_path', str(last))}"
