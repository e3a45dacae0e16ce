"""Score files by a model: ``dmlik score --model FOLDER --image a.png --prompt "a cat" --prompt "a dog"``.

Every image is scored under every prompt, every sound under every text. All candidates of one file are measured on the
same probes, so that their order is more certain than their errors one by one.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmlik_pl.announce import Ticker, clock, say, since
from dmlik_pl.cli import message, nearest
from dmlik_pl.interruption import note
from dmlik_pl.options import Options
from dmlik_pl.plain_text import one_line, terminal
from dmlik_pl.shipped import models, on_disk

if TYPE_CHECKING:
    from dmlik_pl.commands.scorers import Scorer

__all__ = ["Score", "command"]

_LONGEST = 40  # letters of a name or prompt in the table; the CSV file has all


@dataclass(frozen=True)
class Score:
    """A log-likelihood with its total error; a row of the table and of the CSV file.

    Attributes:
        file: Name of the file that was scored.
        prompt: The prompt, or the text of a sound; empty without any.
        guidance: Guidance weight.
        log_p: Log-density, nats; NaN if it could not be measured.
        error: Its total error, nats.
        bits_per_dim: Bits per dimension.
        bits_per_dim_error: Their total error.
        dims: Dimensions.
        density: What is measured, e.g. "p(x|y)".
        space: What it is a density of.
        failure: Why there is no number.
    """

    file: str
    prompt: str
    guidance: float
    log_p: float = math.nan
    error: float = math.nan
    bits_per_dim: float = math.nan
    bits_per_dim_error: float = math.nan
    dims: int = 0
    density: str = ""
    space: str = ""
    failure: str = ""


def command(args: Sequence[str]) -> int:
    """Score, print the table, write the CSV file.

    Args:
        args: Command-line arguments.

    Returns:
        The exit status, 0.

    Raises:
        FileNotFoundError: If the model or a file is not there.
        ValueError: If options do not go together, or nothing could be measured.
    """
    options = _parser().parse_args(args)
    files, prompts = _candidates(options)
    scorer = _scorer(options)
    job = _Job(scorer, files, prompts, options.guidance or [1.0 if prompts else scorer.alone])
    place = f"in {options.csv}" if options.csv else "shown above"
    note(lambda: f"{len(job.scores)} of {job.expected} scores are {place}. The same command begins anew.")
    try:
        with Ticker(job.line):
            for _ in job.run():
                if options.csv:
                    _write(options.csv, job.scores)
    finally:  # what is measured is shown, whatever ends the command
        if any(not score.failure for score in job.scores):
            _show(job.scores, job.expected)
    if all(score.failure for score in job.scores):
        raise ValueError("; ".join(dict.fromkeys(score.failure for score in job.scores)))
    return 0


def _parser() -> Options:
    parser = Options(
        prog="dmlik score",
        description="Exact log-likelihoods of images under prompts, or of sounds under texts, with their errors.",
        epilog='dmlik score --model shapes-sdxl --image a.png b.png --prompt "a red cube" "a blue cube" --guidance 1 3',
    )
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("--model", required=True, help="a folder, a hub id, or a shipped model: " + ", ".join(models()))
    parser.add_argument("--image", metavar="FILE", help="images, of any sizes that the model takes", **many)
    parser.add_argument("--prompt", metavar="TEXT", help="prompts; each image is scored under each", **many)
    parser.add_argument("--audio", metavar="FILE", help="sounds of one channel, resampled where needed", **many)
    parser.add_argument("--text", metavar="TEXT", help="what may be said; each sound is scored under each", **many)
    parser.add_argument("--speaker", type=int, default=0, help="who speaks, for models of several (default: 0)")
    parser.add_argument(
        "--guidance",
        metavar="W",
        nargs="+",
        type=float,
        help="guidance weights: 1 is p(x|prompt), the default; 0 is p(x), the default without a prompt",
    )
    parser.add_argument("--csv", metavar="FILE", type=Path, help="also write every digit to this file")
    parser.add_argument("--nodes", type=int, default=33, help="nodes of the time grid (default: 33)")
    parser.add_argument("--probes", type=int, default=1, help="probes of the trace per node (default: 1)")
    parser.add_argument(
        "--target",
        metavar="ERROR",
        type=float,
        help="the error that each score may have, bits per dimension, e.g. 0.01, in place of nodes and probes",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the probes (default: 0)")
    parser.add_argument("--dtype", default=None, help="floating point type of the network, e.g. bfloat16")
    parser.add_argument("--device", default=None, help="e.g. cpu or cuda:1; an accelerator by default, if there is one")
    return parser


def _candidates(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The files and what they are scored under, once they are known to go together and the files to be there."""
    if bool(options.image) == bool(options.audio):
        raise ValueError("give the files to score: either --image FILE, or --audio FILE")
    other, wanted = ("text", "prompt") if options.image else ("prompt", "text")
    if getattr(options, other):
        raise ValueError(f"--{other} does not go with --{'image' if options.image else 'audio'}: give --{wanted}")
    if options.audio and not options.text:
        raise ValueError("a sound is scored under what is said in it: give --text")
    if missing := [name for name in options.image or options.audio if not Path(name).is_file()]:
        raise FileNotFoundError(f"no file {', '.join(missing)}")
    if options.csv and not options.csv.absolute().parent.is_dir():
        raise FileNotFoundError(f"--csv {options.csv}: there is no folder {options.csv.absolute().parent}")
    name = options.model
    if on_disk(name) is None and name.count("/") != 1:  # nor the id of a hub
        known = nearest(name, models()) or f"; models that ship with the package are {', '.join(models())}"
        raise FileNotFoundError(f"no model {name!r}{known}")
    return options.image or options.audio, options.prompt or options.text


def _scorer(options: argparse.Namespace) -> Scorer:
    """Load the model."""
    say(f"Loading {options.model}")
    from dmlik_pl.commands.scorers import Pictures, Sounds, best_device

    how = {name: getattr(options, name) for name in ("nodes", "probes", "seed", "target")}
    how["device"] = best_device(options.device)
    if options.image:
        return Pictures(options.model, options.dtype, bool(options.prompt), **how)
    if options.dtype is not None:
        raise ValueError("--dtype is of models of images: one of speech keeps the type of its weights")
    return Sounds(options.model, options.speaker, **how)


class _Job:
    """All files under all prompts and guidance weights, one file and weight after the other."""

    def __init__(self, scorer: Scorer, files: Sequence[str], prompts: Sequence[str], weights: Sequence[float]) -> None:
        self.scorer, self.files, self.prompts, self.weights = scorer, files, list(prompts) or [""], weights
        self.prompted = bool(prompts)
        self.scores: list[Score] = []
        self.expected = len(files) * len(weights) * len(self.prompts)
        self._planned = len(files) * sum(map(self._plan, weights))
        self._start = time.monotonic()

    def _plan(self, guidance: float) -> int:
        return self.scorer.planned(len(self.prompts), guidance)

    def run(self) -> Iterator[None]:
        """Score; what fails is a score with its reason. A turn ends with each file and weight."""
        behind = 0
        for file in self.files:
            for guidance in self.weights:
                self.scores += self._scores(file, guidance)
                behind += self._plan(guidance)
                self.scorer.evaluations = behind  # also where a failure has spared some
                yield

    def line(self) -> str:
        """How far it is."""
        done, passed = self.scorer.evaluations, since(self._start)
        if self.scorer.target is not None:  # what a score will cost is known when it is there
            scored = len(self.scores)
            left = f", {clock(passed * (self.expected - scored) / scored)} left" if scored else ""
            return f"{scored} of {self.expected} scores, {done} network evaluations{left}"
        left = f", {clock(passed * (self._planned - done) / done)} left" if done else ""
        counts = f"{done:,} of {self._planned:,}".replace(",", " ")
        return f"{len(self.scores)} of {self.expected} scores, {counts} network evaluations{left}"

    def _scores(self, file: str, guidance: float) -> Iterator[Score]:
        from dmlik_pl.flow import SolverError

        many = f" under {len(self.prompts)} prompts" if len(self.prompts) > 1 else ""
        say(f"Measuring {one_line(file)}{many}{f', guidance {guidance:g}' if len(self.weights) > 1 else ''}")
        try:
            found = self.scorer.measure(file, self.prompts if self.prompted else [], guidance)
        except (SolverError, OSError, ValueError) as failure:
            yield from (Score(file, prompt, guidance, failure=message(failure)) for prompt in self.prompts)
            return
        columns, result = found.columns, found.result
        for b, prompt in enumerate(self.prompts):
            log_p, error, bpd, bpd_error = (columns[name][b] for name in ("log_p", "error", "bpd", "bpd_error"))
            dims = int(columns["dims"][b])
            yield Score(file, prompt, guidance, log_p, error, bpd, bpd_error, dims, result.density, found.space)


def _write(path: Path, scores: Sequence[Score]) -> None:
    """Write the scores so far; the file is whole at any time."""
    from dmlik_pl.records.files import draft_of

    with draft_of(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)])
        writer.writeheader()
        writer.writerows(map(asdict, scores))


def _show(scores: Sequence[Score], expected: int) -> None:
    """Print the table."""
    import rich.box
    from rich.table import Table

    console = terminal()
    guided, prompted = len({score.guidance for score in scores}) > 1, any(score.prompt for score in scores)
    headings = ["file", *["prompt"] * prompted, *["w"] * guided, "log p", "±", "bits/dim", "±"]
    table = Table(*headings, box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1 + prompted :]:
        column.justify, column.no_wrap = "right", True
    for score in scores:
        numbers = [
            f"{score.log_p:.2f}",
            _rough(score.error),
            f"{score.bits_per_dim:.5f}",
            _rough(score.bits_per_dim_error),
        ]
        names = [one_line(name, _LONGEST) for name in (score.file, score.prompt)[: 1 + prompted]]
        table.add_row(*names, *[f"{score.guidance:g}"] * guided, *(["-"] * 4 if score.failure else numbers))
    console.print(table)
    if measured := [score for score in scores if not score.failure]:
        of = {f"{score.density} of {score.space}, {score.dims} dimensions" for score in measured}
        console.print(f"{'; '.join(sorted(of))}. log p in nats; ± is the total error.", soft_wrap=True, highlight=False)
    for score in scores:
        if score.failure:
            console.print(f"{one_line(score.file)}: {one_line(score.failure)}", soft_wrap=True)
    if len(scores) < expected:
        console.print(f"{len(scores)} of {expected} were measured.")


def _rough(error: float) -> str:
    """An error in two digits."""
    return "-" if math.isnan(error) else f"{error:.2g}"
