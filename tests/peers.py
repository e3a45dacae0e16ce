"""Likelihoods by torchdiffeq straight on a network, in x_t and t as the papers have it: nothing of `dmlik_pl.flow`.

Fixed steps, so that both sides of a comparison make the same ones: what is left of a difference is the model.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor
from torchdiffeq import odeint

from dmlik_pl.flow import TorchDiffEq

STEPS = 16
SOLVER = TorchDiffEq("rk4", "t", steps=STEPS, scale="solver")
"""The package's own solver of the same steps."""

Field = Callable[[Tensor, float], Tensor]


def _bits(field: Field, start: Tensor, ends: tuple[float, float], probe: Tensor, spread: float) -> float:
    """-log2 of the density of a start under dx/dt = field(x, t), and N(0, spread^2) at the last time."""

    def rates(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = state[0].detach().requires_grad_()
            rate = field(x, float(t))
            (product,) = torch.autograd.grad(rate, x, probe)
        return rate.detach(), (product * probe).sum()

    times = torch.linspace(*ends, STEPS + 1, dtype=torch.float64)
    x, trace = odeint(rates, (start, torch.zeros((), dtype=start.dtype)), times, method="rk4")
    return -float(torch.distributions.Normal(0.0, spread).log_prob(x[-1]).sum() + trace[-1]) / math.log(2)


def straight(velocity: Field, x: Tensor, probe: Tensor, t_min: float = 1e-3) -> float:
    """Bits per dimension of x [1, ...] where dx/dt = velocity(x_t, t), with pure noise at t = 1."""
    bits = _bits(velocity, (1 - t_min) * x, (t_min, 1.0), probe, 1.0)
    return bits / x.numel() - math.log2(1 - t_min)


def discrete(network: Field, x: Tensor, probe: Tensor, betas: Tensor, prediction: str = "epsilon") -> float:
    """Bits per dimension of x [1, ...] where a network predicts noise, or v, from x_t and step, Eq. 3 between them."""
    kept = np.cumprod(1 - betas.double().numpy())
    log_snr = CubicSpline(np.arange(len(kept)), np.log(kept / (1 - kept)))

    def field(x_t: Tensor, step: float) -> Tensor:
        snr, rate = math.exp(float(log_snr(step))), float(log_snr(step, 1))
        alpha, sigma = math.sqrt(snr / (1 + snr)), math.sqrt(1 / (1 + snr))
        output = network(x_t, step)
        noise = output if prediction == "epsilon" else alpha * output + sigma * x_t
        return rate * (sigma**2 * x_t - sigma * noise) / 2

    first = math.sqrt(kept[0])
    bits = _bits(field, first * x, (0.0, len(kept) - 1.0), probe, 1.0)
    return bits / x.numel() - math.log2(first)


def cosine(noise: Field, x: Tensor, probe: Tensor, kept: tuple[float, float], s: float = 0.008) -> float:
    """Bits per dimension of x [1, ...] where a network predicts noise(x_t, t) on the cosine schedule.

    It runs from where the signal's variance is the first of ``kept`` to where it is the second.
    """
    first = math.cos(math.pi / 2 * s / (1 + s))

    def field(x_t: Tensor, t: float) -> Tensor:
        angle = math.pi / 2 * (t + s) / (1 + s)
        sigma = math.sqrt(1 - (math.cos(angle) / first) ** 2)
        return -math.tan(angle) * math.pi / 2 / (1 + s) * (x_t - noise(x_t, t) / sigma)

    ends = [math.acos(math.sqrt(share) * first) * 2 / math.pi * (1 + s) - s for share in kept]
    bits = _bits(field, math.sqrt(kept[0]) * x, (ends[0], ends[1]), probe, 1.0)
    return bits / x.numel() - math.log2(kept[0]) / 2


def exploding(noise: Field, x: Tensor, probe: Tensor, sigmas: tuple[float, float]) -> float:
    """Bits per dimension of x [1, ...] where x_t = x + sigma noise, noise(x_t, sigma), by log sigma."""

    def field(x_t: Tensor, log_sigma: float) -> Tensor:
        return math.exp(log_sigma) * noise(x_t, math.exp(log_sigma))

    ends = (math.log(sigmas[0]), math.log(sigmas[1]))
    return _bits(field, x, ends, probe, math.sqrt(1 + sigmas[1] ** 2)) / x.numel()
