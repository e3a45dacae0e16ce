"""Weight files of published models: read without pickle's code, and fitted without remainder."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["fit_weights", "read_weights"]

LISTED = 5


def read_weights(file: Path, entry: str | None = None) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, or of a torch file that holds nothing else.

    Args:
        file: The file.
        entry: Key under which a torch file may hold them; else they are the file itself.

    Raises:
        ValueError: If the file holds anything but named tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{file} is no file of weights alone, and nothing else is read: {reason}") from error
    if isinstance(content, Mapping) and entry is not None and entry in content:
        content = content[entry]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} holds no named tensors")
    return dict(content)


def fit_weights(network: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a network; every tensor must have its place and every place its tensor.

    Raises:
        ValueError: If one has not, or has another shape; the message names the first of them and counts the rest.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    faults = [f"{name} {shape} is missing" for name, shape in wanted.items() if name not in held]
    faults += [f"{name} {shape} is not wanted" for name, shape in held.items() if name not in wanted]
    faults += [
        f"{name} is {held[name]}, {shape} wanted"
        for name, shape in wanted.items()
        if name in held and held[name] != shape
    ]
    if faults:
        rest = f"; and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise ValueError(
            f"{len(faults)} tensors of {source} do not fit the {type(network).__name__}: "
            f"{'; '.join(faults[:LISTED])}{rest}"
        )
    network.load_state_dict(weights)
