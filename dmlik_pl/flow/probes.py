r"""Random numbers that belong to a sample, not to a batch.

Every draw comes from the counter-based generator Philox, keyed by (seed, sample id) and counted by (purpose, probe, node).
The same sample therefore meets the same numbers whatever its batch, its order, the number of processes or a resume, and
competing conditions of one sample share them.

References:
    | Parallel Random Numbers: As Easy as 1, 2, 3 (Salmon et al., 2011)
"""

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Distribution", "Purpose", "draw", "noise"]

Distribution = Literal["rademacher", "gaussian"]


class Purpose(IntEnum):
    """Streams of one sample that must not share numbers."""

    TRACE = 0
    LATENT = 1
    BOUND = 2
    LEVEL = 3
    ENCODER = 4


def stream(seed: int, sample_id: str | int, purpose: Purpose, probe: int = 0, node: int = 0) -> np.random.Philox:
    """The bit generator of one draw."""
    digest = hashlib.blake2b(f"{seed}/{sample_id}".encode(), digest_size=16).digest()
    return np.random.Philox(key=np.frombuffer(digest, np.uint64), counter=[0, int(purpose), probe, node])


def _values(bits: np.random.Philox, distribution: Distribution, size: int) -> np.ndarray:
    if distribution == "gaussian":
        return np.random.Generator(bits).standard_normal(size)
    words = bits.random_raw(-(-size // 64)).view(np.uint8)
    return np.unpackbits(words, count=size, bitorder="little").astype(np.int8) * 2 - 1


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
    out = np.zeros((probes, *like.shape), dtype=np.float64 if distribution == "gaussian" else np.int8)
    valid = None if mask is None else mask.expand_as(like).cpu().numpy()
    for b, sample_id in enumerate(sample_ids):
        where = np.ones(like.shape[1:], dtype=bool) if valid is None else valid[b]
        for k in range(probes):
            out[k, b][where] = _values(stream(seed, sample_id, purpose, k, node), distribution, int(where.sum()))
    return torch.from_numpy(out).to(like)


def noise(
    like: Tensor, sample_ids: Sequence[str | int], *, seed: int, purpose: Purpose, mask: Tensor | None = None
) -> Tensor:
    """Standard normal noise of the shape of ``like``, keyed by sample."""
    return draw("gaussian", like, sample_ids, seed=seed, probes=1, purpose=purpose, mask=mask)[0]
