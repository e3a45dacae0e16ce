"""SDXL's refiner; base models that lie in a folder of its pipeline are read as such."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.models.base import DiffusionModel
from dmlik_pl.models.folder import PipelineFolder
from dmlik_pl.models.sdxl import StableDiffusionXL
from dmlik_pl.models.text import TextEncoder

__all__ = ["SDXLRefiner"]

_SCORE, _NULL_SCORE = 6.0, 2.5  # what the pipeline's own call tells it by default


class SDXLRefiner(StableDiffusionXL):
    """The second text encoder alone, and an aesthetic score in the place of the target size.

    The score is the pipeline's default: 6 for a prompt, 2.5 for the null condition.

    References:
        | SDXL (Podell et al., 2023), section 2.5
    """

    pipelines = ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline")
    components = ("unet", "vae", "scheduler", "tokenizer_2", "text_encoder_2")
    example = "stabilityai/stable-diffusion-xl-refiner-1.0"
    suffixes = ("_2",)
    size_ids = 5

    @classmethod
    def suited(cls, index: Mapping[str, Any]) -> type[DiffusionModel]:
        """A base model lies in such folders too; it is told no score."""
        return cls if index.get("requires_aesthetics_score") else StableDiffusionXL

    def _text_encoders(self, folder: PipelineFolder, truncate: bool) -> list[TextEncoder]:
        from transformers import CLIPTextModelWithProjection

        if not folder.index.get("requires_aesthetics_score") or folder.holds("text_encoder"):
            raise ValueError(
                f"{folder.path} holds a base model for image-to-image, no refiner: rename its pipeline in "
                "model_index.json to StableDiffusionXLPipeline, whose parts are the same"
            )
        encoder = folder.model(CLIPTextModelWithProjection, "text_encoder_2", "float32")
        return [TextEncoder(encoder, folder.tokenizer("tokenizer_2"), truncate)]

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        text, pooled = self.text_encoders[0](prompt, penultimate=True)
        return {"text": text, "pooled": pooled, "score": torch.full((1, 1), _SCORE)}

    def _embed_null(self) -> dict[str, Tensor]:
        return {**super()._embed_null(), "score": torch.full((1, 1), _NULL_SCORE)}

    def _added_conditions(self, x: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        sizes = torch.cat([self.time_ids(x)[:, :4], inputs["score"].to(x.device)], 1)
        return {"text_embeds": inputs["pooled"].to(self.unet.dtype), "time_ids": sizes}
