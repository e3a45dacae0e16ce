"""Evaluations that log to W&B without a network: what they leave for `wandb sync` is read back."""

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
import wandb_files
from PIL import Image
from wandb_files import OfflineRun, read_offline

import train
from dmlik_pl.plain_text import for_markdown
from dmlik_pl.records.store import read
from dmlik_pl.results.page.scalars import scalars

pytestmark = pytest.mark.xdist_group("wandb")

HERE = Path(__file__).parent
ROOT = HERE.parent
SAMPLES = 5
PATIENCE = 540  # seconds; half a minute on an idle machine


def evaluate(folder: Path, *arguments: object) -> Path:
    """Run the toy in processes of its own; its run folder."""
    command = [sys.executable, ROOT / "evaluate.py", "--config", HERE / "toy.yaml", "--config", "wandb.yaml"]
    environment = os.environ | {
        "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str(folder / "data"),
    }
    done = subprocess.run(
        [*map(str, command), "--runs", str(folder / "runs"), "--data.limit", str(SAMPLES), *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (folder / "runs").iterdir()
    return run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    two = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 1)
    return evaluate(tmp_path_factory.mktemp("wandb"), *two)


@pytest.fixture(scope="module")
def logged(run_folder: Path) -> OfflineRun:
    """What it logged; one run, however many processes."""
    (offline,) = run_folder.glob("wandb/offline-run-*")
    return read_offline(offline)


def test_the_summary_has_the_numbers_of_the_records_with_their_errors(run_folder: Path, logged: OfflineRun) -> None:
    assert logged.run_id == run_folder.name
    records = read(run_folder)
    for name, value in scalars(records).items():
        assert logged.summary[name] == pytest.approx(value), name
    rows = records["time_sweep"].query("stage == 'data'")
    data, grid = rows["bpd"], rows["discretisation"] / (rows["dims"] * math.log(2))
    assert len(data) == SAMPLES
    assert logged.summary["time_sweep/bpd_data"] == pytest.approx(data.mean())
    parts = {"sampling": data.std() / math.sqrt(SAMPLES), "grid": grid.mean()}
    for part, error in parts.items():
        assert logged.summary[f"time_sweep/bpd_data_{part}_error"] == pytest.approx(error)
    assert logged.summary["time_sweep/bpd_data_standard_error"] == pytest.approx(math.hypot(*parts.values()))
    tones = records["prompt_accuracy"].query("attribute == 'tone'")["correct"]
    assert logged.summary["prompt_accuracy/accuracy_tone"] == pytest.approx(tones.mean())
    assert logged.summary["prompt_accuracy/accuracy_tone_low"] < tones.mean()
    assert logged.summary["failures"] == 0


def test_the_configuration_holds_settings_and_versions(run_folder: Path, logged: OfflineRun) -> None:
    assert logged.config["model"]["solver"]["init_args"]["nodes"] == 17
    assert logged.config["data"]["init_args"]["limit"] == SAMPLES
    assert logged.config["versions"] == json.loads((run_folder / "versions.json").read_text())


def test_a_sweep_is_a_series_over_t(run_folder: Path, logged: OfflineRun) -> None:
    sweep = read(run_folder)["time_sweep"]
    rows = logged.table("time_sweep/bpd_table")
    assert [row["step"] for row in rows] == [0.0, 0.3, 1.0]
    means = [sweep[sweep["time"] == row["step"]]["bpd"].mean() for row in rows]
    assert [row["lineVal"] for row in rows] == pytest.approx(means)
    chart = logged.config["_wandb"]["visualize"]["time_sweep/bpd"]
    assert chart["panel_config"]["panelDefId"] == "wandb/lineseries/v0"


def test_tables_hold_what_the_report_shows(run_folder: Path, logged: OfflineRun) -> None:
    names = {path.stem for path in run_folder.glob("tables/*.md")}
    assert names == {key.removeprefix("tables/") for key in logged.summary if key.startswith("tables/")}
    for name in names:
        written = pd.read_csv(run_folder / "tables" / f"{name}.csv")
        numbers = pd.DataFrame(logged.table(f"numbers/{name}"), columns=list(written))
        for column in written.select_dtypes("number"):
            assert pd.to_numeric(numbers[column]).to_numpy() == pytest.approx(written[column], nan_ok=True), column
        lines = (run_folder / "tables" / f"{name}.md").read_text().splitlines()
        for row in logged.table(f"tables/{name}"):
            cells = [for_markdown(cell) for cell in row.values()]
            assert cells in [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert logged.table("caveats")


def test_records_are_tables_of_scalars(run_folder: Path, logged: OfflineRun) -> None:
    for study, frame in read(run_folder).items():
        if not {"bpd", "margin"} & set(frame):  # no study: failures, and what samples are
            continue
        rows = logged.table(f"records/{study}")
        assert len(rows) == len(frame) and logged.summary[f"records/{study}_rows_left_out"] == 0
        assert "feature" not in rows[0]
        number = "bpd" if "bpd" in frame else "margin"
        assert [row[number] for row in rows] == pytest.approx(frame[number].tolist())


def test_pictures_stand_beside_their_bits_per_dimension(run_folder: Path, logged: OfflineRun) -> None:
    sweep = read(run_folder)["time_sweep"].query("stage == 'data'").set_index("sample_id")
    rows = logged.table("samples/time_sweep")
    assert [row["sample_id"] for row in rows] == [f"toy-{i}" for i in range(SAMPLES)]
    for row in rows:
        data = sweep.loc[row["sample_id"]]
        assert row["text"] == data["prompt"] and row["picture"] is not None
        grid = data["discretisation"] / (data["dims"] * math.log(2))
        assert row["bpd: data"] == data["bpd"]
        assert row["bpd error: data"] == pytest.approx(math.hypot(data["bpd_standard_error"], grid))
        assert {"bpd: t = 1", "bpd: t = 0.3", "bpd: t = 0", "bpd error: t = 0"} <= set(row)
    (gallery,) = (value for key, value in logged.summary.items() if key.startswith("pictures/time_sweep"))
    assert gallery["count"] == SAMPLES and "bits/dim data: " in gallery["captions"][0]
    for name in gallery["filenames"]:
        assert Image.open(logged.folder / "files" / name).width > 0


def test_figures_and_artifacts_are_there(run_folder: Path, logged: OfflineRun) -> None:
    for figure in run_folder.glob("figures/*.png"):
        stored = logged.folder / "files" / logged.summary[f"figures/{figure.stem}"]["path"]
        assert stored.read_bytes() == figure.read_bytes()
    assert set(logged.artifacts["records"]) >= {"records/time_sweep.parquet", "records/prompt_accuracy.parquet"}
    report = set(logged.artifacts["report"])
    assert {"report.md", "config.yaml", "versions.json", "tables/time_sweep.csv"} <= report


def test_a_run_that_goes_on_or_is_logged_again_is_the_same_run(
    run_folder: Path, logged: OfflineRun, tmp_path: Path
) -> None:
    """Without a model, from the records alone, it is the same too."""
    environment = os.environ | {"WANDB_SILENT": "true", "WANDB_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "dmlik_pl.results", str(run_folder), "--wandb", "dmlik"]
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE, check=True)
    runs = [read_offline(offline) for offline in run_folder.glob("wandb/offline-run-*")]
    assert len(runs) == 2 and {run.run_id for run in runs} == {run_folder.name}
    first, again = (
        {key: value for key, value in run.summary.items() if isinstance(value, float) and key[0] != "_"} for run in runs
    )
    assert len(first) > 10 and first == again
    assert runs[0].config["model"] == runs[1].config["model"]


def test_a_file_is_read_once_it_is_complete(
    logged: OfflineRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B may still be writing when the run has ended."""
    (file,) = logged.folder.glob("run-*.wandb")
    content, half_written = file.read_bytes(), tmp_path / file.name
    half_written.write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(wandb_files, "PATIENCE", 0.0)
    with pytest.raises(TimeoutError, match=r"records and no exit after 0 s"):
        read_offline(tmp_path)
    for missing in (1, 10, 100, 1000):  # cut anywhere, in a record or the head of one
        half_written.write_bytes(content[:-missing])
        with pytest.raises(TimeoutError, match="no exit"):
            read_offline(tmp_path)
    monkeypatch.setattr(wandb_files, "PATIENCE", 60.0)
    writer = threading.Timer(0.2, half_written.write_bytes, [content])
    writer.start()
    assert read_offline(tmp_path).summary == logged.summary
    writer.join()


def test_a_training_logs_to_one_run_with_its_settings(
    tmp_path: Path, short_fit: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    try:
        train.cli_main(["fit", "--config", "digits_train.yaml", "--config", "wandb.yaml", *short_fit])
    finally:
        wandb.finish()
    (offline,) = tmp_path.glob("wandb/offline-run-*")
    run = read_offline(offline)
    assert run.config["model"]["init_args"]["unet"]["block_out_channels"] == [8, 16]
    assert 0 < run.summary["val/bits_per_dim"] < 20
