"""Lumina-Image 2.0: flow matching from noise at time 0 to data at time 1."""

from torch import Tensor

from dmlik_pl.models.pipeline import PipelineModel
from dmlik_pl.models.schedules import NoiseProcess

__all__ = ["Lumina2"]


class Lumina2(PipelineModel):
    """A transformer over text and image tokens together; the pipeline's system prompt precedes every prompt but null.

    References:
        | Lumina-Image 2.0: A Unified and Efficient Image Generative Framework (Qin et al., 2025)
    """

    pipelines = ("Lumina2Pipeline", "Lumina2Text2ImgPipeline")
    encoders = ("vae", "text_encoder", "tokenizer")
    example = "Alpha-VLLM/Lumina-Image-2.0"

    def _use(self, process: NoiseProcess) -> None:
        super()._use(process)
        self.network_time = "reversed"

    @property
    def largest_grid(self) -> int:
        """Patches along a side that the network has positions for."""
        return int(min(self.denoiser.config.axes_lens[1:]))

    def _worded(self, prompt: str) -> str:
        return f"{self.pipeline.system_prompt} <Prompt Start> {prompt}"

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        text, mask, _, _ = self._encode_prompt(prompt)
        return {"text": text, "mask": mask}

    def _embed_null(self) -> dict[str, Tensor]:
        _, _, text, mask = self._encode_prompt("", self.negative_prompt or "")
        return {"text": text, "mask": mask}

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The velocity towards the data for x_t [B, C, h, w] at times [B], which are 1 there."""
        return self._ask(x, time, encoder_hidden_states=inputs["text"], encoder_attention_mask=inputs["mask"])
