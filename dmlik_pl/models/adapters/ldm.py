"""Unconditional latent diffusion over the latents of a VQ autoencoder."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dmlik_pl.flow import Condition
from dmlik_pl.models.inputs import as_prompts
from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["UnconditionalLDM"]


class UnconditionalLDM(PipelineModel):
    """A `UNet2DModel` over latents as they are before their quantisation. It takes any prompts and heeds none.

    References:
        | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
    """

    pipelines = ("LDMPipeline",)
    denoiser_name = "unet"
    vae_name = "vqvae"
    encoders = ("vqvae",)
    example = "CompVis/ldm-celebahq-256"

    def _space(self) -> str:
        return super()._space().replace("VAE latents", "VQ latents before quantisation,")

    def condition(self, prompts: str | Sequence[str]) -> Condition:
        """No condition, whatever the prompts."""
        as_prompts(prompts)
        return Condition()

    def network(self, x: Tensor, time: Tensor, inputs: Any) -> Tensor:
        """The predicted noise for x_t [B, C, h, w] at steps [B], which may lie between those of the grid."""
        return self._ask(x, time)
