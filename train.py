"""Train a model: ``python train.py fit --config NAME.yaml``."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

from dmlik_pl.cli import find_config, keep_freed_memory, run

if TYPE_CHECKING:
    from dmlik_pl.modules.training_cli import TrainingCLI


def cli_main(args: list[str] | None = None) -> TrainingCLI:
    """Run Lightning's command line with any training module and data module.

    Args:
        args: The arguments; those of the process if None.

    Returns:
        The command line after its work, with its trainer, model and data.
    """
    if args is None:
        sys.argv[1:] = find_config(sys.argv[1:])
    keep_freed_memory()
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
        args=None if args is None else find_config(args),
    )


def main() -> None:
    """The command, in quiet."""
    # Frozen parts of a model are in eval mode on purpose.
    warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start of training")
    run(cli_main)


if __name__ == "__main__":
    main()
