r"""The sampler of Grad-TTS: Euler steps in t that ask the network at the middle time of each step.

.. math:: x_{t + h} = x_t + h \, \dot x(x_t, t + h / 2), \quad
          \dot x = \dot\alpha_t (\hat x_0 - \mu) + \dot\sigma_t \hat\epsilon

The network sees the state of the step's start at the time of its middle. That is neither Euler's method nor the
midpoint method; it is of first order, and the same steps taken forward in time do not undo it.

References:
    | Grad-TTS: A Diffusion Probabilistic Model for Text-to-Speech (Popov et al., 2021), Eq. 9 and its published sampler
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.solvers import Solution
from dmlik_pl.flow.traces import Traces

__all__ = ["MidTimeEuler"]


@dataclass(frozen=True)
class MidTimeEuler:
    """Grad-TTS's own steps as a solver, in either direction.

    Attributes:
        steps: Number of equal steps in t.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a solver needs at least one step, got steps={self.steps}")

    def describe(self) -> str:  # noqa: D102
        return f"mid-time Euler in t ({self.steps} steps)"

    def integrate(self, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, trace: bool) -> Solution:  # noqa: D102
        flow, condition = dynamics.flow, dynamics.condition
        mean = 0.0 if condition.mean is None else condition.mean
        stops = [float(level.t) for level in levels]
        x = flow.state(u, levels[0], condition)
        states = {stops[0]: u}
        traces: list[tuple[float, float, Traces]] = []  # log r, weight and trace of each step
        for i, (start, end) in enumerate(pairwise(self._times(stops))):
            middle = flow.schedule.at((start + end) / 2)
            alpha_rate, sigma_rate = (float(rate) for rate in flow.schedule.rates(middle.t))
            cos, sin = math.cos(float(middle.angle)), math.sin(float(middle.angle))
            inner = flow.unit_state(x, middle, condition)
            if trace:
                field, value = dynamics.velocity_and_trace(inner, middle, i)
                angle_rate = (cos * sigma_rate - sin * alpha_rate) / float(middle.scale)
                traces.append((float(middle.r.log()), abs(end - start) * angle_rate, value))
            else:
                field = dynamics.velocity(inner, middle)
            data, noise = cos * inner - sin * field, sin * inner + cos * field
            x = x + (end - start) * (alpha_rate * (data - mean) + sigma_rate * noise)
            if end in stops:
                states[end] = flow.unit_state(x, flow.schedule.at(end), condition)
        found = [states[stop] for stop in stops]
        unknown = torch.full((len(levels), len(u)), math.nan, dtype=torch.float64, device=u.device)
        return Solution(found, self._integrals(dynamics, traces, levels) if trace else None, unknown)

    def _integrals(
        self, dynamics: Dynamics, traces: list[tuple[float, float, Traces]], levels: Sequence[NoiseLevel]
    ) -> list[TraceIntegral]:
        """The integral of the trace from each level to the noise end."""
        log_r, weights, found = zip(*sorted(traces, key=lambda step: step[0]), strict=True)
        device = found[0].values.device
        whole = TraceIntegral.of(
            found,
            torch.tensor(weights, dtype=torch.float64, device=device),
            torch.tensor(log_r, dtype=torch.float64, device=device),
            exact=dynamics.divergence.probes == 0,
        )
        return [whole.reweighted(whole.weights * (whole.log_r > float(level.r.log()))) for level in levels]

    def _times(self, stops: Sequence[float]) -> list[float]:
        """The ends of all steps, and the stops among them."""
        grid = torch.linspace(stops[0], stops[-1], self.steps + 1, dtype=torch.float64).tolist()
        return sorted({*grid[1:-1], *stops}, reverse=stops[-1] < stops[0])
