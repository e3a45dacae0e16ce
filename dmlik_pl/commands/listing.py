"""Name what there is: ``dmlik list`` shows configurations, studies and models, one line each."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from dmlik_pl.cli import CONFIGS, purpose
from dmlik_pl.options import Options
from dmlik_pl.plain_text import terminal
from dmlik_pl.shipped import ASSETS, models

__all__ = ["command", "title"]

_ROOM = Path(__file__).parent.parent
_GROUPS = {
    "an evaluation": "Evaluations: dmlik evaluate --config NAME",
    "a training": "Trainings: dmlik train --config NAME",
    "": "Added to another configuration: --config NAME --config wandb",
}


def command(args: Sequence[str]) -> int:
    """Print the lists.

    Args:
        args: Command-line arguments, of which there are none but ``--help``.
    """
    Options(prog="dmlik list", description="Name configurations, studies and models.").parse_args(args)
    groups: dict[str, list[tuple[str, str]]] = {heading: [] for heading in _GROUPS.values()}
    for path in sorted(CONFIGS.glob("*.yaml")):
        groups[_GROUPS[purpose(path)]].append((path.stem, title(path)))
    groups["Studies: model.studies of a configuration"] = list(_studies())
    groups["Models that ship with the package: dmlik score --model NAME"] = [(name, _card(name)) for name in models()]
    console = terminal()
    for heading, rows in groups.items():
        console.print(Text(heading, style="bold"))
        table = Table.grid(padding=(0, 2, 0, 0))
        for name, about in rows:
            table.add_row("", Text(name, no_wrap=True), Text(about))
        console.print(table, "")
    return 0


def title(path: Path) -> str:
    """The first comment line of a configuration, which is its title; empty without one."""
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _studies() -> Iterator[tuple[str, str]]:
    """Classes of studies with the first line of their docstrings, read without importing them."""
    for path in sorted((_ROOM / "studies").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Study" for base in node.bases):
                yield node.name, (ast.get_docstring(node) or "").partition("\n")[0]


def _card(name: str) -> str:
    """The first sentence of a model's card."""
    text = (ASSETS.parent / "cards" / f"{name}.md").read_text(encoding="utf-8")
    paragraph = text.partition(f"# {name}\n\n")[2].partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0].removesuffix(".")
