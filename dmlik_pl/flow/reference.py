r"""The reference solvers: torchdiffeq's methods, in the variables of the literature.

In a clock :math:`\tau` the state is :math:`y = \varrho u + m \mu` and obeys

.. math:: \frac{dy}{d\tau} = \dot\varrho u + \varrho \dot\theta F + \dot m \mu

With the clock t it is x_t and this is the paper's Eq. 3 (for Grad-TTS Eq. 6), with r it is z = x_0 + r eps and this is
Eq. 9.

References:
    | torchdiffeq (Chen, 2018)
    | Cross and Ragni (2024), Eq. 3, 6, 9 and 11
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor
from torchdiffeq import odeint

from dmlik_pl.flow.dynamics import Dynamics, SolverError
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.flow.schedule import NoiseLevel, Schedule
from dmlik_pl.flow.solvers import Solution

__all__ = ["Clock", "TorchDiffEq"]

Clock = Literal["t", "r", "log_snr", "angle"]

_ORDERS = {
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "heun3": 3,
    "rk4": 4,
    "explicit_adams": 4,
    "implicit_adams": 4,
    "fixed_adams": 4,
}
_ADAPTIVE = ("dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun", "scipy_solver")


class _Chart(NamedTuple):
    """The state's scale and mean in a clock, with their rates and that of the angle."""

    scale: float
    d_scale: float
    d_angle: float
    mean: float = 0.0
    d_mean: float = 0.0


def _chart(clock: Clock, schedule: Schedule, level: NoiseLevel) -> _Chart:
    alpha, sigma, scale = float(level.alpha), float(level.sigma), float(level.scale)
    cos, sin = alpha / scale, sigma / scale
    match clock:
        case "t":
            d_alpha, d_sigma = (float(rate) for rate in schedule.rates(level.t))
            d_scale = cos * d_alpha + sin * d_sigma
            return _Chart(scale, d_scale, (cos * d_sigma - sin * d_alpha) / scale, 1 - alpha, -d_alpha)
        case "r":
            return _Chart(1 / cos, sin, cos**2)
        case "log_snr":
            return _Chart(1.0, 0.0, -0.5 * sin * cos)
        case "angle":
            return _Chart(1.0, 0.0, 1.0)


def _level(clock: Clock, schedule: Schedule, tau: Tensor) -> NoiseLevel:
    value = tau.detach().double().cpu()
    match clock:
        case "t":
            return schedule.at(value)
        case "r":
            return schedule.at_log_snr(-2 * value.log())
        case "log_snr":
            return schedule.at_log_snr(value)
        case "angle":
            return schedule.at_angle(value)


def _reading(clock: Clock, level: NoiseLevel) -> float:
    match clock:
        case "t":
            value = float(level.t)
        case "r":
            value = float(level.r)
        case "log_snr":
            value = -2 * float(level.r.log())
        case "angle":
            value = float(level.angle)
    if not math.isfinite(value):
        raise ValueError(f"clock {clock!r} is infinite at t={float(level.t):g}: use 't' or 'angle', or a smaller t_max")
    return value


@dataclass(frozen=True)
class TorchDiffEq:
    """Any method of torchdiffeq, with one set of probes for the whole trajectory.

    Each sample is solved by itself: its steps, and so its result, do not depend on the batch. The state is carried in
    float64, whatever the network sees. The error norm is the larger of the state's root mean square and the
    log-density's, per dimension: the log-density can only tighten the steps.

    Attributes:
        method: A torchdiffeq method: euler, midpoint, rk4, explicit_adams, ..., dopri5, dopri8, bosh3, ... With
            scipy_solver (LSODA, on the CPU) the error norm is scipy's own.
        clock: Independent variable: t (state x_t), r (state z), log_snr or angle (state u of unit scale).
        steps: Number of equal steps of a fixed-step method.
        rtol: Relative tolerance of an adaptive method.
        atol: Absolute tolerance of an adaptive method.
        max_nfe: Calls of the network after which a sample is given up.
        scale: ``exact`` takes the analytic part of the log-density in closed form; ``solver`` integrates it with
            everything else, as the literature's code does.
        estimate_error: Whether to solve twice more, each time with half the steps or ten times the tolerance, to
            estimate the error. Less than four steps have no estimate.
    """

    method: str = "dopri5"
    clock: Clock = "t"
    steps: int = 100
    rtol: float = 1e-5
    atol: float = 1e-5
    max_nfe: int = 10_000
    scale: Literal["exact", "solver"] = "exact"
    estimate_error: bool = False

    def __post_init__(self) -> None:
        if self.method not in (*_ORDERS, *_ADAPTIVE):
            raise ValueError(f"unknown method {self.method!r}: torchdiffeq has {', '.join((*_ORDERS, *_ADAPTIVE))}")
        if self.steps < 1:
            raise ValueError(f"a solver needs at least one step, got steps={self.steps}")
        if not (0 <= self.rtol < math.inf and 0 <= self.atol < math.inf and self.rtol + self.atol > 0):
            raise ValueError(f"rtol and atol must be 0 or more, not both 0, got rtol={self.rtol}, atol={self.atol}")
        if self.max_nfe < 1:
            raise ValueError(f"max_nfe must be at least 1, got {self.max_nfe}")

    @property
    def adaptive(self) -> bool:
        """Whether the method chooses its own steps."""
        return self.method in _ADAPTIVE

    @property
    def order(self) -> int:
        """Convergence order of a fixed-step method."""
        return _ORDERS[self.method]

    def coarser(self) -> Self:
        """The same with ten times the tolerance, or half the steps."""
        if self.adaptive:
            return replace(self, rtol=10 * self.rtol, atol=10 * self.atol)
        return replace(self, steps=max(1, self.steps // 2))

    def error(self, change: Tensor, before: Tensor) -> Tensor:
        """Estimated error of a result, elementwise.

        Args:
            change: How far it is from that of :meth:`coarser`.
            before: How far that one is from that of its own coarser solver.

        Returns:
            The larger of the last change and of what should be left of the one before, since either may be small by
            chance. It is not divided by what the next change should gain: a tolerance promises no rate, and between the
            steps a network is too rough for the order of fixed ones, even where two changes look as if they had it.
        """
        if not self.adaptive and self.steps < 4:
            return torch.full_like(change, math.nan)
        rate = 10.0 if self.adaptive else 2.0**self.order
        return torch.maximum(change.abs(), before.abs() / rate)

    def describe(self) -> str:  # noqa: D102
        setting = f"rtol={self.rtol:g}, atol={self.atol:g}" if self.adaptive else f"{self.steps} steps"
        return f"{self.method} in {self.clock} ({setting})"

    def integrate(self, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, trace: bool) -> Solution:  # noqa: D102
        solved: list[tuple[list[Tensor], Tensor] | None] = []
        calls = []
        for b in range(len(u)):
            alone = dynamics.select([b])
            try:
                solved.append(self._solve(alone, u[b : b + 1], levels, trace))
            except SolverError as error:
                dynamics.failures[b] = str(error)
                solved.append(None)
            calls.append(alone.nfe)
        for name in ("forward", "vjp", "jvp"):  # of the batch: the mean over its samples, rounded up
            setattr(dynamics.nfe, name, -(-sum(getattr(count, name) for count in calls) // len(calls)))
        return self._collect(solved, u, levels, dynamics, trace)

    def _solve(
        self, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], trace: bool
    ) -> tuple[list[Tensor], Tensor]:
        """States at each level, and integrals of the trace from the first to each, [levels, draws], for one sample."""
        flow, mean = dynamics.flow, dynamics.condition.mean
        mask = dynamics.condition.mask
        mean = torch.zeros((), device=u.device) if mean is None else mean if mask is None else mean * mask
        mean = mean.double()
        size = u[0].numel() if mask is None else int(mask.expand_as(u).sum())
        draws = max(1, dynamics.divergence.probes // dynamics.divergence.set_size)

        def rates(tau: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            if dynamics.nfe.forward >= self.max_nfe:
                raise SolverError(
                    f"{self.describe()} had not converged after max_nfe={self.max_nfe} evaluations (at {self.clock}="
                    f"{float(tau):.4g}): loosen rtol and atol, raise max_nfe, or use the fixed grid of Multistep"
                )
            # The trial that finds a first step may lie anywhere; the schedule ends where the levels do.
            level = _level(self.clock, flow.schedule, tau.clamp(times.min(), times.max()))
            chart = _chart(self.clock, flow.schedule, level)
            state = (y[0] - chart.mean * mean) / chart.scale
            state = (state if mask is None else state * mask).to(u.dtype)
            if trace:
                field, traces = dynamics.velocity_and_trace(state, level, node=0)
                density = chart.d_angle * traces.values[:, 0] / size
                if self.scale == "solver":
                    density = density + chart.d_scale / chart.scale
            else:
                field, density = dynamics.velocity(state, level), torch.zeros_like(y[1])
            dynamics.settle()
            if dynamics.failures[0] is not None:
                raise SolverError(dynamics.failures[0])
            return chart.d_scale * state + chart.scale * chart.d_angle * field + chart.d_mean * mean, density

        times, index = self._times([_reading(self.clock, level) for level in levels], u.device)
        charts = [_chart(self.clock, flow.schedule, level) for level in levels]
        first = charts[0].scale * u.double() + charts[0].mean * mean
        start = (first, torch.zeros(draws, dtype=torch.float64, device=u.device))
        try:
            with torch.no_grad():
                y, density = odeint(
                    rates,
                    start,
                    times,
                    rtol=self.rtol,
                    atol=self.atol,
                    method=self.method,
                    options=self._options(size, times),
                )
        except AssertionError as error:  # torchdiffeq's way to say that the step has vanished
            raise SolverError(f"{self.describe()} did not converge: {error}; loosen rtol and atol") from error
        states = [((y[i] - chart.mean * mean) / chart.scale).to(u) for i, chart in zip(index, charts, strict=True)]
        growth = [math.log(chart.scale / charts[0].scale) if self.scale == "solver" else 0.0 for chart in charts]
        return states, torch.stack([size * (density[i] - g) for i, g in zip(index, growth, strict=True)])

    def _times(self, stops: list[float], device: torch.device) -> tuple[Tensor, list[int]]:
        if self.adaptive:
            return torch.tensor(stops, dtype=torch.float64, device=device), list(range(len(stops)))
        if len(stops) > 2 and "adams" in self.method:
            raise ValueError(f"{self.method} needs equal steps and cannot stop between: use rk4, dopri5 or Multistep")
        direction = 1 if stops[-1] > stops[0] else -1
        grid = torch.linspace(stops[0], stops[-1], self.steps + 1, dtype=torch.float64)
        grid[-1] = stops[-1]
        times = sorted({*grid.tolist(), *stops}, key=lambda value: direction * value)
        return torch.tensor(times, dtype=torch.float64, device=device), [times.index(stop) for stop in stops]

    def _options(self, size: int, times: Tensor) -> dict[str, Any] | None:
        if not self.adaptive:
            # Order four, as of its start with Runge-Kutta: the twelfth, torchdiffeq's default, is hardly ever stable.
            return {"max_order": 5} if "adams" in self.method else None
        if self.method == "scipy_solver":  # keeps within its span, and has its own norm
            return {"solver": "LSODA"}

        def norm(error: tuple[Tensor, Tensor]) -> Tensor:
            state = (error[0] ** 2).sum().div(size).sqrt()
            return torch.maximum(state, error[1].abs().max())

        # Without step_t a solver steps over the end and interpolates: the network would be asked beyond its times.
        return {"norm": norm, "dtype": torch.float64, "step_t": times[1:]}

    def _collect(
        self,
        solved: Sequence[tuple[list[Tensor], Tensor] | None],
        u: Tensor,
        levels: Sequence[NoiseLevel],
        dynamics: Dynamics,
        trace: bool,
    ) -> Solution:
        draws = max(1, dynamics.divergence.probes // dynamics.divergence.set_size)
        lost = (
            [torch.full_like(u[:1], math.nan)] * len(levels),
            torch.full((len(levels), draws), math.nan).to(u.device).double(),
        )
        parts = [lost if part is None else part for part in solved]
        states = [torch.cat([part[0][i] for part in parts]) for i in range(len(levels))]
        unknown = torch.full((len(levels), len(u)), math.nan, dtype=torch.float64, device=u.device)
        if not trace:
            return Solution(states, None, unknown)
        running = torch.stack([part[1] for part in parts], -1)  # [levels, draws, B], from the first level on
        forward = float(levels[0].t) < float(levels[-1].t)
        remaining = running[-1] - running if forward else -running
        one = torch.ones(1, dtype=torch.float64, device=u.device)
        exact = dynamics.divergence.probes == 0
        integrals = [TraceIntegral(value[None], one, 0 * one, exact) for value in remaining]
        return Solution(states, integrals, unknown)
