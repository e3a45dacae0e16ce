"""Pictures and sound in every logger, read back from what it wrote."""

import numpy as np
import pytest
import soundfile
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from PIL import Image

from dmlik_pl.callbacks.loggers import log_audio, log_figure, log_image, outlets, pixels

RATE = 8000


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.fixture
def wave() -> torch.Tensor:
    return 0.5 * torch.sin(torch.arange(400) / 5)


def test_a_figure_becomes_the_bytes_of_its_canvas() -> None:
    figure = Figure(figsize=(2, 1), dpi=50, facecolor="#0072B2")
    assert pixels(figure).shape == (50, 100, 3)
    assert (pixels(figure) == (0x00, 0x72, 0xB2)).all()


@pytest.mark.parametrize("kind", ["csv", "folder"])
def test_files(kind: str, picture: np.ndarray, wave: torch.Tensor, tmp_path) -> None:
    outlet = CSVLogger(tmp_path, name="log", version="one") if kind == "csv" else tmp_path / "log" / "one"
    log_image(outlet, "val/picture", picture, 20)
    log_figure(outlet, "figure", Figure(figsize=(2, 1), dpi=50))
    log_audio(outlet, "val/sound", wave, RATE, 20)
    folder = tmp_path / "log" / "one"
    assert (np.asarray(Image.open(folder / "val" / "picture-000020.png")) == picture).all()
    assert Image.open(folder / "figure.png").size == (100, 50)
    heard, rate = soundfile.read(folder / "val" / "sound-000020.wav")
    assert rate == RATE and np.abs(heard - wave.numpy()).max() < 1e-4
    log_image(outlet, "again", folder / "val" / "picture-000020.png")
    assert (np.asarray(Image.open(folder / "again.png")) == picture).all()


def test_tensorboard(picture: np.ndarray, wave: torch.Tensor, tmp_path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, name="", version="board")
    log_image(logger, "val/picture", picture, 20)
    log_figure(logger, "figure", Figure(figsize=(2, 1), dpi=50))
    log_audio(logger, "val/sound", wave, RATE, 20)
    logger.finalize("success")
    events = accumulator.EventAccumulator(str(tmp_path / "board")).Reload()
    (shown,) = events.Images("val/picture")
    assert (shown.step, shown.width, shown.height) == (20, 7, 5)
    (heard,) = events.Audio("val/sound")
    assert (heard.step, heard.sample_rate, heard.length_frames) == (20, RATE, 400)
    assert {"val/picture", "figure"} == set(events.Tags()["images"])


def test_wandb(picture: np.ndarray, wave: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, tuple[object, int]] = {}
    monkeypatch.setattr(WandbLogger, "__init__", lambda self: None)
    monkeypatch.setattr(WandbLogger, "log_image", lambda self, name, images, step: taken.update({name: (images, step)}))
    monkeypatch.setattr(
        WandbLogger, "log_audio", lambda self, name, waves, step, sample_rate: taken.update({name: (sample_rate, step)})
    )
    log_image(WandbLogger(), "val/picture", picture, 20)
    log_audio(WandbLogger(), "val/sound", wave, RATE, 20)
    assert (taken["val/picture"][0][0] == picture).all() and taken["val/picture"][1] == 20  # type: ignore[index]
    assert taken["val/sound"] == ([RATE], 20)


class Deaf(Logger):
    """Takes numbers only."""

    name, version = "deaf", 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...

    def log_hyperparams(self, params: object, *args: object, **options: object) -> None: ...


def test_a_folder_stands_in_where_no_logger_takes_pictures(picture: np.ndarray, tmp_path) -> None:
    quiet = {"accelerator": "cpu", "default_root_dir": tmp_path, "enable_progress_bar": False}
    csv = CSVLogger(tmp_path)
    assert outlets(Trainer(logger=[Deaf(), csv], **quiet)) == [csv]
    assert outlets(Trainer(logger=False, **quiet)) == [tmp_path]
    log_image(Deaf(), "nothing", picture)
    assert not list(tmp_path.rglob("*.png"))
