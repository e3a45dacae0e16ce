"""PixArt-alpha and PixArt-Sigma: a transformer over T5's tokens, of the DDPM type."""

import torch
from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["PixArt"]


class PixArt(PipelineModel):
    """A transformer that attends to a prompt's own tokens; its learned variance is left out.

    The 1024-pixel model of PixArt-alpha is told the image's own size and aspect ratio.

    References:
        | PixArt-alpha (Chen et al., 2023); PixArt-Sigma (Chen et al., 2024)
    """

    pipelines = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")
    encoders = ("vae", "text_encoder", "tokenizer")
    example = "PixArt-alpha/PixArt-XL-2-1024-MS"

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        text, mask, _, _ = self._encode_prompt(prompt)
        return {"text": text, "mask": mask}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The predicted noise for x_t [B, C, h, w] at steps [B], which may lie between those of the grid."""
        sizes: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.denoiser.use_additional_conditions:
            height, width = (side * self.image_factor for side in x.shape[-2:])
            of_all = x.new_tensor([[height, width, height / width]]).expand(len(x), -1)
            sizes = {"resolution": of_all[:, :2], "aspect_ratio": of_all[:, 2:]}
        return self._ask(
            x,
            time,
            encoder_hidden_states=inputs["text"],
            encoder_attention_mask=inputs["mask"].to(torch.int64),
            added_cond_kwargs=sizes,
        )
