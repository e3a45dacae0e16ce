"""CLIP: scores of images against prompts, zero-shot baselines and image features, for transformers 5.

Images are checked: floating point must lie in [0, 1], 8-bit integers count from 0 to 255, anything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from dmlik_pl.pretrained import load_with_processor

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPProcessor

__all__ = ["CLIPEncoder", "CLIPImageFeatures", "CLIPScore", "clip_score_matrix", "clip_scores"]


class CLIPEncoder(nn.Module):
    """A CLIP model with its preprocessing: images and prompts to unit vectors of one space.

    Args:
        model: The model, frozen and put into evaluation mode here.
        processor: Its image processor and tokenizer.
    """

    def __init__(self, model: CLIPModel, processor: CLIPProcessor) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.processor = processor

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, local_files_only: bool = False, revision: str | None = None
    ) -> CLIPEncoder:
        """Load a CLIP model in the folder layout of transformers.

        Args:
            name_or_path: A folder, the name of a shipped model, or that of a model on the Hugging Face hub.
            local_files_only: Never download; HF_HUB_OFFLINE=1 does the same.
            revision: Branch, tag or commit on the hub.

        Raises:
            FileNotFoundError: If there is no such folder and no such model at hand.
            ValueError: If it is another model, or a damaged one.
        """
        from transformers import CLIPModel, CLIPProcessor  # seconds of import that tables made from records do not need

        model, processor = load_with_processor(
            CLIPModel,
            CLIPProcessor,
            name_or_path,
            what="CLIP model",
            example="openai/clip-vit-base-patch16",
            local_files_only=local_files_only,
            revision=revision,
        )
        return cls(model, processor)

    @property
    def num_features(self) -> int:
        """Dimension of the common space."""
        return int(self.model.config.projection_dim)

    @torch.no_grad()
    def images(self, images: Tensor, normalise: bool = True) -> Tensor:
        """Encode images.

        Args:
            images: [B, 3, H, W], floating point in [0, 1] or uint8.
            normalise: Scale each vector to unit length.

        Returns:
            Vectors, [B, num_features].
        """
        # The processor is CLIP's own definition of its input and works on 8-bit images, on the CPU.
        pixels = [image.cpu().permute(1, 2, 0).numpy() for image in _to_uint8(images)]
        inputs = self.processor.image_processor(images=pixels, input_data_format="channels_last", return_tensors="pt")
        pixel_values = inputs["pixel_values"].to(self.model.device, self.model.dtype)
        return _vectors(self.model.get_image_features(pixel_values=pixel_values), normalise)

    @torch.no_grad()
    def prompts(self, prompts: Sequence[str]) -> Tensor:
        """Encode prompts.

        Args:
            prompts: P texts.

        Returns:
            Unit vectors, [P, num_features].

        Raises:
            ValueError: If a prompt is longer than the model's window; cutting it would score another prompt.
        """
        inputs = self.processor.tokenizer(list(prompts), padding=True, return_tensors="pt").to(self.model.device)
        window = int(self.model.config.text_config.max_position_embeddings)
        lengths = inputs["attention_mask"].sum(1)
        if int(lengths.max()) > window:
            longest = prompts[int(lengths.argmax())]
            raise ValueError(
                f"the prompt {longest!r} has {int(lengths.max())} tokens, this CLIP model reads at most {window}"
            )
        features = self.model.get_text_features(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        return _vectors(features, normalise=True)


def clip_scores(encoder: CLIPEncoder, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """CLIP score of each image against its own prompt, 100 max(cos, 0).

    Args:
        encoder: The CLIP model.
        images: [B, 3, H, W], floating point in [0, 1] or uint8.
        prompts: B texts.

    Returns:
        Scores from 0 to 100, [B].
    """
    if len(images) != len(prompts):
        raise ValueError(f"{len(images)} images need as many prompts, got {len(prompts)}")
    cosine = (encoder.images(images) * encoder.prompts(prompts)).sum(-1)
    return 100 * cosine.clamp(min=0)


def clip_score_matrix(encoder: CLIPEncoder, images: Tensor, prompts: Sequence[str]) -> Tensor:
    """Cosine of every image with every prompt times 100, for zero-shot decisions.

    Unlike `clip_scores` it is not cut off at 0, so that the order of bad matches is kept.

    Args:
        encoder: The CLIP model.
        images: [B, 3, H, W], floating point in [0, 1] or uint8.
        prompts: P texts.

    Returns:
        Scores, [B, P].
    """
    return 100 * encoder.images(images) @ encoder.prompts(prompts).mT


class CLIPScore(Metric):
    """Mean CLIP score of images against their own prompts, 100 max(cos, 0).

    Args:
        model: A folder or hub name, or an encoder that is loaded already.
        local_files_only: Never download.
    """

    is_differentiable: bool = False
    higher_is_better: bool = True
    full_state_update: bool = False
    plot_lower_bound: float = 0.0
    plot_upper_bound: float = 100.0

    score_sum: Tensor
    count: Tensor

    def __init__(self, model: str | Path | CLIPEncoder, local_files_only: bool = False) -> None:
        super().__init__()
        self.encoder = _encoder(model, local_files_only)
        self.add_state("score_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, prompts: Sequence[str]) -> None:
        """Add a batch.

        Args:
            images: [B, 3, H, W], floating point in [0, 1] or uint8.
            prompts: B texts.
        """
        self.score_sum += clip_scores(self.encoder, images, prompts).double().sum()
        self.count += len(images)

    def compute(self) -> Tensor:
        """The mean score, a float64 scalar."""
        return self.score_sum / self.count


class CLIPImageFeatures(nn.Module):
    """CLIP's image embedding as a feature network for `FrechetDistance`: no Inception weights needed.

    Args:
        model: A folder or hub name, or an encoder that is loaded already.
        local_files_only: Never download.
    """

    def __init__(self, model: str | Path | CLIPEncoder, local_files_only: bool = False) -> None:
        super().__init__()
        self.encoder = _encoder(model, local_files_only)
        self.num_features = self.encoder.num_features

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], floating point in [0, 1] or uint8, to features [B, num_features] of any length."""
        return self.encoder.images(images, normalise=False)


def _encoder(model: str | Path | CLIPEncoder, local_files_only: bool) -> CLIPEncoder:
    return model if isinstance(model, CLIPEncoder) else CLIPEncoder.from_pretrained(model, local_files_only)


def _to_uint8(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [0, 1] or uint8 to uint8; a wrong range is an error, never wrapped around."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be [B, 3, H, W], got {list(images.shape)}")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise TypeError(f"images must be floating point in [0, 1] or uint8, got {images.dtype}")
    low, high = float(images.min()), float(images.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):  # NaN fails too
        raise ValueError(f"floating-point images must lie in [0, 1], these reach from {low:.4g} to {high:.4g}")
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8)


def _vectors(output: Any, normalise: bool) -> Tensor:
    """The projected embedding: `pooler_output` of an object in transformers 5, the tensor itself before."""
    vectors = output if isinstance(output, Tensor) else output.pooler_output
    vectors = vectors.float()
    return vectors / vectors.norm(dim=-1, keepdim=True) if normalise else vectors
