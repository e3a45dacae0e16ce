"""A run folder on Weights & Biases, from its records alone: series over t, tables, pictures and sounds, artifacts."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from dmlik_pl.plain_text import file_stem, one_line
from dmlik_pl.records.store import studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.kinds import Series, kind_of
from dmlik_pl.results.page.exhibits import exhibits
from dmlik_pl.results.page.scalars import scalars
from dmlik_pl.results.table import Table, with_error

if TYPE_CHECKING:
    import wandb

    from dmlik_pl.results.page.report import Report

__all__ = ["log_folder", "log_run", "log_settings"]

MOST_ROWS = 10_000  # of records that W&B is to show
LONG_TEXT = 400  # characters; longer cells are lists of scores, of no use in a table


def log_folder(folder: Path, project: str, report: Report) -> Path:
    """Log a run folder as a W&B run of its own, or to the one that the evaluation began.

    Args:
        folder: The run folder, with its report.
        project: The W&B project.
        report: What the report says.

    Returns:
        Where W&B keeps it; ``wandb sync`` sends it unless the environment says ``WANDB_MODE=online``.
    """
    import wandb

    name, mode = folder.resolve().name, os.environ.get("WANDB_MODE", "offline")
    settings = wandb.Settings(mode=mode)  # type: ignore[arg-type]  # checked there
    run_id = file_stem(name)  # no id may hold what a name may
    with wandb.init(project=project, id=run_id, name=name, dir=folder, resume="allow", settings=settings) as run:
        log_settings(run, folder)
        log_run(run, folder, report.records, report)
        return Path(run.dir).parent


def log_settings(run: wandb.Run, folder: Path) -> None:
    """Keep a run's settings and the versions it was made with, if it has them, as the configuration.

    Args:
        run: The W&B run.
        folder: The run folder.
    """
    if not (folder / "config.yaml").is_file():
        return
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    versions = folder / "versions.json"
    known = json.loads(versions.read_text(encoding="utf-8")) if versions.is_file() else {}
    run.config.update({**settings, "versions": known}, allow_val_change=True)


def log_run(run: wandb.Run, folder: Path, records: Mapping[str, pd.DataFrame], report: Report) -> None:
    """Log all that a finished run has to show.

    The numbers of :func:`dmlik_pl.results.scalars.scalars` become the summary; the other panels are called

    - ``STUDY/MEASURE``: a sweep as series against t, a line for each of its cells; ``STUDY/elbo_accuracy``, how often
      the bound is right at each log-SNR;
    - ``tables/NAME`` and ``numbers/NAME``: a table as shown, and the numbers behind it with their errors;
    - ``samples/STUDY``: kept pictures and sounds, each beside the bits per dimension of every stage and their errors;
    - ``pictures/STUDY`` and ``sounds/STUDY``: the same as galleries, part by part, with captions;
    - ``records/STUDY``: the records without lists, at most `MOST_ROWS` of them; all are in the artifact;
    - ``figures/NAME``, and the table ``caveats``.

    Args:
        run: The W&B run.
        folder: The run folder, with its report.
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        report: What the report says.
    """
    import wandb

    attempts = Attempts()
    panels: dict[str, Any] = dict(scalars(records))
    for table in report.tables:
        panels[f"tables/{table.name}"] = _table(_with_headings(table))
        panels[f"numbers/{table.name}"] = _table(table.raw)
    for study, frame in studies(records).items():
        with attempts.making("W&B's series", study):
            panels |= _series(study, frame)
        with attempts.making("W&B's galleries", study):
            panels |= _samples(folder, study, frame)
        panels[f"records/{study}"] = _table(_scalars(frame).head(MOST_ROWS))
        panels[f"records/{study}_rows_left_out"] = max(0, len(frame) - MOST_ROWS)
    for path in sorted(folder.glob("figures/*.png")):
        panels[f"figures/{path.stem}"] = wandb.Image(str(path))
    panels["caveats"] = _table(pd.DataFrame(report.caveats, columns=["study", "topic", "text", "severity"]))
    run.log(panels)
    name = re.sub(r"[^\w.-]+", "-", folder.resolve().name)
    for kind, patterns in {
        "records": ("records/*.parquet",),
        "report": ("report.*", "tables/*", "figures/*", "*.yaml", "*.json"),
    }.items():
        artifact = wandb.Artifact(f"{name}-{kind}", type=kind)
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            # Read where they lie, now and when an offline run is sent: a copy would go to the user's home.
            artifact.add_file(str(path), str(path.relative_to(folder)), policy="immutable")
        run.log_artifact(artifact)


def _table(frame: pd.DataFrame) -> wandb.Table:
    """A frame as a W&B table; columns may lack values."""
    import wandb

    # Python's own values, and None for what is missing: a NaN among texts or truth values would be of another type.
    values = frame.astype(object).where(frame.notna(), None)
    return wandb.Table(columns=[str(name) for name in frame], data=values.to_numpy().tolist(), allow_mixed_types=True)


def _with_headings(table: Table) -> pd.DataFrame:
    """What a table shows, the rows' headings as a column."""
    return table.shown.reset_index(names=table.shown.index.name or "index", allow_duplicates=True)


def _scalars(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that a table can show: neither lists nor long texts, nor those that are empty."""
    return frame[[name for name in frame if frame[name].notna().any() and not any(map(_unwieldy, frame[name]))]]


def _unwieldy(value: object) -> bool:
    return not pd.api.types.is_scalar(value) or (isinstance(value, str) and len(value) > LONG_TEXT)


def _series(study: str, frame: pd.DataFrame) -> dict[str, Any]:
    """The curves that the kind of study declares."""
    panels = {f"{study}/{name}": _lines(series) for name, series in kind_of(study, frame).series(frame).items()}
    return {name: panel for name, panel in panels.items() if panel is not None}


def _lines(series: Series) -> Any:
    """One column against another, a line for each value of the column `line`; None where nothing is known."""
    import wandb

    known = series.frame[series.frame[series.y].notna()].sort_values(series.x, kind="stable")
    lines = dict(list(known.groupby("line", sort=False)))
    if not lines:
        return None
    return wandb.plot.line_series(
        xs=[line[series.x].tolist() for line in lines.values()],
        ys=[line[series.y].tolist() for line in lines.values()],
        keys=[str(name) if len(lines) > 1 else series.y for name in lines],
        title=series.title,
        xname=series.axis,
    )


def _samples(folder: Path, study: str, frame: pd.DataFrame) -> dict[str, Any]:
    """Pictures and sounds beside their bits per dimension, as a table and as galleries."""
    import wandb

    rows, galleries = [], defaultdict(list)
    for shown in exhibits(folder, study, frame):
        bits = shown.bits_per_dim()
        numbers = ", ".join(f"{stage}: {with_error(*number)}" for stage, number in bits.items())
        caption = f"{one_line(shown.sample_id)} {shown.text}; bits/dim {numbers}"
        row: dict[str, Any] = {"sample_id": shown.sample_id, "part": shown.part, "text": shown.text}
        where = f"{study}/{shown.part}".strip("/")
        if shown.picture is not None:
            row["picture"] = wandb.Image(str(shown.picture), caption=caption)
            galleries[f"pictures/{where}"].append(row["picture"])
        for name, path in shown.sounds.items():
            row[f"sound: {name}"] = wandb.Audio(str(path), caption=f"{name}: {caption}")
            galleries[f"sounds/{where}"].append(row[f"sound: {name}"])
        for stage, (value, error) in bits.items():
            row |= {f"bpd: {stage}": value, f"bpd error: {stage}": error}
        rows.append(row)
    if not rows:
        return {}
    columns: list[str | int] = list(dict.fromkeys(name for row in rows for name in row))
    data = [[row.get(str(name)) for name in columns] for row in rows]
    return {f"samples/{study}": wandb.Table(columns=columns, data=data, allow_mixed_types=True), **galleries}
