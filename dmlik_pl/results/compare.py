"""A run beside the paper: ``python -m dmlik_pl.results.compare RUN --paper 2``.

Every number is shown with its published twin and their difference in units of the run's own standard error. The
published numbers have no errors, so a difference of a few units says that one of the two is off, not which. A run of
other data, another model, or another setting is set beside the paper without differences, and its table says why.

References:
    What happens to diffusion model likelihood when your model is conditional? (Cross and Ragni, 2024), Tables 1 to 7
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from dmlik_pl.cli import run
from dmlik_pl.options import Options
from dmlik_pl.plain_text import terminal
from dmlik_pl.records.store import studies
from dmlik_pl.results.clusters import records_of, settings_of
from dmlik_pl.results.coverage import coverage_of_study
from dmlik_pl.results.kinds import kind_of, kinds
from dmlik_pl.results.page.comparable import check_space, differences
from dmlik_pl.results.paper import Number
from dmlik_pl.results.parts import labels, parts_of
from dmlik_pl.results.table import MISSING, Table

__all__ = ["NOT_COMPARABLE", "compare", "main", "published"]

NOT_COMPARABLE = "Not comparable"


def published() -> pd.DataFrame:
    """The numbers of the paper's seven tables: columns table, system, measure, column, value, as printed there."""
    with (files("dmlik_pl.results") / "published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def compare(
    records: Mapping[str, pd.DataFrame], table: int, system: str = "", settings: Mapping[str, Any] | None = None
) -> list[Table]:
    """Tables of a run's numbers beside the published ones.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        table: Number of the paper's table, 1 to 7.
        system: Compare only with the published rows whose name contains this, e.g. "Whisper" or "CFG 3".
        settings: The run's configuration, which says of what data and model it is.

    Returns:
        One table for each study of the kind that the paper's table is made of and each published system that the study
        has numbers of.

    Raises:
        ValueError: If there is no such table, system, or study in the run, or its densities are of another space.
    """
    made_of = {number: (kind.name, found) for kind in kinds().values() for number, found in kind.paper.items()}
    if table not in made_of:
        raise ValueError(f"the paper has tables 1 to {max(made_of)}, not {table}")
    kind, paper = made_of[table]
    rows = published().query("table == @table")
    rows = rows[rows["system"].str.contains(system, regex=False, case=False)]
    if rows.empty:
        known = ", ".join(published().query("table == @table")["system"].unique())
        raise ValueError(f"table {table} has no system {system!r}; it has {known}")
    own = {name: frame for name, frame in studies(records).items() if kind_of(name, frame).name == kind}
    if not own:
        raise ValueError(f"the run has no study of kind {kind!r}, which table {table} is made of")
    tables = []
    for study, frame in own.items():
        check_space(frame, paper.printed)
        other = differences(frame, settings or {}, paper.printed)
        for name, found in paper.find(frame, list(rows["system"].unique())).items():
            differing = [*other, *found.otherwise]
            why = (
                f"{NOT_COMPARABLE}: {'; '.join(differing)}; the paper's are of {paper.printed.words}."
                if differing
                else ""
            )
            caption = coverage_of_study(records, study).caption(
                f"Table {table} of the paper ({name}) beside this run: difference run minus published, in units of the "
                "run's own standard error."
            )
            raw = _numbers(found.numbers, rows[rows["system"] == name], paper.scale, bool(why))
            title = f"paper_{table}_{study}_{name}".replace(" ", "_")
            notes = (found.remark, paper.remark)
            tables.append(Table(title, f"{why} {caption}".strip(), _shown(raw), raw, notes=notes))
    if not tables:
        known = "; ".join(", ".join(labels(parts_of(frame)).values()) for frame in own.values())
        raise ValueError(
            f"no setting of the run is one of table {table}'s; the run has {known}. Name one of the paper's systems to "
            f"set a run of a single setting beside it: {', '.join(rows['system'].unique())}"
        )
    return tables


def _numbers(numbers: Sequence[Number], paper: pd.DataFrame, scale: Mapping[str, float], apart: bool) -> pd.DataFrame:
    """The run's numbers beside the published ones; without their differences if the two are kept apart."""
    ours = pd.DataFrame(numbers, columns=["measure", "column", "run", "standard_error"])
    raw = paper.rename(columns={"value": "published"}).merge(ours, on=["measure", "column"], how="left")
    raw["published"] *= raw["measure"].map(scale).fillna(1.0)
    raw["difference"] = float("nan") if apart else raw["run"] - raw["published"]
    known = raw["standard_error"] > 0
    return raw.assign(units=(raw["difference"] / raw["standard_error"]).where(known))


def _shown(raw: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "published": [f"{value:.4g}" for value in raw["published"]],
            "run": [_number(value) for value in raw["run"]],
            "± error": [_number(value) for value in raw["standard_error"]],
            "difference": [_number(value) for value in raw["difference"]],
            "in errors": [MISSING if math.isnan(value) else f"{value:+.1f}" for value in raw["units"]],
        },
        index=pd.Index([f"{row.measure} {row.column}" for row in raw.itertuples()], name="number"),
    )


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``python -m dmlik_pl.results.compare``.

    Args:
        arguments: Command-line arguments; those of the process if None.

    Returns:
        The exit status: 1 if there is nothing to compare.
    """
    parser = Options(
        prog="dmlik compare",
        description="Print a run beside the paper, with differences in units of the run's own standard error.",
    )
    parser.add_argument("folder", type=Path, help="folder of a run, for instance runs/rescoring-1a2b3c4d")
    parser.add_argument("--paper", type=int, required=True, metavar="N", help="number of the paper's table, 1 to 7")
    parser.add_argument("--system", default="", help='only published rows whose name contains this, e.g. "Whisper"')
    options = parser.parse_args(arguments)
    try:
        records = records_of(options.folder)
        tables = compare(records, options.paper, options.system, settings_of(options.folder))
    except (OSError, ValueError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    console = terminal()
    for table in tables:
        if table.caption.startswith(NOT_COMPARABLE):
            console.print(f"{NOT_COMPARABLE}; why is said below the table.", style="bold")
        console.print(table.rich())
        for note in table.notes:
            console.print(note)
    return 0


if __name__ == "__main__":
    run(main)
