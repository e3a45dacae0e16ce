r"""Random numbers that belong to a sample, not to a batch.

Every draw comes from the counter-based generator Philox, keyed by (seed, sample id) and counted by (purpose, node), the
probes of a node one after another. The same sample therefore meets the same numbers whatever its batch, its order, the
number of processes or a resume, and competing conditions of one sample share them; k + 1 probes begin with the k.

References:
    | Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon et al., 2011)
"""

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Distribution", "Purpose", "draw", "noise", "sample_names", "signs"]

Distribution = Literal["rademacher", "gaussian"]


class Purpose(IntEnum):
    """Streams of one sample that must not share numbers."""

    TRACE = 0
    LATENT = 1
    BOUND = 2
    LEVEL = 3
    ENCODER = 4
    ROUNDING = 5
    SKETCH = 6


def sample_names(x: Tensor, sample_ids: Sequence[str | int] | None) -> list[str | int]:
    """The name of each sample of x [B, ...]: as given, or its position in the batch.

    Raises:
        ValueError: If x is no batch, or there are more or fewer names than samples.
    """
    if x.dim() < 2 or len(x) == 0:
        raise ValueError(
            f"x must be a batch [B, ...] of one sample or more, got {list(x.shape)}: a sample alone is x[None], and of "
            "one value each [B, 1]"
        )
    if isinstance(sample_ids, str):
        raise ValueError(f"sample_ids is the text {sample_ids!r}, and a list with a name for each sample is wanted")
    names: list[str | int] = list(range(len(x)) if sample_ids is None else sample_ids)
    if len(names) != len(x):
        raise ValueError(f"{len(names)} sample ids for a batch of {len(x)}")
    return names


@lru_cache(maxsize=4096)
def _key(seed: int, sample_id: str | int) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(f"{seed}/{sample_id}".encode(), digest_size=16).digest(), np.uint64)


def stream(seed: int, sample_id: str | int, purpose: Purpose, node: int = 0) -> np.random.Philox:
    """The bit generator of one sample's draws for one purpose at one node."""
    return np.random.Philox(key=_key(seed, sample_id), counter=np.array([0, purpose, node, 0], np.uint64))


def _values(bits: np.random.Philox, distribution: Distribution, probes: int, size: int) -> np.ndarray:
    if distribution == "gaussian":
        return np.random.Generator(bits).standard_normal((probes, size))
    words = -(-size // 64)
    packed = bits.random_raw(probes * words).astype("<u8", copy=False).view(np.uint8).reshape(probes, 8 * words)
    return np.unpackbits(packed, axis=1, count=size, bitorder="little").view(np.int8) * np.int8(2) - np.int8(1)


def draw(
    distribution: Distribution,
    like: Tensor,
    sample_ids: Sequence[str | int],
    *,
    seed: int,
    probes: int,
    node: int = 0,
    purpose: Purpose = Purpose.TRACE,
    mask: Tensor | None = None,
) -> Tensor:
    """Probe vectors [probes, B, ...] of the dtype and device of ``like`` [B, ...].

    Masked dimensions are zero, and the numbers are dealt to real dimensions only, so that padding changes none of them.
    """
    size = like[0].numel()
    valid = None if mask is None else mask.expand_as(like).flatten(1).cpu().numpy()
    out = np.zeros((probes, len(sample_ids), size), dtype=np.float64 if distribution == "gaussian" else np.int8)
    for b, sample_id in enumerate(sample_ids):
        bits = stream(seed, sample_id, purpose, node)
        if valid is None:
            out[:, b] = _values(bits, distribution, probes, size)
        else:
            out[:, b, valid[b]] = _values(bits, distribution, probes, int(valid[b].sum()))
    return torch.from_numpy(out).reshape(probes, *like.shape).to(like)


def signs(size: int, purpose: Purpose) -> Tensor:
    """Random signs of no sample, the same always, [size] in int8."""
    return torch.from_numpy(_values(stream(0, "", purpose), "rademacher", 1, size)[0])


def noise(
    like: Tensor, sample_ids: Sequence[str | int], *, seed: int, purpose: Purpose, mask: Tensor | None = None
) -> Tensor:
    """Standard normal noise of the shape of ``like``, keyed by sample."""
    return draw("gaussian", like, sample_ids, seed=seed, probes=1, purpose=purpose, mask=mask)[0]
