"""Hunyuan-DiT: a transformer over the tokens of BERT and T5, of the DDPM type."""

from typing import Any

import torch
from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["HunyuanDiT"]


class HunyuanDiT(PipelineModel):
    """A transformer with rotary positions, told the image's own size, uncropped; its learned variance is left out.

    References:
        | Hunyuan-DiT: A Powerful Multi-Resolution Diffusion Transformer (Li et al., 2024)
    """

    pipelines = ("HunyuanDiTPipeline",)
    encoders = ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    example = "Tencent-Hunyuan/HunyuanDiT-v1.2-Diffusers"

    def __init__(self, path: str, **settings: Any) -> None:
        super().__init__(path, **settings)
        self.max_sequence_length = int(self.denoiser.config.text_len_t5)  # its places for them are counted
        self._keep_time_exact(self.denoiser.time_extra_emb)

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        window = self._window(self.pipeline.tokenizer)
        bert = self._encode_prompt(prompt, text_encoder_index=0, max_sequence_length=window)
        t5 = self._encode_prompt(prompt, text_encoder_index=1)
        return {"text": bert[0], "mask": bert[2], "text_t5": t5[0], "mask_t5": t5[2]}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The predicted noise for x_t [B, C, h, w] at steps [B], which may lie between those of the grid."""
        height, width = (side * self.image_factor for side in x.shape[-2:])
        sizes = x.new_tensor([[height, width, height, width, 0, 0]]).repeat(len(x), 1)
        self.told = time
        return self._ask(
            x,
            time.to(self.denoiser.dtype),  # its type is that of what the network makes of it
            encoder_hidden_states=inputs["text"],
            text_embedding_mask=inputs["mask"],
            encoder_hidden_states_t5=inputs["text_t5"],
            text_embedding_mask_t5=inputs["mask_t5"],
            image_meta_size=sizes,
            style=torch.zeros(len(x), dtype=torch.int64, device=x.device),
            image_rotary_emb=self._positions(x),
        )

    def _positions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rotary embeddings of the patches of a latent, scaled to the grid of 512 pixels as the pipeline has it."""
        from diffusers.models.embeddings import get_2d_rotary_pos_embed
        from diffusers.pipelines.hunyuandit.pipeline_hunyuandit import get_resize_crop_region_for_grid

        patch = self.denoiser.config.patch_size
        grid = (x.shape[-2] // patch, x.shape[-1] // patch)
        region = get_resize_crop_region_for_grid(grid, 512 // 8 // patch)
        width = self.denoiser.inner_dim // self.denoiser.num_heads
        cos, sin = get_2d_rotary_pos_embed(width, region, grid, device=x.device, output_type="pt")
        return cos, sin
