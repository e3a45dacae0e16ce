"""Kolors: a U-Net in SDXL's manner over the tokens of a language model, ChatGLM3."""

import torch
from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["Kolors"]


class Kolors(PipelineModel):
    """SDXL's micro-conditioning with ChatGLM's embeddings; the null condition is the empty prompt.

    The U-Net is told that the image is whole and was never resized, as that of
    :class:`~dmlik_pl.models.StableDiffusionXL`. The tokenizer needs the package `sentencepiece`.

    References:
        | Kolors: Effective Training of Diffusion Model for Photorealistic Text-to-Image Synthesis (Kuaishou, 2024)
    """

    pipelines = ("KolorsPipeline", "KolorsImg2ImgPipeline")
    denoiser_name = "unet"
    encoders = ("vae", "text_encoder", "tokenizer")
    example = "Kwai-Kolors/Kolors-diffusers"

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        text, _, pooled, _ = self._encode_prompt(prompt)
        return {"text": text, "pooled": pooled}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The predicted noise for x_t [B, C, h, w] at steps [B], which may lie between those of the grid."""
        height, width = (side * self.image_factor for side in x.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=x.device).expand(len(x), -1)
        told = {"text_embeds": inputs["pooled"], "time_ids": sizes}
        return self._ask(x, time, encoder_hidden_states=inputs["text"], added_cond_kwargs=told)
