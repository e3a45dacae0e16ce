"""Stable Diffusion XL and every model in its layout."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from dmlik_pl.models.folder import PipelineFolder
from dmlik_pl.models.latent_diffusion import LatentDiffusion
from dmlik_pl.models.text import TextEncoder

__all__ = ["StableDiffusionXL"]


class StableDiffusionXL(LatentDiffusion):
    """SDXL: two text encoders side by side, a pooled embedding, and the image's size as a condition.

    The U-Net is told that the image is whole and was never resized: original size and target size are its own, the crop
    starts at the corner.

    References:
        | SDXL (Podell et al., 2023), section 2.2 on micro-conditioning
    """

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline",)
    components: tuple[str, ...] = (
        *("unet", "vae", "scheduler"),
        *("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2"),
    )
    example = "stabilityai/stable-diffusion-xl-base-1.0"
    fed = ("addition_embed_type", "time_cond_proj_dim")
    lora_loader = "StableDiffusionXLLoraLoaderMixin"
    suffixes: tuple[str, ...] = ("", "_2")
    size_ids = 6  # numbers that the U-Net is told beside the pooled text

    def _text_encoders(self, folder: PipelineFolder, truncate: bool) -> list[TextEncoder]:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        kinds = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
        return [
            TextEncoder(
                folder.model(kind, f"text_encoder{suffix}", "float32"), folder.tokenizer(f"tokenizer{suffix}"), truncate
            )
            for suffix, kind in kinds.items()
        ]

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        first, second = (encoder(prompt, penultimate=True) for encoder in self.text_encoders)
        return {"text": torch.cat([first[0], second[0]], -1), "pooled": second[1]}

    def _embed_null(self) -> dict[str, Tensor]:
        embedded = self._embed(self.negative_prompt or "")
        if self.negative_prompt is None and self.settings.get("force_zeros_for_empty_prompt", True):
            return {name: torch.zeros_like(value) for name, value in embedded.items()}
        return embedded

    def _added_conditions(self, x: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"text_embeds": inputs["pooled"].to(self.unet.dtype), "time_ids": self.time_ids(x)}

    def time_ids(self, x: Tensor) -> Tensor:
        """Original height and width, top and left of the crop, target height and width, in pixels, [B, 6]."""
        size = [side * self.image_factor for side in x.shape[-2:]]
        return torch.tensor([*size, 0, 0, *size], dtype=torch.float32, device=x.device).expand(len(x), -1)

    def _check(self, folder: PipelineFolder) -> None:
        super()._check(folder)
        config = self.unet.config
        pooling: Any = self.text_encoders[-1]
        given = pooling.encoder.config.projection_dim + self.size_ids * (config.addition_time_embed_dim or 0)
        wanted = config.projection_class_embeddings_input_dim
        if config.addition_embed_type != "text_time" or wanted != given:
            raise ValueError(
                f"the U-Net in {folder.path} is not conditioned as that of its pipeline is: beside the text it wants "
                f"{config.addition_embed_type!r} of {wanted} values, and pooled text and sizes make {given}. Other "
                "variants than base model and refiner are not supported"
            )
