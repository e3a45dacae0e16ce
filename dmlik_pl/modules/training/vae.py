"""Training of a small variational autoencoder whose latents keep an object's colour and outline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from dmlik_pl.data.base import Batch
from dmlik_pl.modules.training.base import Training, overridden
from dmlik_pl.ranges import at_least

__all__ = ["SMALL_VAE", "VAETraining", "object_weight", "reconstruction_error"]

# Four latent channels at a quarter of the resolution; narrow where the picture is large, which is where time goes.
SMALL_VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 64],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 32,
}
LUMA = (0.299, 0.587, 0.114)
OBJECT_CONTRAST = 0.25  # distance from the background, on a scale of [-1, 1], at which a pixel counts as object


class VAETraining(Training):
    """Trains an `AutoencoderKL` on a loss that looks at the object and its chroma, and sets its latents' scale.

    A plain loss is ruled by the background: it reaches a fair PSNR while colours fade.

    Args:
        output: Folder for the trained autoencoder, in diffusers' layout.
        vae: Entries of the autoencoder's configuration that differ from the small default.
        object_share: Extra weight of a pixel of the object; background has weight 1.
        chroma_share: Weight of the error of the colour beside that of the brightness.
        edge_share: Weight of the error of differences of neighbouring pixels, which keeps edges sharp.
        kl_share: Weight of the divergence of the latents from a standard normal, nats per picture.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up.
    """

    def __init__(
        self,
        output: str,
        vae: Mapping[str, Any] | None = None,
        object_share: float = 4.0,
        chroma_share: float = 2.0,
        edge_share: float = 1.0,
        kl_share: float = 2e-5,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.01,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__(output, learning_rate, weight_decay, warmup_steps)
        at_least(0, object_share=object_share, chroma_share=chroma_share, edge_share=edge_share, kl_share=kl_share)
        self.vae: Any = AutoencoderKL(**overridden(SMALL_VAE, vae))
        self.object_share = object_share
        self.chroma_share = chroma_share
        self.edge_share = edge_share
        self.kl_share = kl_share

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of a batch, with latents drawn from the posterior."""
        posterior = self.vae.encode(batch.image).latent_dist
        decoded = self.vae.decode(posterior.sample()).sample
        weight = object_weight(batch.image, self.object_share)
        error = reconstruction_error(decoded, batch.image, weight, self.chroma_share, self.edge_share)
        divergence = posterior.kl().mean()
        self.log_dict({"train/error": error, "train/kl": divergence}, prog_bar=True)
        return error + self.kl_share * divergence

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the fidelity of pictures decoded from the posterior's mode, over all pixels and over the object's."""
        decoded = self.vae.decode(self.vae.encode(batch.image).latent_dist.mode()).sample.clamp(-1, 1)
        weight = object_weight(batch.image, 1.0) - 1
        squares = (decoded - batch.image).square().mean(dim=1, keepdim=True) / 4
        of_object = (weight * squares).sum() / weight.sum()
        fidelity = {"val/psnr": -10 * squares.mean().log10(), "val/psnr_object": -10 * of_object.log10()}
        self.log_dict(fidelity, prog_bar=True, batch_size=len(batch))

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Set the scale that gives latents unit variance over the validation pictures, and write the folder."""
        self.vae.eval()
        loader = self.trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        latents = torch.cat([self.vae.encode(batch.image.to(self.device)).latent_dist.mode() for batch in loader])
        self.vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
        self.vae.save_pretrained(folder, safe_serialization=True)


def object_weight(image: Tensor, share: float) -> Tensor:
    """Weigh the pixels that differ from the background, which is taken to be a picture's median colour.

    Args:
        image: Pictures in [-1, 1], [B, C, H, W].
        share: Extra weight of a pixel of the object.

    Returns:
        Weights between 1 and 1 + share, [B, 1, H, W].
    """
    background = image.flatten(2).median(dim=2).values[..., None, None]
    contrast = (image - background).abs().amax(dim=1, keepdim=True)
    return 1 + share * (contrast / OBJECT_CONTRAST).clamp(max=1).square()


def reconstruction_error(
    decoded: Tensor, image: Tensor, weight: Tensor, chroma_share: float, edge_share: float
) -> Tensor:
    """Return the weighted mean absolute error of brightness, colour and edges.

    Args:
        decoded: Decoded pictures, [B, 3, H, W].
        image: The pictures they should be, [B, 3, H, W].
        weight: Weights of the pixels, [B, 1, H, W].
        chroma_share: Weight of the colour's error beside the brightness's.
        edge_share: Weight of the error of differences of neighbouring pixels.

    Returns:
        A scalar.
    """
    weight = weight / weight.mean()
    difference = decoded - image
    luma = (difference * difference.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    chroma = (difference - luma).abs().mean(dim=1, keepdim=True)
    across, down = difference.diff(dim=3).abs(), difference.diff(dim=2).abs()
    edges = (weight[..., 1:] * across).mean() + (weight[:, :, 1:] * down).mean()
    return (weight * (luma.abs() + chroma_share * chroma)).mean() + edge_share * edges
