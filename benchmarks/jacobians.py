"""Whole Jacobians along the paths of a problem's samples.

A network of D dimensions costs D derivatives per node, once. Then the variance that any probes leave is a sum over its
entries, and any number of repeats of any probes are products of small matrices, by the package's own estimators.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.problems import Problem
from dmlik_pl.flow import NFE, Condition, Hutchinson, Multistep, TraceIntegral, draw, log_likelihood
from dmlik_pl.flow.divergence import Field
from dmlik_pl.flow.probes import Distribution
from dmlik_pl.flow.traces import Traces

__all__ = ["Jacobians", "repeated", "whole"]


@dataclass(frozen=True)
class Jacobians:
    """Of F, along the paths of B samples on one grid.

    Attributes:
        matrices: [nodes, B, D, D], from data to noise.
        weights: Quadrature weights, [nodes] in float64.
        log_r: Where the nodes are, [nodes] in float64.
        shape: Of a sample.
    """

    matrices: Tensor
    weights: Tensor
    log_r: Tensor
    shape: tuple[int, ...]

    def __sub__(self, other: "Jacobians") -> "Jacobians":
        """What probes meet that two conditions share."""
        return replace(self, matrices=self.matrices - other.matrices)

    @property
    def exact(self) -> Tensor:
        """The integral of the exact trace, nats, [B]."""
        return self.weights @ torch.diagonal(self.matrices, dim1=2, dim2=3).sum(2).double()

    @property
    def symmetric(self) -> Tensor:
        """The part that quadratic forms see, times the weight of its node: [nodes, B, D, D]."""
        weighted = self.weights.float()[:, None, None, None] * self.matrices
        return 0.5 * (weighted + weighted.transpose(2, 3))


def repeated(several: Sequence[Jacobians], b: int, divergence: Hutchinson, names: Sequence[str]) -> list[TraceIntegral]:
    """Integrals of sample b under each of some conditions, with shared probes: one repeat for each name, its key."""
    like = torch.zeros(len(names), *several[0].shape)
    traces: list[list[Traces]] = [[] for _ in several]
    for node in range(len(several[0].weights)):
        probes = draw(divergence.distribution, like, names, seed=0, probes=divergence.probes, node=node)
        for found, each in zip(traces, several, strict=True):
            found.append(divergence(_linear(each.matrices[node, b]), like, probes, NFE())[1])
    return [
        TraceIntegral.of(found, each.weights, each.log_r, exact=False)
        for found, each in zip(traces, several, strict=True)
    ]


def _linear(matrix: Tensor) -> Field:
    return lambda u: (u.flatten(1) @ matrix.T).reshape(u.shape)


@dataclass
class _Whole:
    """The exact trace, with all of the Jacobian kept that it is taken from."""

    chunk: int
    kept: list[Tensor] = field(default_factory=list)
    probes: int = 0
    distribution: Distribution = "rademacher"
    set_size: int = 1

    def __call__(self, velocity: Field, u: Tensor, probes: Tensor, nfe: NFE) -> tuple[Tensor, Traces]:
        size, batch = u[0].numel(), len(u)
        rows = []
        for start in range(0, size, self.chunk):
            index = torch.arange(start, min(start + self.chunk, size))
            basis = torch.zeros(len(index), batch, size, dtype=u.dtype)
            basis[torch.arange(len(index)), :, index] = 1
            with torch.enable_grad():
                leaf = u.detach().repeat(len(index), *(1,) * (u.dim() - 1)).requires_grad_()
                value = velocity(leaf)
                products = torch.autograd.grad(value, leaf, basis.reshape(leaf.shape))[0]
            rows.append(products.reshape(len(index), batch, size))
        jacobian = torch.cat(rows).transpose(0, 1)
        self.kept.append(jacobian.float())
        return value[:batch].detach(), Traces(torch.diagonal(jacobian, dim1=1, dim2=2).double().sum(1)[None])


def whole(
    problem: Problem, condition: Condition, nodes: int, guidance: float = 1.0, cache: Path | None = None
) -> Jacobians:
    """Every Jacobian on the paths of a problem's samples under a condition, kept in a folder if there is one."""
    which = "rival" if condition is problem.rival else "true"
    name = f"jacobians {problem.name} {which} {nodes} {guidance:g} {'-'.join(problem.samples)}"
    file = None if cache is None else cache / f"{''.join(c if c.isalnum() else '_' for c in name)}.pt"
    if file is not None and file.is_file():
        return Jacobians(*torch.load(file, weights_only=True))
    recorder, flow = _Whole(chunk=64), replace(problem.flow, guidance=guidance)
    result = log_likelihood(
        flow, problem.x, condition, solver=Multistep(nodes), divergence=recorder, sample_ids=problem.samples
    )
    integral = result.integral
    found = Jacobians(torch.stack(recorder.kept), integral.weights, integral.log_r, tuple(problem.x.shape[1:]))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save((found.matrices, found.weights, found.log_r, found.shape), file)
    return found
