"""Training of a small class-conditional pixel diffusion model, by the likelihood bound that it is judged by.

With lambda the log signal-to-noise ratio, the negative bound of one image of D dimensions is (Kingma et al. 2021)

    KL(q(x_T | x) || N(0, I)) + D/2 (1 + log 2 pi - lambda_max) + 1/2 int E |eps - eps_hat|^2 dlambda

over lambda_min..lambda_max, so lambda drawn uniformly makes the plain noise-prediction error an unbiased estimate of
the part that can be learnt. The network sees the noise level as diffusers' timestep, continuous: log-SNR is
interpolated linearly on the scheduler's grid, where step 0 is the least noise.

References:
    Kingma et al. 2021, Variational Diffusion Models, arXiv 2107.00630
    Ho & Salimans 2021, Classifier-Free Diffusion Guidance, arXiv 2207.12598
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from dmlik_pl.data.base import Batch

__all__ = ["CLASSES_FILE", "PixelDiffusionTraining"]

CLASSES_FILE = "classes.json"


class PixelDiffusionTraining(LightningModule):
    """Fits a `UNet2DModel` with class embedding and writes it as a `DDPMPipeline` folder.

    The folder holds beside diffusers' own files a `classes.json` with the class names in the order of their embeddings
    and the index of the null class, the one that stands for "no condition".

    Args:
        classes: Class names; the batch's prompts are taken from these.
        output: Folder the trained pipeline is written to when the fit ends; None writes nothing.
        image_size: Height and width in pixels.
        image_channels: Colour channels.
        channels: Feature channels at each resolution, from the finest on; every further one halves the resolution.
        layers_per_block: Residual layers at each resolution.
        norm_groups: Groups of the group norms; must divide every entry of `channels`.
        dropout: Dropout inside the residual layers.
        condition_dropout: Share of the training samples that are shown the null class.
        train_steps: Steps of the noise schedule's grid.
        beta_start: First beta of the linear schedule.
        beta_end: Last beta of the linear schedule.
        learning_rate: Peak learning rate of AdamW; it rises linearly and falls as a cosine to zero.
        warmup_steps: Steps of the rise.
        weight_decay: Weight decay of AdamW.
        validation_draws: Noise levels per validation image; these are the same at every validation.
    """

    def __init__(
        self,
        classes: list[str],
        output: Path | None = None,
        image_size: int = 8,
        image_channels: int = 1,
        channels: tuple[int, ...] = (32, 64),
        layers_per_block: int = 1,
        norm_groups: int = 8,
        dropout: float = 0.1,
        condition_dropout: float = 0.1,
        train_steps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        learning_rate: float = 1e-3,
        warmup_steps: int = 200,
        weight_decay: float = 0.01,
        validation_draws: int = 16,
    ) -> None:
        super().__init__()
        if len(set(classes)) != len(classes):
            raise ValueError(f"class names must be distinct, got {classes}")
        self.class_index = {name: index for index, name in enumerate(classes)}
        self.null_class = len(classes)
        self.output = output
        self.condition_dropout = condition_dropout
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.weight_decay = weight_decay
        self.validation_draws = validation_draws
        self.scheduler = DDPMScheduler(
            num_train_timesteps=train_steps, beta_start=beta_start, beta_end=beta_end, beta_schedule="linear"
        )
        coarse = len(channels) - 1
        self.unet = UNet2DModel(
            sample_size=image_size,
            in_channels=image_channels,
            out_channels=image_channels,
            down_block_types=("DownBlock2D",) + ("AttnDownBlock2D",) * coarse,
            up_block_types=("AttnUpBlock2D",) * coarse + ("UpBlock2D",),
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_groups,
            attention_head_dim=16,
            dropout=dropout,
            num_class_embeds=len(classes) + 1,
        )
        # Descending in the step; kept in double precision because its ends decide where the bound is cut off.
        signal = self.scheduler.alphas_cumprod.double()
        self.register_buffer("log_snr", torch.log(signal) - torch.log1p(-signal), persistent=False)
        self.log_snr: Tensor

    def timestep(self, log_snr: Tensor) -> Tensor:
        """Return the continuous timestep of each log-SNR, by linear interpolation on the scheduler's grid."""
        grid = -self.log_snr
        right = torch.searchsorted(grid, -log_snr).clamp(1, len(grid) - 1)
        share = (-log_snr - grid[right - 1]) / (grid[right] - grid[right - 1])
        return right - 1 + share

    def noise_error(self, image: Tensor, label: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Return the squared error of the predicted noise, summed over pixels, at a noise level.

        Args:
            image: Images in [-1, 1], [B, C, H, W].
            label: Class indices, [B].
            level: Noise level as a share of the log-SNR range, 0 the least noise and 1 the most, [B].
            noise: Standard normal, [B, C, H, W].

        Returns:
            Errors, [B].
        """
        log_snr = torch.lerp(self.log_snr[0], self.log_snr[-1], level.double())
        alpha = log_snr.sigmoid().sqrt().float()[:, None, None, None]
        sigma = (-log_snr).sigmoid().sqrt().float()[:, None, None, None]
        predicted = self.unet(alpha * image + sigma * noise, self.timestep(log_snr).float(), label).sample
        return (predicted - noise).square().flatten(1).sum(1)

    def bits_per_dim(self, image: Tensor, error: Tensor) -> Tensor:
        """Turn mean noise errors into the negative bound, in bits per dimension of the continuous density.

        Args:
            image: Images in [-1, 1], [B, C, H, W].
            error: Squared noise error averaged over levels uniform in log-SNR, [B].

        Returns:
            Negative bound, [B].
        """
        dims = image[0].numel()
        top, bottom = self.log_snr[0], self.log_snr[-1]
        signal, variance = bottom.sigmoid(), (-bottom).sigmoid()
        energy = signal * image.flatten(1).square().sum(1)
        prior = 0.5 * (energy + dims * (variance - 1 - variance.log()))
        data = 0.5 * dims * (1 + math.log(2 * math.pi) - top)
        return (prior + data + 0.5 * (top - bottom) * error) / (dims * math.log(2))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the noise error per pixel, at levels spread evenly over the batch; conditions drop out at times."""
        image, label = batch.image, self.labels(batch.prompt)
        dropped = torch.rand(len(label), device=self.device) < self.condition_dropout
        label = torch.where(dropped, self.null_class, label)
        position = torch.arange(len(label), device=self.device)
        level = (torch.rand((), device=self.device) + position / len(label)) % 1
        loss = self.noise_error(image, label, level, torch.randn_like(image)).mean() / image[0].numel()
        self.log("train/loss", loss, batch_size=len(label))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the negative bound under the true class, with noise that is the same at every validation."""
        generator = torch.Generator().manual_seed(batch_index)
        label = self.labels(batch.prompt)
        error = torch.zeros(len(label), device=self.device)
        start = torch.rand(len(label), generator=generator).to(self.device)
        for draw in range(self.validation_draws):
            level = (start + draw) / self.validation_draws
            noise = torch.randn(batch.image.shape, generator=generator).to(self.device)
            error += self.noise_error(batch.image, label, level, noise) / self.validation_draws
        bits = self.bits_per_dim(batch.image, error).mean()
        self.log("val/bits_per_dim", bits, batch_size=len(label), prog_bar=True, sync_dist=True)

    def labels(self, prompts: list[str]) -> Tensor:
        """Return the class indices of class names, [B]."""
        return torch.tensor([self.class_index[prompt] for prompt in prompts], device=self.device)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a linear rise and a cosine fall over the whole fit."""
        optimizer = torch.optim.AdamW(
            self.unet.parameters(), lr=self.learning_rate, betas=(0.9, 0.99), weight_decay=self.weight_decay, fused=True
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule: Any = get_cosine_schedule_with_warmup(optimizer, self.warmup_steps, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_end(self) -> None:
        """Write the pipeline, with the weights of the best checkpoint where one was kept."""
        checkpoint = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if checkpoint:
            state = torch.load(checkpoint, map_location=self.device, weights_only=True)
            self.load_state_dict(state["state_dict"])
        if self.output is not None and self.trainer.is_global_zero:
            self.export(self.output)

    def export(self, folder: Path) -> None:
        """Write the network, its noise schedule and its class names in diffusers' folder layout."""
        DDPMPipeline(unet=self.unet, scheduler=self.scheduler).save_pretrained(folder, safe_serialization=True)
        names = {"classes": list(self.class_index), "null_class": self.null_class}
        (Path(folder) / CLASSES_FILE).write_text(json.dumps(names, indent=2) + "\n")
