"""AuraFlow: flow matching over T5's tokens of many languages."""

import math

from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["AuraFlow"]


class AuraFlow(PipelineModel):
    """A transformer over text and image tokens together; what the mask leaves out is zero in the embeddings.

    References:
        | AuraFlow (Cloneofsimo and fal, 2024)
    """

    pipelines = ("AuraFlowPipeline",)
    encoders = ("vae", "text_encoder", "tokenizer")
    example = "fal/AuraFlow-v0.3"

    @property
    def largest_grid(self) -> int:
        """Patches along a side that the network has positions for, as many as along the other."""
        return math.isqrt(self.denoiser.config.pos_embed_max_size)

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        return {"text": self._encode_prompt(prompt)[0]}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The velocity for x_t [B, C, h, w] at times [B] in steps; the network is told them in [0, 1]."""
        return self._ask(x, time / 1000, encoder_hidden_states=inputs["text"])
