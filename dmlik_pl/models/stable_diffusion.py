"""Stable Diffusion 1.x and 2.x."""

from torch import Tensor

from dmlik_pl.models.folder import PipelineFolder
from dmlik_pl.models.latent_diffusion import LatentDiffusion
from dmlik_pl.models.text import TextEncoder

__all__ = ["StableDiffusion"]


class StableDiffusion(LatentDiffusion):
    """Stable Diffusion 1.x or 2.x: one text encoder; the null condition is the empty prompt.

    Pipelines that start from an image are read as what they are made of. Inpainting networks, which take a mask too,
    are refused.

    References:
        | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
    """

    pipelines = (
        *("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
        *("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
    )
    components = ("unet", "vae", "scheduler", "tokenizer", "text_encoder")
    example = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    lora_loader = "StableDiffusionLoraLoaderMixin"

    def _text_encoders(self, folder: PipelineFolder, truncate: bool) -> list[TextEncoder]:
        from transformers import CLIPTextModel

        encoder = folder.model(CLIPTextModel, "text_encoder", "float32")
        return [TextEncoder(encoder, folder.tokenizer("tokenizer"), truncate)]

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        return {"text": self.text_encoders[0](prompt, penultimate=False)[0]}

    def _embed_null(self) -> dict[str, Tensor]:
        return self._embed(self.negative_prompt or "")
