"""The methods side by side: ours, the usual practice, other packages', each with the one knob its users turn."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Literal
from unittest import mock

import torch
from flow_matching.solver import ODESolver
from torch import Tensor
from torchdiffeq import odeint

from benchmarks.problems import Problem
from dmlik_pl.flow import Multistep, NoiseLevel, Solution, draw, log_likelihood
from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.traces import Traces

__all__ = ["METHODS", "FixedProbeMultistep", "Method", "Result", "default", "dopri5", "flow_matching"]


@dataclass(frozen=True)
class Result:
    """Log-likelihoods [B] in nats, and network evaluations per sample."""

    log_p: Tensor
    forward: int
    vjp: int


@dataclass(frozen=True)
class Method:
    """One way to a likelihood.

    Attributes:
        name: Name for tables.
        knob: What its users turn, as a format of its setting.
        ladder: Settings of the knob, coarse to fine.
        usual: Settings that people run.
        run: Likelihoods as users get them.
        solve: The same with one probe of each sample kept for the whole trajectory: comparable to the reference.
        fresh: Whether every node has a probe of its own.
    """

    name: str
    knob: str
    ladder: Sequence[float]
    usual: Sequence[float]
    run: Callable[[Problem, float], Result]
    solve: Callable[[Problem, float], Result]
    fresh: bool = False


class _OneProbe(Dynamics):
    """Dynamics that show every node the probe of the first."""

    def velocity_and_trace(self, u: Tensor, level: NoiseLevel, node: int) -> tuple[Tensor, Traces]:
        return super().velocity_and_trace(u, level, node=0)


class FixedProbeMultistep(Multistep):
    """Our solver with one probe per trajectory, to tell its error from the probes'."""

    def integrate(self, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, trace: bool) -> Solution:
        shared = _OneProbe(**{each.name: getattr(dynamics, each.name) for each in fields(Dynamics) if each.init})
        return super().integrate(shared, u, levels, trace=trace)


def _likelihood(problem: Problem, solver: Multistep) -> Result:
    result = log_likelihood(
        problem.flow, problem.x, problem.condition, solver=solver, sample_ids=problem.samples, on_failure="record"
    )
    return Result(result.log_p, result.nfe.forward, result.nfe.vjp)


def default(problem: Problem, nodes: float, *, fixed_probe: bool = False) -> Result:
    """Our default: multistep on a fixed grid in log-SNR; a fresh probe at every node unless ``fixed_probe``."""
    solver = FixedProbeMultistep(nodes=int(nodes)) if fixed_probe else Multistep(nodes=int(nodes))
    return _likelihood(problem, solver)


def _probe(problem: Problem) -> Tensor:
    """The probe of node 0, which fixed-probe methods keep."""
    return draw("rademacher", problem.x, problem.samples, seed=0, probes=1)[0]


def _drift(problem: Problem, t: Tensor, x: Tensor) -> Tensor:
    """dx/dt of the probability flow in the model's own x_t and t, from its predicted noise."""
    level = problem.flow.schedule.at(t.detach().double())
    sigma, rate = float(level.sigma), problem.log_snr_rate(float(t))
    _, noise = problem.flow.denoise(x, level, problem.condition)  # variance preserving: x_t is of unit scale
    return 0.5 * rate * (sigma**2 * x - sigma * noise)


def _prior(problem: Problem, x: Tensor) -> Tensor:
    """Log-density of x_T of a variance preserving process, nats, [B]."""
    level = problem.flow.schedule.at(problem.flow.schedule.t_max)
    return problem.flow.prior.log_prob(x, level, None)


def dopri5(problem: Problem, tolerance: float, *, clock: Literal["t", "sigma"]) -> Result:
    """The usual practice: torchdiffeq's dopri5 on batch and log-density together, one Rademacher probe.

    In t the state is x_t (Song et al., 2021); in sigma it is x_t / alpha (``log_likelihood`` of k-diffusion).
    """
    schedule, probe, calls = problem.flow.schedule, _probe(problem), 0
    low, high = schedule.at(schedule.t_min), schedule.at(schedule.t_max)

    def velocity(tau: Tensor, state: Tensor) -> Tensor:
        if clock == "t":
            return _drift(problem, tau, state)
        level = schedule.at_log_snr(-2 * tau.detach().double().log())
        return problem.flow.denoise(state * float(torch.cos(level.angle)), level, problem.condition)[1]

    def rates(tau: Tensor, y: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        with torch.enable_grad():
            state = y[0].detach().requires_grad_()
            value = velocity(tau, state)
            (product,) = torch.autograd.grad(value, state, probe)
        return value.detach(), (product * probe).flatten(1).sum(1)

    scale = float(low.alpha) if clock == "t" else 1.0
    ends = torch.stack([low.t, high.t] if clock == "t" else [low.r, high.r])
    start = (scale * problem.x, problem.x.new_zeros(len(problem.x)))
    states, traces = odeint(rates, start, ends, rtol=tolerance, atol=tolerance, method="dopri5")
    end, factor = states[-1], float(high.alpha)
    x_end, growth = (end, scale) if clock == "t" else (factor * end, factor)
    log_scale = problem.dims * torch.tensor(growth, dtype=torch.float64).log()
    return Result(_prior(problem, x_end) + traces[-1].double() + log_scale, calls, calls)


@contextmanager
def _random_sign(probe: Tensor) -> Iterator[None]:
    """Hand our probe to code that draws its own as (randn_like(x) < 0) * 2.0 - 1.0, in its dtype."""
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(probe.dtype)
    try:
        with mock.patch("torch.randn_like", lambda x: -probe):
            yield
    finally:
        torch.set_default_dtype(default_dtype)


def flow_matching(problem: Problem, tolerance: float) -> Result:
    """``ODESolver.compute_likelihood`` of flow_matching with dopri5; its time runs from noise at 0 to data at 1."""
    schedule, calls = problem.flow.schedule, 0
    span = schedule.t_max - schedule.t_min

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return -span * _drift(problem, schedule.t_max - span * t.detach().double(), x)

    alpha = schedule.alpha(schedule.t_min)
    with _random_sign(_probe(problem)):
        _, log_p = ODESolver(velocity_model=velocity).compute_likelihood(
            x_1=float(alpha) * problem.x,
            log_p0=lambda x: _prior(problem, x),
            step_size=None,
            method="dopri5",
            atol=tolerance,
            rtol=tolerance,
            time_grid=torch.tensor([1.0, 0.0], dtype=torch.float64),
        )
    return Result(log_p.detach().double() + problem.dims * alpha.log(), calls, calls)


TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7)
NODES = (9, 13, 17, 21, 25, 33, 41, 49, 65, 81, 97, 129, 193)


def _adaptive(name: str, usual: float, run: Callable[[Problem, float], Result]) -> Method:
    return Method(name, "tol {:g}", TOLERANCES, (usual,), run, run)


METHODS: tuple[Method, ...] = (
    Method(
        "multistep (our default)",
        "{:g} nodes",
        NODES,
        (25, 33),
        default,
        lambda problem, nodes: default(problem, nodes, fixed_probe=True),
        fresh=True,
    ),
    _adaptive("dopri5 in t (torchdiffeq)", 1e-5, lambda problem, tol: dopri5(problem, tol, clock="t")),
    _adaptive("dopri5 in sigma (k-diffusion)", 1e-4, lambda problem, tol: dopri5(problem, tol, clock="sigma")),
    _adaptive("flow_matching, dopri5", 1e-5, flow_matching),
)
