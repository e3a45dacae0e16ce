"""Stable Diffusion 3 and 3.5: flow matching, three text encoders of which T5 may be left out."""

from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["StableDiffusion3"]


class StableDiffusion3(PipelineModel):
    """A transformer over text and image tokens together; the null condition is the empty prompt.

    Without T5, where ``text_encoder_3`` is not in the folder, its tokens are zeros, as the pipeline has it.

    References:
        | Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024)
    """

    pipelines = ("StableDiffusion3Pipeline",)
    encoders = ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    example = "stabilityai/stable-diffusion-3.5-medium"

    @property
    def largest_grid(self) -> int:
        """Patches along a side that the network has positions for."""
        return int(self.denoiser.config.pos_embed_max_size)

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        text, _, pooled, _ = self._encode_prompt(prompt, prompt_2=prompt, prompt_3=prompt)
        return {"text": text, "pooled": pooled}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The velocity for x_t [B, C, h, w] at times [B] in steps."""
        return self._ask(x, time, encoder_hidden_states=inputs["text"], pooled_projections=inputs["pooled"])
