r"""Estimates of a trace, with what tells how far they scatter.

Let v be signs and :math:`z = J^\top v` the product that makes the estimate :math:`v \cdot z`. Each term :math:`v_i z_i`
is :math:`J_{ii}` plus noise, and

.. math:: \mathrm{Var}(v \cdot z) = 2 \Big( \sum_i \mathrm{Var}(v_i z_i) - \lVert A \rVert^2 \Big)

with A the antisymmetric part of J, which is small where a network is nearly the gradient of a log-density. The scatter
of D terms is far better known than that of their sum, so one product tells the variance of its own probe.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlik_pl.flow.probes import Purpose, signs

__all__ = ["PARTS", "Traces", "sketched"]

PARTS = 256
"""Parts that terms of more dimensions are summed to, with random signs: squared lengths are known to 9 % at a node."""


@dataclass(frozen=True)
class Traces:
    """Independent draws of the trace of B Jacobians.

    Attributes:
        values: The draws, [draws, B] in float64.
        parts: Parts of each draw whose squared noises sum to the variance of the draw, but for the antisymmetric part
            of the Jacobian, [draws, B, parts]; None if the draw itself is all there is.
        twists: Of each draw and the next, what has the fourfold squared length of the antisymmetric part as its mean
            square, [draws - 1, B] in float64; None if not known.
    """

    values: Tensor
    parts: Tensor | None = None
    twists: Tensor | None = None

    @classmethod
    def of_signs(cls, fields: Tensor, terms: Tensor, dtype: torch.dtype) -> "Traces":
        """Traces from their terms.

        Args:
            fields: The random signs of each draw, [draws, B, ...]; masked dimensions are zero.
            terms: The terms that sum to the trace, [draws, B, D] in float64.
            dtype: Of the parts that are kept.
        """
        fields = fields.flatten(2)
        common = fields[1:].double() * fields[:-1].double()
        twists = (common * (terms[1:] - terms[:-1])).sum(-1)
        parts = sketched(terms, fields[0] != 0, dtype)
        return cls(terms.sum(-1), parts, twists)


def sketched(terms: Tensor, real: Tensor, dtype: torch.dtype) -> Tensor:
    """Parts [..., B, parts] of traces from their terms [..., B, D], of which those that are ``real`` [B, D] count."""
    return math.sqrt(2) * _sketch(terms.to(dtype), real)


def _sketch(terms: Tensor, real: Tensor) -> Tensor:
    """Terms [..., B, D] summed to :data:`PARTS` sums with random signs, by the places of the real ones [B, D]."""
    size = terms.shape[-1]
    if size <= PARTS:
        return terms
    if not real.all():
        order = torch.argsort((~real).byte(), dim=-1, stable=True)
        terms = terms.gather(-1, order.expand_as(terms))
    signed = pad(terms * _signs(size).to(terms), (0, -size % PARTS))
    return signed.unflatten(-1, (-1, PARTS)).sum(-2)


@lru_cache(maxsize=16)
def _signs(size: int) -> Tensor:
    return signs(size, Purpose.SKETCH)
