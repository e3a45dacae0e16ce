"""What a watched training is worth: exact likelihoods of a few samples, what they cost, and their sums with errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import Condition, Divergence, LogLikelihood, Multistep, Solver, TraceIntegral, elbo, log_likelihood
from dmlik_pl.modules.training.offers import LikelihoodProblem

__all__ = ["Gauge", "Measured", "Scores", "bits", "summary"]


@dataclass(frozen=True)
class Scores:
    """Log-densities of N samples with the traces they were made from, on the CPU.

    Attributes:
        log_p: Log-density, nats, [N].
        integral: The divergence term, whose probes say how far log_p is off.
    """

    log_p: Tensor
    integral: TraceIntegral

    def select(self, index: Sequence[int]) -> "Scores":
        """Those of some samples."""
        chosen = list(index)
        return Scores(self.log_p[chosen], self.integral.select(chosen))

    def minus(self, other: "Scores") -> tuple[Tensor, Tensor]:
        """Difference of log_p for the same samples on the same probes and grid, nats, and its variance, [N] each."""
        return self.log_p - other.log_p, (self.integral - other.integral).variance

    @staticmethod
    def cat(parts: "Sequence[Scores]") -> "Scores":
        """Several parts as one."""
        integral = TraceIntegral.cat([part.integral for part in parts])
        return Scores(torch.cat([part.log_p for part in parts]), integral)

    def state(self) -> dict[str, Any]:
        """As plain tensors."""
        return {"log_p": self.log_p, **vars(self.integral)}

    @staticmethod
    def of_state(state: dict[str, Any]) -> "Scores":
        """From what `state` returned."""
        return Scores(state["log_p"], TraceIntegral(**{name: state[name] for name in state if name != "log_p"}))


@dataclass(frozen=True)
class Measured:
    """What was found for N samples.

    Attributes:
        sample_ids: Their names.
        dims: Their dimensions, [N] in float64.
        condition: Scores under their condition.
        alternative: Scores under the condition that says less, on the same probes; None without one.
        bound: Evidence lower bounds under their condition, nats, [2, N]: values and their variances; None if not taken.
        nfe: Network evaluations that this cost.
    """

    sample_ids: list[str]
    dims: Tensor
    condition: Scores
    alternative: Scores | None
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
            condition=Scores.cat([part.condition for part in parts]),
            alternative=Scores.cat(alternatives) if len(alternatives) == len(parts) else None,
            bound=torch.cat(bounds, 1) if len(bounds) == len(parts) else None,
            nfe=sum(part.nfe for part in parts),
        )
        places = {name: place for place, name in reversed(list(enumerate(whole.sample_ids)))}
        return whole.select(sorted(places.values()))


@dataclass(frozen=True)
class Gauge:
    """How likelihoods are measured: the same way each time.

    Attributes:
        solver: How the flow is integrated.
        divergence: How its divergence is estimated; None takes one fresh Rademacher probe a node.
        seed: Seed of probes, and of the bound's noise.
        elbo_draws: Noise levels of the evidence lower bound, one evaluation each; 0 leaves it out.
    """

    solver: Solver = Multistep()  # noqa: RUF009 (frozen, without state of its own)
    divergence: Divergence | None = None
    seed: int = 0
    elbo_draws: int = 0

    def describe(self) -> str:
        """What two measurements must share to be paired."""
        return f"{self.solver}, {self.divergence}, seed {self.seed}"

    @property
    def cost_is_fixed(self) -> bool:
        """Whether samples cost what `cost` says, whatever the weights: not where the solver chooses its own steps."""
        return isinstance(self.solver, Multistep) or not (
            getattr(self.solver, "adaptive", False) or getattr(self.solver, "method", "") in _ITERATED
        )

    def measure(self, problem: LikelihoodProblem) -> Measured:
        """Likelihoods of some samples; one without a result is NaN."""
        found = self._log_likelihood(problem, problem.condition)
        other = None if problem.alternative is None else self._log_likelihood(problem, problem.alternative)
        spent = _evaluations(found) + (0 if other is None else _evaluations(other))
        bound = None
        if self.elbo_draws:
            lower = elbo(
                problem.flow,
                problem.x,
                problem.condition,
                draws=self.elbo_draws,
                sample_ids=problem.sample_ids,
                seed=self.seed,
            )
            bound = torch.stack([lower.value, lower.standard_error**2]).double().cpu()
            spent += lower.nfe.forward
        return Measured(
            sample_ids=[str(name) for name in problem.sample_ids],
            dims=found.dims.double().cpu(),
            condition=_scores(found),
            alternative=None if other is None else _scores(other),
            bound=bound,
            nfe=spent * len(problem.x),
        )

    def cost(self, problem: LikelihoodProblem) -> int:
        """Network evaluations of one sample, counted on a network that answers zero at once."""
        flow = replace(problem.flow, network=lambda x, time, inputs: 0 * x)
        return self.measure(replace(next(iter(problem.apart())), flow=flow)).nfe

    def _log_likelihood(self, problem: LikelihoodProblem, condition: Condition) -> LogLikelihood:
        return log_likelihood(
            problem.flow,
            problem.x,
            condition,
            solver=self.solver,
            divergence=self.divergence,
            sample_ids=problem.sample_ids,
            seed=self.seed,
            on_failure="record",
        )


_ITERATED = ("implicit_adams", "fixed_adams")  # until they converge


def _evaluations(found: LogLikelihood) -> int:
    return found.nfe.forward + found.nfe.vjp + found.nfe.jvp


def _scores(found: LogLikelihood) -> Scores:
    return Scores(found.log_p.double().cpu(), found.integral.to("cpu"))


def summary(found: Measured, start: Measured | None, gain: str) -> dict[str, float]:
    """The numbers of a measurement, in bits per dimension, each with its errors over probes and over samples.

    Args:
        found: What was measured.
        start: What the first measurement found, of which the change is told; None tells none.
        gain: What the excess of the alternative's bits per dimension is called.

    Returns:
        `bpd`; `bpd_unconditional` and the gain, if there is an alternative; `elbo`, if there is a bound; `bpd_change`
        with `bpd_change_z`, its ratio to its error over samples, if there is a start; and the number of samples that
        these are of, `bpd_samples`, and that had no likelihood, `bpd_failed`.
    """
    fine = _finite(found.condition)
    kept = found.select(fine)
    numbers = bits("bpd", -kept.condition.log_p, kept.condition.integral.variance, kept.dims)
    if found.alternative is not None:
        both = found.select([place for place in _finite(found.alternative) if place in set(fine)])
        assert both.alternative is not None
        free = both.alternative
        numbers |= bits("bpd_unconditional", -free.log_p, free.integral.variance, both.dims)
        numbers |= bits(gain, *both.condition.minus(free), both.dims)
    if kept.bound is not None:
        numbers |= bits("elbo", -kept.bound[0], kept.bound[1], kept.dims)
    if start is not None:
        now, before = _paired(kept, start.select(_finite(start.condition)))
        change, variance = now.condition.minus(before.condition)
        numbers |= bits("bpd_change", -change, variance, now.dims)
        moved, error = numbers["bpd_change"], numbers["bpd_change_sampling_error"]
        numbers["bpd_change_z"] = moved / error if error > 0 else moved and math.nan
    return numbers | {"bpd_samples": float(len(fine)), "bpd_failed": float(len(found.sample_ids) - len(fine))}


def bits(name: str, nats: Tensor, variance: Tensor, dims: Tensor) -> dict[str, float]:
    """Bits per dimension of N samples together, with the errors that probes and the choice of samples leave.

    Args:
        name: What they are called.
        nats: Of each sample, [N].
        variance: Variance of these over probes, nats^2, [N].
        dims: Dimensions of each, [N].
    """
    unit = float(dims.sum()) * math.log(2)
    # Of a ratio of two sums, each sample moves the ratio by what it has more than its dimensions' worth.
    residual = nats - nats.sum() / dims.sum() * dims
    return {
        name: float(nats.sum()) / unit if len(nats) else math.nan,
        f"{name}_probe_error": math.sqrt(float(variance.sum())) / unit if len(nats) else math.nan,
        f"{name}_sampling_error": float(residual.std()) * math.sqrt(len(nats)) / unit if len(nats) > 1 else math.nan,
    }


def _finite(scores: Scores) -> list[int]:
    return scores.log_p.isfinite().nonzero()[:, 0].tolist()


def _paired(one: Measured, other: Measured) -> tuple[Measured, Measured]:
    """The samples that both have, in the same order."""
    places = {name: place for place, name in enumerate(other.sample_ids)}
    shared = [place for place, name in enumerate(one.sample_ids) if name in places]
    return one.select(shared), other.select([places[one.sample_ids[place]] for place in shared])
