"""Training of a small CLIP: the judge of pictures that a text-to-image model makes, and a zero-shot baseline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

from dmlik_pl.data.base import Batch
from dmlik_pl.data.shapes import PROMPTS
from dmlik_pl.modules.training.base import Training, overridden
from dmlik_pl.modules.training.tokens import small_tokenizer
from dmlik_pl.ranges import at_least

__all__ = ["SMALL_TEXT", "SMALL_VISION", "CLIPTraining"]

SMALL_VISION: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 4,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
SMALL_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


class CLIPTraining(Training):
    """Trains a `CLIPModel` to tell which caption of a batch belongs to which picture.

    Captions repeat within a batch, so each distinct one is a class, and a caption is to find all of its pictures.

    Args:
        output: Folder for the trained model with its processor, in transformers' layout.
        captions: Texts whose words become single tokens, and among which validation chooses.
        vision: Entries of the vision configuration that differ from the small default.
        text: Entries of the text configuration that differ from the small default.
        embedding: Dimension of the common space.
        text_length: The text window in tokens.
        noise: Largest standard deviation of noise on training pictures in [-1, 1]; the pictures to be judged are
            generated, and less clean than those of the data.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up.
    """

    def __init__(
        self,
        output: str,
        captions: Sequence[str] = PROMPTS,
        vision: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        embedding: int = 64,
        text_length: int = 16,
        noise: float = 0.1,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
    ) -> None:
        super().__init__(output, learning_rate, weight_decay, warmup_steps)
        at_least(1, embedding=embedding)
        at_least(2, text_length=text_length)
        at_least(0, noise=noise)
        self.captions = list(captions)
        self.noise = noise
        tokenizer = small_tokenizer(captions, text_length)
        text_config = {
            **overridden(SMALL_TEXT, text),
            "vocab_size": len(tokenizer),
            "max_position_embeddings": text_length,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        vision_config = overridden(SMALL_VISION, vision)
        self.clip = CLIPModel(
            CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=embedding)
        )
        size = {"height": vision_config["image_size"], "width": vision_config["image_size"]}
        half = [0.5, 0.5, 0.5]
        images = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False, image_mean=half, image_std=half)
        self.processor = CLIPProcessor(image_processor=images, tokenizer=tokenizer)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the contrastive loss, from pictures to captions and back."""
        strength = self.noise * torch.rand(len(batch), 1, 1, 1, device=self.device)
        unique = sorted(set(batch.prompt))
        truth = self.positions(batch.prompt, unique)
        logits = self.logits(batch.image + strength * torch.randn_like(batch.image), unique)
        belongs = torch.nn.functional.one_hot(truth, len(unique)).float()
        to_captions = cross_entropy(logits, truth)
        to_pictures = cross_entropy(logits.T, (belongs / belongs.sum(dim=0)).T)
        loss = (to_captions + to_pictures) / 2
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log how often the true caption of all is the nearest."""
        truth = self.positions(batch.prompt, self.captions)
        correct = (self.logits(batch.image, self.captions).argmax(dim=1) == truth).float().mean()
        self.log("val/accuracy", correct, prog_bar=True, batch_size=len(batch))

    def logits(self, image: Tensor, captions: Sequence[str]) -> Tensor:
        """Return scaled cosines between pictures in [-1, 1], [B, 3, H, W], and captions, [B, P]."""
        tokens = self.processor.tokenizer(list(captions), padding=True, return_tensors="pt").to(self.device)
        pictures = self.clip.get_image_features(pixel_values=image).pooler_output
        texts = self.clip.get_text_features(**tokens).pooler_output
        return self.clip.logit_scale.exp() * normalize(pictures, dim=-1) @ normalize(texts, dim=-1).T

    def positions(self, prompts: Sequence[str], captions: Sequence[str]) -> Tensor:
        """Return the position of each prompt among captions, [B]."""
        return torch.tensor([captions.index(prompt) for prompt in prompts], device=self.device)

    def export(self, folder: Path) -> None:
        """Write the model, its tokenizer and its image preprocessing."""
        self.clip.save_pretrained(folder)
        self.processor.save_pretrained(folder)
