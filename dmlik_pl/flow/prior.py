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

    def log_prob(self, u: Tensor, level: NoiseLevel, mask: Tensor | None, mean: Tensor | None = None) -> Tensor:
        """Log-density of u [B, ...] over its unmasked dimensions, nats, [B] in float64.

        ``mean`` is the mu of a mean-reverting process, broadcastable to u.
        """
        ...


@dataclass(frozen=True)
class GaussianPrior:
    """A Gaussian around the data's centre, named by its variance in units of the data, z = x_0 + r eps.

    The centre is zero, and mu for a mean-reverting process.

    Attributes:
        variance: ``total`` is N(0, 1 + r_max^2), noise plus data of unit variance: N(0, I), or N(mu, I), in x_T of any
            variance preserving process. ``noise`` is N(0, r_max^2), the choice of k-diffusion and of Cross and Ragni.
    """

    variance: Literal["total", "noise"] = "total"

    def log_prob(  # noqa: D102
        self, u: Tensor, level: NoiseLevel, mask: Tensor | None, mean: Tensor | None = None
    ) -> Tensor:
        deviation = 1.0 if self.variance == "total" else float(torch.sin(level.angle))
        # The unit-scale state has lost (1 - alpha) mu of the centre; x_0 = mu stands at cos mu.
        centred = u.double() if mean is None else u.double() - math.cos(float(level.angle)) * mean
        value = -0.5 * (centred / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)
        if mask is not None:
            value = value * mask
        return value.flatten(1).sum(1)
