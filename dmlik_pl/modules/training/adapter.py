"""Low-rank changes of a U-Net in training (LoRA), and checkpoints that hold no more than what is trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dmlik_pl.models.lora import require_peft
from dmlik_pl.ranges import above, at_least

__all__ = ["LoRA", "keep_trained_weights_only"]

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class LoRA:
    """A low-rank change of the U-Net that is trained in place of its weights; it changes nothing at first.

    Attributes:
        rank: Rank of each change.
        alpha: Its scale is alpha over rank; the rank by default.
        layers: Ends of the names of the layers that are changed; the projections of all attentions by default.

    References:
        | LoRA: Low-Rank Adaptation of Large Language Models (Hu et al., 2022)
    """

    rank: int = 16
    alpha: float | None = None
    layers: Sequence[str] = ATTENTION

    def __post_init__(self) -> None:
        at_least(1, rank=self.rank)
        above(0, alpha=self.alpha)

    def add_to(self, unet: Any) -> None:
        """Let the change of a frozen U-Net be trained, in float32.

        Raises:
            ModuleNotFoundError: If peft is not installed.
            ValueError: If the U-Net has none of the layers.
        """
        require_peft()
        from peft import LoraConfig

        alpha: Any = self.rank if self.alpha is None else self.alpha
        unet.add_adapter(LoraConfig(r=self.rank, lora_alpha=alpha, target_modules=list(self.layers)))
        for weight in unet.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()

    @staticmethod
    def save(unet: Any, files: Any, folder: Path) -> None:
        """Write the change in diffusers' own format.

        Args:
            unet: The U-Net.
            files: The class of `diffusers.loaders` that writes such files.
            folder: Where the file goes.
        """
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft import get_peft_model_state_dict

        files.save_lora_weights(
            folder,
            unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(unet)),
            unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        )


def keep_trained_weights_only(module: nn.Module) -> None:
    """Let a module's state hold only the weights that ask for gradients, and be loaded without the others."""
    module.register_state_dict_post_hook(_leave_out)
    module.register_load_state_dict_post_hook(_forgive)


def _frozen(module: nn.Module, prefix: str = "") -> set[str]:
    trained = {name for name, weight in module.named_parameters() if weight.requires_grad}
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {prefix + name for name, _ in tensors if name not in trained}


def _leave_out(module: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in _frozen(module, prefix) & state.keys():
        del state[name]


def _forgive(module: nn.Module, keys: Any) -> None:
    frozen = tuple(_frozen(module))
    keys.missing_keys[:] = [name for name in keys.missing_keys if not name.endswith(frozen)]
