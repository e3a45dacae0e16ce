"""FLUX.1: flow matching over packed latents, with guidance distilled into the network."""

from typing import Any

import torch
from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["Flux"]


class Flux(PipelineModel):
    """A transformer over 2 x 2 packed latents with position ids.

    Its own guidance is an input of the network, which was trained to give a guided field in one pass. It is not Eq. 10:
    :attr:`space` says what the network was told. Eq. 10 comes on top by ``flow(guidance)``; the empty prompt is null.

    Args:
        path: As of :class:`~dmlik_pl.models.PipelineModel`, as are all other settings.
        told_guidance: What the network is told of guidance, where it asks for it (dev, not schnell).
        **settings: See :class:`~dmlik_pl.models.PipelineModel`.

    References:
        | FLUX.1 (Black Forest Labs, 2024); On Distillation of Guided Diffusion Models (Meng et al., 2023)
    """

    pipelines = ("FluxPipeline",)
    encoders = ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    example = "black-forest-labs/FLUX.1-dev"

    def __init__(self, path: str, told_guidance: float = 3.5, **settings: Any) -> None:
        super().__init__(path, **settings)
        self.asks_guidance = bool(self.denoiser.config.guidance_embeds)
        self.told_guidance = told_guidance
        if self.asks_guidance:
            self.space += self._telling(told_guidance)
        self._keep_time_exact(self.denoiser.time_text_embed)

    @property
    def latent_multiple(self) -> int:
        """What the sides of the latents must be multiples of, to be packed."""
        return 2

    @property
    def latent_channels(self) -> int:
        """Channels of the latents before they are packed."""
        return int(self.denoiser.config.in_channels // 4)

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        text, pooled, ids = self._encode_prompt(prompt, prompt_2=prompt)
        return {"text": text, "pooled": pooled, "ids": ids[None]}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The velocity for x_t [B, C, h, w] at times [B] in steps."""
        count, channels, height, width = x.shape
        factor, device = self.image_factor, x.device
        told = torch.full((count,), self.told_guidance, device=device) if self.asks_guidance else None
        self.told = time
        velocity = self._ask(
            self.pipeline._pack_latents(x.contiguous(), count, channels, height, width),
            time / 1000,  # which the network multiplies again, in its own dtype
            encoder_hidden_states=inputs["text"],
            pooled_projections=inputs["pooled"],
            guidance=told,
            txt_ids=inputs["ids"][0],
            img_ids=self.pipeline._prepare_latent_image_ids(count, height // 2, width // 2, device, x.dtype),
        )
        unpacked: Tensor = self.pipeline._unpack_latents(velocity, height * factor, width * factor, factor)
        return unpacked
