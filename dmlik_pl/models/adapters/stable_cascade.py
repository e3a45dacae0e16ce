"""Stable Cascade's stage C: semantic latents of an image, given a prompt."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["StableCascadePrior"]


class StableCascadePrior(PipelineModel):
    """The prior of Stable Cascade, told a prompt and no image.

    Its density is that of the 16 x 24 x 24 latents which an EfficientNet makes of an image of 1024 pixels, and none of
    the image itself: they are what it is given in the place of images. The pipeline holds neither that encoder nor a
    way back.

    References:
        | Wuerstchen: An Efficient Architecture for Large-Scale Text-to-Image Diffusion Models (Pernias et al., 2024)
    """

    pipelines = ("StableCascadePriorPipeline",)
    denoiser_name = "prior"
    encoders = ("text_encoder", "tokenizer")
    time_name = "timestep_ratio"
    example = "stabilityai/stable-cascade-prior"

    def __init__(self, path: str, **settings: Any) -> None:
        super().__init__(path, **settings)
        embedding = self.denoiser.get_timestep_ratio_embedding  # in the dtype of the time, which keeps its own
        self.denoiser.get_timestep_ratio_embedding = lambda time: embedding(time).to(self.denoiser.dtype)

    def _space(self) -> str:
        return "Stable Cascade's semantic latents (EfficientNet, stage C)"

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        text, pooled, _, _ = self._encode_prompt(prompt, batch_size=1, num_images_per_prompt=1)
        return {"text": text, "pooled": pooled}

    def to_latent(self, images: Tensor, sample_ids: Sequence[str], *, bright: bool = False) -> Tensor:
        """Semantic latents [B, C, h, w], themselves.

        Raises:
            ValueError: If they are of another number of channels, such as images.
        """
        channels = self.denoiser.config.in_channels
        if images.dim() != 4 or images.shape[1] != channels or not images.is_floating_point():
            raise ValueError(
                f"stage C models semantic latents [B, {channels}, h, w] of floating point, got {list(images.shape)}: "
                "encode images with Stable Cascade's EfficientNet first"
            )
        return images

    def to_image(self, latents: Tensor) -> Tensor:
        """No images are made of semantic latents by this model alone.

        Raises:
            ValueError: Always.
        """
        raise ValueError("stage C has no way from its semantic latents to images: stages B and A decode them")

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The predicted noise for x_t [B, C, h, w] at times [B] in [0, 1]."""
        image = torch.zeros(len(x), 1, self.denoiser.config.clip_image_in_channels, device=x.device)
        return self._ask(x, time, clip_text_pooled=inputs["pooled"], clip_text=inputs["text"], clip_img=image)
