"""A run folder's tables, figures and report, made from its records alone."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from dmlik_pl.options import Options
from dmlik_pl.plain_text import for_markdown
from dmlik_pl.records.files import draft_of, write_text
from dmlik_pl.records.store import studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.clusters import records_of
from dmlik_pl.results.coverage import GO_ON, Coverage, coverage
from dmlik_pl.results.drawing import Canvas
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.kinds import kind_of
from dmlik_pl.results.page.brief import MOST, TABLES, TABLES_HELP, show
from dmlik_pl.results.page.caveats import Caveat, find_caveats, markdown_list
from dmlik_pl.results.page.gallery import make_galleries
from dmlik_pl.results.page.html import render_page
from dmlik_pl.results.page.wandb_run import log_folder
from dmlik_pl.results.scores import scores_of
from dmlik_pl.results.table import Table
from dmlik_pl.results.tables import make_tables

__all__ = ["Report", "main", "write_report"]

_DOTS_PER_INCH = 150
_MOST_PIXELS, _LONGEST_SIDE = 1e8, 60_000  # of a figure; matplotlib draws no larger ones


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        tables: Its tables.
        caveats: What limits their numbers, and what of the report could not be made.
        covered: Of how many samples it is.
        records: The records that it is of, with the clusters of their samples.
        scores: Name of the file among the tables that has every likelihood; empty without one.
    """

    tables: list[Table]
    caveats: list[Caveat]
    covered: Coverage
    records: dict[str, pd.DataFrame] = field(default_factory=dict)
    scores: str = ""


def write_report(folder: str | Path, cluster: str | None = None) -> Report:
    """Write `tables/`, `figures/`, `report.md` and `report.html` into a run folder, replacing those of an earlier call.

    A run that was killed before it merged its records is merged here first; what it finished is shown. Every file is
    whole at any moment, and what only an earlier call wrote is removed last. A table or figure that cannot be made is a
    serious caveat in the report, which has all others.

    Args:
        folder: The run folder, the one that holds `records`.
        cluster: What samples are clustered by, see :mod:`dmlik_pl.results.clusters`; empty for nothing, None for what
            the run's configuration says. If that will not do, errors take samples as independent, and a caveat says so.

    Raises:
        FileNotFoundError: If the folder holds no records.
        ValueError: If the samples cannot be clustered by the name that is given.
        OSError: If the report cannot be written.
    """
    folder = Path(folder)
    attempts = Attempts()
    records = records_of(folder, cluster, attempts)
    covered = coverage(records)
    tables = make_tables(records, attempts)
    figures = make_figures(records, attempts) | _sheets(folder, records, attempts)
    tables = [table for table in tables if _written(table, folder / "tables", attempts)]
    names = [table.name for table in tables]
    scores = _scores_written(records, folder / "tables", names, attempts)
    drawn = {name: figure for name, figure in figures.items() if _saved(name, figure, folder / "figures", attempts)}
    galleries = make_galleries(folder, records, attempts)
    caveats = find_caveats(records, attempts)
    page = ""
    with attempts.making("The page with everything"):
        page = render_page(folder, records, tables, drawn, galleries, caveats)
    if not page:
        caveats = [Caveat("run", "report", attempts.unmade[-1].text, "serious"), *caveats]
    text = _markdown(folder, tables, list(drawn), caveats, covered, scores)
    write_text(folder / "report.html", page or f"<!doctype html>\n<meta charset=utf-8>\n<pre>{escape(text)}</pre>\n")
    write_text(folder / "report.md", text)
    _remove_others(folder / "tables", [*names, Path(scores).stem], (".md", ".csv", ".tex"))
    _remove_others(folder / "figures", drawn, (".png",))
    return Report(tables, caveats, covered, records, scores)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m dmlik_pl.results`.

    Args:
        arguments: Command-line arguments; those of the process if None.

    Returns:
        The exit status: 1 if the folder holds no records, or the report cannot be written.
    """
    parser = Options(
        prog="dmlik report",
        description="Make the tables, figures and report of a run again from its records, without a model.",
    )
    parser.add_argument("folder", type=Path, help="folder of a run, for instance runs/shapes-1a2b3c4d")
    parser.add_argument("--wandb", metavar="PROJECT", help="log it to W&B too, offline unless WANDB_MODE=online is set")
    parser.add_argument("--kinds", metavar="MODULE", help="import this module first, which declares kinds of studies")
    parser.add_argument("--cluster", metavar="NAME", help="errors are over clusters of samples: speaker, class, image")
    parser.add_argument(TABLES, action="store_true", help=TABLES_HELP)
    options = parser.parse_args(arguments)
    folder = options.folder
    try:
        if options.kinds:
            sys.path.append("")  # a module beside the command
            importlib.import_module(options.kinds)
        report = write_report(folder, options.cluster)
    except (OSError, ValueError, ImportError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    show(report, folder, options.tables, most=MOST - 2 * bool(options.wandb))
    if options.wandb:
        print(f"Logged to W&B: {log_folder(folder, options.wandb, report)}")
    return 0


def _sheets(folder: Path, records: Mapping[str, pd.DataFrame], attempts: Attempts) -> dict[str, Figure]:
    """Figures of the pictures that each study kept."""
    figures: dict[str, Figure] = {}
    for study, frame in studies(records).items():
        with attempts.making("Sheets of the kept pictures", study):
            sheets = kind_of(study, frame).sheets(folder / "pictures" / study, frame)
            figures |= {f"{study}_{name}": sheet for name, sheet in sheets.items()}
    return figures


def _scores_written(
    records: Mapping[str, pd.DataFrame], folder: Path, names: Collection[str], attempts: Attempts
) -> str:
    """Write every likelihood as CSV into a file that no table has; its name, empty if there is no likelihood."""
    scores = scores_of(records, attempts)
    name = "scores_of_samples.csv" if "scores" in names else "scores.csv"
    with attempts.making(f"The table {name}"):
        if len(scores):
            write_text(folder / name, scores.to_csv(index=False))
            return name
    return ""


def _written(table: Table, folder: Path, attempts: Attempts) -> bool:
    """Write a table; whether it could be written."""
    with attempts.making(f"The table {table.name}"):
        table.write(folder)
        return True
    return False


def _saved(name: str, figure: Figure, folder: Path, attempts: Attempts) -> bool:
    """Draw a figure into its file; whether it could be drawn."""
    width, height = figure.get_size_inches()
    dots = min(_DOTS_PER_INCH, math.sqrt(_MOST_PIXELS / (width * height)), _LONGEST_SIDE / max(width, height))
    with attempts.making(f"The figure {name}"), draft_of(folder / f"{name}.png") as draft:
        Canvas(figure)
        figure.savefig(draft, dpi=dots)
        return True
    return False


def _remove_others(folder: Path, names: Collection[str], extensions: Collection[str]) -> None:
    """Remove what an earlier call wrote and this one did not, so that no table of other records stays behind."""
    for path in folder.glob("*"):
        if path.suffix in extensions and path.stem not in names:
            path.unlink()


def _markdown(
    folder: Path,
    tables: Sequence[Table],
    figures: Sequence[str],
    caveats: Sequence[Caveat],
    covered: Coverage,
    scores: str,
) -> str:
    parts = [f"# {for_markdown(folder.resolve().name)}"]
    parts.append(f"**{covered.words}. {GO_ON}**" if covered.partial else f"{covered.words}.")
    settings = [f"[{name}]({name})" for name in ("config.yaml", "versions.json") if (folder / name).exists()]
    if settings:
        parts.append(f"Settings: {', '.join(settings)}.")
    parts.append("All of this on one page that can be sent on: [report.html](report.html).")
    if scores:
        parts.append(f"Every likelihood with its error, one row each: [{scores}](tables/{scores}).")
    if caveats:
        parts += ["## Caveats", markdown_list(caveats)]
    for table in tables:
        links = ", ".join(f"[{extension}](tables/{table.name}.{extension})" for extension in ("csv", "tex"))
        parts += [f"## {table.name.replace('_', ' ').capitalize()}", table.markdown().strip(), f"As {links}."]
    if figures:
        parts += ["## Figures", *(f"![{name.replace('_', ' ')}](figures/{name}.png)" for name in figures)]
    return "\n\n".join(parts) + "\n"
