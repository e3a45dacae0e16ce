"""Low-rank changes of a U-Net's weights (LoRA), in the files of diffusers and its kin."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dmlik_pl.models.unfit import few_step_name
from dmlik_pl.pretrained.files import refuse_damaged

__all__ = ["LORA_FILE", "fuse_lora", "require_peft"]

LORA_FILE = "pytorch_lora_weights.safetensors"


def require_peft() -> None:
    """Make sure that the library of low-rank changes is there.

    Raises:
        ModuleNotFoundError: If it is not; the message says which extra installs it.
    """
    if find_spec("peft") is None:
        raise ModuleNotFoundError(
            "LoRA needs peft, which is not installed: pip install 'dmlik-pl[finetune]'", name="peft"
        )


def fuse_lora(unet: Any, files: Any, source: str) -> None:
    """Add a low-rank change to the weights of a U-Net permanently.

    Args:
        unet: A `UNet2DConditionModel`.
        files: The class of `diffusers.loaders` that knows the formats of such files.
        source: A safetensors file, or a folder with one called `LORA_FILE`.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not of this U-Net, changes text encoders too, is damaged, or is called a few-step one.
    """
    file = Path(source).expanduser()
    file = file / LORA_FILE if file.is_dir() else file
    if not file.is_file():
        raise FileNotFoundError(f"no LoRA weights at {source!r}: a safetensors file, or a folder with {LORA_FILE}")
    if word := few_step_name(file.parent.name) or few_step_name(file.name):
        raise ValueError(
            f"{file} has {word!r} in its name: a change that makes the model sample in few steps leaves no score of a "
            "diffusion, and so no p(x|y)"
        )
    if file.suffix == ".safetensors":
        refuse_damaged(file)
    require_peft()
    try:
        weights, alphas, metadata = files.lora_state_dict(
            str(file.parent),
            weight_name=file.name,
            use_safetensors=True,
            local_files_only=True,
            unet_config=unet.config,
            return_lora_metadata=True,
        )
        if others := sorted({name.partition(".")[0] for name in weights} - {"unet"}):
            raise ValueError(f"it changes {', '.join(others)} too, and only changes of the U-Net are taken")
        unet.load_lora_adapter(weights, prefix="unet", network_alphas=alphas, metadata=metadata)
        taken = sum(".lora_" in name for name, _ in unet.named_parameters())
        if taken != len(weights):
            raise ValueError(f"{taken} of its {len(weights)} tensors have a place in the U-Net")
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        reason = str(error).strip().split("\n")
        raise ValueError(f"{file} does not fit the model: {' '.join(line.strip() for line in reason[:2])}") from error
    unet.fuse_lora()
    unet.unload_lora()
