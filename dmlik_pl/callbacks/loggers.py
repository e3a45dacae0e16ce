"""Pictures and sound for the loggers of a run, each in its own way: W&B, TensorBoard, and files for the CSV logger."""

from pathlib import Path

import numpy as np
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dmlik_pl.results.drawing import Canvas
from dmlik_pl.speech.audio import write

__all__ = ["Outlet", "log_audio", "log_figure", "log_image", "outlets", "pixels"]

Outlet = Logger | Path
"""Where pictures and sound go: to a logger, or as files into a folder. A logger that takes neither ignores them."""


def outlets(trainer: Trainer) -> list[Outlet]:
    """The trainer's loggers that take pictures and sound, or the folder it writes to where none does."""
    loggers = [each for each in trainer.loggers if isinstance(each, WandbLogger | TensorBoardLogger | CSVLogger)]
    return [*loggers] or [Path(trainer.log_dir or trainer.default_root_dir)]


def log_figure(outlet: Outlet, name: str, figure: Figure, step: int | None = None) -> None:
    """Show a figure as a picture.

    Args:
        outlet: Where to.
        name: What it is called, in parts that ``/`` separates.
        figure: The figure, at its own resolution.
        step: The training step it belongs to; None where there is but one.
    """
    log_image(outlet, name, pixels(figure), step)


@rank_zero_only
def log_image(outlet: Outlet, name: str, picture: np.ndarray | Path, step: int | None = None) -> None:
    """Show a picture; files are called `name`, followed by the step.

    Args:
        outlet: Where to.
        name: What it is called, in parts that ``/`` separates.
        picture: Bytes [H, W, 3], or the file that holds it.
        step: The training step it belongs to; None where there is but one.
    """
    values = np.asarray(Image.open(picture).convert("RGB")) if isinstance(picture, Path) else picture
    if isinstance(outlet, WandbLogger):
        outlet.log_image(name, [values], step)
    elif isinstance(outlet, TensorBoardLogger):
        outlet.experiment.add_image(name, values, step, dataformats="HWC")
    elif (folder := _folder(outlet)) is not None:
        Image.fromarray(values).save(_file(folder, name, step, "png"))


@rank_zero_only
def log_audio(outlet: Outlet, name: str, wave: Tensor, rate: int, step: int | None = None) -> None:
    """Show a sound; files are called `name`, followed by the step.

    Args:
        outlet: Where to.
        name: What it is called, in parts that ``/`` separates.
        wave: Samples in [-1, 1], [T].
        rate: Samples per second.
        step: The training step it belongs to; None where there is but one.
    """
    if isinstance(outlet, WandbLogger):
        outlet.log_audio(name, [wave.cpu().numpy()], step, sample_rate=[rate])
    elif isinstance(outlet, TensorBoardLogger):
        outlet.experiment.add_audio(name, wave.cpu().numpy(), step, sample_rate=rate)
    elif (folder := _folder(outlet)) is not None:
        write(_file(folder, name, step, "wav"), wave, rate)


def pixels(figure: Figure) -> np.ndarray:
    """A figure as a picture, bytes [H, W, 3]; no text of it is markup."""
    canvas = Canvas(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _folder(outlet: Outlet) -> Path | None:
    """The folder that takes files, if any."""
    if isinstance(outlet, CSVLogger):
        return Path(outlet.log_dir)
    return outlet if isinstance(outlet, Path) else None


def _file(folder: Path, name: str, step: int | None, ending: str) -> Path:
    """The file of a picture or sound, in a folder that exists."""
    path = folder / f"{name}{'' if step is None else f'-{step:06d}'}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
