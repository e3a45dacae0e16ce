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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmlik_pl.flow.divergence import NFE
from dmlik_pl.flow.likelihood import NOTHING
from dmlik_pl.flow.noising import Draws, Noising, squared_norm
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow
from dmlik_pl.flow.result import bits_per_dim
from dmlik_pl.flow.schedule import NoiseLevel

__all__ = ["Bound", "elbo"]


@dataclass(frozen=True)
class Bound(Draws):
    """Lower bounds on the log-likelihood of B samples, float64.

    Attributes:
        log_snr: Log-SNR of each draw, falling, [draws, B].
        squared_errors: Squared error of the predicted noise in each draw, nats per unit of log r, [draws, B].
        dims: D, the number of unmasked dimensions, [B].
        nfe: Network evaluations per sample.
        density: Which density is bounded.
    """

    log_snr: Tensor
    squared_errors: Tensor
    dims: Tensor
    nfe: NFE
    density: str

    @classmethod
    def of(cls, flow: ProbabilityFlow, x: Tensor, condition: Condition, noising: Noising, predicted: Tensor) -> "Bound":
        """The bound that noise predictions [draws, B, ...] make, see :meth:`Noising.predict`."""
        mask, schedule = condition.mask, flow.schedule
        dims = torch.full((len(x),), x[0].numel()) if mask is None else mask.expand_as(x).flatten(1).sum(1)
        dims = dims.to(x.device, torch.float64)
        log_r_0 = float(schedule.at(schedule.t_min).r.log())
        errors = squared_norm(noising.noises.double() - predicted.double(), mask)
        constant = -dims * (log_r_0 + 0.5 * math.log(2 * math.pi)) - _kl(
            flow, x, schedule.at(schedule.t_max), condition
        )
        nfe = NFE(forward=flow.evaluations_per_call * len(predicted))
        draws = constant - noising.integral(errors).draws
        return cls(draws, noising.log_snr, errors, dims, nfe, flow.density(condition))

    @staticmethod
    def cat(parts: "Sequence[Bound]") -> "Bound":
        """Bounds of several batches with equally many draws as those of one."""
        draws, log_snr, errors = (
            torch.cat([getattr(part, name) for part in parts], 1) for name in ("draws", "log_snr", "squared_errors")
        )
        return replace(
            parts[0],
            draws=draws,
            log_snr=log_snr,
            squared_errors=errors,
            dims=torch.cat([part.dims for part in parts]),
        )

    @property
    def bpd(self) -> Tensor:
        """Bits per dimension: an upper bound on that of the likelihood."""
        return bits_per_dim(self.value, self.dims)


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
        condition: What they are conditioned on, one each or one for all.
        draws: Levels and noises per sample, one evaluation each.
        sample_ids: Stable names, which key levels and noise.
        seed: Their seed.

    Raises:
        ValueError: If there are fewer than two draws (no standard error), or condition or ids do not match x.

    Example:
        >>> from dmlik_pl.flow import LinearVP, ProbabilityFlow, elbo
        >>> flow = ProbabilityFlow(lambda x, t, inputs: 0 * x, LinearVP(), "v")  # of standard normal data
        >>> bound = elbo(flow, torch.zeros(1, 4, dtype=torch.float64), draws=1024)
        >>> bool(abs(bound.value - -3.676) < 3 * bound.standard_error)  # log p = -2 log(2 pi)
        True
    """
    condition = condition.spread(x)
    noising = Noising.keyed(flow, x, condition.mask, draws=draws, sample_ids=sample_ids, seed=seed)
    return Bound.of(flow, x, condition, noising, noising.predict(flow, x, condition))


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
    dims = centre[0].numel() if mask is None else mask.expand_as(centre).flatten(1).double().sum(1)
    entropy = dims * (0.5 * math.log(2 * math.pi * math.e) + math.log(sin))
    return -entropy - spread
