"""Lightning's command line for evaluations: it gives every run a folder that the same settings find again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from dmlik_pl.cli import naming
from dmlik_pl.data.base import EvaluationData
from dmlik_pl.interruption import command_line, note
from dmlik_pl.modules.command_line import CommandLine, Passed
from dmlik_pl.modules.evaluation import Evaluation, check_names, check_precision, target_of
from dmlik_pl.plain_text import file_stem
from dmlik_pl.records.run import part_digests, run_folder, write_settings
from dmlik_pl.results.clusters import check_cluster
from dmlik_pl.results.page.brief import TABLES, TABLES_HELP
from dmlik_pl.studies import Estimator, Study

__all__ = ["EvaluationCLI"]

# Where each kind of logger keeps its files, within the run folder; of W&B, which run it is besides.
_PLACES: dict[str, Callable[[Path], dict[str, str]]] = {
    "TensorBoardLogger": lambda folder: {"save_dir": str(folder), "name": "", "version": "tensorboard"},
    "WandbLogger": lambda folder: {"save_dir": str(folder), "name": folder.name, "id": file_stem(folder.name)},
}


class EvaluationCLI(CommandLine):
    """Builds trainer, module and data of an evaluation; the folder is written once all of them could be made.

    Args:
        args: Command-line arguments; those of the process if None.

    Attributes:
        folder: The run folder.
        parts: Digests of what is computed, by unit; see :func:`dmlik_pl.records.run.part_digests`.
    """

    verb = "evaluate"
    about = "Run the experiments of a configuration; `dmlik list` names them. Any value of it is an option."
    folder: Path
    parts: dict[str, str]
    _data: EvaluationData | None = None
    _examples: list[Any] | None = None
    order = ("model.solver", "model.divergence", "model.studies", "model.diffusion")

    def __init__(self, args: list[str] | None = None) -> None:
        super().__init__(
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
        axes = {name: study.axes for name, study in self.model.studies.items()}
        self.parts = part_digests(self.config.as_dict(), axes, self.model.units)
        if self.trainer.is_global_zero:
            with naming(self.folder):
                write_settings(self.folder, self._settings)

    def inspect(self, component: Any) -> None:
        """List data, and let studies look at a sample of each class, before any model is loaded."""
        if isinstance(component, EvaluationData):
            component.sample_ids()
            self._data = self._data or component
            self._check_cluster()
        elif isinstance(component, Study) and self._data is not None:
            for batch in self._some_samples():
                component.check(batch)

    def _some_samples(self) -> list[Any]:
        """A sample of each class."""
        if self._examples is None:
            self._examples = [] if self._data is None else list(self._data.examples())
        return self._examples

    def _check_cluster(self) -> None:
        """See that the samples have what they are to be clustered by, before anything is computed."""
        if cluster := self.config.cluster:
            for batch in self._some_samples()[:1]:
                check_cluster(cluster, batch.attributes)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what a run folder is called and where it goes."""
        parser.add_argument("--runs", type=str, default="runs", help="folder that holds the folders of all runs")
        parser.add_argument("--cluster", type=str, default="", help="errors over clusters of samples: speaker, class")
        parser.add_argument("--name", type=str | None, default=None, help="name of the run instead of its config's")
        parser.add_argument(TABLES, action=Passed, help=TABLES_HELP)

    def before_instantiate_classes(self) -> None:
        """Find the run folder; loggers keep theirs in it, and a resumed run is one run for W&B too.

        Raises:
            ValueError: If a number or a name will not do.
        """
        model = self.config.model
        check_names(model.studies or ())
        numbers = ("seed", "max_batch", "dequantisation_bits", "rounding_every")
        Estimator(**{name: model[name] for name in numbers})
        parts = (getattr(model.get(name), "class_path", "").rpartition(".")[2] for name in ("solver", "divergence"))
        target_of(*(model.get(name) for name in ("target", "target_difference", "max_nfe")), *parts)
        self._settings = self.parser.dump(self.config, skip_validation=True)
        configs = self.config.get("config") or []
        name = self.config.name or (Path(str(configs[0])).stem if configs else "run")
        if name != Path(name).name:
            raise ValueError(f"--name is the name of a folder in {self.config.runs}, not a path: got {name!r}")
        self.folder = run_folder(self.config.runs, name, self.config.as_dict())
        if (self.folder / "records").is_dir():  # loading may take long, and may be stopped
            note(lambda: f"What was measured before is kept in {self.folder}. To resume:\n    {command_line()}")
        loggers = self.config.trainer.logger
        for logger in loggers if isinstance(loggers, list) else [loggers]:
            place = _PLACES.get(getattr(logger, "class_path", "").rpartition(".")[2], lambda folder: {})
            for name, value in place(self.folder).items():
                logger.init_args[name] = value

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """Keep everything in the run folder.

        Raises:
            ValueError: If the trainer would change the numbers.
        """
        options["default_root_dir"] = self.folder
        if self.config.trainer.logger in (None, True):
            options["logger"] = CSVLogger(self.folder, name="", version="log")
        trainer = super().instantiate_trainer(**options)
        check_precision(trainer)
        if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
            raise ValueError(
                f"trainer.strategy {self.config.trainer.strategy} copies the model into processes that it forks or "
                "spawns, which evaluations are not made for: take ddp, which starts the command for each device"
            )
        if self.config.trainer.inference_mode:
            raise ValueError("trainer.inference_mode forbids derivatives, of which likelihoods are made: leave it out")
        return trainer
