"""Training of a small class-conditional pixel diffusion model, by the likelihood bound that it is judged by.

With lambda the log signal-to-noise ratio, the negative bound of one image of D dimensions is (Kingma et al. 2021)

    KL(q(x_T | x) || N(0, I)) + D/2 (1 + log 2 pi - lambda_max) + 1/2 int E |eps - eps_hat|^2 dlambda

over lambda_min..lambda_max, so lambda drawn uniformly makes the plain noise-prediction error an unbiased estimate of
the part that can be learnt. The network sees the noise level as diffusers' timestep, continuous, never rounded.

References:
    Kingma et al. 2021, Variational Diffusion Models, arXiv 2107.00630
    Ho & Salimans 2021, Classifier-Free Diffusion Guidance, arXiv 2207.12598
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.ddpm.pipeline_ddpm import DDPMPipeline
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from dmlik_pl.data.base import Batch
from dmlik_pl.flow.schedule import DiscreteVP
from dmlik_pl.modules.training.base import Training, overridden
from dmlik_pl.modules.training.loss_weight import noise_error
from dmlik_pl.modules.training.times import even_share
from dmlik_pl.ranges import at_least, between, within

__all__ = ["CLASSES_FILE", "SMALL_UNET", "PixelDiffusionTraining"]

CLASSES_FILE = "classes.json"

# 0.7 million weights for images of 8x8 grey pixels: convolutions at full resolution, attention among the 4x4 features.
SMALL_UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "attention_head_dim": 16,
    "dropout": 0.1,
}


class PixelDiffusionTraining(Training):
    """Fits a `UNet2DModel` with class embedding and writes it as a `DDPMPipeline` folder.

    The folder holds beside diffusers' own files a `classes.json` with the class names in the order of their embeddings
    and the index of the null class, the one that stands for "no condition".

    Args:
        classes: Class names; the batch's prompts are taken from these.
        output: Folder for the trained pipeline, in diffusers' layout.
        unet: Entries of the network's configuration that differ from the small default.
        condition_dropout: Share of the training samples that are shown the null class.
        train_steps: Steps of the noise schedule's grid.
        beta_start: First beta of the linear schedule.
        beta_end: Last beta of the linear schedule.
        validation_draws: Noise levels per validation image; these are the same at every validation.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up.
    """

    def __init__(
        self,
        classes: Sequence[str],
        output: str,
        unet: Mapping[str, Any] | None = None,
        condition_dropout: float = 0.1,
        train_steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        validation_draws: int = 16,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 200,
    ) -> None:
        super().__init__(output, learning_rate, weight_decay, warmup_steps)
        within(0, 1, condition_dropout=condition_dropout)
        between(0, 1, beta_start=beta_start, beta_end=beta_end)
        at_least(2, train_steps=train_steps)
        at_least(1, validation_draws=validation_draws)
        if len(set(classes)) != len(classes):
            raise ValueError(f"class names must be distinct, got {classes}")
        self.class_index = {name: index for index, name in enumerate(classes)}
        self.null_class = len(classes)
        self.condition_dropout = condition_dropout
        self.validation_draws = validation_draws
        self.scheduler = DDPMScheduler(
            num_train_timesteps=train_steps, beta_start=beta_start, beta_end=beta_end, beta_schedule="linear"
        )
        self.schedule = DiscreteVP(self.scheduler.betas)
        self.unet = UNet2DModel(**{**overridden(SMALL_UNET, unet), "num_class_embeds": len(classes) + 1})

    def noise_error(self, image: Tensor, label: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Return the squared error of the predicted noise, summed over pixels, at a noise level.

        Args:
            image: Images in [-1, 1], [B, C, H, W].
            label: Class indices, [B].
            level: Noise level as a share of the log-SNR range, 0 the least noise and 1 the most, [B], on the CPU.
            noise: Standard normal, [B, C, H, W].

        Returns:
            Errors, [B].
        """
        most, least = self.schedule.log_snr(0.0), self.schedule.log_snr(1.0)
        point = self.schedule.at_log_snr(torch.lerp(most, least, level.double()))
        step = self.schedule.network_time(point.t).to(image)
        return noise_error(lambda x: self.unet(x, step, label).sample, image, noise, point.like(image))

    def bits_per_dim(self, image: Tensor, error: Tensor) -> Tensor:
        """Turn mean noise errors into the negative bound, in bits per dimension of the continuous density.

        Args:
            image: Images in [-1, 1], [B, C, H, W].
            error: Squared noise error averaged over levels uniform in log-SNR, [B].

        Returns:
            Negative bound, [B].
        """
        dims = image[0].numel()
        most, least = self.schedule.log_snr(0.0).item(), self.schedule.log_snr(1.0).item()
        signal, variance = 1 / (1 + math.exp(-least)), 1 / (1 + math.exp(least))
        energy = image.flatten(1).square().sum(1)
        prior = 0.5 * (signal * energy + dims * (variance - 1 - math.log(variance)))
        data = 0.5 * dims * (1 + math.log(2 * math.pi) - most)
        return (prior + data + 0.5 * (most - least) * error) / (dims * math.log(2))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the noise error per pixel, at levels spread evenly over the batch; conditions drop out at times."""
        image, label = batch.image, self.labels(batch.prompt)
        dropped = torch.rand(len(label), device=self.device) < self.condition_dropout
        label = torch.where(dropped, self.null_class, label)
        level = even_share(len(label))
        loss = self.noise_error(image, label, level, torch.randn_like(image)).mean() / image[0].numel()
        self.log("train/loss", loss, batch_size=len(label))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the negative bound under the true class, with noise that is the same at every validation."""
        generator = torch.Generator().manual_seed(batch_index)
        label = self.labels(batch.prompt)
        error = torch.zeros(len(label), device=self.device)
        start = torch.rand(len(label), generator=generator)
        for draw in range(self.validation_draws):
            level = (start + draw) / self.validation_draws
            noise = torch.randn(batch.image.shape, generator=generator).to(self.device)
            error += self.noise_error(batch.image, label, level, noise) / self.validation_draws
        bits = self.bits_per_dim(batch.image, error).mean()
        self.log("val/bits_per_dim", bits, batch_size=len(label), prog_bar=True, sync_dist=True)

    def labels(self, prompts: Sequence[str]) -> Tensor:
        """Return the class indices of class names, [B]."""
        if unknown := set(prompts) - self.class_index.keys():
            raise ValueError(f"the model knows the classes {list(self.class_index)}, not {sorted(unknown)}")
        return torch.tensor([self.class_index[prompt] for prompt in prompts], device=self.device)

    def export(self, folder: Path) -> None:
        """Write the network, its noise schedule and its class names."""
        DDPMPipeline(unet=self.unet, scheduler=self.scheduler).save_pretrained(folder, safe_serialization=True)
        names = {"classes": list(self.class_index), "null_class": self.null_class}
        (folder / CLASSES_FILE).write_text(json.dumps(names, indent=2) + "\n")
