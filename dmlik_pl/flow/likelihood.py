r"""Exact log-likelihoods, each with its error.

Along the flow the log-density changes by the divergence (Eq. 11 of Cross and Ragni). In the unit-scale state this reads

.. math::
    \log p(x_0) = \log p_T(u_T) + \int_{\theta_0}^{\theta_T} \mathrm{tr} \frac{\partial F}{\partial u} d\theta
                  + D \log \cos\theta_0

with the last term, the change of scale from u to x_0, in closed form. A sample is read as data at r_min, the smallest
noise level of the schedule.

References:
    | Neural Ordinary Differential Equations (Chen et al., 2018); FFJORD (Grathwohl et al., 2019)
    | Song et al. (2021), Eq. 39
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from dmlik_pl.flow.densities import Aim, compare_coarser, densities_of, read_at, shaken
from dmlik_pl.flow.differentiable import DifferentiableDynamics
from dmlik_pl.flow.divergence import Divergence, Hutchinson
from dmlik_pl.flow.dynamics import Dynamics, SolverError
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow
from dmlik_pl.flow.probes import sample_names
from dmlik_pl.flow.reference import TorchDiffEq
from dmlik_pl.flow.result import LogLikelihood
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.solvers import Multistep, Solver
from dmlik_pl.flow.target import Rivals, Target

__all__ = [
    "Trajectory",
    "decode",
    "encode",
    "log_likelihood",
    "reconstruct",
    "trajectory",
]

NOTHING = Condition()
_NOT_FINITE = "the sample itself holds NaN or infinity"


@torch.inference_mode(False)  # derivatives are needed, whatever loop this is called from
def log_likelihood(
    flow: ProbabilityFlow,
    x: Tensor,
    condition: Condition = NOTHING,
    *,
    t: float | None = None,
    solver: Solver | None = None,
    divergence: Divergence | None = None,
    sample_ids: Sequence[str | int] | None = None,
    seed: int = 0,
    rounding: Sequence[int] = (),
    on_failure: Literal["raise", "record"] = "raise",
    differentiable: bool = False,
    target: Target | None = None,
    rivals: Rivals | None = None,
    grids: Sequence[int] | None = None,
    max_batch: int | None = None,
) -> LogLikelihood:
    """The exact log-likelihood of each sample.

    Args:
        flow: The model.
        x: Samples [B, ...]; their dtype, float32 or float64, is that of the state.
        condition: What they are conditioned on, one each or one for all. Of one sample there may be many conditions:
            their likelihoods are then those of the same x on the same probes, so that differences are paired.
        t: None reads x as data. A time reads x as x_t, in the model's own coordinates, and gives its density under the
            model's marginal at that time.
        solver: :class:`Multistep` by default.
        divergence: One fresh Rademacher probe per node by default.
        sample_ids: Stable names, which key the probes; positions in the batch by default.
        seed: Seed of the probes.
        rounding: Positions in the batch of samples that are solved once more from where the precision of their floating
            point type might have put them, to fill in ``rounding``. ``nfe`` is that of a sample without it.
        on_failure: Whether a sample without a result raises, or is NaN with its reason in ``failures``.
        differentiable: Whether ``log_p`` and ``bpd`` have a gradient with respect to x, to the condition and to the
            network's parameters, see :mod:`dmlik_pl.flow.differentiable` for what it costs. By :class:`Multistep`.
        target: The error to reach, in place of the solver's nodes and the divergence's probes; samples of one id then
            share a grid, so that differences between their conditions are paired.
        rivals: Who competes for a target of differences; all conditions of one id by default.
        grids: Nodes of each sample on the way to a target, ``integral.nodes`` of another result that this one is to be
            paired with; a pilot finds them by default.
        max_batch: Samples that go through the network at once on the way to a target; all by default.

    Raises:
        SolverError: If a sample has no result and ``on_failure`` is "raise".
        ValueError: If x is not a batch of floating point numbers, condition or ids are of another number of samples,
            guidance needs an unconditional branch that is not given, or t lies outside the schedule.

    Example:
        Data from N(1, 0.5^2), whose best denoiser is known:

        >>> from dmlik_pl.flow import VE, Exact, Multistep, ProbabilityFlow, log_likelihood
        >>> def denoiser(x, sigma, inputs):
        ...     return 1 + 0.25 / (0.25 + sigma[:, None] ** 2) * (x - 1)
        >>> flow = ProbabilityFlow(denoiser, VE(0.002, 2000.0), "x0", network_time="sigma")
        >>> x = torch.tensor([[1.0, 1.5], [0.0, 1.0]], dtype=torch.float64)
        >>> result = log_likelihood(flow, x, solver=Multistep(129), divergence=Exact())
        >>> [f"{value:.2f}" for value in result.log_p]
        ['-0.95', '-2.45']
        >>> [f"{value:.2f}" for value in torch.distributions.Normal(1.0, 0.5).log_prob(x).sum(1)]
        ['-0.95', '-2.45']
    """
    solver = Multistep() if solver is None else solver
    x, sample_ids = _for_each(x, condition, sample_ids)
    dynamics = _dynamics(flow, x, condition, divergence, sample_ids, seed)
    if differentiable:
        dynamics = _differentiable(dynamics, solver, target)
    levels = _levels(flow, t)
    u = read_at(flow, x, levels[0], condition, as_data=t is None)
    if target is not None:
        aim = Aim.of(target, solver, divergence, max_batch, rivals, grids)
        (result, _), _, several = aim.densities(dynamics, u, levels, as_data=t is None)
        if rounding and t is None:
            result = aim.shaken(result, several, x, levels, rounding)
        _raise_failures(result.failures, dynamics.sample_ids, on_failure)
        return result
    (result, _), _ = densities_of(solver, dynamics, u, levels, as_data=t is None)
    if isinstance(solver, TorchDiffEq) and solver.estimate_error:
        result = compare_coarser(result, solver, dynamics, u, levels, as_data=t is None)
    if rounding:
        result = shaken(result, solver, dynamics, x, levels[0], as_data=t is None, chosen=list(rounding))
    _raise_failures(result.failures, dynamics.sample_ids, on_failure)
    return result


@dataclass(frozen=True)
class Trajectory:
    """One path of the flow from noise to data.

    Attributes:
        times: Its times, falling from t_max.
        states: x_t at each, [B, ...], in the model's own coordinates.
        marginals: The density of each x_t under the model's marginal at its time; None if not asked for.
        failures: Why a sample has NaN instead of states; None for those that have them.
    """

    times: Sequence[float]
    states: list[Tensor]
    marginals: list[LogLikelihood] | None
    failures: list[str | None]


@torch.inference_mode(False)
def trajectory(
    flow: ProbabilityFlow,
    latent: Tensor,
    condition: Condition = NOTHING,
    *,
    times: Sequence[float],
    solver: Solver | None = None,
    densities: bool = False,
    divergence: Divergence | None = None,
    sample_ids: Sequence[str | int] | None = None,
    seed: int = 0,
    on_failure: Literal["raise", "record"] = "raise",
    target: Target | None = None,
    max_batch: int | None = None,
) -> Trajectory:
    """Follow the flow from x_T through given times; every marginal density on the way costs one solve together.

    Args:
        flow: The model.
        latent: x_T at t_max [B, ...], in the model's own coordinates.
        condition: Condition of the batch.
        times: Falling times; those beyond the schedule's range are moved to its ends.
        solver: :class:`Multistep` by default.
        densities: Whether to take the marginal densities too (one VJP per node).
        divergence: As in :func:`log_likelihood`.
        sample_ids: As in :func:`log_likelihood`.
        seed: As in :func:`log_likelihood`.
        on_failure: As in :func:`log_likelihood`.
        target: The error to reach with the last density; only with ``densities``.
        max_batch: As in :func:`log_likelihood`.
    """
    solver = Multistep() if solver is None else solver
    dynamics = _dynamics(flow, latent, condition, divergence, sample_ids, seed)
    low, high = flow.schedule.t_min, flow.schedule.t_max
    wanted = [min(max(time, low), high) for time in times]
    if any(later >= earlier for earlier, later in pairwise(wanted)):
        raise ValueError(f"times must fall strictly within [{low:g}, {high:g}], got {list(times)}")
    if not wanted or wanted[-1] == high:
        raise ValueError(f"a trajectory needs a time below t_max={high:g}, got {list(times)}")
    visited = wanted if wanted[0] == high else [high, *wanted]
    levels = [flow.schedule.at(time) for time in visited]
    skip = len(visited) - len(wanted)
    u = flow.unit_state(latent, levels[0], condition)
    marginals = None
    if densities:
        if target is None:
            marginals, states = densities_of(solver, dynamics, u, levels, as_data=False)
        else:
            aim = Aim.of(target, solver, divergence, max_batch)
            marginals, states, _ = aim.densities(dynamics, u, levels, as_data=False)
        marginals = marginals[skip:]
    else:
        states = solver.integrate(dynamics, u, levels, trace=False).states
    _raise_failures(dynamics.failures, dynamics.sample_ids, on_failure)
    visited_x = [flow.state(state, level, condition) for state, level in zip(states, levels, strict=True)]
    return Trajectory(wanted, visited_x[skip:], marginals, dynamics.failures)


def encode(
    flow: ProbabilityFlow,
    x: Tensor,
    condition: Condition = NOTHING,
    *,
    solver: Solver | None = None,
    on_failure: Literal["raise", "record"] = "raise",
) -> Tensor:
    """Data x [B, ...] to its latent x_T, without derivatives; "record" leaves NaN where a sample fails."""
    solver = Multistep() if solver is None else solver
    dynamics = _dynamics(flow, x, condition, None, None, 0)
    levels = [flow.schedule.at(flow.schedule.t_min), flow.schedule.at(flow.schedule.t_max)]
    solution = solver.integrate(dynamics, read_at(flow, x, levels[0], condition, as_data=True), levels, trace=False)
    _raise_failures(dynamics.failures, dynamics.sample_ids, on_failure)
    return flow.state(solution.states[-1], levels[-1], condition)


def decode(
    flow: ProbabilityFlow,
    latent: Tensor,
    condition: Condition = NOTHING,
    *,
    solver: Solver | None = None,
    on_failure: Literal["raise", "record"] = "raise",
) -> Tensor:
    """Latent x_T [B, ...] to data: the inverse of :func:`encode` up to the solver's error."""
    solver = Multistep() if solver is None else solver
    dynamics = _dynamics(flow, latent, condition, None, None, 0)
    levels = [flow.schedule.at(flow.schedule.t_max), flow.schedule.at(flow.schedule.t_min)]
    solution = solver.integrate(dynamics, flow.unit_state(latent, levels[0], condition), levels, trace=False)
    _raise_failures(dynamics.failures, dynamics.sample_ids, on_failure)
    return solution.states[-1] / math.cos(float(levels[-1].angle))


def reconstruct(
    flow: ProbabilityFlow,
    x: Tensor,
    condition: Condition = NOTHING,
    *,
    solver: Solver | None = None,
    on_failure: Literal["raise", "record"] = "raise",
) -> Tensor:
    """Data to latent and back; the distance from x measures the solver."""
    latent = encode(flow, x, condition, solver=solver, on_failure=on_failure)
    return decode(flow, latent, condition, solver=solver, on_failure=on_failure)


def _differentiable(dynamics: Dynamics, solver: Solver, target: Target | None) -> Dynamics:
    if target is not None:
        raise ValueError("a differentiable likelihood has no target: give the solver's nodes and the divergence")
    if not isinstance(solver, Multistep):
        raise ValueError(f"a differentiable likelihood is taken by Multistep, got {type(solver).__name__}")
    return DifferentiableDynamics.of(dynamics)


def _levels(flow: ProbabilityFlow, t: float | None) -> list[NoiseLevel]:
    """Where x is read, and the noise end."""
    low, high = flow.schedule.t_min, flow.schedule.t_max
    if t is not None and not low <= t < high:
        raise ValueError(f"t={t:g} must lie in [t_min, t_max) = [{low:g}, {high:g})")
    return [flow.schedule.at(low if t is None else t), flow.schedule.at(high)]


def _for_each(
    x: Tensor, condition: Condition, sample_ids: Sequence[str | int] | None
) -> tuple[Tensor, Sequence[str | int] | None]:
    """One sample as often as it has conditions, under one name."""
    if x.dim() < 2 or len(x) != 1 or (count := condition.count) == 1:
        return x, sample_ids
    names: Sequence[str | int] = [0] if sample_ids is None else sample_ids
    return x.expand(count, *x.shape[1:]), list(names) * count if len(names) == 1 else names


def _dynamics(
    flow: ProbabilityFlow,
    x: Tensor,
    condition: Condition,
    divergence: Divergence | None,
    sample_ids: Sequence[str | int] | None,
    seed: int,
) -> Dynamics:
    ids = sample_names(x, sample_ids)
    if not x.dtype.is_floating_point or x.dtype.itemsize < 4:
        raise ValueError(
            f"the state must be float32 or float64, got {x.dtype}: call x.float() (the network may be of any dtype)"
        )
    if not float(flow.schedule.at(flow.schedule.t_min).sigma) > 0:
        raise ValueError(
            f"the schedule has no noise at t_min={flow.schedule.t_min:g}, where a density may be infinite: raise t_min"
        )
    if math.cos(float(flow.schedule.at(flow.schedule.t_max).angle)) < 1e-12 and flow.prediction in ("epsilon", "score"):
        raise ValueError(
            f"{flow.prediction} prediction says nothing of the data at r = infinity: set the schedule's t_max below "
            f"{flow.schedule.t_max:g}, or use a v-, x0- or velocity-prediction"
        )
    # Tensors made in inference mode cannot take part in a backward pass, their copies can.
    own = condition.spread(x).map(lambda tensor: tensor.clone() if tensor.is_inference() else tensor)
    lost = [None if fine else _NOT_FINITE for fine in x.isfinite().flatten(1).all(1).tolist()]
    return Dynamics(flow, own, ids, seed, Hutchinson() if divergence is None else divergence, failures=lost)


def _raise_failures(failures: Sequence[str | None], sample_ids: Sequence[str | int], on_failure: str) -> None:
    lost = [(sample_id, reason) for sample_id, reason in zip(sample_ids, failures, strict=True) if reason is not None]
    if lost and on_failure == "raise":
        raise SolverError(f"{len(lost)} of {len(sample_ids)} samples have no likelihood; {lost[0][0]}: {lost[0][1]}")
