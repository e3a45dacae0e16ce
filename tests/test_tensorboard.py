"""Evaluations that log to TensorBoard or CSV: what they wrote is read back."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import evaluate
import train
from dmlik_pl.cli import CONFIGS
from dmlik_pl.records.store import read
from dmlik_pl.results.page.scalars import scalars

HERE = Path(__file__).parent
SAMPLES = 3


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy that logs to both."""
    folder = tmp_path_factory.mktemp("loggers")
    board = yaml.safe_load((CONFIGS / "tensorboard.yaml").read_text())["trainer"]["logger"]
    csv = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(folder / "csv")}}
    (folder / "both.yaml").write_text(yaml.safe_dump({"trainer": {"logger": [board, csv]}}))
    toy = ["--config", str(HERE / "toy.yaml"), "--config", str(folder / "both.yaml")]
    assert evaluate.cli_main([*toy, "--runs", str(folder / "runs"), "--data.limit", str(SAMPLES)]) == 0
    (found,) = (folder / "runs").iterdir()
    return found


def test_tensorboard_gets_numbers_figures_tables_and_settings(run_folder: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    records = read(run_folder)
    events = accumulator.EventAccumulator(str(run_folder / "tensorboard")).Reload()
    tags = events.Tags()
    numbers = scalars(records)
    assert set(tags["scalars"]) >= set(numbers) and numbers["time_sweep/bpd_data_standard_error"] > 0
    for name, value in numbers.items():
        assert events.Scalars(name)[-1].value == pytest.approx(value, rel=1e-6), name
    data = records["time_sweep"].query("stage == 'data'")["bpd"]
    assert events.Scalars("time_sweep/bpd_data")[-1].value == pytest.approx(data.mean(), rel=1e-6)
    figures = {path.stem: path for path in run_folder.glob("figures/*.png")}
    assert set(tags["images"]) == {f"figures/{name}" for name in figures} and figures
    for name, path in figures.items():
        shown = events.Images(f"figures/{name}")[-1]
        assert (shown.width, shown.height) == Image.open(path).size
    texts = {tag.removesuffix("/text_summary") for tag in tags["tensors"]}
    assert {"caveats", "config.yaml", "versions.json", "tables/time_sweep", "tables/bits_per_dim"} <= texts
    (table,) = events.Tensors("tables/time_sweep/text_summary")
    assert table.tensor_proto.string_val[0].decode() == (run_folder / "tables" / "time_sweep.md").read_text()


def test_csv_gets_numbers_and_figures(run_folder: Path) -> None:
    (log,) = (run_folder.parents[1] / "csv" / "lightning_logs").iterdir()
    metrics = pd.read_csv(log / "metrics.csv").iloc[-1]
    for name, value in scalars(read(run_folder)).items():
        assert metrics[name] == pytest.approx(value), name
    for path in run_folder.glob("figures/*.png"):
        kept, figure = (np.asarray(Image.open(each).convert("RGB")) for each in (log / "figures" / path.name, path))
        assert (kept == figure).all()


def test_a_training_gives_its_settings_to_tensorboard(tmp_path: Path, short_fit: list[str]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train.cli_main(["fit", "--config", "digits_train.yaml", "--config", "tensorboard.yaml", *short_fit])
    (log,) = (tmp_path / "digits-training").iterdir()
    events = accumulator.EventAccumulator(str(log)).Reload()
    assert 0 < events.Scalars("val/bits_per_dim")[-1].value < 20
    assert "block_out_channels" in (log / "hparams.yaml").read_text()
