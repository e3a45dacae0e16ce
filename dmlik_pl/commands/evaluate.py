"""Evaluate a diffusion model's likelihoods: ``dmlik evaluate --config NAME.yaml``, or ``python evaluate.py``."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dmlik_pl.announce import say
from dmlik_pl.cli import find_config, keep_freed_memory, naming, program, run
from dmlik_pl.interruption import command_line, watch

if TYPE_CHECKING:
    from dmlik_pl.callbacks import RecordWriter
    from dmlik_pl.modules.evaluation_cli import EvaluationCLI

# Warnings of every run that are of no use to its reader.
QUIET = (
    ".*does not have many workers.*",
    ".*treespec, LeafSpec.*",
    ".*Experiment logs directory.*",
    "LightningCLI's args parameter",
)

EXAMPLES = """Measure the likelihoods of a diffusion model; what is found goes into a folder of runs/:

  {program} --config shapes.yaml                 a shipped model, a few minutes on two cores
  {program} --config digits.yaml --data.limit 8  a shipped model of handwritten digits, 8 images of it
  {program} --config images.yaml --data.root IMAGES --model.diffusion.path FOLDER  your own

`dmlik list` names all configurations, `{program} --help` every option."""


def cli_main(args: list[str] | None = None) -> int:
    """Resolve the configuration, run its studies, write the run folder, show what was found.

    Args:
        args: The arguments; those of the process if None.

    Returns:
        The exit status: 0 if every sample is measured or recorded as failed, and one at least is measured; else 1.
    """
    args = find_config(sys.argv[1:] if args is None else args, "an evaluation")
    keep_freed_memory()
    say("Importing torch and lightning")
    # Seconds of imports that an unknown configuration need not wait for. Lightning's is the first: typing hands out
    # whichever of Optional[int | float] and Optional[float | int] is asked for first, and jsonargparse would read the
    # trainer's `limit_test_batches: 1` as 1.0, all batches.
    import lightning.pytorch  # noqa: F401
    from transformers.utils.logging import disable_progress_bar

    from dmlik_pl.callbacks import RecordWriter, ReportLogger
    from dmlik_pl.modules.evaluation_cli import EvaluationCLI
    from dmlik_pl.results.page.brief import TABLES, show

    for talkative in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    disable_progress_bar()  # of each component's weights: the run has a bar of its own

    cli = EvaluationCLI(args)
    writer = RecordWriter(cli.folder, cli.parts)
    callbacks: list[Any] = cli.trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [*with_progress(callbacks, cli), writer, ReportLogger(writer)]
    watch(cli.trainer, lambda: kept(writer))
    with naming(cli.folder):
        cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    if not cli.trainer.is_global_zero:
        return 0
    closing: list[str] = []
    if writer.missing:
        closing += (kept(writer) or f"0 of {writer.expected} samples are measured.").splitlines()
    elif not writer.succeeded:
        closing.append("No sample could be measured; its failures say why.")
    if writer.report is not None:
        show(writer.report, cli.folder, TABLES in args, closing)
    else:
        print(*closing, sep="\n", end="\n" * bool(closing))
    return 0 if writer.succeeded and not writer.missing else 1


def with_progress(callbacks: Sequence[Any], cli: EvaluationCLI) -> list[Any]:
    """Callbacks with the package's own progress in the place of Lightning's, unless the configuration names a bar."""
    from lightning.pytorch.callbacks import ProgressBar

    from dmlik_pl.callbacks.progress import Progress

    if "ProgressBar" in str(cli.config.trainer.callbacks):
        return list(callbacks)
    return [Progress(cli.folder) if isinstance(each, ProgressBar) else each for each in callbacks]


def kept(writer: RecordWriter) -> str:
    """How much of a run is kept, if anything, and which command resumes it."""
    done = writer.expected - writer.missing
    if not done:
        return ""
    samples = f"{done} of {writer.expected} samples are kept in {writer.folder}"
    if not writer.missing:
        return f"{samples}. To make their report:\n    {command_line()}"
    return f"{samples}. To resume:\n    {command_line()}"


def command(args: list[str] | None = None) -> int:
    """The verb: `cli_main` in quiet, or examples if there is nothing to do."""
    args = sys.argv[1:] if args is None else args
    if not args:
        print(EXAMPLES.format(program=program("evaluate")))
        return 1
    for known in QUIET:
        warnings.filterwarnings("ignore", message=known)
    return cli_main(args)


def main() -> None:
    """The script of a clone."""
    run(command)
