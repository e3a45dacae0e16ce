"""Whole Jacobians along a path: what any probes would leave of it, without drawing them anew from a network.

A network of D dimensions costs D derivatives per node once; then any number of repeats of any probes are products of
small matrices, which the package's own estimators are given as a linear field.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.problems import Problem
from dmlik_pl.flow import NFE, Condition, Multistep, log_likelihood

__all__ = ["Path_", "whole"]


@dataclass
class _Whole:
    """The trace, from all of the Jacobian, which is kept."""

    kept: list[Tensor] = field(default_factory=list)
    chunk: int = 64
    probes: int = 0
    distribution: str = "rademacher"
    set_size: int = 1

    def __call__(self, velocity, u, probes, nfe: NFE):
        size, batch = u[0].numel(), len(u)
        rows = []
        for start in range(0, size, self.chunk):
            count = min(self.chunk, size - start)
            basis = torch.zeros(count, batch, size, dtype=u.dtype)
            basis[torch.arange(count), :, torch.arange(start, start + count)] = 1
            with torch.enable_grad():
                leaf = u.detach().repeat(count, *(1,) * (u.dim() - 1)).requires_grad_()
                value = velocity(leaf)
                product = torch.autograd.grad(value, leaf, basis.reshape(leaf.shape))[0]
            rows.append(product.reshape(count, batch, size))
        jacobian = torch.cat(rows).transpose(0, 1)
        self.kept.append(jacobian)
        return value[:batch].detach(), jacobian.diagonal(dim1=1, dim2=2).double().sum(1)[None]
