"""Densities of the state at the noise end of a flow."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from dmlik_pl.flow.schedule import NoiseLevel

__all__ = ["GaussianPrior", "Prior"]


class Prior(Protocol):
    """Anything that scores a unit-scale state at the last noise level."""

    def log_prob(self, u: Tensor, level: NoiseLevel, mask: Tensor | None) -> Tensor:
        """Log-density of u [B, ...] over its unmasked dimensions, nats, [B] in float64."""
        ...


@dataclass(frozen=True)
class GaussianPrior:
    """A centred Gaussian, named by its variance in units of the data, z = x_0 + r eps.

    Attributes:
        variance: ``total`` is N(0, 1 + r_max^2), noise plus data of unit variance: N(0, I), or N(mu, I), in x_T of any
            variance preserving process. ``noise`` is N(0, r_max^2), the choice of k-diffusion and of Cross and Ragni.
    """

    variance: Literal["total", "noise"] = "total"

    def log_prob(self, u: Tensor, level: NoiseLevel, mask: Tensor | None) -> Tensor:  # noqa: D102
        deviation = 1.0 if self.variance == "total" else float(torch.sin(level.angle))
        value = -0.5 * (u.double() / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)
        if mask is not None:
            value = value * mask
        return value.flatten(1).sum(1)
