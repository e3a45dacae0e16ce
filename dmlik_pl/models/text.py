"""Prompts to embeddings: one tokenizer and its CLIP text encoder."""

from typing import Any

import torch
from torch import Tensor, nn

from dmlik_pl.models.inputs import shown

__all__ = ["TextEncoder"]


class TextEncoder(nn.Module):
    """A CLIP text encoder with its tokenizer.

    Args:
        encoder: A `CLIPTextModel`, or a `CLIPTextModelWithProjection` for a pooled embedding.
        tokenizer: Its tokenizer.
        truncate: Cut prompts that are too long instead of refusing them.

    Raises:
        ValueError: If the tokenizer knows tokens that the encoder does not.
    """

    def __init__(self, encoder: Any, tokenizer: Any, truncate: bool = False) -> None:
        super().__init__()
        if len(tokenizer) > encoder.config.vocab_size:
            raise ValueError(
                f"the tokenizer in {tokenizer.name_or_path} knows {len(tokenizer)} tokens, and its text encoder "
                f"{encoder.config.vocab_size}: they do not belong to one model"
            )
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.truncate = truncate
        self.window = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)

    def forward(self, prompt: str, *, penultimate: bool) -> tuple[Tensor, Tensor | None]:
        """Embeddings of one prompt by itself, so that they do not depend on what else is asked.

        Args:
            prompt: The prompt.
            penultimate: Whether to take the last layer but one, without the final normalisation, as SDXL does.

        Returns:
            One embedding a token [1, L, E], and the pooled embedding [1, P], None if the encoder has no projection.

        Raises:
            ValueError: If the prompt is longer than the window.
        """
        length = len(self.tokenizer(prompt).input_ids)
        if length > self.window and not self.truncate:
            raise ValueError(
                f"the prompt {shown(prompt)} has {length} tokens with its start and end, and the text encoder's window "
                f"holds {self.window}: shorten it, or set truncate to true to have it cut"
            )
        tokens = self.tokenizer(
            prompt, padding="max_length", max_length=self.window, truncation=True, return_tensors="pt"
        )
        device = next(self.encoder.parameters()).device
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(device) if masked else None
        with torch.no_grad():
            output = self.encoder(tokens.input_ids.to(device), attention_mask=mask, output_hidden_states=True)
        embedding = output.hidden_states[-2] if penultimate else output.last_hidden_state
        return embedding, getattr(output, "text_embeds", None)
