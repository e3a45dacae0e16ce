"""What a training sounds like: audio, spectrograms and alignments of validation utterances, every few epochs."""

from typing import Any

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from matplotlib.figure import Figure

from dmlik_pl.callbacks.loggers import Outlet, log_audio, log_figure, outlets
from dmlik_pl.modules.training.offers import OffersSpeech, SpokenExample
from dmlik_pl.plain_text import file_stem
from dmlik_pl.ranges import at_least, seeds

__all__ = ["Synthesis", "draw_alignment", "draw_spectrograms"]


class Synthesis(Callback):
    """Speaks the first validation utterances every few epochs and logs them.

    Sound, spectrograms (reference, encoder and decoder below each other) and alignment go to W&B and TensorBoard, and
    as files into the folder of the CSV logger, or the trainer's where there is no logger:
    ``speech/NAME/audio-001200.wav`` after 1200 steps, and two ``.png``. It speaks while batches are validated, with
    averaged weights where a callback keeps them, and with the same noise every time.

    Args:
        every_n_epochs: Epochs from one time to the next; the first is at the first validation.
        samples: Number of utterances.
        seed: Seed of the noise they start from.
    """

    def __init__(self, every_n_epochs: int = 10, samples: int = 2, seed: int = 0) -> None:
        at_least(1, every_n_epochs=every_n_epochs, samples=samples)
        seeds(seed=seed)
        self.every_n_epochs = every_n_epochs
        self.samples = samples
        self.seed = seed
        self._last_epoch: int | None = None
        self._left = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make sure that there is something to hear.

        Raises:
            TypeError: If the training cannot speak.
        """
        if not isinstance(pl_module, OffersSpeech):
            raise TypeError(f"{type(pl_module).__name__} has no `speech_examples(batch, limit, seed)`: it cannot speak")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide whether this validation is heard; the first process speaks for all."""
        due = self._last_epoch is None or trainer.current_epoch >= self._last_epoch + self.every_n_epochs
        self._left = 0
        if due and not trainer.sanity_checking:
            self._last_epoch = trainer.current_epoch
            self._left = self.samples if trainer.is_global_zero else 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Speak the first utterances."""
        if self._left == 0 or dataloader_idx > 0:
            return
        assert isinstance(pl_module, OffersSpeech)
        try:
            for example in pl_module.speech_examples(batch, self._left, self.seed):
                for outlet in outlets(trainer):
                    show(outlet, example, trainer.global_step)
                self._left -= 1
        except Exception as error:  # a training does not end for what it sounds like
            rank_zero_warn(f"validation utterances cannot be spoken after {trainer.global_step} steps: {error}")

    def state_dict(self) -> dict[str, Any]:
        """Return when it last spoke."""
        return {"last_epoch": self._last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up when an earlier fit last spoke."""
        self._last_epoch = state_dict["last_epoch"]


def show(outlet: Outlet, example: SpokenExample, step: int) -> None:
    """Send an utterance to a logger or into a folder."""
    name = f"speech/{file_stem(example.sample_id)}"
    log_audio(outlet, f"{name}/audio", example.wave, example.rate, step)
    log_figure(outlet, f"{name}/spectrograms", draw_spectrograms(example), step)
    log_figure(outlet, f"{name}/alignment", draw_alignment(example), step)


def draw_spectrograms(example: SpokenExample) -> Figure:
    """Reference, encoder and decoder below each other, on one colour scale."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    parts = {"reference": example.reference, "encoder": example.encoder, "decoder": example.decoder}
    low, high = float(example.reference.min()), float(example.reference.max())
    for ax, (title, mel) in zip(axes, parts.items(), strict=True):
        image = ax.imshow(mel.cpu().numpy(), origin="lower", aspect="auto", vmin=low, vmax=high)
        ax.set(title=title, ylabel="mel band")
    axes[-1].set_xlabel("frame")
    figure.colorbar(image, ax=list(axes), label="natural log")
    return figure


def draw_alignment(example: SpokenExample) -> Figure:
    """Which frames belong to which token."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    ax = figure.subplots()
    ends = example.durations.cumsum(0).cpu().numpy()
    frames = np.arange(ends[-1])
    path = (frames < ends[:, None]) & (frames >= ends[:, None] - example.durations.cpu().numpy()[:, None])
    ax.imshow(path, origin="lower", aspect="auto", interpolation="nearest", cmap="gray_r")
    ax.set(xlabel="frame", ylabel="token")
    return figure
