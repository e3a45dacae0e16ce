"""Grad-TTS on disk: the project's folders and the official weight files."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from dmlik_pl.models.grad_tts.network import GradTTS
from dmlik_pl.models.weights import fit_weights, read_weights
from dmlik_pl.pretrained.files import read_json
from dmlik_pl.shipped import ASSETS, locate

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "read_network", "write_network"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
KIND = "grad-tts"
ANCHOR = ("Grad-TTS", "encoder.emb.weight")


def read_network(path: str, overrides: Mapping[str, Any]) -> tuple[GradTTS, float | None]:
    """A network and its deviation of log-durations, None where none is stored.

    Args:
        path: A folder with config.json and model.safetensors, the name of a shipped one, or a file of official weights
            or of a trainer (.pt, .ckpt, .safetensors), whose sizes are read off its tensors.
        overrides: Constructor arguments of :class:`GradTTS` that take precedence; None leaves one unchanged.

    Raises:
        FileNotFoundError: If there is none; the message says where to get the official ones.
        ValueError: If it is not a Grad-TTS, or tensors do not fit.
    """
    found = Path(locate(path))
    given = {name: value for name, value in overrides.items() if value is not None}
    if found.is_file():
        weights = read_weights(found, *ANCHOR)
        network = GradTTS(**{**_sizes(weights, found), **given})
        fit_weights(network, weights, found)
        return network, None
    file = found / CONFIG_FILE
    if not file.is_file() or not (found / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(_how_to_get(path, found))
    config = read_json(file)
    if config.get("kind") != KIND or not isinstance(config.get("network"), dict):
        raise ValueError(f"{file} describes no Grad-TTS: its `kind` is {config.get('kind')!r}, not {KIND!r}")
    try:
        network = GradTTS(**{**config["network"], **given})
    except TypeError as error:
        raise ValueError(f"{file} describes no Grad-TTS: {error}") from error
    fit_weights(network, read_weights(found / WEIGHTS_FILE, *ANCHOR), found / WEIGHTS_FILE)
    return network, config.get("duration_deviation")


def write_network(folder: str | Path, network: GradTTS, duration_deviation: float | None = None) -> None:
    """Write config.json and model.safetensors, for :func:`read_network` to read.

    Args:
        folder: Where to; made if need be.
        network: The network.
        duration_deviation: Standard deviation of log-durations around their prediction.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    decoder = network.decoder
    settings = _sizes(weights, target) | {
        "enc_dropout": network.encoder.encoder.drop.p,
        "beta_min": decoder.beta_min,
        "beta_max": decoder.beta_max,
        "pe_scale": decoder.estimator.pe_scale,
    }
    config = {"kind": KIND, "network": settings, "duration_deviation": duration_deviation}
    (target / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, target / WEIGHTS_FILE)


def _sizes(weights: Mapping[str, Tensor], source: Path) -> dict[str, int]:
    """Constructor arguments of :class:`GradTTS` as far as shapes tell them."""
    try:
        n_vocab, channels = weights["encoder.emb.weight"].shape
        hidden, _, kernel = weights["encoder.encoder.ffn_layers.0.conv_1.weight"].shape
        _, window, width = weights["encoder.encoder.attn_layers.0.emb_rel_k"].shape
        speakers = weights["spk_emb.weight"].shape if "spk_emb.weight" in weights else (1, 64)
        return {
            "n_vocab": n_vocab,
            "n_spks": speakers[0],
            "spk_emb_dim": speakers[1],
            "n_enc_channels": channels,
            "filter_channels": hidden,
            "filter_channels_dp": weights["encoder.proj_w.conv_1.weight"].shape[0],
            "n_heads": channels // width,
            "n_enc_layers": len(
                [name for name in weights if re.fullmatch(r".*attn_layers\.\d+\.conv_q\.weight", name)]
            ),
            "enc_kernel": kernel,
            "window_size": window // 2,
            "n_feats": weights["encoder.proj_m.weight"].shape[0],
            "dec_dim": weights["decoder.estimator.mlp.2.weight"].shape[0],
        }
    except (KeyError, ValueError) as error:
        held = f"{len(weights)} tensors, the first of them {', '.join(list(weights)[:5])}"
        raise ValueError(f"{source} holds no Grad-TTS (fault: {error}); it holds {held}") from error


def _how_to_get(path: str, found: Path) -> str:
    shipped = [
        file.parent.name
        for file in sorted(ASSETS.glob(f"*/{CONFIG_FILE}"))
        if json.loads(file.read_text()).get("kind") == KIND
    ]
    held = sorted(file.name for file in found.iterdir()) if found.is_dir() else "no such file or folder"
    return (
        f"no Grad-TTS at {path!r}: a folder with {CONFIG_FILE} and {WEIGHTS_FILE}, or a file of official weights, is "
        f"wanted ({held}).\n"
        "The official weights (grad-tts.pt, grad-tts-old.pt, grad-tts-libri-tts.pt) are linked in Grad-TTS's README of "
        "https://github.com/huawei-noah/Speech-Backbones, a Google Drive folder: put a file into models/ and name it, "
        "e.g. `path: models/grad-tts.pt`; the oldest also needs `pe_scale: 1`.\n"
        f"Models that ship with the package are named without a folder: {', '.join(shipped) or 'none of this kind'}."
    )
