"""Train a model: ``dmlik train --config NAME.yaml``, or ``python train.py fit --config NAME.yaml``."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from dmlik_pl.announce import say
from dmlik_pl.cli import configurations, find_config, keep_freed_memory, program, run

if TYPE_CHECKING:
    from dmlik_pl.modules.training_cli import TrainingCLI

SUBCOMMANDS = ("fit", "validate", "test", "predict")  # of Lightning's command line

EXAMPLES = """Train or fine-tune a model by a configuration:

  {program} --config shapes_finetune.yaml                 move the shipped model to drawings
  {program} --config digits_train.yaml --trainer.max_steps 100
  {program} --config sdxl_finetune.yaml                   SDXL by LoRA, its weights needed

`dmlik list` names all configurations, `{program} --help` every option."""


def cli_main(args: list[str] | None = None) -> TrainingCLI:
    """Run Lightning's command line with any training module and data module.

    Args:
        args: The arguments; those of the process if None. Without a subcommand it is ``fit``.

    Returns:
        The command line after its work, with its trainer, model and data.
    """
    args = find_config(sys.argv[1:] if args is None else args, "a training")
    if not any(word in SUBCOMMANDS for word in args) and list(configurations(args)):
        args = ["fit", *args]
    keep_freed_memory()
    say("Importing torch and lightning")
    from dmlik_pl.callbacks.settings import SettingsLogger
    from dmlik_pl.data.base import EvaluationData
    from dmlik_pl.modules.training.base import Training
    from dmlik_pl.modules.training_cli import TrainingCLI

    return TrainingCLI(
        Training,
        EvaluationData,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SettingsLogger,
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,  # each training has its own
        load_from_checkpoint_support=False,
        args=args,
    )


def command(args: list[str] | None = None) -> object:
    """The verb: `cli_main` in quiet, or examples if there is nothing to do."""
    args = sys.argv[1:] if args is None else args
    if not args:
        print(EXAMPLES.format(program=program("train")))
        return 1
    # Frozen parts of a model are in eval mode on purpose.
    warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start of training")
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    return cli_main(args)


def main() -> None:
    """The script of a clone."""
    run(command)
