"""Kandinsky 2.2's decoder: latents of an image, given an embedding of it that another model gives."""

from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import Condition
from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["KandinskyDecoder"]


class KandinskyDecoder(PipelineModel):
    """A `UNet2DConditionModel` that is told an image's CLIP embedding alone; its learned variance is left out.

    Its density is that of an image given an embedding, and none of an image given a prompt: from prompts the prior
    model of the same pair draws an embedding at random. Latents are unscaled, as the pipeline decodes them.

    References:
        | Kandinsky: an Improved Text-to-Image Synthesis with Image Prior and Latent Diffusion (Razzhigaev et al., 2023)
    """

    pipelines = ("KandinskyV22Pipeline",)
    denoiser_name = "unet"
    vae_name = "movq"
    encoders = ("movq",)
    example = "kandinsky-community/kandinsky-2-2-decoder"

    def _latent_scale(self) -> tuple[Tensor, Tensor]:
        return torch.zeros((), device=self.vae_device), torch.ones((), device=self.vae_device)

    def _space(self) -> str:
        return "VQ latents given an image embedding (of CLIP, by a prior model)"

    def condition(self, prompts: Any, null: Tensor | None = None) -> Condition:
        """The condition of image embeddings [B, E], or of one [1, E] for all images.

        Args:
            prompts: The embeddings, of the pair's prior model or of its image encoder.
            null: That of the unconditional branch [1, E], `negative_image_embeds` of the prior; needed for guidance.

        Raises:
            ValueError: If they are no such embeddings.
        """
        width = self.denoiser.config.encoder_hid_dim
        for given in (prompts, null):
            if given is not None and not (isinstance(given, Tensor) and given.dim() == 2 and given.shape[1] == width):
                shape = list(given.shape) if isinstance(given, Tensor) else repr(given)
                raise ValueError(
                    f"this decoder is conditioned on image embeddings [B, {width}] and not on texts, got {shape}: take "
                    "`image_embeds` and `negative_image_embeds` of KandinskyV22PriorPipeline"
                )
        inputs = {"image": prompts.to(self.device)}
        return Condition(inputs, None if null is None else {"image": null.to(self.device)})

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The predicted noise for x_t [B, C, h, w] at steps [B], which may lie between those of the grid."""
        told = {"image_embeds": inputs["image"]}
        return self._ask(x, time, encoder_hidden_states=None, added_cond_kwargs=told)
