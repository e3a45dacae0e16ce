r"""Integration of the state together with its log-density.

:class:`Multistep` is the fast default: a fixed grid uniform in log-SNR, one network evaluation per node, fresh probes
at every node. :class:`TorchDiffEq` is the reference: any torchdiffeq method in t, r or log-SNR, one probe per
trajectory.

References:
    | Fast Sampling of Diffusion Models with Exponential Integrator (Zhang and Chen, 2023)
    | DPM-Solver++ (Lu et al., 2022)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.special import expit, logit
from torch import Tensor

from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.flow.ripple import Ripple
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.traces import Traces

__all__ = ["Multistep", "Solution", "Solver"]


@dataclass(frozen=True)
class Solution:
    """Where a trajectory went.

    Attributes:
        states: Unit-scale state at each requested level, [B, ...] each; the first is the start, the last the end.
        integrals: For each requested level the integral of the trace from there to the noise end; None without traces.
        discretisation: Estimated error that the grid makes in the log-density at each level, nats, [levels, B]; NaN if
            not estimated.
    """

    states: list[Tensor]
    integrals: list[TraceIntegral] | None
    discretisation: Tensor


class Solver(Protocol):
    """Anything that integrates a flow through given levels."""

    def integrate(self, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, trace: bool) -> Solution:
        """Take u from the first level to the last, in either direction, and say what it was at every level between."""
        ...

    def describe(self) -> str:
        """One line for tables."""
        ...


Spacing = Literal["log_snr", "sampler"]
"""Where the nodes of a fixed grid are."""

_POINTS, _POINT_WEIGHTS = np.polynomial.legendre.leggauss(12)
_FAR = 1e3  # noise-to-signal ratio beyond which log r is a poor clock


def _lagrange_weights(nodes: Sequence[float], start: float, end: float) -> np.ndarray:
    r"""Weights of the integral over :math:`d\theta` of the polynomial in log r through the nodes."""
    points = start + (end - start) * (_POINTS + 1) / 2
    measure = _POINT_WEIGHTS * (end - start) / 2 * 0.5 / np.cosh(points)  # dtheta = dlog r / (2 cosh log r)
    basis = [
        np.prod([(points - other) / (node - other) for m, other in enumerate(nodes) if m != j], axis=0) * measure
        for j, node in enumerate(nodes)
    ]
    return np.array([np.sum(b) for b in basis])


def _closest(nodes: np.ndarray) -> float:
    """Distance below which two nodes in log r are one to a polynomial: stops may lie anywhere."""
    return float(abs(nodes[-1] - nodes[0])) / (8 * len(nodes))


# Step times rate of contraction up to which Adams-Bashforth of an order is stable; a state that is predicted, evaluated
# and corrected without being evaluated again is no more stable than the next order's prediction.
_STABLE = {2: 1.0, 3: 0.545, 4: 0.3, 5: 0.163}
_CONTRACTION = 2 / 3  # largest rate per unit of log r and guidance weight, measured on the shipped models


def _stable(step: float, order: int, guidance: float) -> tuple[int, int]:
    """Steps to make of one, and their order, so that a guided flow from noise to data is stable."""
    if 0 <= guidance <= 1:
        return 1, order
    reach = step * _CONTRACTION * max(abs(guidance), abs(1 - guidance))
    pieces = math.ceil(reach / _STABLE[2])
    return pieces, max(k for k in range(2, order + 1) if k == 2 or reach / pieces <= _STABLE[k])


def _divided(nodes: np.ndarray, length: float) -> tuple[np.ndarray, list[int]]:
    """Intervals cut into equal pieces of about this length, and where the nodes are among them."""
    pieces = np.rint(np.abs(np.diff(nodes)) / length).astype(int).clip(min=1)
    cut = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(nodes[:-1], nodes[1:], pieces, strict=True)]
    return np.concatenate([*cut, nodes[-1:]]), [0, *np.cumsum(pieces).tolist()]


@dataclass(frozen=True)
class Multistep:
    r"""Adams-Bashforth and Adams-Moulton on :math:`du/d\theta = F` with polynomials in log-SNR.

    F vanishes for data of unit variance, so the linear part of the flow is exact; what remains is smooth in log-SNR.
    Each step is predicted from the past evaluations and, once the network has been asked at its end, corrected with
    that evaluation too, at no further cost. The grid is uniform in log-SNR, its first interval split in 1/4, 1/4, 1/2
    while the history is short. The trace is integrated by the cubic spline through the same nodes. Beyond r = 1000,
    where hardly any signal is left, one step in the angle takes the rest of the way, even to infinity.

    From noise to data guidance contracts, and a step that is too long for a method's stability throws a sample far off.
    There the order is lowered as the step and the guidance weight ask for, down to 2; where that is not enough, steps
    without derivatives are put between the nodes.

    The error of the grid is estimated without further evaluations and without probe noise, see
    :class:`~dmlik_pl.flow.ripple.Ripple`. It sees what the field does between the nodes, not how far a guided flow
    amplifies it on the way from data to noise: that is what ``LogLikelihood.rounding`` is for.

    Attributes:
        nodes: Number of places between data and noise where the trace is taken.
        spacing: Where they are. ``log_snr``: uniform in log-SNR, as said above. ``sampler``: at the times of a
            flow-matching sampler, equal steps of s with t = shift s / (1 + (shift - 1) s) by the schedule's own
            ``shift``. The density is the same; only the error of the grid is another.
        order: Convergence order: evaluations that a corrected step uses, the one at its end among them. From noise to
            data under guidance it is the highest that is taken.
    """

    nodes: int = 33
    order: int = 4
    spacing: Spacing = "log_snr"

    def __post_init__(self) -> None:
        if self.spacing not in get_args(Spacing):
            raise ValueError(f"spacing={self.spacing!r} is unknown: take one of {list(get_args(Spacing))}")
        if self.nodes < 7 or not 2 <= self.order <= 5:
            raise ValueError(
                f"Multistep needs nodes >= 7 and 2 <= order <= 5, got nodes={self.nodes}, order={self.order}"
            )

    def describe(self) -> str:  # noqa: D102
        spacing = "" if self.spacing == "log_snr" else f", {self.spacing} spacing"
        return f"multistep({self.nodes} nodes, order {self.order}{spacing})"

    def grid(self, stops: Sequence[float], shift: float = 1.0) -> tuple[np.ndarray, list[int]]:
        """Nodes in log r from the first stop to the last, and the index of each stop among them.

        Args:
            stops: Values of log r that are nodes, in order.
            shift: That of a sampler's times; heeded by ``spacing="sampler"`` alone.
        """
        uniform = np.linspace(stops[0], stops[-1], self.nodes - 2)
        if self.spacing == "sampler":  # log r = logit t = logit s + log shift
            start, end = (float(expit(stop - math.log(shift))) for stop in (stops[0], stops[-1]))
            uniform[1:-1] = logit(np.linspace(start, end, self.nodes - 2)[1:-1]) + math.log(shift)
        first, step = uniform[0], uniform[1] - uniform[0]
        nodes = np.concatenate([[first, first + step / 4, first + step / 2], uniform[1:]])
        for stop in stops[1:-1]:
            nearest = int(np.argmin(np.abs(nodes - stop)))
            if 0 < nearest < len(nodes) - 1 and nodes[nearest] not in stops:
                nodes[nearest] = stop
            elif stop not in nodes:
                nodes = np.sort(np.append(nodes, stop))[:: 1 if step > 0 else -1]
        return nodes, [int(np.flatnonzero(nodes == stop)[0]) for stop in stops]

    def integrate(self, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, trace: bool) -> Solution:  # noqa: D102
        shift = getattr(dynamics.flow.schedule, "shift", 1.0)
        nodes, index = self.grid([math.log(min(float(level.r), _FAR)) for level in levels], shift)
        backward = nodes[0] > nodes[-1]
        beyond = [max(0.0, float(level.angle) - math.atan(_FAR)) for level in levels]
        far: dict[int, Tensor] = {}
        if backward and beyond[0] > 0:
            field = dynamics.velocity(u, levels[0])
            far = {j: u - (beyond[0] - past) * field for j, past in enumerate(beyond) if past > 0}
            u = u - beyond[0] * field

        path, main, order = nodes, list(range(len(nodes))), self.order
        guidance = dynamics.flow.guidance
        if backward:
            even = self.spacing == "log_snr"
            step = abs(nodes[-1] - nodes[0]) / (self.nodes - 3) if even else float(np.abs(np.diff(nodes)).max())
            pieces, order = _stable(step, self.order, guidance)
            if pieces > 1:
                path, main = _divided(nodes, step / pieces)
        place = {i: n for n, i in enumerate(main)}

        states: list[Tensor] = []
        history: list[tuple[float, Tensor]] = []
        traces: list[Traces] = []
        ripple = Ripple(_closest(nodes), dynamics.dims(u), to_data=backward, guidance=guidance)
        predicted: Tensor | None = None
        for i, node in enumerate(path):
            level = dynamics.flow.schedule.at_log_snr(-2 * node)
            if trace and i in place:
                key = len(nodes) - 1 - place[i] if backward else place[i]
                field, value = dynamics.velocity_and_trace(u, level, key)
                traces.append(value)
            else:
                field = dynamics.velocity(u, level)
            history = [past for past in history if abs(past[0] - node) > _closest(path)] + [(float(node), field)]
            history = history[-order:]
            if predicted is not None:
                u = u + (self._increment(history, path[i - 1], node) - predicted)
            if i in place:
                states.append(u)
                if trace:
                    ripple.add(node, field.detach())
            if i == len(path) - 1:
                far |= {j: u + past * field for j, past in enumerate(beyond) if past > 0 and not backward}
                break
            predicted = self._increment(history[-(order - 1) :], node, path[i + 1])
            u = u + predicted
        dynamics.settle()
        result = [far.get(j, states[i]) for j, i in enumerate(index)]
        if not trace:
            return Solution(result, None, torch.full((len(index), len(u)), math.nan, dtype=torch.float64).to(u.device))
        integrals = self._integrals(traces, nodes, index, beyond, dynamics.divergence.probes == 0)
        return Solution(result, integrals, torch.stack([ripple.error(nodes[i]) for i in index]))

    def _increment(self, history: Sequence[tuple[float, Tensor]], start: float, end: float) -> Tensor:
        weights = _lagrange_weights([node for node, _ in history], start, end)
        return sum(
            (float(w) * field for w, (_, field) in zip(weights, history, strict=True)),
            start=torch.zeros(()).to(history[0][1]),
        )

    def _integrals(
        self, traces: list[Traces], nodes: np.ndarray, index: Sequence[int], beyond: Sequence[float], exact: bool
    ) -> list[TraceIntegral]:
        """The integral from each level to the noise end."""
        backward = nodes[0] > nodes[-1]
        log_r = nodes[::-1].copy() if backward else nodes
        whole = TraceIntegral.of(
            traces[::-1] if backward else traces,
            torch.zeros(len(log_r), dtype=torch.float64),
            torch.from_numpy(log_r).to(traces[0].values),
            exact=exact,
        )
        # Between two nodes that nearly meet a spline would turn probe noise into slope.
        inner = [i for i in range(1, len(log_r) - 1) if log_r[-1] - log_r[i] > _closest(log_r)]
        apart = [0]
        for i in inner:
            if log_r[i] - log_r[apart[-1]] > _closest(log_r):
                apart.append(i)

        chosen = [*apart, len(log_r) - 1]

        def weights(start: float, past: float) -> Tensor:
            density = np.diag(0.5 / np.cosh(log_r[chosen]))
            out = np.zeros(len(log_r))
            out[chosen] = CubicSpline(log_r[chosen], density).integrate(start, log_r[-1])
            out[-1] += max(beyond) - past
            return torch.from_numpy(out).to(whole.values)

        return [whole.reweighted(weights(nodes[i], past)) for i, past in zip(index, beyond, strict=True)]
