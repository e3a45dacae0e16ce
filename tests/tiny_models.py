"""Random models of a few thousand weights, in the folder layouts of the real ones."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dmlik_pl.modules.training.tokens import small_tokenizer

OBJECTS = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
DOMAINS = ("painting", "cartoon", "photo", "sketch")
COLOURS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
SHAPES = ("cube", "sphere", "cylinder")
CAPTIONS = [
    *(f"a {domain} of a {name}" for domain in DOMAINS for name in OBJECTS),
    *(f"a photo of a {colour} {shape}" for colour in COLOURS for shape in SHAPES),
]
WINDOW = 12  # tokens, with start and end

TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": 4,
}
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
SDXL_UNET = {
    **UNET,
    "attention_head_dim": [2, 4],
    "use_linear_projection": True,
    "cross_attention_dim": 32,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 16 + 6 * 4,
}
SCALED_LINEAR = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
FASTEST_FREQUENCY = 0.2  # radians a step


def smooth_in_time(unet: Any) -> None:
    """Take away the fast part of a random network's time embedding: its ripples would need thousands of steps."""
    weight = unet.time_embedding.linear_1.weight
    half = weight.shape[1] // 2
    frequency = 10000.0 ** (-torch.arange(half) / half)
    with torch.no_grad():
        weight.mul_((frequency <= FASTEST_FREQUENCY).to(weight).repeat(2))


def text_config(tokenizer: Any) -> dict[str, Any]:
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    return {**TEXT, **ids, "projection_dim": 16, "vocab_size": len(tokenizer), "max_position_embeddings": WINDOW}


def make_tiny_sdxl(folder: Path, *, scheduler: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A StableDiffusionXLPipeline: images in multiples of 4 pixels, latents of half their side."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizers = [small_tokenizer(CAPTIONS, WINDOW, pad) for pad in ("<|endoftext|>", "!")]
        config = CLIPTextConfig(**text_config(tokenizers[0]))
        unet = UNet2DConditionModel(**SDXL_UNET)
        smooth_in_time(unet)
        StableDiffusionXLPipeline(
            vae=AutoencoderKL(**VAE, scaling_factor=0.7),
            text_encoder=CLIPTextModel(config),
            text_encoder_2=CLIPTextModelWithProjection(config),
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=unet,
            scheduler=EulerDiscreteScheduler(**{**SCALED_LINEAR, **(scheduler or {})}),
            **{"force_zeros_for_empty_prompt": True, "add_watermarker": False, **settings},
        ).save_pretrained(folder, safe_serialization=True)
    return folder


def make_tiny_sd(folder: Path, *, scheduler: dict[str, Any] | None = None) -> Path:
    """A StableDiffusionPipeline without a safety checker."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(1)
        tokenizer = small_tokenizer(CAPTIONS, WINDOW)
        unet = UNet2DConditionModel(**UNET, cross_attention_dim=16)
        smooth_in_time(unet)
        StableDiffusionPipeline(
            vae=AutoencoderKL(**VAE, scaling_factor=0.18215),
            text_encoder=CLIPTextModel(CLIPTextConfig(**text_config(tokenizer))),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=PNDMScheduler(**{**SCALED_LINEAR, "steps_offset": 1, **(scheduler or {})}),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder, safe_serialization=True)
    return folder


def make_tiny_ddpm(
    folder: Path,
    classes: Sequence[str] | None = None,
    *,
    null: bool = True,
    learned_variance: bool = False,
    scheduler: dict[str, Any] | None = None,
) -> Path:
    """A DDPMPipeline of grey 8x8 images; with classes, their names are in classes.json."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(2)
        unet = UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=2 if learned_variance else 1,
            down_block_types=["DownBlock2D", "AttnDownBlock2D"],
            up_block_types=["AttnUpBlock2D", "UpBlock2D"],
            block_out_channels=[8, 16],
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=8,
            num_class_embeds=None if classes is None else len(classes) + null,
        )
        smooth_in_time(unet)
        DDPMPipeline(unet, DDPMScheduler(**(scheduler or {}))).save_pretrained(folder, safe_serialization=True)
    if classes is not None:
        (folder / "classes.json").write_text(json.dumps({"classes": list(classes)}))
    return folder


def make_tiny_clip(folder: Path) -> Path:
    """A CLIPModel of 32x32 images with its processor."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    with torch.random.fork_rng():
        torch.manual_seed(3)
        tokenizer = small_tokenizer(CAPTIONS, WINDOW)
        vision = {**TEXT, "image_size": 32, "patch_size": 8}
        clip = CLIPModel(CLIPConfig(text_config=text_config(tokenizer), vision_config=vision, projection_dim=16))
        clip.save_pretrained(folder, safe_serialization=True)
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder
