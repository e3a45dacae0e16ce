r"""The levels and noises at which integrals over log-SNR are sampled, and what a sample of such an integral is worth.

The evidence lower bound and the mutual information of a diffusion model are integrals of an expected squared difference
of noise predictions,

.. math:: \int \mathbb{E}_\epsilon f(z_r, \epsilon) \, d \log r, \qquad z_r = x + r \epsilon

and may share one pass of the network: levels and noises are drawn once (:class:`Noising`), predictions are made from
them (:meth:`Noising.predict`), and the integrals are sums over these predictions. Everything is keyed by sample, so
competing conditions share levels and noises.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.flow.integral import widening
from dmlik_pl.flow.likelihood import NOTHING
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow
from dmlik_pl.flow.probes import Purpose, draw, sample_names, stream
from dmlik_pl.flow.schedule import NoiseLevel

__all__ = ["Draws", "Noising", "squared_norm"]


@dataclass(frozen=True)
class Draws:
    """Samples of an integral for B samples, float64.

    Attributes:
        draws: One value for each noise level, rising, nats, [draws, B]; their mean is unbiased.
    """

    draws: Tensor

    @property
    def value(self) -> Tensor:
        """The integral, nats, [B]."""
        return self.draws.mean(0)

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the integral, nats, [B]: 1.96 of them on either side are a 95 % confidence interval.

        Levels are stratified, so what counts is the scatter within a stratum, which that of neighbours bounds closely.
        It is widened for its few degrees of freedom, as that of a likelihood is.
        """
        count = len(self.draws)
        freedom = 2 * (count - 1) ** 2 / (3 * count - 4)  # of a mean square successive difference
        return (self.draws.diff(dim=0) ** 2).sum(0).div(2 * count * (count - 1)).sqrt() * widening(freedom)


@dataclass(frozen=True)
class Noising:
    """Levels and noises for B samples.

    Attributes:
        log_r: Log noise-to-signal ratio of each level, rising, [draws, B], float64; log-SNR is -2 of it.
        weights: Inverse density of each level, [draws, B], float64: the mean over draws of weight times integrand is an
            integral over log r.
        noises: The noise at each level, [draws, B, ...]; zero where masked.
    """

    log_r: Tensor
    weights: Tensor
    noises: Tensor

    @classmethod
    def keyed(
        cls,
        flow: ProbabilityFlow,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        draws: int,
        sample_ids: Sequence[str | int] | None = None,
        seed: int = 0,
        stage: int = 0,
    ) -> Self:
        """Draw what belongs to each sample.

        Args:
            flow: Whose schedule is sampled, from half a unit of log r below its least noise, where everything is taken
                at the least noise: where the integrand falls as r^2, this is what lies below.
            x: Samples [B, ...].
            mask: Which of their dimensions are real.
            draws: Levels per sample, equally spaced in their proposal, which samples log-SNR by importance.
            sample_ids: Stable names, which key levels and noises; positions in the batch by default.
            seed: Their seed.
            stage: Another number gives further draws of the same samples, independent of the first.

        Raises:
            ValueError: If there are fewer than two draws (no standard error), or ids do not match x.
        """
        if draws < 2:
            raise ValueError(f"a standard error needs draws >= 2, got {draws}")
        ids = sample_names(x, sample_ids)
        first, last = flow.schedule.at(flow.schedule.t_min), flow.schedule.at(flow.schedule.t_max)
        # One offset per sample for all its levels: equally spaced, they leave no gap that a condition could fall into.
        offsets = np.array([[np.random.Generator(stream(seed, name, Purpose.LEVEL, stage)).random()] for name in ids])
        low, high = float(first.r.log()), min(float(last.r.log()), math.log(1e3))
        log_r, inverse_density = _log_r_quantiles(low - 0.5, high, (np.arange(draws) + offsets) / draws)
        return cls(
            log_r=torch.from_numpy(log_r.clip(min=low).T).to(x.device),
            weights=torch.from_numpy(inverse_density.T).to(x.device),
            noises=draw("gaussian", x, ids, seed=seed, probes=draws, node=stage, purpose=Purpose.BOUND, mask=mask),
        )

    @property
    def log_snr(self) -> Tensor:
        """Log-SNR of each level, falling, [draws, B]."""
        return -2 * self.log_r

    def select(self, index: Any) -> "Noising":
        """What belongs to some samples; one may be taken more than once, for its competing conditions."""
        return Noising(self.log_r[:, index], self.weights[:, index], self.noises[:, index])

    @torch.no_grad()
    def predict(self, flow: ProbabilityFlow, x: Tensor, condition: Condition = NOTHING) -> Tensor:
        """The noise that the model sees in the noised samples, [draws, B, ...]; one call of the network per draw."""
        predicted = []
        for log_snr, noise in zip(self.log_snr.cpu(), self.noises, strict=True):
            level = flow.schedule.at_log_snr(log_snr)
            _, epsilon = flow.denoise(_noised(x, noise, level, condition.mask), level, condition)
            predicted.append(epsilon)
        return torch.stack(predicted)

    def integral(self, integrand: Tensor) -> Draws:
        """The integral over log r of an integrand [draws, B]."""
        return Draws(self.weights * integrand)


def squared_norm(difference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared length over all real dimensions of differences [draws, B, ...], float64 [draws, B]."""
    square = difference.double() ** 2
    return (square if mask is None else square * mask).flatten(2).sum(2)


def _noised(x: Tensor, noise: Tensor, level: NoiseLevel, mask: Tensor | None) -> Tensor:
    """The noised samples x + r eps in unit scale."""
    at = level.like(x)
    u = at.alpha / at.scale * x + at.sigma / at.scale * noise
    return u if mask is None else u * mask


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
