"""The fingerprint of a sample: a digest of all that a study sees of it, whatever it was read from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

__all__ = ["fingerprint"]


class _Digest(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


def fingerprint(sample: Any) -> str:
    """Digest of a sample's name, texts, numbers and tensors, each with its type and size.

    Args:
        sample: A dataclass such as :class:`dmlik_pl.data.base.Sample`, or any nesting of mappings, sequences, tensors,
            arrays, data frames, texts and numbers.

    Returns:
        32 hexadecimal digits.

    Raises:
        TypeError: If it holds something whose content has no digest.
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, sample)
    return digest.hexdigest()


def _feed(digest: _Digest, value: Any) -> None:
    """Add a value, headed by its kind and size so that no two values are read as one another."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | complex | PurePath):
        _head(digest, type(value).__name__ if not isinstance(value, PurePath) else "path", str(value))
    elif isinstance(value, str):
        _bytes(digest, "text", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        _bytes(digest, "bytes", value)
    elif isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        _head(digest, "tensor", f"{value.dtype} {tuple(value.shape)}")
        digest.update(flat.view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        _head(digest, "array", f"{value.dtype.str} {value.shape}")
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, pd.DataFrame):
        _items(digest, "frame", [(name, value[name].tolist()) for name in value.columns])
    elif isinstance(value, Mapping):
        _items(digest, "mapping", sorted(value.items(), key=lambda item: repr(item[0])))
    elif isinstance(value, AbstractSet):
        _items(digest, "set", sorted(value, key=repr))
    elif isinstance(value, list | tuple | np.ndarray | pd.Series):
        _items(digest, "sequence", list(value))
    elif is_dataclass(value):
        _items(digest, "mapping", [(field.name, getattr(value, field.name)) for field in fields(value)])
    elif value is pd.NA or value is pd.NaT:
        _head(digest, "missing", "")
    elif hasattr(value, "__dict__"):
        _items(digest, "mapping", sorted(vars(value).items()))
    else:
        raise TypeError(f"a sample holds a {type(value).__name__}, for whose content there is no digest")


def _head(digest: _Digest, kind: str, text: str) -> None:
    _bytes(digest, kind, text.encode())


def _bytes(digest: _Digest, kind: str, content: bytes) -> None:
    digest.update(f"{kind} {len(content)}:".encode())
    digest.update(content)


def _items(digest: _Digest, kind: str, items: list[Any]) -> None:
    digest.update(f"{kind} {len(items)}:".encode())
    for item in items:
        _feed(digest, item)
