"""Weights as trainers of all kinds write them: by name, what writes them into a folder and returns the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from safetensors.torch import save_file
from torch import Tensor, nn

__all__ = ["TRAINERS"]

Weights = dict[str, Tensor]


class _Holder(LightningModule):
    """A GAN in training: the network under a name of its own, and a rival beside it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rival = nn.Linear(width, width)
        self.net = nn.Module()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] |= {f"net.{name}": tensor for name, tensor in self.held.items()}


def _lightning(weights: Weights, folder: Path) -> Path:
    module = _Holder(3)
    module.held = weights
    trainer = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", default_root_dir=folder)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def _torch(wrap: Callable[[Weights], Any]) -> Callable[[Weights, Path], Path]:
    def write(weights: Weights, folder: Path) -> Path:
        torch.save(wrap(weights), folder / "weights.pt")
        return folder / "weights.pt"

    return write


def _prefixed(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def _safetensors(weights: Weights, folder: Path) -> Path:
    save_file(_prefixed(weights, "model.generator."), folder / "weights.safetensors")
    return folder / "weights.safetensors"


TRAINERS: dict[str, Callable[[Weights, Path], Path]] = {
    "plain": _torch(dict),
    "module.": _torch(lambda weights: _prefixed(weights, "module.")),
    "state_dict": _torch(lambda weights: {"state_dict": weights, "epoch": 3, "arch": "x"}),
    "generator": _torch(lambda weights: {"generator": weights, "optimizer": {"state": {0: torch.zeros(2)}}}),
    "nested": _torch(
        lambda weights: {"model": {"generator": _prefixed(weights, "module."), "mpd": {"a": torch.ones(1)}}}
    ),
    "safetensors": _safetensors,
    "Lightning": _lightning,
}
