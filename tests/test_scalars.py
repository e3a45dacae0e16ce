"""The numbers that loggers get, and the lines that W&B draws, against direct computation from records."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_records import accuracy_units, frame_of, prompt_units, sweep_grid_units

from dmlik_pl.records.store import FAILURES
from dmlik_pl.results.coverage import coverage
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.page.report import Report
from dmlik_pl.results.page.scalars import scalars
from dmlik_pl.results.page.wandb_run import MOST_ROWS, log_run


def logged(records: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """What a W&B run is handed."""
    panels: dict[str, Any] = {}
    run = SimpleNamespace(log=panels.update, log_artifact=lambda artifact: None)
    log_run(run, Path("/nowhere"), records, Report([], [], coverage(records)))  # type: ignore[arg-type]
    return panels


@pytest.fixture(scope="module")
def sweep() -> pd.DataFrame:
    return frame_of(sweep_grid_units(6, guidances=(1.0, 3.0), sizes=(32, 64)), "time_sweep")


def test_every_cell_of_a_sweep_has_its_numbers(sweep: pd.DataFrame) -> None:
    numbers = scalars({"sweep": sweep, FAILURES: pd.DataFrame({"study": ["sweep"]})})
    assert numbers["failures"] == 1
    cell = sweep.query("guidance == 3 and size == 64 and reconstructed")
    data, last = cell.query("stage == 'data'")["bpd"], cell.query("time == 0")
    assert numbers["sweep/bpd_data_w_3_64_px_reconstructed"] == pytest.approx(data.mean())
    error = numbers["sweep/bpd_data_w_3_64_px_reconstructed_standard_error"]
    assert error == pytest.approx(math.hypot(data.std() / math.sqrt(6), 0.0004))
    assert numbers["sweep/clip_sample_w_3_64_px_reconstructed"] == pytest.approx(last["clip"].mean())
    assert len([name for name in numbers if name.startswith("sweep/bpd_sample") and name.endswith("_error")]) == 4 * 8
    assert all(math.isfinite(value) for value in numbers.values())


def test_accuracies_come_with_wilson_s_interval() -> None:
    numbers = scalars({"colours": frame_of(accuracy_units(24), "prompt_accuracy")})
    frame = frame_of(accuracy_units(24), "prompt_accuracy").query("attribute == 'colour'")
    share, n, z = frame["correct"].mean(), 24, 1.959964
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert numbers["colours/accuracy_colour"] == pytest.approx(share)
    assert numbers["colours/accuracy_colour_low"] == pytest.approx(middle - half, rel=1e-5)
    assert numbers["colours/accuracy_colour_high"] == pytest.approx(middle + half, rel=1e-5)
    assert numbers["colours/accuracy_colour_clip"] == pytest.approx(frame["clip_correct"].mean())
    assert numbers["colours/undecided_colour"] == pytest.approx(1 - frame["decided"].mean())
    assert numbers["colours/accuracy_colour_chance"] == pytest.approx(1 / 8)


def test_a_study_of_one_s_own_declares_its_numbers(declared: Callable[..., None]) -> None:
    def own(frame: pd.DataFrame) -> Any:
        yield "total", frame["value"].sum()
        yield "unknown", math.nan

    declared(Kind("own", scalars=own))
    assert scalars({"mine": pd.DataFrame({"kind": ["own"] * 2, "value": [1, 2]})}) == {"failures": 0, "mine/total": 3}


def test_a_sweep_has_a_line_for_each_cell(sweep: pd.DataFrame) -> None:
    panels = logged({"sweep": sweep})
    rows = pd.DataFrame(panels["sweep/bpd"].table.data, columns=panels["sweep/bpd"].table.columns)
    assert rows["lineKey"].nunique() == 8
    for words, size, again in (("w = 3, 64 px, reconstructed", 64, True), ("w = 3, 32 px", 32, False)):
        line = rows[rows["lineKey"] == words].set_index("step")["lineVal"]
        cell = sweep[(sweep["guidance"] == 3) & (sweep["size"] == size) & (sweep["reconstructed"] == again)]
        means = cell[cell["stage"] == "sample"].groupby("time")["bpd"].mean()
        assert line.index.tolist() == sorted(means.index) and line.tolist() == pytest.approx(means.tolist())
    # A measure that a cell does not have has no line.
    table = panels["sweep/round_trip"].table
    words = {row[table.columns.index("lineKey")] for row in table.data}
    assert len(words) == 4 and all("reconstructed" in word for word in words)


def test_the_bound_is_a_series_over_log_snr() -> None:
    panels = logged({"prompts": frame_of(prompt_units(12), "prompt_accuracy")})
    shares = [row[-1] for row in panels["prompts/elbo_accuracy"].table.data]
    assert len(shares) > 4 and all(0 <= share <= 1 for share in shares)


def test_records_are_shown_in_part_and_without_lists() -> None:
    many = pd.DataFrame({"sample_id": "a", "kind": "other", "value": np.arange(MOST_ROWS + 5.0)})
    panels = logged({"many": many.assign(feature=[[1.0, 2.0]] * len(many), words="x" * 1000, nothing=None)})
    assert panels["records/many"].columns == ["sample_id", "kind", "value"]
    assert len(panels["records/many"].data) == MOST_ROWS and panels["records/many_rows_left_out"] == 5
