"""Weight files of published models: read without pickle's code, and fitted without remainder."""

import logging
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dmlik_pl.pretrained.files import first_line, refuse_damaged

__all__ = ["fit_weights", "read_weights"]

_logger = logging.getLogger(__name__)

LISTED = 5


def read_weights(file: Path, what: str, anchor: str) -> dict[str, Tensor]:
    """The tensors of one network by their own names, however a trainer has wrapped them.

    Whatever stands before the anchor is taken off: entries such as ``state_dict`` or ``generator`` of a checkpoint, and
    prefixes such as ``module.`` or ``model.generator.`` of names. What has another prefix is another network's.

    Args:
        file: A safetensors file, or a file of torch that needs no code.
        what: The network, for messages: "HiFi-GAN generator".
        anchor: Name of a tensor that every such network has, and no other.

    Raises:
        ValueError: If the file holds no such network, or several, is damaged, or asks for code.
    """
    tensors = dict(_flat(_read(file)))
    found = [name.removesuffix(anchor) for name in tensors if name == anchor or name.endswith(f".{anchor}")]
    if not found:
        raise ValueError(
            f"{file} holds no {what}: none of its tensors is called {anchor}. It holds {len(tensors)} tensors, the "
            f"first of them {', '.join(list(tensors)[:LISTED]) or 'none'}"
        )
    if len(found) > 1:
        raise ValueError(f"{file} holds a {what} under each of {', '.join(map(repr, found))}: keep one in the file")
    prefix = found[0]
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if prefix:
        others = len(tensors) - len(own)
        _logger.info("%s: %d tensors are read under %r, %d others are left", file, len(own), prefix, others)
    return own


def _read(file: Path) -> Any:
    """The content of a file of weights, without running any code of it."""
    if file.suffix == ".safetensors":
        refuse_damaged(file)
        return load_file(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} {_reason(file, error)}") from error


def _reason(file: Path, error: Exception) -> str:
    """Why torch cannot read a file as weights alone."""
    try:
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # it cannot even be looked into
        asked = []
    if not asked:
        return f"is damaged, or not a file of weights: {first_line(error)}"
    return (
        f"holds more than weights: it needs code of {', '.join(sorted(asked)[:LISTED])}, which is never run. If "
        "you trust the file, read it once with weights_only=False, save its state_dict alone, and give that file"
    )


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested mappings by their dotted names; whatever else a checkpoint holds is passed over."""
    if isinstance(tree, Tensor):
        yield prefix.removesuffix("."), tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}{key}.")


def fit_weights(network: nn.Module, weights: Mapping[str, Tensor], source: Path) -> None:
    """Load weights into a network; every tensor must have its place and every place its tensor.

    Raises:
        ValueError: If one has not, or has another shape; the message names the first of them and counts the rest.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    faults = [f"{name} {shape} is missing" for name, shape in wanted.items() if name not in held]
    faults += [f"{name} {shape} has no place" for name, shape in held.items() if name not in wanted]
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
