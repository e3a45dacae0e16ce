"""One likelihood at the size people use: ``python -m benchmarks.real_size``.

SDXL's U-Net and the transformer of SD3-medium are built at full size from their public configurations, with random
weights and nothing downloaded, put into pipelines with thin text encoders and autoencoder, and loaded as any other. On
a CPU one node of a likelihood at 512 pixels is taken, in bfloat16; on a GPU a whole likelihood. It shows that shapes,
memory and adapter hold where it matters, and how much of the hardware is used.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tables import RESULTS, publish
from dmlik_pl.flow import NFE, Condition, Hutchinson, Multistep, ProbabilityFlow, log_likelihood
from dmlik_pl.models import load
from dmlik_pl.modules.training.tokens import small_tokenizer
from dmlik_pl.pretrained.files import quiet

__all__ = ["main"]

PROMPT = "a photo of a red cube"
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD3_MEDIUM: dict[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
QUICK: dict[str, dict[str, Any]] = {  # the same layouts, narrow
    "SDXL": {
        "block_out_channels": (32, 64, 64),
        "transformer_layers_per_block": (1, 1, 1),
        "attention_head_dim": (1, 2, 2),
    },
    "SD3-medium": {"num_layers": 1, "num_attention_heads": 1, "caption_projection_dim": 64},
}
FORMATS = {"TFLOP": ".2f", "seconds": ".1f", "TFLOP/s": ".3f", "GiB": ".1f"}
NOTES = (
    "One image and a network with random weights that ask for no gradient, one probe per node, attention by PyTorch.",
    "TFLOP and seconds: of one node, a forward pass with its VJP, or of the whole likelihood with its 33 nodes.",
    "On a CPU that is shared with other work seconds are upper bounds.",
    "GiB: the largest memory of the process, weights included; of the device on a GPU.",
)


def random_weights(make: Callable[[], nn.Module], device: torch.device) -> Any:
    """A network in bfloat16 whose weights are drawn in place: it is never held in float32."""
    with torch.device("meta"):
        network = make()
    with quiet():
        network = network.to(torch.bfloat16).to_empty(device=device)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if tensor.dim() > 1:
                tensor.normal_(0, 0.02)
            else:
                tensor.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return network


def _clip(kind: str, width: int, projection: int) -> tuple[Any, Any]:
    """A text encoder of full width and one layer, with a tokenizer."""
    import transformers

    tokenizer = small_tokenizer([PROMPT], 77)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {"hidden_size": width, "intermediate_size": width, "projection_dim": projection, "num_hidden_layers": 1}
    config = transformers.CLIPTextConfig(vocab_size=len(tokenizer), num_attention_heads=4, **sizes, **ids)
    return getattr(transformers, kind)(config), tokenizer


def _vae(channels: int) -> Any:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    return AutoencoderKL(**blocks, block_out_channels=[32] * 4, latent_channels=channels)


def sdxl(device: torch.device, quick: bool) -> Any:
    """Stable Diffusion XL base 1.0."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    config = {**SDXL, **(QUICK["SDXL"] if quick else {})}
    (first, tokenizer), (second, tokenizer_2) = (
        _clip("CLIPTextModel", 768, 768),
        _clip("CLIPTextModelWithProjection", 1280, 1280),
    )
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return StableDiffusionXLPipeline(
        vae=_vae(4),
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=random_weights(lambda: UNet2DConditionModel(**config), device),
        scheduler=EulerDiscreteScheduler(**betas),
        add_watermarker=False,
    )


def sd3(device: torch.device, quick: bool) -> Any:
    """Stable Diffusion 3 medium, without T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    config = {**SD3_MEDIUM, **(QUICK["SD3-medium"] if quick else {})}
    (first, tokenizer), (second, tokenizer_2) = (
        _clip("CLIPTextModelWithProjection", width, width) for width in (768, 1280)
    )
    return StableDiffusion3Pipeline(
        transformer=random_weights(lambda: SD3Transformer2DModel(**config), device),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16),
        text_encoder=first,
        tokenizer=tokenizer,
        text_encoder_2=second,
        tokenizer_2=tokenizer_2,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def one_node(flow: ProbabilityFlow, x: Tensor, condition: Condition) -> None:
    """A forward pass with its VJP, halfway between data and noise.

    Raises:
        ValueError: If the result is not finite.
    """
    level = flow.schedule.at(0.5)
    of_all = condition.spread(x)
    value, trace = Hutchinson()(lambda u: flow.velocity(u, level, of_all), x, torch.ones_like(x)[None], NFE())
    if not bool(value.isfinite().all() & trace.values.isfinite().all()):
        raise ValueError("the network or its derivative is not finite")


def measure(name: str, pixels: int, device: torch.device, quick: bool) -> list[dict[str, Any]]:
    """One node, and on an accelerator a whole likelihood."""
    pipeline = {"SDXL": sdxl, "SD3-medium": sd3}[name](device, quick)
    model = load(pipeline)
    model.to(device)
    flow, condition = model.flow(), model.condition(PROMPT)
    channels = model.vae.config.latent_channels
    x = torch.randn(1, channels, pixels // 8, pixels // 8, generator=torch.Generator().manual_seed(0)).to(device)
    tasks: dict[str, Callable[[], Any]] = {"one node": lambda: one_node(flow, x, condition)}
    if device.type != "cpu":
        tasks["likelihood"] = lambda: log_likelihood(flow, x, condition, solver=Multistep())
    rows = []
    for task, run in tasks.items():
        with FlopCounterMode(display=False) as counter:
            start = time.perf_counter()
            run()
        if device.type != "cpu":  # once more, warm and without the counter
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        flop = counter.get_total_flops() / 1e12
        weights = sum(weight.numel() for weight in model.denoiser.parameters()) / 1e9
        row = {"problem": f"{name}, {pixels} pixels", "measured": task, "weights, 10^9": round(weights, 2)}
        rows.append({**row, "TFLOP": flop, "seconds": seconds, "TFLOP/s": flop / seconds, "GiB": _memory(device)})
    return rows


def _memory(device: torch.device) -> float:
    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated(device) / 2**30


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", choices=["SDXL", "SD3-medium"], default=["SDXL", "SD3-medium"])
    parser.add_argument("--pixels", type=int, nargs="+", default=None, help="512, and 1024 too on a GPU")
    parser.add_argument("--quick", action="store_true", help="narrow networks, at 64 pixels")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    sizes = options.pixels or ([64] if options.quick else [512] if device.type == "cpu" else [512, 1024])
    rows = [row for name in options.models for side in sizes for row in measure(name, side, device, options.quick)]
    frame = pd.DataFrame(rows)
    publish(options.output, "real_size", frame, FORMATS, f"Networks of full size in bfloat16, on {card}", NOTES)
    return frame


if __name__ == "__main__":
    main()
