"""What a likelihood is handed over as: its value, its terms and its errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow.divergence import NFE
from dmlik_pl.flow.integral import TraceIntegral

__all__ = ["LogLikelihood", "bits_per_dim"]

_PER_SAMPLE = ("log_p", "prior", "scale", "discretisation", "rounding", "dims", "latent", "calls")


def bits_per_dim(log_p: Tensor, dims: Tensor | int) -> Tensor:
    """-log p / (D ln 2) for log p in nats. No hidden offset: dequantisation of 8-bit data is the caller's to add."""
    return -log_p / (dims * math.log(2))


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihoods of B samples. Tensors are float64 of shape [B] unless said otherwise.

    Attributes:
        log_p: Log-density of x, nats.
        prior: Its prior term, log p_T(u_T), nats.
        integral: Its divergence term with the traces it was made from.
        scale: Its closed-form change of scale, nats.
        discretisation: Estimated error of the time grid, nats; NaN if the solver gives none.
        rounding: How far log_p moves when x is shaken by the precision of its floating point type: its condition
            number, in nats; NaN if not asked for.
        dims: D, the number of unmasked dimensions.
        latent: x_T at the noise end, [B, ...].
        calls: Network evaluations of each sample: forward passes, VJPs and JVPs, [B, 3] in int64; guidance counts both
            its branches.
        density: Which density this is: p(x|y), p(x), or a guided flow's.
        r: Noise-to-signal ratio at which x was read: r_min for data.
        r_max: Noise-to-signal ratio of the prior.
        failures: Why a sample has NaN instead of a result; None for those that have one.
        short: What a sample lacks to the error that was asked for; None where it is reached, or none was asked for.
    """

    log_p: Tensor
    prior: Tensor
    integral: TraceIntegral
    scale: Tensor
    discretisation: Tensor
    rounding: Tensor
    dims: Tensor
    latent: Tensor
    calls: Tensor
    density: str
    r: float
    r_max: float
    failures: list[str | None]
    short: list[str | None]

    @property
    def nfe(self) -> NFE:
        """Network evaluations per sample, on average where samples differ, rounded up."""
        return NFE(*(math.ceil(count) for count in self.calls.double().mean(0).tolist()))

    @property
    def divergence(self) -> Tensor:
        """The divergence term, nats."""
        return self.integral.total

    @property
    def standard_error(self) -> Tensor:
        """Standard error of log_p over probes, nats; zero for exact traces, NaN for a single probe per trajectory."""
        return self.integral.standard_error

    @property
    def variance(self) -> Tensor:
        """Variance of log_p over probes, nats^2; NaN for one probe per trajectory.

        This is what to average where many likelihoods are pooled: ``standard_error`` is wider than its root, since it
        makes the interval of a single one.
        """
        return self.integral.variance

    @property
    def total_error(self) -> Tensor:
        """Error of log_p by probes and grid together, nats; NaN if one of them is not known."""
        return (self.standard_error.detach() ** 2 + self.discretisation**2).sqrt()

    @property
    def bpd(self) -> Tensor:
        """Bits per dimension."""
        return bits_per_dim(self.log_p, self.dims)

    @property
    def nats_per_bpd(self) -> Tensor:
        """What one bit per dimension is in nats, D ln 2."""
        return self.dims * math.log(2)

    @property
    def bpd_standard_error(self) -> Tensor:
        """Standard error of bpd over probes."""
        return self.standard_error / self.nats_per_bpd

    def minus(self, other: "LogLikelihood") -> tuple[Tensor, Tensor]:
        """Difference of log p to that of another condition or model for the same samples, and its standard error, nats.

        Both must come from the same probes and grid; what their noise has in common cancels.
        """
        return self.log_p - other.log_p, (self.integral - other.integral).standard_error

    def variance_of_difference(self, other: "LogLikelihood") -> Tensor:
        """Variance over probes of the difference that :meth:`minus` takes, nats^2."""
        return (self.integral - other.integral).variance

    def select(self, index: Sequence[int]) -> "LogLikelihood":
        """The results of some samples, in the order of ``index``; one may be taken more than once."""
        chosen = torch.as_tensor(index, dtype=torch.long, device=self.log_p.device)
        per_sample: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _PER_SAMPLE}
        return replace(
            self,
            **per_sample,
            integral=self.integral.select(chosen),
            failures=[self.failures[i] for i in index],
            short=[self.short[i] for i in index],
        )

    @staticmethod
    def cat(parts: "Sequence[LogLikelihood]") -> "LogLikelihood":
        """Results of several batches, made with the same settings, as those of one."""
        per_sample: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _PER_SAMPLE}
        return replace(
            parts[0],
            **per_sample,
            integral=TraceIntegral.cat([part.integral for part in parts]),
            failures=[failure for part in parts for failure in part.failures],
            short=[short for part in parts for short in part.short],
        )
