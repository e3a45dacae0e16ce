"""Train a model: ``python train.py fit --config NAME.yaml``."""

import sys

from dmlik_pl.cli import find_config, keep_freed_memory


def cli_main(args: list[str] | None = None) -> None:
    """Run Lightning's command line with any training module and data module.

    Args:
        args: The arguments; those of the process if None.
    """
    found = find_config(sys.argv[1:] if args is None else args)
    keep_freed_memory()
    from lightning.pytorch.cli import LightningCLI

    from dmlik_pl.data.base import EvaluationData
    from dmlik_pl.modules.training.base import Training

    LightningCLI(
        Training,
        EvaluationData,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={"overwrite": True},
        load_from_checkpoint_support=False,
        args=found,
    )


if __name__ == "__main__":
    cli_main()
