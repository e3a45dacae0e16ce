r"""Noise schedules: how much signal and how much noise a diffusion holds at time t.

A Gaussian diffusion perturbs data as

.. math:: x_t = \alpha_t x_0 + (1 - \alpha_t) \mu + \sigma_t \epsilon

with :math:`\mu = 0` unless the process is mean reverting. Everything the likelihood needs of the schedule is the
noise-to-signal ratio :math:`r = \sigma_t / \alpha_t` (the "sigma" of EDM and SDXL) and how the network's time belongs
to it.

References:
    | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021)
    | Variational Diffusion Models (Kingma et al., 2021)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

__all__ = ["VE", "Cosine", "DiscreteVP", "Interpolation", "LinearVP", "NoiseLevel", "RectifiedFlow", "Schedule"]

Interpolation = Literal["spline", "linear"]
"""How log-SNR runs between the steps of a discrete schedule."""


def fit(value: Tensor, x: Tensor) -> Tensor:
    """A scalar, or one value per sample, in the dtype and on the device of ``x`` [B, ...], broadcastable over it."""
    value = value.to(x)
    return value.reshape(value.shape + (1,) * (x.dim() - 1)) if value.dim() else value


def _float64(value: float | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


@dataclass(frozen=True)
class NoiseLevel:
    r"""One point of a schedule, in float64; every field has the shape of ``t``.

    Attributes:
        t: Time in [0, 1]: 0 is data, 1 is noise.
        alpha: Signal scale.
        sigma: Noise scale.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def angle(self) -> Tensor:
        r""":math:`\theta = \arctan(\sigma / \alpha)`, in [0, pi/2]; finite where r is not."""
        return torch.atan2(self.sigma, self.alpha)

    @property
    def scale(self) -> Tensor:
        r""":math:`\rho = \sqrt{\alpha^2 + \sigma^2}`, one for every variance preserving process."""
        return torch.hypot(self.alpha, self.sigma)

    @property
    def r(self) -> Tensor:
        """Noise-to-signal ratio; infinite where no signal is left."""
        return self.sigma / self.alpha

    def like(self, x: Tensor) -> Self:
        """Cast to the dtype and device of ``x`` and shaped to broadcast over it."""
        return type(self)(fit(self.t, x), fit(self.alpha, x), fit(self.sigma, x))


class Schedule(ABC):
    """Signal and noise scales as functions of time in [0, 1]: data at t = 0, noise at t = 1, in every schedule.

    The network is told :meth:`network_time` of t; one that was trained with something else, or with data at t = 1,
    says so by ``network_time`` of :class:`~dmlik_pl.flow.ProbabilityFlow`.

    Attributes:
        t_min: Time at which data are read; recorded with every likelihood as r_min.
        t_max: Time at which the prior is evaluated.
        interpolation: How a schedule that is known at steps only runs between them; None where it is known everywhere.
    """

    t_min: float
    t_max: float
    interpolation: Interpolation | None = None

    @abstractmethod
    def alpha(self, t: float | Tensor) -> Tensor:
        """Signal scale at time t (float64, shape of t)."""

    @abstractmethod
    def sigma(self, t: float | Tensor) -> Tensor:
        """Noise scale at time t (float64, shape of t)."""

    @abstractmethod
    def time(self, log_snr: float | Tensor) -> Tensor:
        """Inverse of :meth:`log_snr` (float64, shape of its argument)."""

    def log_snr(self, t: float | Tensor) -> Tensor:
        r""":math:`\lambda = \log(\alpha_t^2 / \sigma_t^2) = -2 \log r`."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def network_time(self, t: Tensor) -> Tensor:
        """Time t as the network is told it: t itself, unless the network counts in steps."""
        return t

    def at(self, t: float | Tensor) -> NoiseLevel:
        """The noise level at time t."""
        return NoiseLevel(_float64(t), self.alpha(t), self.sigma(t))

    def at_log_snr(self, log_snr: float | Tensor) -> NoiseLevel:
        """The noise level of a given log-SNR; minus infinity is pure noise."""
        return self.at(self.time(log_snr))

    def at_angle(self, angle: float | Tensor) -> NoiseLevel:
        """The noise level of a given angle arctan(r)."""
        return self.at_log_snr(-2 * torch.tan(_float64(angle)).log())

    def rates(self, t: float | Tensor) -> tuple[Tensor, Tensor]:
        """Time derivatives of alpha and sigma at t (float64, shape of t)."""
        time = _float64(t)
        # Forward mode, since a network under torch.func may ask for the rates; alpha and sigma act elementwise.
        d_alpha, d_sigma = torch.func.jvp(
            lambda at: (self.alpha(at), self.sigma(at)), (time,), (torch.ones_like(time),)
        )[1]
        return d_alpha, d_sigma


class LinearVP(Schedule):
    r"""Variance preserving with :math:`\beta_t` linear in t; with a mean, Grad-TTS's mean-reverting process.

    .. math:: \alpha_t = \exp(-\tfrac12 \int_0^t \beta), \quad \sigma_t^2 = 1 - \alpha_t^2

    Data at t = 0, noise at t = 1; the network is told t.

    Args:
        beta_min: Noise rate at t = 0.
        beta_max: Noise rate at t = 1.
        t_min: Time at which data are read.
        t_max: Time at which the prior is evaluated.

    References:
        | Song et al. (2021), Eq. 32; Grad-TTS (Popov et al., 2021), Eq. 9

    Example:
        >>> from dmlik_pl.flow import LinearVP
        >>> level = LinearVP(beta_min=0.1, beta_max=20.0).at(torch.tensor([0.0, 0.5, 1.0]))
        >>> [f"{r:.3f}" for r in level.r]
        ['0.000', '3.413', '152.167']
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-5, t_max: float = 1.0) -> None:
        self.beta_min, self.beta_max, self.t_min, self.t_max = beta_min, beta_max, t_min, t_max

    def _noise(self, t: float | Tensor) -> Tensor:
        time = _float64(t)
        return time * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * time)

    def alpha(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return torch.exp(-0.5 * self._noise(t))

    def sigma(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return torch.sqrt(-torch.expm1(-self._noise(t)))

    def log_snr(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return -torch.expm1(self._noise(t)).log()

    def time(self, log_snr: float | Tensor) -> Tensor:  # noqa: D102
        noise = torch.nn.functional.softplus(-_float64(log_snr))
        slope = self.beta_max - self.beta_min
        return 2 * noise / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * noise))


class DiscreteVP(Schedule):
    """A variance preserving schedule known at N steps, made continuous between them.

    Data at t = 0, noise at t = 1. Time t is step t (N - 1), and the network is told the fractional step, never
    truncated: an integer step would make the right-hand side of the ODE discontinuous.

    Args:
        betas: The N noise rates of a DDPM-type schedule.
        t_min: Time at which data are read; 0 is the first step.
        t_max: Time at which the prior is evaluated; 1 is the last step.
        interpolation: What log-SNR is between the steps. ``spline`` is the cubic spline through all of them.
            ``linear``, in log-SNR and so in log sigma, is what the samplers of diffusers and k-diffusion do; its slope
            breaks at every step, which costs an adaptive solver in t thousands of evaluations.

    Raises:
        ValueError: If log-SNR does not fall from step to step, or the interpolation is unknown.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020)
        | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), for log sigma
    """

    def __init__(
        self,
        betas: Sequence[float] | Tensor,
        t_min: float = 0.0,
        t_max: float = 1.0,
        interpolation: Interpolation = "spline",
    ) -> None:
        if interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation={interpolation!r} is unknown: take one of {list(get_args(Interpolation))}")
        alpha_bar = torch.cumprod(1 - _float64(torch.as_tensor(betas)), 0)
        # A schedule rescaled to zero terminal SNR has no finite log-SNR at its last step; the one before is the end.
        self._grid = (alpha_bar.log() - torch.log1p(-alpha_bar))[alpha_bar > 0]
        if len(self._grid) < 2 or bool((self._grid.diff() >= 0).any()):
            raise ValueError("the log-SNR of a noise schedule must fall at every step: check its betas")
        if interpolation == "spline":
            self._coefficients = torch.from_numpy(CubicSpline(np.arange(len(self._grid)), self._grid.numpy()).c)
        else:
            flat = torch.zeros(len(self._grid) - 1, dtype=torch.float64)
            self._coefficients = torch.stack([flat, flat, self._grid.diff(), self._grid[:-1]])
        # [4, N - 1], highest power first
        self.interpolation = interpolation
        self.steps = len(alpha_bar)
        self.t_min, self.t_max = t_min, min(t_max, (len(self._grid) - 1) / (self.steps - 1))

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Self:
        """The schedule of Stable Diffusion and SDXL: square roots of beta linear in the step."""
        return cls(torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2)

    def log_snr(self, t: float | Tensor) -> Tensor:  # noqa: D102
        step = _float64(t) * (self.steps - 1)
        low = step.detach().floor().long().clamp(0, len(self._grid) - 2)
        cubic, square, slope, value = self._coefficients[:, low]
        past = step - low
        return ((cubic * past + square) * past + slope) * past + value

    def alpha(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return torch.sigmoid(-self.log_snr(t)).sqrt()

    def time(self, log_snr: float | Tensor) -> Tensor:  # noqa: D102
        value = _float64(log_snr)
        low = (torch.searchsorted(-self._grid, -value.contiguous()) - 1).clamp(0, len(self._grid) - 2)
        cubic, square, slope, start = self._coefficients[:, low]
        past = (value - start) / (self._grid[low + 1] - start)
        for _ in range(6):  # Newton from the chord: the spline is close to linear within a step
            error = ((cubic * past + square) * past + slope) * past + start - value
            past = past - error / ((3 * cubic * past + 2 * square) * past + slope)
        return (low + past) / (self.steps - 1)

    def network_time(self, t: Tensor) -> Tensor:  # noqa: D102
        return t * (self.steps - 1)


class VE(Schedule):
    """Variance exploding: the signal keeps its scale, sigma grows geometrically.

    Data at t = 0, noise at t = 1; the network is told t. Most networks of this process, EDM's denoisers and NCSN++
    among them, were trained to be told sigma: ``ProbabilityFlow(..., network_time="sigma")``.

    Args:
        sigma_min: Noise scale at t = 0.
        sigma_max: Noise scale at t = 1.

    References:
        | Song et al. (2021), Eq. 30
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0) -> None:
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.t_min, self.t_max = 0.0, 1.0

    def alpha(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return 1 + 0 * _float64(t)  # keeps the dependence on t, of which the rate is zero

    def sigma(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return self.sigma_min * torch.exp(math.log(self.sigma_max / self.sigma_min) * _float64(t))

    def time(self, log_snr: float | Tensor) -> Tensor:  # noqa: D102
        return (-0.5 * _float64(log_snr) - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


class Cosine(Schedule):
    r"""The cosine schedule.

    .. math:: \alpha_t = \cos\phi_t / \cos\phi_0, \quad \phi_t = \frac{\pi}{2} \frac{t + s}{1 + s}

    Data at t = 0, noise at t = 1; the network is told t.

    Args:
        offset: The s above; 0 makes the angle arctan(r) proportional to time.
        t_min: Time at which data are read.
        t_max: Time at which the prior is evaluated; no signal is left at 1.

    References:
        | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), Eq. 17
    """

    def __init__(self, offset: float = 0.008, t_min: float = 1e-3, t_max: float = 1.0) -> None:
        self.offset, self.t_min, self.t_max = offset, t_min, t_max

    def _phase(self, t: float | Tensor) -> Tensor:
        return 0.5 * math.pi * (_float64(t) + self.offset) / (1 + self.offset)

    def alpha(self, t: float | Tensor) -> Tensor:  # noqa: D102
        # sin of the complement is exactly zero at t = 1, where cos leaves 6e-17
        return torch.sin(0.5 * math.pi * (1 - _float64(t)) / (1 + self.offset)) / math.cos(float(self._phase(0.0)))

    def sigma(self, t: float | Tensor) -> Tensor:  # noqa: D102
        start, phase = self._phase(0.0), self._phase(t)
        # cos^2 a - cos^2 b = sin(b - a) sin(b + a), without cancellation near the data
        return torch.sqrt(torch.sin(phase - start) * torch.sin(phase + start)) / torch.cos(start)

    def time(self, log_snr: float | Tensor) -> Tensor:  # noqa: D102
        alpha = torch.sigmoid(_float64(log_snr)).sqrt()
        complement = torch.asin((alpha * torch.cos(self._phase(0.0))).clamp(max=1.0))
        return 1 - complement * (1 + self.offset) * 2 / math.pi


class RectifiedFlow(Schedule):
    r"""Straight paths :math:`x_t = (1 - t) x_0 + t \epsilon`; r is infinite at t = 1.

    Data at t = 0, noise at t = 1, as in Stable Diffusion 3; the network is told t, and its velocity is
    :math:`dx_t / dt = \epsilon - x_0`. Networks with noise at 0 and data at 1, as Lipman et al. and the libraries
    torchcfm and flow_matching have it, are told 1 - t and give :math:`x_0 - \epsilon`:
    ``ProbabilityFlow(..., network_time="reversed")``.

    Args:
        t_min: Time at which data are read.
        t_max: Time at which the prior is evaluated; at 1 it is N(0, I), exactly.
        shift: Of the sampler's times, s t / (1 + (s - 1) t): its steps are moved, and the path is the same. It has no
            part in the density.

    References:
        | Flow Straight and Fast (Liu et al., 2023); Flow Matching for Generative Modeling (Lipman et al., 2023)

    Example:
        >>> from dmlik_pl.flow import RectifiedFlow
        >>> [float(r) for r in RectifiedFlow().at(torch.tensor([0.2, 0.5, 1.0])).r]
        [0.25, 1.0, inf]
    """

    def __init__(self, t_min: float = 1e-3, t_max: float = 1.0, shift: float = 1.0) -> None:
        self.t_min, self.t_max, self.shift = t_min, t_max, shift

    def alpha(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return 1 - _float64(t)

    def sigma(self, t: float | Tensor) -> Tensor:  # noqa: D102
        return 1 * _float64(t)

    def time(self, log_snr: float | Tensor) -> Tensor:  # noqa: D102
        return torch.sigmoid(-0.5 * _float64(log_snr))
