"""The dictionary of columns: ``python -m dmlik_pl.results.dictionary > docs/records.md``."""

from __future__ import annotations

from collections.abc import Iterable

from dmlik_pl.plain_text import for_markdown
from dmlik_pl.records.schema import EVERY_RECORD, LIKELIHOOD, Column
from dmlik_pl.results.kinds import Kind, own_kinds

__all__ = ["dictionary"]

_HEAD = """# Records

Every study writes its records to `records/STUDY.parquet` in the folder of a run, and as lines of JSON while the run
goes on (`records/rank*.jsonl`). Read one file with `pandas.read_parquet`, or all with
`dmlik_pl.records.store.read(folder)`. Log-likelihoods are in nats; bits per dimension divide them by -D ln 2. Every
column but those that name a row may lack a value.

This page is printed from the declarations of the kinds of studies by `python -m dmlik_pl.results.dictionary`; records
are checked against them before they are stored."""


def dictionary() -> str:
    """What every column of every kind of study of this package means, as Markdown."""
    parts = [_HEAD, "## Columns of every study", _table(EVERY_RECORD)]
    parts += ["## Columns of a likelihood", _table(LIKELIHOOD)]
    return "\n\n".join([*parts, *(part for kind in own_kinds().values() for part in _of_kind(kind))]) + "\n"


def _of_kind(kind: Kind) -> list[str]:
    names = ", ".join(f"`{name}`" for name in ("sample_id", *kind.schema.key))
    likelihood = " It has the columns of a likelihood too." if set(LIKELIHOOD) & set(kind.schema.columns) else ""
    attributes = " Further columns of text are attributes of the samples." if kind.schema.attributes else ""
    columns = [column for column in kind.schema.columns if column not in LIKELIHOOD]
    return [f"## `{kind.name}`", f"A row is named by {names}.{likelihood}{attributes}", _table(columns)]


def _table(columns: Iterable[Column]) -> str:
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for column in columns:
        cells = (f"`{column.name}`", column.type, for_markdown(column.unit), column.meaning.replace("|", "\\|"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(dictionary(), end="")
