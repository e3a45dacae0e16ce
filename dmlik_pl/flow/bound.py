r"""The evidence lower bound, for the same model and the same samples.

.. math::
    \log p(x) \ge \mathbb{E} \log N(x; \hat x_0(z_{r_0}), r_0^2) - KL(q(z_{r_T} | x) \| p_T)
        - \int_{\log r_0}^{\log r_T} \mathbb{E} \| \epsilon - \hat\epsilon \|^2 d \log r

The first term is the integrand at r_0 over half a unit of log r; it is drawn together with the integral, by extending
it so far with its value at r_0. No derivative of the network and no ODE: cheap per evaluation, noisy per sample. Noise
and levels are keyed by sample, so competing conditions share them.

References:
    | Variational Diffusion Models (Kingma et al., 2021), Eq. 11-15
    | Your Diffusion Model is Secretly a Zero-Shot Classifier (Li et al., 2023), for shared noise
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.flow.divergence import NFE
from dmlik_pl.flow.integral import widening
from dmlik_pl.flow.likelihood import NOTHING, bits_per_dim
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow
from dmlik_pl.flow.probes import Purpose, draw, stream
from dmlik_pl.flow.schedule import NoiseLevel

__all__ = ["Bound", "elbo"]


@dataclass(frozen=True)
class Bound:
    """Lower bounds on the log-likelihood of B samples, float64.

    Attributes:
        draws: One value for each noise level, rising, nats, [draws, B]; their mean is unbiased.
        dims: D, the number of unmasked dimensions, [B].
        nfe: Network evaluations per sample.
        density: Which density is bounded.
    """

    draws: Tensor
    dims: Tensor
    nfe: NFE
    density: str

    @property
    def value(self) -> Tensor:
        """The bound, nats, [B]."""
        return self.draws.mean(0)

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the bound, nats, [B]: 1.96 of them on either side are a 95 % confidence interval.

        Levels are stratified, so what counts is the scatter within a stratum, which that of neighbours bounds closely.
        It is widened for its few degrees of freedom, as that of a likelihood is.
        """
        count = len(self.draws)
        freedom = 2 * (count - 1) ** 2 / (3 * count - 4)  # of a mean square successive difference
        return (self.draws.diff(dim=0) ** 2).sum(0).div(2 * count * (count - 1)).sqrt() * widening(freedom)

    @property
    def bpd(self) -> Tensor:
        """Bits per dimension: an upper bound on that of the likelihood."""
        return bits_per_dim(self.value, self.dims)


def _log_r_quantiles(low: float, high: float, quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log noise levels at quantiles of the proposal, and the inverse of its density there.

    The proposal follows the error of the best linear denoiser of unit-variance data, 1 / (1 + r^2), on a floor of a
    twentieth of its maximum that keeps the weights bounded where a real model errs more.
    """
    grid = np.linspace(low, high, 4097)
    density = 1 / (1 + np.exp(2 * grid)) + 0.05
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    log_r = np.interp(quantiles * cumulative[-1], cumulative, grid)
    return log_r, cumulative[-1] / (1 / (1 + np.exp(2 * log_r)) + 0.05)


def elbo(
    flow: ProbabilityFlow,
    x: Tensor,
    condition: Condition = NOTHING,
    *,
    draws: int = 32,
    sample_ids: Sequence[str | int] | None = None,
    seed: int = 0,
) -> Bound:
    """The evidence lower bound of each sample.

    Args:
        flow: The model.
        x: Samples [B, ...].
        condition: What they are conditioned on.
        draws: Levels and noises per sample, one evaluation each; levels are equally spaced in their proposal, which
            samples log-SNR by importance.
        sample_ids: Stable names, which key levels and noise.
        seed: Their seed.

    Raises:
        ValueError: If there are fewer than two draws (no standard error).
    """
    if draws < 2:
        raise ValueError(f"a standard error needs draws >= 2, got {draws}")
    ids = list(range(len(x))) if sample_ids is None else list(sample_ids)
    if len(ids) != len(x):
        raise ValueError(f"{len(ids)} sample ids for a batch of {len(x)}")
    schedule, mask = flow.schedule, condition.mask
    first, last = schedule.at(schedule.t_min), schedule.at(schedule.t_max)
    dims = torch.full((len(x),), x[0].numel()) if mask is None else mask.expand_as(x).flatten(1).sum(1)
    dims = dims.to(x.device, torch.float64)
    # One offset a sample for all its levels: equally spaced, they leave no gap that one condition could fall into.
    offsets = np.array([[np.random.Generator(stream(seed, name, Purpose.LEVEL)).random()] for name in ids])
    log_r_0, high = float(first.r.log()), min(float(last.r.log()), math.log(1e3))
    log_r, inverse_density = _log_r_quantiles(log_r_0 - 0.5, high, (np.arange(draws) + offsets) / draws)
    log_r = log_r.clip(min=log_r_0)
    noises = draw("gaussian", x, ids, seed=seed, probes=draws, purpose=Purpose.BOUND, mask=mask)

    def squared_error(level: NoiseLevel, noise: Tensor) -> Tensor:
        """|eps - eps_hat|^2 at z = x + r eps, nats, [B]."""
        at = level.like(x)
        cos, sin = at.alpha / at.scale, at.sigma / at.scale
        u = cos * x + sin * noise
        with torch.no_grad():
            _, predicted = flow.denoise(u if mask is None else u * mask, level, condition)
        error = (noise.double() - predicted.double()) ** 2
        return (error if mask is None else error * mask).flatten(1).sum(1)

    constant = -dims * (log_r_0 + 0.5 * math.log(2 * math.pi)) - _kl(flow, x, last, condition)
    weights = torch.from_numpy(inverse_density.T).to(dims)
    values = [
        constant - weights[k] * squared_error(schedule.at_log_snr(torch.from_numpy(-2 * log_r[:, k])), noises[k])
        for k in range(draws)
    ]
    nfe = NFE(forward=flow.evaluations_per_call * draws)
    return Bound(torch.stack(values), dims, nfe, flow.density(condition))


def _kl(flow: ProbabilityFlow, x: Tensor, level: NoiseLevel, condition: Condition) -> Tensor:
    """KL divergence of N(cos x, sin^2), the noised sample in unit scale, from the prior, nats, [B].

    The cross-entropy is taken from two points one deviation from the mean, which is exact for a Gaussian prior.
    """
    sin = math.sin(float(level.angle))
    centre = x.double() * math.cos(float(level.angle))
    mask = condition.mask
    # A Gaussian's log-density at its centre +- sin averages to its expectation over that spread.
    above, below = (flow.prior.log_prob(centre + shift, level, mask, condition.mean) for shift in (sin, -sin))
    spread = 0.5 * (above + below)
    dims = centre[0].numel() if mask is None else mask.expand_as(centre).flatten(1).sum(1)
    entropy = dims * (0.5 * math.log(2 * math.pi * math.e) + math.log(sin))
    return -entropy - spread
