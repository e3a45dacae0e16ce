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
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from dmlik_pl.flow.divergence import NFE, Divergence, Hutchinson
from dmlik_pl.flow.dynamics import Dynamics, SolverError
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.flow.probability_flow import Condition, ProbabilityFlow
from dmlik_pl.flow.probes import sample_names
from dmlik_pl.flow.reference import TorchDiffEq
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.solvers import Multistep, Solver

__all__ = [
    "LogLikelihood",
    "Trajectory",
    "bits_per_dim",
    "decode",
    "encode",
    "log_likelihood",
    "reconstruct",
    "trajectory",
]

NOTHING = Condition()
_NOT_FINITE = "the sample itself holds NaN or infinity"
_PER_SAMPLE = ("log_p", "prior", "scale", "discretisation", "dims", "latent")


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
        dims: D, the number of unmasked dimensions.
        latent: x_T at the noise end, [B, ...].
        nfe: Network evaluations per sample, forward passes and derivatives apart; guidance counts both its branches.
        density: Which density this is: p(x|y), p(x), or a guided flow's.
        r: Noise-to-signal ratio at which x was read: r_min for data.
        r_max: Noise-to-signal ratio of the prior.
        failures: Why a sample has NaN instead of a result; None for those that have one.
    """

    log_p: Tensor
    prior: Tensor
    integral: TraceIntegral
    scale: Tensor
    discretisation: Tensor
    dims: Tensor
    latent: Tensor
    nfe: NFE
    density: str
    r: float
    r_max: float
    failures: list[str | None]

    @property
    def divergence(self) -> Tensor:
        """The divergence term, nats."""
        return self.integral.total

    @property
    def standard_error(self) -> Tensor:
        """Standard error of log_p over probes, nats; zero for exact traces, NaN for a single probe a trajectory."""
        return self.integral.standard_error

    @property
    def bpd(self) -> Tensor:
        """Bits per dimension."""
        return bits_per_dim(self.log_p, self.dims)

    @property
    def bpd_standard_error(self) -> Tensor:
        """Standard error of bpd over probes."""
        return self.standard_error / (self.dims * math.log(2))

    def minus(self, other: "LogLikelihood") -> tuple[Tensor, Tensor]:
        """Difference of log p to that of another condition or model for the same samples, and its standard error, nats.

        Both must come from the same probes and grid; what their noise has in common cancels.
        """
        return self.log_p - other.log_p, (self.integral - other.integral).standard_error

    def select(self, index: Sequence[int]) -> "LogLikelihood":
        """The results of some samples, in the order of ``index``; one may be taken more than once."""
        chosen = torch.as_tensor(index, device=self.log_p.device)
        per_sample: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _PER_SAMPLE}
        return replace(
            self,
            **per_sample,
            integral=replace(self.integral, values=self.integral.values[..., chosen]),
            failures=[self.failures[i] for i in index],
        )

    @staticmethod
    def cat(parts: "Sequence[LogLikelihood]") -> "LogLikelihood":
        """Results of several batches, made with the same settings, as those of one."""
        per_sample: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _PER_SAMPLE}
        return replace(
            parts[0],
            **per_sample,
            integral=replace(parts[0].integral, values=torch.cat([part.integral.values for part in parts], -1)),
            failures=[failure for part in parts for failure in part.failures],
        )


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
    on_failure: Literal["raise", "record"] = "raise",
) -> LogLikelihood:
    """The exact log-likelihood of each sample.

    Args:
        flow: The model.
        x: Samples [B, ...]; their dtype, float32 or float64, is that of the state.
        condition: What they are conditioned on, one each or one for all.
        t: None reads x as data. A time reads x as x_t, in the model's own coordinates, and gives its density under the
            model's marginal at that time.
        solver: :class:`Multistep` by default.
        divergence: One fresh Rademacher probe a node by default.
        sample_ids: Stable names, which key the probes; positions in the batch by default.
        seed: Seed of the probes.
        on_failure: Whether a sample without a result raises, or is NaN with its reason in ``failures``.

    Raises:
        SolverError: If a sample has no result and ``on_failure`` is "raise".
        ValueError: If x is no batch of floating point numbers, condition or ids are of another number of samples,
            guidance needs an unconditional branch that is not given, or t lies outside the schedule.
    """
    solver = Multistep() if solver is None else solver
    dynamics = _dynamics(flow, x, condition, divergence, sample_ids, seed)
    if t is not None and not flow.schedule.t_min <= t < flow.schedule.t_max:
        raise ValueError(f"t={t:g} must lie in [t_min, t_max) = [{flow.schedule.t_min:g}, {flow.schedule.t_max:g})")
    levels = [flow.schedule.at(flow.schedule.t_min if t is None else t), flow.schedule.at(flow.schedule.t_max)]
    u = _read(flow, x, levels[0], condition, as_data=t is None)
    (result, _), _ = _densities(solver, dynamics, u, levels, as_data=t is None)
    if isinstance(solver, TorchDiffEq) and solver.estimate_error:
        result = _compare_coarser(result, solver, dynamics, u, levels, as_data=t is None)
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
) -> Trajectory:
    """Follow the flow from x_T through given times; every marginal density on the way costs one solve together.

    Args:
        flow: The model.
        latent: x_T at t_max [B, ...], in the model's own coordinates.
        condition: Condition of the batch.
        times: Falling times; those beyond the schedule's range are moved to its ends.
        solver: :class:`Multistep` by default.
        densities: Whether to take the marginal densities too (a VJP a node).
        divergence: As in :func:`log_likelihood`.
        sample_ids: As in :func:`log_likelihood`.
        seed: As in :func:`log_likelihood`.
        on_failure: As in :func:`log_likelihood`.
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
        marginals, states = _densities(solver, dynamics, u, levels, as_data=False)
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
    solution = solver.integrate(dynamics, _read(flow, x, levels[0], condition, as_data=True), levels, trace=False)
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


def _read(flow: ProbabilityFlow, x: Tensor, level: NoiseLevel, condition: Condition, *, as_data: bool) -> Tensor:
    if not as_data:
        return flow.unit_state(x, level, condition)
    u = x * math.cos(float(level.angle))
    return u if condition.mask is None else u * condition.mask


def _densities(
    solver: Solver, dynamics: Dynamics, u: Tensor, levels: Sequence[NoiseLevel], *, as_data: bool
) -> tuple[list[LogLikelihood], list[Tensor]]:
    """Log-likelihood and unit-scale state at every level of one trajectory, in either direction."""
    flow, condition = dynamics.flow, dynamics.condition
    solution = solver.integrate(dynamics, u, levels, trace=True)
    assert solution.integrals is not None
    end = max(range(len(levels)), key=lambda i: float(levels[i].t))
    noise, mask = levels[end], condition.mask
    prior = flow.prior.log_prob(solution.states[end], noise, mask, condition.mean)
    size = u[0].numel()
    dims = torch.full_like(prior, size) if mask is None else mask.expand_as(u).flatten(1).sum(1).to(prior)
    calls = flow.evaluations_per_call
    nfe = NFE(*(calls * count for count in (dynamics.nfe.forward, dynamics.nfe.vjp, dynamics.nfe.jvp)))
    lost = torch.tensor([failure is not None for failure in dynamics.failures], device=u.device)
    latent = flow.state(solution.states[end], noise, condition)
    results = []
    for level, integral in zip(levels, solution.integrals, strict=True):
        growth = math.log(math.cos(float(level.angle))) if as_data else -math.log(float(level.scale))
        scale = dims * growth
        log_p = (prior + integral.total + scale).masked_fill(lost, math.nan)
        results.append(
            LogLikelihood(
                log_p=log_p,
                prior=prior,
                integral=integral,
                scale=scale,
                discretisation=solution.discretisation,
                dims=dims,
                latent=latent,
                nfe=nfe,
                density=flow.density(condition),
                r=float(level.r),
                r_max=float(noise.r),
                failures=dynamics.failures,
            )
        )
    return results, solution.states


def _compare_coarser(
    result: LogLikelihood,
    solver: TorchDiffEq,
    dynamics: Dynamics,
    u: Tensor,
    levels: Sequence[NoiseLevel],
    *,
    as_data: bool,
) -> LogLikelihood:
    """Fill in the discretisation estimate by a second, coarser solve with the same probes; its cost is counted."""
    if solver.adaptive:  # the error is proportional to the tolerance
        coarser, divisor = replace(solver, rtol=10 * solver.rtol, atol=10 * solver.atol), 9.0
    else:
        coarser, divisor = replace(solver, steps=max(1, solver.steps // 2)), 2.0**solver.order - 1
    again = replace(dynamics, nfe=NFE(), failures=[])
    (other, _), _ = _densities(coarser, again, u, levels, as_data=as_data)
    nfe = NFE(*(getattr(result.nfe, n) + getattr(other.nfe, n) for n in ("forward", "vjp", "jvp")))
    return replace(result, discretisation=(result.log_p - other.log_p).abs() / divisor, nfe=nfe)


def _raise_failures(failures: Sequence[str | None], sample_ids: Sequence[str | int], on_failure: str) -> None:
    lost = [(sample_id, reason) for sample_id, reason in zip(sample_ids, failures, strict=True) if reason is not None]
    if lost and on_failure == "raise":
        raise SolverError(f"{len(lost)} of {len(sample_ids)} samples have no likelihood; {lost[0][0]}: {lost[0][1]}")
