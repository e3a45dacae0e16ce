"""Evaluate a diffusion model's likelihoods: ``python evaluate.py --config NAME.yaml``."""

import logging
import sys
import warnings
from datetime import timedelta
from pathlib import Path

from dmlik_pl.cli import find_config, keep_freed_memory

# Told on every run, of no use to whoever reads its output.
QUIET = (".*does not have many workers.*", ".*treespec, LeafSpec.*", ".*Experiment logs directory.*")
MOST_FAILURES = 20  # shown in the terminal; all are in the report
PATIENCE = timedelta(days=7)  # processes meet at the end only, and may need very different times to get there


def cli_main(args: list[str] | None = None) -> int:
    """Resolve the configuration, run its studies, write the run folder, show its tables.

    Args:
        args: The arguments; those of the process if None.

    Returns:
        The exit status: 1 if no sample could be measured.
    """
    if args is None:
        sys.argv[1:] = find_config(sys.argv[1:])
    else:
        args = find_config(args)
    keep_freed_memory()
    # Seconds of imports that an unknown configuration need not wait for.
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
    from lightning.pytorch.loggers import CSVLogger
    from lightning.pytorch.strategies import DDPStrategy
    from rich.console import Console
    from transformers.utils.logging import disable_progress_bar

    from callbacks import RecordWriter, ReportLogger
    from dmlik_pl.data.base import EvaluationData
    from dmlik_pl.modules.evaluation import Evaluation
    from dmlik_pl.results.run import run_folder, write_settings

    for talkative in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    disable_progress_bar()  # of each component's weights: the run has a bar of its own

    class EvaluationCLI(LightningCLI):
        """Lightning's command line with a run folder."""

        folder: Path

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_argument("--runs", type=str, default="runs", help="folder in which each run gets a folder")
            parser.add_argument("--name", type=str | None, default=None, help="name of the run instead of its config's")

        def before_instantiate_classes(self) -> None:
            settings = self.parser.dump(self.config, skip_validation=True)
            configs = self.config.get("config") or []
            name = self.config.name or (Path(str(configs[0])).stem if configs else "run")
            self.folder = run_folder(self.config.runs, name, self.config.as_dict())
            write_settings(self.folder, settings)
            loggers = self.config.trainer.logger
            for logger in loggers if isinstance(loggers, list) else [loggers]:
                if getattr(logger, "class_path", "").endswith("WandbLogger"):  # a resumed run is one run there too
                    logger.init_args["save_dir"] = str(self.folder)
                    logger.init_args["id"] = logger.init_args["name"] = self.folder.name

        def instantiate_trainer(self, **options: object) -> object:
            options["default_root_dir"] = self.folder
            trainer = self.config.trainer
            if trainer.logger in (None, True):
                options["logger"] = CSVLogger(self.folder, name="", version="log")
            if trainer.strategy == "ddp":
                options["strategy"] = DDPStrategy(timeout=PATIENCE)
            return super().instantiate_trainer(**options)

    cli = EvaluationCLI(
        Evaluation,
        EvaluationData,
        subclass_mode_data=True,
        run=False,
        save_config_callback=None,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        # Traces are derivatives of the network, which inference mode forbids.
        trainer_defaults={"enable_model_summary": False, "inference_mode": False},
        seed_everything_default=0,
        args=args,
    )
    writer = RecordWriter(cli.folder)
    cli.trainer.callbacks += [writer, ReportLogger(writer)]
    cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    if not cli.trainer.is_global_zero:
        return 0
    console = Console()
    for table in writer.tables:
        if table.name != "failures" or len(table.shown) <= MOST_FAILURES:
            console.print(table.rich())
        else:
            console.print(f"The first of many failures: {table.shown.index[0]}: {table.shown['error'].iloc[0]}")
    console.print(f"{writer.failed} failed. Report, tables, figures and records: {cli.folder}")
    return 0 if writer.succeeded else 1


def main() -> None:
    """The command: errors that a user can mend are one message and exit status 1."""
    for known in QUIET:
        warnings.filterwarnings("ignore", message=known)
    try:
        status = cli_main()
    except SystemExit as stop:  # the parser's own errors, already told, come with 2
        status = 1 if stop.code else 0
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        logging.getLogger("dmlik_pl").debug("details", exc_info=True)
        status = f"error: {error}"
    sys.exit(status)


if __name__ == "__main__":
    main()
