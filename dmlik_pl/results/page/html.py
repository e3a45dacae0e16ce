"""A run's report as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.store import studies
from dmlik_pl.results.coverage import GO_ON, coverage
from dmlik_pl.results.page.caveats import Caveat, caveat_counts
from dmlik_pl.results.page.embedding import Embedded, data_uri, embedded_image
from dmlik_pl.results.page.facts import facts
from dmlik_pl.results.page.figure_words import alternative_text, caption
from dmlik_pl.results.page.gallery import Gallery
from dmlik_pl.results.page.headlines import headlines
from dmlik_pl.results.table import Table

__all__ = ["render_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_WIDEST_FIGURE, _FIGURE_BYTES = 1800, 400_000
_FIGURE_BUDGET = 6_000_000
_CSV_BYTES = 300_000
_SCREEN_DOTS = 96
_NUMBER = re.compile(r"[<>+−±-]?\s*[\d.∞–]|[+-]?(nan|inf)\b|$")
# What a note on the likelihoods of one study says also of its line in the table of all studies.
_OF_LIKELIHOODS = {"grid error", "not finite", "too dense", "probe error", "guidance", "density"}


@dataclass(frozen=True)
class ShownFigure:
    """A figure with what it shows in words; without the image where too many are large."""

    name: str
    caption: str
    alternative: str
    image: Embedded | None
    width: int


@dataclass(frozen=True)
class ShownTable:
    """A table, which of its columns hold numbers, its raw ones as a URI if they are few, and caveats on it."""

    name: str
    title: str
    table: Table
    numeric: list[bool]
    csv: str | None
    caveats: list[Caveat]


@dataclass(frozen=True)
class Section:
    """All of one study."""

    study: str
    title: str
    caveats: list[Caveat]
    tables: list[ShownTable]
    figures: list[ShownFigure]
    gallery: Gallery


def render_page(
    folder: Path,
    records: Mapping[str, pd.DataFrame],
    tables: Sequence[Table],
    figures: Mapping[str, Figure],
    galleries: Mapping[str, Gallery],
    caveats: Sequence[Caveat],
) -> str:
    """The page.

    Args:
        folder: The run folder; the figures are in `figures` already, `config.yaml` and `versions.json` are shown if
            they are there.
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        tables: The tables made of them.
        figures: The figures made of them, by name.
        galleries: What is shown of the kept samples, by study.
        caveats: What limits their numbers.
    """
    known = studies(records)
    of_table = {table.name: _owner(table.name, known) for table in tables}
    images = _embed_figures(folder, figures)
    sections = [
        Section(
            study,
            _words(study),
            [caveat for caveat in caveats if caveat.study == study],
            [_shown_table(table, study, []) for table in tables if of_table[table.name] == study],
            [figure for figure in images if _owner(figure.name, known) == study],
            galleries.get(study, Gallery([], "")),
        )
        for study in known
    ]
    settings = _read(folder / "config.yaml")
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    covered = coverage(records)
    return _template().render(
        name=folder.resolve().name,
        partial=f"{covered.words}. {GO_ON}" if covered.partial else "",
        made=_date_of_records(folder),
        command=_command(folder),
        facts=facts(settings, covered),
        headlines=headlines(records),
        caveat_counts=caveat_counts(caveats),
        caveats=_joined(caveats),
        sections=sections,
        overall=[_shown_table(table, None, caveats) for table in tables if of_table[table.name] is None],
        settings=settings,
        versions=_versions(folder / "versions.json"),
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,  # prompts, names and errors come from outside
        finalize=_seen,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = _words
    return environment.get_template("report.html.j2")


def _seen(value: Any) -> Any:
    """Text whose control characters can be seen, line by line; what is markup by intent is not touched."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "\n".join(one_line(line, len(line)) for line in value.split("\n"))


def _owner(name: str, studies: Mapping[str, Any]) -> str | None:
    """The study of a table or figure: the longest whose name it begins with."""
    candidates = [study for study in studies if name == study or name.startswith(f"{study}_")]
    return max(candidates, key=len, default=None)


def _shown_table(table: Table, study: str | None, caveats: Sequence[Caveat]) -> ShownTable:
    title = _words(table.name if study is None else table.name.removeprefix(study).removeprefix("_"))
    concerning = _OF_LIKELIHOODS if table.name == "bits_per_dim" else ()
    raw = table.csv().encode(errors="backslashreplace")
    uri = data_uri(raw, "text/csv") if len(raw) <= _CSV_BYTES else None
    numeric = [all(_NUMBER.match(cell) for cell in cells) for _, cells in table.shown.astype(str).items()]
    return ShownTable(table.name, title, table, numeric, uri, _joined([c for c in caveats if c.topic in concerning]))


def _joined(caveats: Sequence[Caveat]) -> list[Caveat]:
    """Caveats that say the same of several studies as one."""
    studies: dict[Caveat, list[str]] = {}
    for caveat in caveats:
        studies.setdefault(replace(caveat, study=""), []).append(_words(caveat.study))
    return [replace(caveat, study=", ".join(names)) for caveat, names in studies.items()]


def _embed_figures(folder: Path, figures: Mapping[str, Figure]) -> list[ShownFigure]:
    """The files that were drawn, as long as they fit."""
    shown, left = [], _FIGURE_BUDGET
    for name, figure in figures.items():
        path = folder / "figures" / f"{name}.png"
        image = embedded_image(path, _FIGURE_BYTES, _WIDEST_FIGURE) if left > 0 else None
        left -= len(image.uri) if image else 0
        width = round(figure.get_figwidth() * _SCREEN_DOTS)
        shown.append(ShownFigure(name, caption(name, figure), alternative_text(figure), image, width))
    return shown


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="backslashreplace") if path.is_file() else ""


def _versions(path: Path) -> dict[str, Any]:
    """The versions that a run was made with; none if the file does not say."""
    try:
        versions = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return versions if isinstance(versions, dict) else {}


def _date_of_records(folder: Path) -> str:
    """When the last record was computed: making a report again does not change it."""
    paths = [*(folder / "records").glob("rank*.jsonl")] or [*(folder / "records").glob("*.parquet")]
    latest = max(path.stat().st_mtime for path in paths)
    return datetime.fromtimestamp(latest).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _command(folder: Path) -> str:
    """What makes this run again; the folder's own name is the run's and a digest of its settings."""
    if not (folder / "config.yaml").is_file():
        return ""
    name = folder.resolve().name.rpartition("-")[0] or folder.resolve().name
    return f"python evaluate.py --config {shlex.quote(str(folder / 'config.yaml'))} --name {shlex.quote(name)}"
