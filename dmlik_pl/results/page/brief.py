"""What a run found, in as few lines as a terminal shows at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from dmlik_pl.plain_text import one_line, terminal
from dmlik_pl.results.coverage import GO_ON
from dmlik_pl.results.kinds import Headline
from dmlik_pl.results.page.caveats import Caveat, caveat_counts, caveat_line
from dmlik_pl.results.page.facts import facts
from dmlik_pl.results.page.headlines import fair_share, headlines_by_study

if TYPE_CHECKING:
    from dmlik_pl.results.page.report import Report

__all__ = ["MOST", "TABLES", "TABLES_HELP", "WIDTH", "brief", "show"]

TABLES, TABLES_HELP = "--tables", "print all tables too"
WIDTH, MOST = 80, 20
_INDENT = "  "  # of a paragraph's second line
_MOST_FACTS, _MOST_TOPICS, _LONGEST_LABEL = 4, 3, 150


def show(report: Report, folder: Path, tables: bool = False, closing: Sequence[str] = (), most: int = MOST) -> None:
    """Print what a run found, and its tables before it if they are wanted.

    Args:
        report: What the report says.
        folder: The run folder.
        tables: Whether to print all tables.
        closing: Lines to end with, such as how to go on.
        most: How many lines there may be without tables.
    """
    console = terminal()
    for table in report.tables if tables else ():
        console.print(table.rich())
    for line in brief(report, folder, closing, most):
        console.print(line, soft_wrap=True, highlight=False)


def brief(report: Report, folder: Path, closing: Sequence[str] = (), most: int = MOST) -> list[str]:
    """What was measured, the numbers at the head of the report, what limits them, and where the report is.

    Lines are wrapped, never cut. Where not everything has room, numbers come before the words of caveats, and how many
    numbers are left to the report is said.

    Args:
        report: What the report says.
        folder: The run folder.
        closing: Lines to end with, which are not wrapped, so that a command in them can be copied.
        most: How many lines there may be in a terminal of `WIDTH` columns.
    """
    told = [f"{folder.resolve().name}: {report.covered.words}."]
    told[0] += f" {GO_ON}" if report.covered.partial and not closing else ""
    what = [*_wrapped(told[0]), *_known(report, folder)]
    scores = [f"Every likelihood: {folder / 'tables' / report.scores}"] if report.scores else []
    where = [
        f"Report: {folder / 'report.html'}",
        *scores,
        f"Tables, figures and records lie beside it; {TABLES} prints all tables.",
    ]
    topics = _wrapped(caveat_line(report.caveats))
    if len(topics) > _MOST_TOPICS:
        topics = [f"Caveats: {caveat_counts(report.caveats)}. They are in the report."]
    end = [*where, *closing]
    left = most - len(what) - len(topics) - sum(math.ceil(cell_len(line) / WIDTH) for line in end) - 3  # empty lines
    found = _found(report, left)
    return [*what, "", *found, "", *topics, *_texts(report.caveats, left - len(found)), "", *end]


def _known(report: Report, folder: Path) -> list[str]:
    """Model, data and studies, unless their names are endless."""
    config = folder / "config.yaml"
    settings = config.read_text(encoding="utf-8", errors="backslashreplace") if config.is_file() else ""
    known = [f"{label}: {value}." for label, value in facts(settings, report.covered) if label in ("Model", "Data")]
    lines = _wrapped(" ".join(known)) if known else []
    return lines if len(lines) <= _MOST_FACTS else []


def _found(report: Report, room: int) -> list[str]:
    """As many headlines as there is room for, of each study the same number as far as it has them."""
    groups = headlines_by_study(report.records)
    every = sum(map(len, groups))
    if not every:
        return ["No number stands out; all are in the report."]
    for shown in range(every, -1, -1):
        lines = [line for headline in fair_share(groups, shown) for line in _wrapped(_sentence(headline))]
        if shown < every:
            lines.append(f"{every - shown} more numbers like these are in the report.")
        if len(lines) <= room:
            break
    return lines


def _sentence(headline: Headline) -> str:
    return f"{one_line(headline.label, _LONGEST_LABEL)}: {headline.value} ({headline.detail})"


def _texts(caveats: Sequence[Caveat], room: int) -> Iterator[str]:
    """The whole words of the first caveats, the serious ones, as long as there is room."""
    for caveat in caveats:
        lines = _wrapped(f"- {caveat.study.replace('_', ' ')}, {caveat.topic}: {caveat.text}")
        room -= len(lines)
        if caveat.severity == "note" or room < 0:
            return
        yield from lines


def _wrapped(text: str) -> list[str]:
    """A text in lines of the terminal; what has a line break or cannot be seen is escaped."""
    lines = Text(one_line(text, len(text))).wrap(Console(width=WIDTH), WIDTH - len(_INDENT), overflow="fold")
    return [f"{_INDENT if place else ''}{line.plain.rstrip()}" for place, line in enumerate(lines)]
