"""What a watched training is worth: exact likelihoods of a few samples, what they cost, and their sums with errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import Condition, LogLikelihood, Multistep, Solver, TraceIntegral, elbo
from dmlik_pl.modules.training.offers import LikelihoodProblem
from dmlik_pl.stats.significance import mean_with_error
from dmlik_pl.studies.base import Estimator

__all__ = ["Measured", "bits", "cost", "cost_is_fixed", "measure", "of_state", "summary", "to_state"]


@dataclass(frozen=True)
class Measured:
    """What was found for N samples.

    Attributes:
        sample_ids: Their names.
        dims: Their dimensions, [N] in float64.
        condition: Likelihoods under their condition, in float64 on the CPU.
        alternative: Those under the condition that says less, on the same probes; None without one.
        bound: Evidence lower bounds under their condition, nats, [2, N]: values and their variances; None if not taken.
        nfe: Network evaluations that this cost.
    """

    sample_ids: list[str]
    dims: Tensor
    condition: LogLikelihood
    alternative: LogLikelihood | None
    bound: Tensor | None
    nfe: int

    def select(self, index: Sequence[int]) -> "Measured":
        """What was found for some samples; the cost stays that of all."""
        return replace(
            self,
            sample_ids=[self.sample_ids[place] for place in index],
            dims=self.dims[list(index)],
            condition=self.condition.select(index),
            alternative=None if self.alternative is None else self.alternative.select(index),
            bound=None if self.bound is None else self.bound[:, list(index)],
        )

    @staticmethod
    def cat(parts: "Sequence[Measured]") -> "Measured":
        """Several parts as one; a sample that is in more than one of them is taken once."""
        alternatives = [part.alternative for part in parts if part.alternative is not None]
        bounds = [part.bound for part in parts if part.bound is not None]
        whole = Measured(
            sample_ids=[name for part in parts for name in part.sample_ids],
            dims=torch.cat([part.dims for part in parts]),
            condition=LogLikelihood.cat([part.condition for part in parts]),
            alternative=LogLikelihood.cat(alternatives) if len(alternatives) == len(parts) else None,
            bound=torch.cat(bounds, 1) if len(bounds) == len(parts) else None,
            nfe=sum(part.nfe for part in parts),
        )
        places = {name: place for place, name in reversed(list(enumerate(whole.sample_ids)))}
        return whole.select(sorted(places.values()))


def measure(problem: LikelihoodProblem, estimator: Estimator, elbo_draws: int = 0) -> Measured:
    """Likelihoods of some samples; one without a result is NaN.

    Args:
        problem: The samples, and the network as it is now.
        estimator: How likelihoods are taken.
        elbo_draws: Noise levels of the evidence lower bound, one evaluation each; 0 leaves it out.
    """
    found = _log_likelihood(problem, problem.condition, estimator)
    other = None if problem.alternative is None else _log_likelihood(problem, problem.alternative, estimator)
    spent = _evaluations(found) + (0 if other is None else _evaluations(other))
    bound = None
    if elbo_draws:
        lower = elbo(
            problem.flow,
            problem.x,
            problem.condition,
            draws=elbo_draws,
            sample_ids=problem.sample_ids,
            seed=estimator.seed,
        )
        bound = torch.stack([lower.value, lower.standard_error**2]).double().cpu()
        spent += lower.nfe.forward * len(problem.x)
    return Measured(
        sample_ids=[str(name) for name in problem.sample_ids],
        dims=found.dims.double().cpu(),
        condition=_kept(found),
        alternative=None if other is None else _kept(other),
        bound=bound,
        nfe=spent,
    )


def cost(problem: LikelihoodProblem, estimator: Estimator, elbo_draws: int = 0) -> int:
    """Network evaluations of one sample, counted on a network that answers zero at once; arguments as `measure`."""
    flow = replace(problem.flow, network=lambda x, time, inputs: 0 * x)
    return measure(replace(next(iter(problem.apart())), flow=flow), estimator, elbo_draws).nfe


def cost_is_fixed(solver: Solver) -> bool:
    """Whether samples cost what :func:`cost` says, whatever the weights: not where a solver chooses its own steps."""
    return isinstance(solver, Multistep) or not (
        getattr(solver, "adaptive", False) or getattr(solver, "method", "") in _ITERATED
    )


def to_state(found: LogLikelihood) -> dict[str, Any]:
    """A result as plain tensors, texts and numbers, for a checkpoint."""
    return {**vars(found), "integral": dict(vars(found.integral))}


def of_state(state: dict[str, Any]) -> LogLikelihood:
    """The result of which :func:`to_state` made a state."""
    return LogLikelihood(**{**state, "integral": TraceIntegral(**state["integral"])})


_ITERATED = ("implicit_adams", "fixed_adams")  # until they converge


def _evaluations(found: LogLikelihood) -> int:
    return int(found.calls.sum())


def _log_likelihood(problem: LikelihoodProblem, condition: Condition, estimator: Estimator) -> LogLikelihood:
    """The samples' likelihoods, their state in the precision that they have."""
    own = replace(estimator, double=problem.x.dtype == torch.float64)
    return own.log_likelihood(problem.flow, problem.x, condition, problem.sample_ids)


def _kept(found: LogLikelihood) -> LogLikelihood:
    """A result in float64 on the CPU, without x_T."""

    def tensors(of: Any) -> dict[str, Any]:
        every = {name: value.cpu() for name, value in vars(of).items() if isinstance(value, Tensor)}
        return {name: value.double() if value.is_floating_point() else value for name, value in every.items()}

    own = tensors(found) | {"integral": found.integral.to("cpu"), "latent": torch.empty(len(found.log_p), 0)}
    return replace(found, **own)


def summary(found: Measured, start: Measured | None, gain: str) -> dict[str, float]:
    """The numbers of a measurement, in bits per dimension, each with its total error and the parts of it.

    Args:
        found: What was measured.
        start: What the first measurement found, from which the change is taken; None takes none.
        gain: What the excess of the alternative's bits per dimension is called.

    Returns:
        `bpd`; `bpd_unconditional` and the gain, if there is an alternative; `elbo`, if there is a bound; `bpd_change`
        with `bpd_change_z`, its ratio to its error over samples, if there is a start; and the number of samples that
        these are of, `bpd_samples`, and that had no likelihood, `bpd_failed`.
    """
    fine = _finite(found.condition)
    kept = found.select(fine)
    numbers = bits("bpd", -kept.condition.log_p, kept.condition.variance, kept.dims, kept.condition.discretisation)
    if found.alternative is not None:
        both = found.select([place for place in _finite(found.alternative) if place in set(fine)])
        assert both.alternative is not None
        free = both.alternative
        numbers |= bits("bpd_unconditional", -free.log_p, free.variance, both.dims, free.discretisation)
        numbers |= _difference(gain, both.condition, free, both.dims)
    if kept.bound is not None:
        numbers |= bits("elbo", -kept.bound[0], kept.bound[1], kept.dims)
    if start is not None:
        now, before = _paired(kept, start.select(_finite(start.condition)))
        numbers |= _difference("bpd_change", before.condition, now.condition, now.dims)
        moved, error = numbers["bpd_change"], numbers["bpd_change_sampling_error"]
        numbers["bpd_change_z"] = moved / error if error > 0 else moved and math.nan
    return numbers | {"bpd_samples": float(len(fine)), "bpd_failed": float(len(found.sample_ids) - len(fine))}


def bits(name: str, nats: Tensor, variance: Tensor, dims: Tensor, grid: Tensor | None = None) -> dict[str, float]:
    """Bits per dimension of N samples together, with their total error and the parts of it.

    Args:
        name: What they are called.
        nats: Value of each sample, nats, [N].
        variance: Variance of these over probes, nats^2, [N].
        dims: Dimensions of each, [N].
        grid: Estimate of the time grid's error of each, nats, [N]; None where there is no grid.

    Returns:
        The value and its errors as :func:`dmlik_pl.stats.significance.mean_with_error` defines them: `_standard_error`
        (the total), `_probe_error`, `_sampling_error` and, with a grid, `_grid_error`.
    """
    unit = dims * math.log(2)
    errors = (variance.sqrt() / unit, None if grid is None else grid / unit)
    found = mean_with_error(nats / unit, *errors, weights=dims)
    numbers = {name: found.value, f"{name}_standard_error": found.standard_error}
    numbers |= {f"{name}_probe_error": found.probe_error, f"{name}_sampling_error": found.sampling_error}
    return numbers if grid is None else numbers | {f"{name}_grid_error": found.grid_error}


def _difference(name: str, one: LogLikelihood, other: LogLikelihood, dims: Tensor) -> dict[str, float]:
    """By how much the first is likelier, sample by sample; what cancels of the grid's errors is not known."""
    variance, grid = one.variance_of_difference(other), one.discretisation.hypot(other.discretisation)
    return bits(name, one.log_p - other.log_p, variance, dims, grid)


def _finite(found: LogLikelihood) -> list[int]:
    return found.log_p.isfinite().nonzero()[:, 0].tolist()


def _paired(one: Measured, other: Measured) -> tuple[Measured, Measured]:
    """The samples that both have, in the same order."""
    places = {name: place for place, name in enumerate(other.sample_ids)}
    shared = [place for place, name in enumerate(one.sample_ids) if name in places]
    return one.select(shared), other.select([places[one.sample_ids[place]] for place in shared])
