"""DiT: a class-conditional transformer over latents."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import Condition
from dmlik_pl.models.inputs import as_prompts
from dmlik_pl.models.pipeline import PipelineModel

__all__ = ["DiT"]


class DiT(PipelineModel):
    """A transformer whose prompts are names of classes, or their numbers; its learned variance is left out.

    The null class is the one after all others.

    References:
        | Scalable Diffusion Models with Transformers (Peebles and Xie, 2023)
    """

    pipelines = ("DiTPipeline",)
    encoders = ("vae",)
    example = "facebook/DiT-XL-2-256"

    def condition(self, prompts: str | Sequence[str]) -> Condition:
        """The condition of a batch of classes, or of one for all images, with the null class.

        Raises:
            ValueError: If a prompt is no class of the model.
        """
        labels = torch.tensor([self._label(prompt) for prompt in as_prompts(prompts)], device=self.device)
        null = torch.full_like(labels, self.denoiser.config.num_embeds_ada_norm)
        return Condition({"label": labels}, {"label": null})

    def _label(self, prompt: str) -> int:
        names: dict[str, int] = self.pipeline.labels
        count = self.denoiser.config.num_embeds_ada_norm
        if prompt in names:
            return names[prompt]
        if prompt.isdecimal() and int(prompt) < count:
            return int(prompt)
        known = ", ".join(list(names)[:5]) + ", ..." if names else "none with names"
        raise ValueError(f"the model knows no class {prompt!r}; it has {count}, by number or name ({known})")

    def network(self, x: Tensor, time: Tensor, inputs: Any) -> Tensor:
        """The predicted noise for x_t [B, C, h, w] at steps [B], which may lie between those of the grid."""
        return self._ask(x, time, class_labels=inputs["label"])
