r"""A mixture of Gaussians under any diffusion: the model of which every likelihood is known.

With data :math:`x_0 \sim \sum_k w_k N(m_k + c, \Sigma_k)`, where c is what the sample is conditioned on, the noised
:math:`z = x_0 + r \epsilon` is the mixture with covariances :math:`\Sigma_k + r^2 I`, so that score, density and prior
are closed forms. It is the oracle of the tests and of the benchmarks, and the smallest example of a model.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dmlik_pl.flow import Condition, NoiseLevel, Prediction, ProbabilityFlow, Schedule

__all__ = ["GaussianMixture"]


@dataclass(frozen=True)
class _MarginalPrior:
    """The exact density of the state at the noise end."""

    mixture: "GaussianMixture"
    shift: Tensor

    def log_prob(self, u: Tensor, level: NoiseLevel, mask: Tensor | None, mean: Tensor | None = None) -> Tensor:
        angle = float(level.angle)
        return self.mixture.log_prob(u.double(), self.shift, math.sin(angle), mask, scale=math.cos(angle))


class GaussianMixture(nn.Module):
    """A Gaussian mixture over vectors, as a conditional diffusion model.

    Args:
        means: Component means, [K, D].
        covariances: Component covariances, [K, D, D].
        weights: Component weights, [K]; equal by default.

    Example:
        >>> mixture = GaussianMixture(torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None])
        >>> round(float(mixture.log_prob(torch.zeros(1, 2, dtype=torch.float64))), 4)  # -log(2 pi)
        -1.8379
    """

    space = "vectors"
    means: Tensor
    variances: Tensor
    bases: Tensor
    log_weights: Tensor

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor | None = None) -> None:
        super().__init__()
        variances, bases = torch.linalg.eigh(covariances)
        self.register_buffer("means", means)
        self.register_buffer("variances", variances)  # [K, D]
        self.register_buffer("bases", bases)  # [K, D, D], eigenvectors in columns
        equal = torch.full((len(means),), 1 / len(means), dtype=means.dtype)
        self.register_buffer("log_weights", (equal if weights is None else weights).log())

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Data without condition, [count, D]."""
        component = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=generator)
        white = torch.randn(count, self.means.shape[1], dtype=self.means.dtype, generator=generator)
        scaled = white * self.variances[component].sqrt()
        return self.means[component] + torch.einsum("bij,bj->bi", self.bases[component], scaled)

    def log_prob(
        self,
        z: Tensor,
        shift: Tensor | float = 0.0,
        r: float | Tensor = 0.0,
        mask: Tensor | None = None,
        *,
        scale: float = 1.0,
    ) -> Tensor:
        """Log-density of z = scale x_0 + r eps, nats, [B]; masked dimensions need diagonal covariances."""
        deviation = z[:, None] - scale * (self.means + (shift[:, None] if isinstance(shift, Tensor) else shift))
        noise = torch.as_tensor(r, dtype=z.dtype, device=z.device).reshape(-1, 1, 1) ** 2
        variance = scale**2 * self.variances + noise
        if mask is None:
            along = torch.einsum("kji,bkj->bki", self.bases, deviation)
            terms = -0.5 * (along**2 / variance + variance.log() + math.log(2 * math.pi))
        else:
            variance = scale**2 * torch.diagonal(self._covariances(), dim1=1, dim2=2) + noise
            terms = -0.5 * (deviation**2 / variance + variance.log() + math.log(2 * math.pi)) * mask[:, None]
        return torch.logsumexp(terms.sum(-1) + self.log_weights, 1)

    def _covariances(self) -> Tensor:
        return torch.einsum("kij,kj,klj->kil", self.bases, self.variances, self.bases)

    def condition(self, shift: Tensor, *, mean: Tensor | None = None, mask: Tensor | None = None) -> Condition:
        """Condition on a shift c of the data [B, D]; ``mean`` makes the process mean reverting."""
        inputs = {"shift": shift}
        null = {"shift": torch.zeros_like(shift)}
        if mean is not None:
            inputs["mean"] = null["mean"] = mean
        if mask is not None:
            inputs["mask"] = null["mask"] = mask
        return Condition(inputs, null, mean, mask)

    def flow(
        self, schedule: Schedule, prediction: Prediction = "epsilon", guidance: float = 1.0, shift: Tensor | None = None
    ) -> ProbabilityFlow:
        """The mixture's flow; with a ``shift`` its prior is the exact marginal, else N(0, I) in unit scale.

        Its network is told the schedule's own time.
        """
        prior: dict[str, Any] = {} if shift is None else {"prior": _MarginalPrior(self, shift)}
        network = _ClosedFormNetwork(self, schedule, prediction)
        return ProbabilityFlow(network, schedule, prediction, guidance=guidance, space=self.space, **prior)


@dataclass(frozen=True)
class _ClosedFormNetwork:
    """The mixture as a network: x_t, the network's time and inputs in, a prediction out."""

    mixture: GaussianMixture
    schedule: Schedule
    prediction: Prediction

    def __call__(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        t = time.double() / self.schedule.network_time(torch.ones((), dtype=torch.float64))
        level = self.schedule.at(t)
        alpha, sigma = (value.to(x)[:, None] for value in (level.alpha, level.sigma))
        mean = inputs.get("mean", torch.zeros((), dtype=x.dtype))
        noised = x - (1 - alpha) * mean
        expected = self._denoised(noised, alpha, sigma, inputs)
        noise = (noised - alpha * expected) / sigma
        match self.prediction:
            case "epsilon":
                return noise
            case "x0":
                return expected
            case "v":
                return alpha * noise - sigma * expected
            case "score":
                return -noise / sigma
            case "velocity":
                d_alpha, d_sigma = (rate.to(x)[:, None] for rate in self.schedule.rates(t))
                return d_alpha * (expected - mean) + d_sigma * noise

    def _denoised(self, noised: Tensor, alpha: Tensor, sigma: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """E[x_0 | x_t]: finite at pure noise, where alpha is zero."""
        mixture, shift, mask = self.mixture, inputs["shift"], inputs.get("mask")
        means = mixture.means + shift[:, None]
        deviation = noised[:, None] - alpha[:, None] * means
        variance = alpha[:, None] ** 2 * mixture.variances + sigma[:, None] ** 2
        if mask is None:
            along = torch.einsum("kji,bkj->bki", mixture.bases, deviation)
            terms = along**2 / variance + variance.log()
            posterior = means + torch.einsum(
                "kij,bkj->bki", mixture.bases, alpha[:, None] * mixture.variances / variance * along
            )
        else:
            diagonal = torch.diagonal(mixture._covariances(), dim1=1, dim2=2)
            variance = alpha[:, None] ** 2 * diagonal + sigma[:, None] ** 2
            terms = (deviation**2 / variance + variance.log()) * mask[:, None]
            posterior = means + alpha[:, None] * diagonal / variance * deviation
        weights = torch.softmax(mixture.log_weights - 0.5 * terms.sum(-1), 1)
        return torch.einsum("bk,bki->bi", weights, posterior)
