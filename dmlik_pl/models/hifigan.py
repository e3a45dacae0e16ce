"""HiFi-GAN, the neural vocoder of the official Grad-TTS.

References:
    | HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis (Kong et al., 2020)
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from dmlik_pl.models.vocoder import Vocoder
from dmlik_pl.models.weights import fit_weights, read_weights
from dmlik_pl.pretrained.files import read_json

__all__ = ["HiFiGAN", "HiFiGANGenerator"]

SLOPE = 0.1
# Magnitude and direction of torch.nn.utils.weight_norm, and of torch.nn.utils.parametrizations.weight_norm.
_NORMED = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
LAST_SLOPE = 0.01  # the official code's default of the last activation, on which the weights were trained
SAMPLES_PER_FRAME = 256
PUBLISHED: dict[str, Any] = {
    "resblock": "1",
    "upsample_rates": [8, 8, 2, 2],
    "upsample_kernel_sizes": [16, 16, 4, 4],
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "num_mels": 80,
    "sampling_rate": 22050,
}
# What the spectrograms of dmlik_pl.speech.mel are made with, in the words of the official configuration.
_ANALYSIS = {
    **{"num_mels": 80, "n_fft": 1024, "hop_size": SAMPLES_PER_FRAME, "win_size": 1024},
    **{"sampling_rate": 22050, "fmin": 0, "fmax": 8000},
}
_PATTERNS = ("*.safetensors", "*.pt", "*.pth", "*.ckpt", "g_*", "generator_v*")
SOURCE = (
    "The official weights, hifigan.pt with hifigan-config.json, are linked in Grad-TTS's README of "
    "https://github.com/huawei-noah/Speech-Backbones (a Google Drive folder): put both in one folder, e.g. "
    "models/hifigan, and give `path: models/hifigan`. GriffinLim needs no weights"
)


class ResidualBlock(nn.Module):
    """Pairs of a dilated and a plain convolution, each pair with a way around."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)
            for dilation in dilations
        )
        self.convs2 = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, C, N] to features [B, C, N]."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(leaky_relu(dilated(leaky_relu(x, SLOPE)), SLOPE))
        return x


class HiFiGANGenerator(nn.Module):
    """The official generator; its state dict is that of the official one after its weight norm is removed.

    Weights with weight norm load as well: they are multiplied out on the way.

    Args:
        config: The official configuration.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = int(config["upsample_initial_channel"])
        self.kernels = len(config["resblock_kernel_sizes"])
        self.conv_pre = nn.Conv1d(int(config["num_mels"]), width, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, size in zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True):
            self.ups.append(nn.ConvTranspose1d(width, width // 2, size, rate, padding=(size - rate) // 2))
            width //= 2
            for kernel, dilations in zip(
                config["resblock_kernel_sizes"], config["resblock_dilation_sizes"], strict=True
            ):
                self.resblocks.append(ResidualBlock(width, kernel, dilations))
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3)
        self.register_load_state_dict_pre_hook(_fold_in_place)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel spectrograms [B, F, T] to waves [B, 1, N]."""
        x = self.conv_pre(mel)
        for stage, up in enumerate(self.ups):
            x = up(leaky_relu(x, SLOPE))
            blocks = self.resblocks[stage * self.kernels : (stage + 1) * self.kernels]
            x = torch.stack([block(x) for block in blocks]).mean(0)
        return torch.tanh(self.conv_post(leaky_relu(x, LAST_SLOPE)))


def _fold(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with every pair of magnitude and direction multiplied out, of torch's old weight norm or its new one."""
    folded = dict(weights)
    for name in weights:
        for magnitude, direction in _NORMED:
            stem = name.removesuffix(magnitude)
            if stem != name and stem + direction in weights:
                g, v = folded.pop(name), folded.pop(stem + direction)
                shared = [axis for axis in range(v.dim()) if g.dim() == 0 or g.shape[axis] == 1]
                folded[f"{stem}weight"] = v * (g / torch.linalg.vector_norm(v, dim=shared, keepdim=True))
    return folded


def _fold_in_place(module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
    folded = _fold(state)
    state.clear()
    state.update(folded)


class HiFiGAN(Vocoder):
    """The official generator with official weights.

    Args:
        path: A folder with the generator's file and its config.json (or hifigan-config.json), or the file itself, whose
            configuration is looked for beside it. Without one the published layout is taken, as wide as the weights.
            Checkpoints of trainers need no conversion: weight norm, prefixes and other networks beside it are handled.

    Raises:
        FileNotFoundError: If there are no weights; the message says where to get them.
        ValueError: If the weights do not fit, or the generator is not one of the spectrograms of this package.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        file = _find_weights(Path(path).expanduser())
        weights = _fold(read_weights(file, "HiFi-GAN generator", "conv_pre.bias"))
        config = _read_config(file, weights)
        hop = math.prod(config["upsample_rates"])
        if str(config["resblock"]) != "1" or hop != SAMPLES_PER_FRAME:
            raise ValueError(
                f"{file} is a generator of {hop} samples per frame with residual blocks of kind {config['resblock']}; "
                f"wanted are {SAMPLES_PER_FRAME} samples and kind 1, HiFi-GAN's V1 and V2"
            )
        self.rate = int(config["sampling_rate"])
        self.generator = HiFiGANGenerator(config)
        fit_weights(self.generator, weights, file)
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, mel: Tensor) -> Tensor:
        """Spectrograms [B, 80, T], natural logarithm, to waves [B, 256 T]."""
        wave: Tensor = self.generator(mel.to(self.generator.conv_pre.weight))[:, 0]
        return wave


def _find_weights(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted({file for pattern in _PATTERNS for file in path.glob(pattern)})
    if not files:
        raise FileNotFoundError(f"no HiFi-GAN generator at {path}. {SOURCE}")
    if len(files) > 1:
        raise ValueError(f"{path} holds several files of weights, {[f.name for f in files]}: give the path of one")
    return files[0]


def _read_config(file: Path, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The generator's configuration, which must be of the spectrograms that it will be given."""
    if "conv_pre.weight" not in weights:
        raise ValueError(f"{file} holds no HiFi-GAN generator: it has no conv_pre.weight")
    config = PUBLISHED | {"upsample_initial_channel": weights["conv_pre.weight"].shape[0]}
    for name in (f"{file.stem}-config.json", f"{file.stem}.json", "config.json", "hifigan-config.json"):
        if (file.parent / name).is_file():
            config |= read_json(file.parent / name)
            break
    if others := {name: config[name] for name, value in _ANALYSIS.items() if config.get(name, value) != value}:
        found, wanted = (", ".join(f"{name} {of[name]}" for name in others) for of in (config, _ANALYSIS))
        raise ValueError(f"{file} is a generator for other spectrograms: {found}, and Grad-TTS's have {wanted}")
    return config
