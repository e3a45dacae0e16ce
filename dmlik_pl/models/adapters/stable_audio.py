"""Stable Audio Open: a transformer over the latents of a sound, given a prompt and how long the sound is."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import Condition
from dmlik_pl.models.sounds import SoundModel

__all__ = ["StableAudio"]


class StableAudio(SoundModel):
    """A model of sounds of one window, which silence fills up as in its training; it is told how long they are.

    In the null condition text and length are zeros, as the pipeline has it where no negative prompt is given.

    References:
        | Stable Audio Open (Evans et al., 2024); Fast Timing-Conditioned Latent Audio Diffusion (Evans et al., 2024)
    """

    pipelines = ("StableAudioPipeline",)
    encoders = ("vae", "text_encoder", "tokenizer", "projection_model")
    unused = (*SoundModel.unused, "scheduler")  # that of Stable Audio Open needs torchsde, to sample with
    example = "stabilityai/stable-audio-open-1.0"

    def __init__(self, path: str, **settings: Any) -> None:
        super().__init__(path, **settings)
        exact = torch.promote_types(self.denoiser.dtype, torch.float32)
        self.times = copy.deepcopy(self.denoiser.time_proj).to(exact)  # the network rounds times to its own dtype
        self.denoiser.time_proj.register_forward_hook(
            lambda module, args, output: self.times(self.told.to(self.times.weight)).to(output)
        )

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        return {"text": self._encode_prompt(prompt)}

    def _embed_null(self) -> dict[str, Tensor]:
        if self.negative_prompt is None:
            return {"text": torch.zeros_like(self._encode_prompt(""))}
        return {"text": self._encode_prompt("", self.negative_prompt)[:1]}

    @torch.no_grad()
    def condition(self, prompts: str | Sequence[str], seconds: float | None = None) -> Condition:
        """The condition of prompts, one per sound or one for all, with the null branch.

        Args:
            prompts: The prompts.
            seconds: How long the sounds are, which the network is told; as long as its window by default.
        """
        words = super().condition(prompts)
        told = self.window / self.rate if seconds is None else seconds
        ends = self.pipeline.encode_duration(0.0, told, self.device, False, len(words.inputs["text"]))
        null_ends = [torch.zeros_like(end) for end in ends] if self.negative_prompt is None else ends
        length = torch.cat(ends, 2)
        return Condition(
            {"text": torch.cat([words.inputs["text"], *ends], 1), "length": length},
            {"text": torch.cat([words.null["text"], *null_ends], 1), "length": length},
        )

    def condition_of(self, images: Tensor, prompts: str | Sequence[str]) -> Condition:
        """The condition of sounds [B, C, N] under their prompts, with their length."""
        return self.condition(prompts, images.shape[-1] / self.rate)

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """What the transformer predicts for x_t [B, c, n] at its own times [B]."""
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        places = x.shape[-1] + inputs["length"].shape[1]
        form: dict[str, Any] = {"use_real": True, "repeat_interleave_real": False}
        rotary = get_1d_rotary_pos_embed(self.pipeline.rotary_embed_dim, places, **form)
        self.told = self.process.told(time)
        told = {"encoder_hidden_states": inputs["text"], "global_hidden_states": inputs["length"]}
        return self._ask(x, time, exact={"rotary_embedding": tuple(part.to(x.device) for part in rotary)}, **told)
