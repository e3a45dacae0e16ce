"""Result tables: to the terminal, as CSV with every digit, as Markdown rounded to what is known."""

import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

__all__ = ["RESULTS", "machine", "publish", "save", "show"]

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Where the numbers were measured."""
    return f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread"


def _text(value: object, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "-" if math.isnan(value) else format(value, form)
    return str(value)


def _rounded(frame: pd.DataFrame, formats: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {name: [_text(value, formats.get(name, "g")) for value in frame[name].tolist()] for name in frame.columns}
    )


def show(console: Console, title: str, frame: pd.DataFrame, formats: Mapping[str, str]) -> None:
    """Print a table; columns of words to the left, of numbers to the right."""
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        words = all(isinstance(value, str) for value in frame[name])
        table.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in _rounded(frame, formats).itertuples(index=False):
        table.add_row(*row)
    console.print(table)


def save(
    folder: Path, name: str, frame: pd.DataFrame, formats: Mapping[str, str], title: str, notes: Sequence[str]
) -> None:
    """Write ``name.csv`` and ``name.md`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / f"{name}.csv", index=False)
    lines = [f"# {title}", "", f"Measured on {machine()}.", ""]
    for problem, group in frame.groupby("problem", sort=False):
        shown = _rounded(group.drop(columns="problem"), formats)
        lines += [f"## {problem}", "", shown.to_markdown(index=False, disable_numparse=True), ""]
    lines += [f"- {note}" for note in notes]
    (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def publish(
    folder: Path, name: str, frame: pd.DataFrame, formats: Mapping[str, str], title: str, notes: Sequence[str]
) -> None:
    """Print one table a problem, and save them all."""
    console = Console()
    for problem, group in frame.groupby("problem", sort=False):
        show(console, f"{problem}: {title.lower()}", group.drop(columns="problem"), formats)
    save(folder, name, frame, formats, title, notes)
