"""Sana: flow matching with linear attention over the latents of a deep-compression autoencoder."""

import inspect

from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["Sana"]


class Sana(PipelineModel):
    """A transformer over a language model's tokens of a prompt, which the pipeline's own instruction precedes.

    The null condition is the empty prompt without the instruction.

    References:
        | SANA: Efficient High-Resolution Image Synthesis with Linear Diffusion Transformers (Xie et al., 2024)
    """

    pipelines = ("SanaPipeline",)
    encoders = ("vae", "text_encoder", "tokenizer")
    example = "Efficient-Large-Model/Sana_1600M_1024px_diffusers"

    @property
    def image_factor(self) -> int:
        """Pixels a latent pixel is wide."""
        return int(2 ** (len(self.vae.config.encoder_block_out_channels) - 1))

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        instruction = inspect.signature(type(self.pipeline).__call__).parameters["complex_human_instruction"].default
        text, mask, _, _ = self._encode_prompt(prompt, complex_human_instruction=instruction)
        return {"text": text, "mask": mask}

    def _embed_null(self) -> dict[str, Tensor]:
        _, _, text, mask = self._encode_prompt("", self.negative_prompt or "", complex_human_instruction=None)
        return {"text": text, "mask": mask}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The velocity for x_t [B, C, h, w] at times [B] in steps."""
        return self._ask(
            x,
            time * self.denoiser.config.timestep_scale,
            encoder_hidden_states=inputs["text"],
            encoder_attention_mask=inputs["mask"],
        )
