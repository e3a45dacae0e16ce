"""Fine-tuning of a text-to-image model, whole or by low-rank changes, while its likelihood can be watched."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.data.base import Batch, in_words
from dmlik_pl.data.fingerprint import fingerprint
from dmlik_pl.flow import Condition
from dmlik_pl.flow.schedule import fit
from dmlik_pl.models.latent_diffusion import LatentDiffusion
from dmlik_pl.modules.training.adapter import LoRA, keep_trained_weights_only
from dmlik_pl.modules.training.base import Training
from dmlik_pl.modules.training.loss_weight import LossWeight, NoiseError, output_weight, target
from dmlik_pl.modules.training.offers import LikelihoodProblem
from dmlik_pl.modules.training.times import draw_times, limit_time_frequency
from dmlik_pl.ranges import above, seeds, within

__all__ = ["FineTuning"]


class FineTuning(Training):
    """Continues the training of the U-Net of a finished pipeline; VAE and text encoders stay fixed.

    It trains the network that is evaluated: the same model class encodes images and prompts, gives the network the
    same inputs as in a likelihood, and is scored with its present weights. Images are encoded once, in float32, by the
    posterior's mode. Times, noise and dropped conditions are drawn by seed, epoch and batch: a fit that was stopped
    continues as if it had not been.

    Without `lora` all weights of the U-Net are trained and the export is a whole pipeline; with it, the export is
    diffusers' file of low-rank weights. Checkpoints hold what is trained and nothing else.

    Args:
        diffusion: The model to start from.
        output: Folder for the result.
        lora: Train a low-rank change instead of all weights; needs the extra `finetune`.
        loss_weight: How much each noise level counts; the plain error of the noise by default.
        condition_dropout: Share of the samples that are shown the model's null condition, the empty prompt.
        log_snr_share: Share of the times that are drawn uniformly in log-SNR, where a likelihood's integral is; the
            others are uniform in time.
        max_time_frequency: Highest frequency of the time embedding that the network may use, radians per step; null
            leaves it alone, as `lora` does anyway.
        gradient_checkpointing: Compute activations again in the backward pass instead of keeping them.
        keep_latents: Keep the latents of training images in memory (0.3 MB per image of 1024 pixels).
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up.
        seed: Seed of times, noise and dropped conditions.

    Raises:
        ValueError: If all weights are to be trained in half precision; that is what `trainer.precision` is for.
    """

    def __init__(
        self,
        diffusion: LatentDiffusion,
        output: str,
        lora: LoRA | None = None,
        loss_weight: LossWeight | None = None,
        condition_dropout: float = 0.1,
        log_snr_share: float = 0.5,
        max_time_frequency: float | None = None,
        gradient_checkpointing: bool = False,
        keep_latents: bool = True,
        learning_rate: float = 1e-4,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(output, learning_rate, weight_decay, warmup_steps)
        within(0, 1, condition_dropout=condition_dropout, log_snr_share=log_snr_share)
        above(0, max_time_frequency=max_time_frequency)
        seeds(seed=seed)
        if diffusion.network_time != "schedule":
            raise ValueError(
                "fine-tuning trains networks that are told the steps of a schedule, and this one is told sigma (EDM): "
                "train it with its own code, and measure it here"
            )
        self.diffusion = diffusion
        self.lora = lora
        self.loss_weight = NoiseError() if loss_weight is None else loss_weight
        self.condition_dropout = condition_dropout
        self.log_snr_share = log_snr_share
        self.keep_latents = keep_latents
        self.seed = seed
        unet = diffusion.unet
        if lora is not None:
            lora.add_to(unet)
        elif unet.dtype == torch.float32:
            unet.requires_grad_(True)
        else:
            raise ValueError(
                f"weights in {unet.dtype} are too coarse for the small steps of a training: load the model in float32 "
                "and give --trainer.precision bf16-mixed, or train a low-rank change with --model.lora.rank"
            )
        unet.train()
        if lora is None and max_time_frequency is not None:
            limit_time_frequency(unet, max_time_frequency)
        if gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        keep_trained_weights_only(self)
        self._latents: dict[str, Tensor] = {}  # by the fingerprints of name and image

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the weighted error of the network, at times spread evenly; conditions drop out at times."""
        self.leave_out([f"{failure.sample_id}: {failure.error}" for failure in batch.failures])
        encoded = self.encoded(batch, self.training_latents)
        if encoded is None:
            return self.nothing_to_learn()
        self.learned()
        latents, condition = encoded
        random = self._random(self.current_epoch, batch_index, self.global_rank)
        loss = self.loss(latents, condition, random, self.condition_dropout).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(latents))
        return loss

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Log the same error under the true prompts, at times and with noise that no validation changes."""
        encoded = self.encoded(batch, self.latents)
        if encoded is None:
            return
        names = getattr(self.trainer.datamodule, "validation_names", None)  # type: ignore[attr-defined]
        name = f"val/{names[dataloader_idx]}/loss" if names else "val/loss"
        random = self._random(batch_index, self.global_rank)
        loss = self.loss(*encoded, random).mean()
        self.log(name, loss, batch_size=len(encoded[0]), add_dataloader_idx=False, sync_dist=True)

    def encoded(self, batch: Batch, latents: Callable[[Batch], Tensor]) -> tuple[Tensor, Condition] | None:
        """Return latents and conditions of the samples that can be encoded; each other one is left out alone.

        Args:
            batch: Images with their prompts.
            latents: Encodes the images of a batch.
        """
        if not len(batch):
            return None
        try:
            return latents(batch), self.condition(batch)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:
            if len(batch) == 1:
                self.leave_out([f"{batch.sample_id[0]}: {in_words(error)}"])
                return None
        alone = [self.encoded(batch.select([b]), latents) for b in range(len(batch))]
        kept = [each for each in alone if each is not None]
        return (torch.cat([x for x, _ in kept]), Condition.cat([c for _, c in kept])) if kept else None

    def loss(self, latents: Tensor, condition: Condition, random: torch.Generator, dropout: float = 0.0) -> Tensor:
        """Return each sample's squared error of the network's output, weighted, per dimension, [B].

        Args:
            latents: Scaled latents, [B, C, H, W].
            condition: Conditions with their null branch.
            random: Source of times, dropped conditions and noise, in this order; on the CPU.
            dropout: Share of the samples whose condition is replaced by the null branch.
        """
        schedule, prediction = self.diffusion.schedule, self.diffusion.prediction
        time = draw_times(schedule, len(latents), self.log_snr_share, random)
        dropped = torch.rand(len(latents), generator=random) < dropout
        noise = torch.randn(latents.shape, generator=random).to(latents)
        inputs = {
            name: torch.where(fit(dropped, value).bool(), condition.null[name], value)
            for name, value in condition.inputs.items()
        }
        level = schedule.at(time).like(latents)
        steps = schedule.network_time(time).to(latents)
        output = self.diffusion.network(level.alpha * latents + level.sigma * noise, steps, inputs)
        error = (output - target(prediction, latents, noise, level)).square().flatten(1).mean(1)
        weight = output_weight(self.loss_weight, prediction, schedule.log_snr(time).exp())
        return weight.to(error) * error

    def training_latents(self, batch: Batch) -> Tensor:
        """Return scaled latents of training images; each is encoded once and remembered."""
        if not self.keep_latents:
            return self.latents(batch)
        keys = [fingerprint(sample) for sample in zip(batch.sample_id, batch.image, strict=True)]
        new = [b for b, key in enumerate(keys) if key not in self._latents]
        if new:
            latents = self.latents(batch.select(new)).cpu()
            self._latents.update(zip([keys[b] for b in new], latents.unbind(), strict=True))
        return torch.stack([self._latents[key] for key in keys]).to(self.device)

    def latents(self, batch: Batch) -> Tensor:
        """Return scaled latents in float32, whatever precision the network is trained in, [B, C, H, W]."""
        with torch.autocast(self.device.type, enabled=False):
            return self.diffusion.to_latent(batch.image.float(), batch.sample_id)

    def condition(self, batch: Batch) -> Condition:
        """Return the prompts' embeddings in float32, with the null branch; each prompt is encoded once."""
        with torch.autocast(self.device.type, enabled=False):
            return self.diffusion.condition(batch.prompt)

    def likelihood_problems(self, batch: Batch, limit: int) -> list[LikelihoodProblem]:
        """Pose images under their true prompts, and under the empty one, for the present network."""
        some = batch.select(range(min(limit, len(batch))))
        if not len(some):
            return []
        condition = self.condition(some)
        empty = Condition(condition.null)
        return [LikelihoodProblem(self.diffusion.flow(), self.latents(some), condition, some.sample_id, empty)]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another fit.

        Raises:
            ValueError: If it holds other weights than this fit trains.
        """
        wanted = {name: weight.shape for name, weight in self.state_dict().items()}
        if wanted != {name: weight.shape for name, weight in checkpoint["state_dict"].items()}:
            raise ValueError(
                f"the checkpoint holds {len(checkpoint['state_dict'])} tensors of a fit with other settings, and this "
                f"one trains {len(wanted)}: give the `lora` and the model of that fit"
            )

    def export(self, folder: Path) -> None:
        """Write the low-rank weights, or the whole pipeline."""
        if self.lora is not None:
            self.lora.save(self.diffusion.unet, self.diffusion.lora_files, folder)
        else:
            self.diffusion.save(folder)

    def _random(self, *key: int) -> torch.Generator:
        """Return a source of random numbers that depends on the seed and a key alone."""
        (seed,) = np.random.SeedSequence([self.seed, *key]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(seed))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Share the frozen weights with the copy: an average of what is trained needs no second model."""
        memo |= {id(weight): weight for weight in self.parameters() if not weight.requires_grad}
        copy = self.__new__(type(self))
        memo[id(self)] = copy
        copy.__dict__.update(deepcopy(self.__getstate__(), memo))
        return copy
