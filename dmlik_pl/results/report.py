"""A run folder's tables, figures and report, made from its records alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import rich.console
from matplotlib.figure import Figure

import dmlik_pl.results.adaptation_tables
import dmlik_pl.results.prompt_figures
import dmlik_pl.results.prompt_tables
import dmlik_pl.results.rescoring_figures
import dmlik_pl.results.rescoring_tables
import dmlik_pl.results.speech_tables
import dmlik_pl.results.sweep_figures
import dmlik_pl.results.sweep_tables  # noqa: F401  # names the makers of its tables
from dmlik_pl.cli import DEBUG, DEBUG_HELP
from dmlik_pl.results.adaptation_figures import adaptation_sheet
from dmlik_pl.results.caveats import Caveat, caveat_line, find_caveats
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.frames import kind_of
from dmlik_pl.results.html import render_page
from dmlik_pl.results.speech_figures import mel_sheet
from dmlik_pl.results.store import RecordStore, read
from dmlik_pl.results.sweep_pictures import sweep_sheets
from dmlik_pl.results.table import Table
from dmlik_pl.results.tables import make_tables
from dmlik_pl.results.wandb_run import log_folder

__all__ = ["main", "write_report"]

_DOTS_PER_INCH = 150
_SHEETS: dict[str, Callable[[Path, pd.DataFrame], Figure | dict[str, Figure] | None]] = {
    "time_sweep": sweep_sheets,
    "speech_sweep": mel_sheet,
    "adaptation": adaptation_sheet,
}
"""What shows a study's kept pictures: one figure, or several by name, or none if there are no pictures."""


def write_report(folder: str | Path) -> list[Table]:
    """Write `tables/`, `figures/`, `report.md` and `report.html` into a run folder, replacing those of an earlier call.

    A run that was killed before it merged its records is merged here first; what it finished is shown.

    Args:
        folder: The run folder, the one that holds `records`.

    Returns:
        The tables.

    Raises:
        FileNotFoundError: If the folder holds no records.
    """
    folder = Path(folder)
    store = RecordStore(folder)
    records = store.finalise() if any(store.folder.glob("rank*.jsonl")) else read(folder)
    tables, figures = make_tables(records), make_figures(records)
    for study, frame in records.items():
        make_sheet = _SHEETS.get(kind_of(study, frame)) if len(frame) else None
        sheets = None if make_sheet is None else make_sheet(folder / "pictures" / study, frame)
        if isinstance(sheets, Figure):
            sheets = {"pictures": sheets}
        figures |= {f"{study}_{name}": sheet for name, sheet in (sheets or {}).items()}
    _clear(folder / "tables", ("md", "csv", "tex"))
    _clear(folder / "figures", ("png",))
    for table in tables:
        table.write(folder / "tables")
    for name, figure in figures.items():
        figure.savefig(folder / "figures" / f"{name}.png", dpi=_DOTS_PER_INCH)
    caveats = find_caveats(records)
    (folder / "report.md").write_text(_markdown(folder, tables, list(figures), caveats), encoding="utf-8")
    (folder / "report.html").write_text(render_page(folder, records, tables, figures, caveats), encoding="utf-8")
    return tables


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m dmlik_pl.results`.

    Args:
        arguments: Command-line arguments; those of the process if None.

    Returns:
        The exit status: 1 if the folder holds no records.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dmlik_pl.results",
        description="Make the tables, figures and report of a run again from its records, without a model.",
    )
    parser.add_argument("folder", type=Path, help="folder of a run, for instance runs/shapes-1a2b3c4d")
    parser.add_argument("--wandb", metavar="PROJECT", help="log it to W&B too, offline unless WANDB_MODE=online is set")
    parser.add_argument(DEBUG, action="store_true", help=DEBUG_HELP)
    options = parser.parse_args(arguments)
    folder = options.folder
    try:
        tables = write_report(folder)
    except FileNotFoundError as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = rich.console.Console()
    for table in tables:
        console.print(table.rich())
    console.print(caveat_line(find_caveats(read(folder))))
    console.print(
        f"Written to {folder / 'report.html'}, {folder / 'report.md'}, {folder / 'tables'}, {folder / 'figures'}."
    )
    if options.wandb:
        console.print(f"Logged to W&B: {log_folder(folder, options.wandb, tables)}")
    return 0


def _clear(folder: Path, extensions: Sequence[str]) -> None:
    """Remove what an earlier call wrote, so that no table of other records stays behind."""
    folder.mkdir(parents=True, exist_ok=True)
    for extension in extensions:
        for path in folder.glob(f"*.{extension}"):
            path.unlink()


def _markdown(folder: Path, tables: Sequence[Table], figures: Sequence[str], caveats: Sequence[Caveat]) -> str:
    parts = [f"# {folder.resolve().name}"]
    settings = [f"[{name}]({name})" for name in ("config.yaml", "versions.json") if (folder / name).exists()]
    if settings:
        parts.append(f"Settings: {', '.join(settings)}.")
    parts.append("All of this on one page that can be sent on: [report.html](report.html).")
    if caveats:
        listed = [
            f"- {caveat.severity.capitalize()}, {caveat.study}, {caveat.topic}: {caveat.text}" for caveat in caveats
        ]
        parts += ["## Caveats", "\n".join(listed)]
    for table in tables:
        links = ", ".join(f"[{extension}](tables/{table.name}.{extension})" for extension in ("csv", "tex"))
        parts += [f"## {table.name.replace('_', ' ').capitalize()}", table.markdown().strip(), f"As {links}."]
    if figures:
        parts += ["## Figures", *(f"![{name.replace('_', ' ')}](figures/{name}.png)" for name in figures)]
    return "\n\n".join(parts) + "\n"
