"""What all trainings share: an optimiser with warm-up and cosine decay, and the export of the result as a folder."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from dmlik_pl.ranges import above, at_least

__all__ = ["PATIENCE", "Training"]

PATIENCE = 3  # batches


class Training(LightningModule, ABC):
    """A network in training, which is exported as a folder of safetensors.

    The weights of the best checkpoint are exported if checkpoints monitor a value, so that too long a fit does no harm;
    else the last ones.

    Args:
        output: Folder for the trained weights; it is made, and files of the same names are overwritten.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up; a cosine to zero at the last step follows.
    """

    def __init__(
        self, output: str, learning_rate: float = 1e-3, weight_decay: float = 0.01, warmup_steps: int = 200
    ) -> None:
        super().__init__()
        above(0, learning_rate=learning_rate)
        at_least(0, weight_decay=weight_decay, warmup_steps=warmup_steps)
        self._without_samples = 0  # batches, until one has samples
        self.output = Path(output)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the present weights into a folder in their library's own layout."""

    def leave_out(self, reasons: Sequence[str]) -> None:
        """Report which samples of a batch cannot be trained on, and why; the others are used.

        Args:
            reasons: Their names with what is wrong.
        """
        for reason in reasons:
            rank_zero_warn(f"left out of training: {reason}")

    def nothing_to_learn(self) -> Tensor:
        """A loss without a gradient for a batch of which all samples are left out: all processes step together.

        Raises:
            ValueError: If the first batches are all like that: a setting is wrong then, and not the samples.
        """
        self._without_samples += 1
        if self._without_samples == PATIENCE:
            raise ValueError(f"no sample of the first {PATIENCE} batches can be trained on; the warnings above say why")
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        return torch.stack([weight.sum() * 0 for weight in weights]).sum()

    def learned(self) -> None:
        """Note that a batch was trained on: from here on no number of bad ones ends the fit."""
        self._without_samples = PATIENCE

    def on_fit_end(self) -> None:
        """Export the weights; averaged weights, where a callback keeps them, are in place by now."""
        keeper = self.trainer.checkpoint_callback
        if getattr(keeper, "monitor", None) and (best := getattr(keeper, "best_model_path", "")):
            self.load_state_dict(torch.load(best, map_location=self.device, weights_only=True)["state_dict"])
            rank_zero_info(f"Exporting the best weights, of {best}")
        if self.trainer.is_global_zero:
            self.output.mkdir(parents=True, exist_ok=True)
            self.export(self.output)
            rank_zero_info(f"The trained weights are in {self.output}")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW over all trainable weights and its schedule."""
        weights = [weight for weight in self.parameters() if weight.requires_grad]
        fused = self.trainer.precision == "32-true"  # faster, but mixed precision cannot clip its gradients
        optimiser = torch.optim.AdamW(
            weights, lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=self.weight_decay, fused=fused
        )
        steps = int(self.trainer.estimated_stepping_batches)
        scale = get_cosine_schedule_with_warmup(optimiser, self.warmup_steps, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scale, "interval": "step"}}


def overridden(defaults: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a network's default architecture with some entries replaced."""
    return {**defaults, **(changes or {})}
