r"""The gradient of a log-likelihood, with respect to x, to conditions and to the network's parameters.

The derivative is taken through the solver, so that it is that of the number which the grid gives, probes held fixed.
Each node is checkpointed: of the way from data to noise only the states and the fields at the nodes are kept, and a
node's activations are made again when the gradient comes through it. The memory is that of one node, a forward pass
with its VJP and the graph of both (two to three times that of a training step of the same batch), plus three states per
node.
The time is about three times that of the likelihood.

References:
    | Training Deep Nets with Sublinear Memory Cost (Chen et al., 2016)
    | Score-Based Generative Modeling through SDEs (Song et al., 2021), appendix D.2, for training by likelihood
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dmlik_pl.flow.divergence import Exact, Hutchinson
from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.probes import draw
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.traces import Traces

__all__ = ["DifferentiableDynamics"]


@dataclass
class DifferentiableDynamics(Dynamics):
    """The right-hand side of one batch, with its graph; see :class:`~dmlik_pl.flow.dynamics.Dynamics`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        method = self.divergence.method if isinstance(self.divergence, Hutchinson) else "vjp"
        if not isinstance(self.divergence, Hutchinson | Exact) or method != "vjp":
            raise ValueError(
                f"a differentiable likelihood takes its traces by Exact() or by Hutchinson with vjp, got {method}"
            )

    @classmethod
    def of(cls, plain: Dynamics) -> Self:
        """The same right-hand side."""
        return cls(**{each.name: getattr(plain, each.name) for each in fields(plain) if each.init})

    @property
    def _estimate(self) -> Hutchinson | Exact:
        assert isinstance(self.divergence, Hutchinson | Exact)
        return self.divergence

    def velocity(self, u: Tensor, level: NoiseLevel) -> Tensor:
        """F at u."""
        with torch.enable_grad():
            value: Tensor = checkpoint(self.flow.velocity, u, level, self.condition, use_reentrant=False)
        self.nfe.forward += 1
        self.note(value.isfinite().flatten(1).all(1), level)
        return value

    def velocity_and_trace(self, u: Tensor, level: NoiseLevel, node: int) -> tuple[Tensor, Traces]:
        """F at u and draws of the trace of its Jacobian, both with their graphs."""
        with torch.enable_grad():
            start = u if u.requires_grad else u.detach().requires_grad_()
            vectors = self._vectors(u, node)
            value, products = checkpoint(self._products, start, vectors, level, use_reentrant=False)
            traces = self._estimate.traces(vectors, products)
        self.nfe.forward += 1
        self.nfe.vjp += len(vectors)
        self.note(value.isfinite().flatten(1).all(1) & traces.values.isfinite().all(0), level)
        # What tells the error of the probes has no gradient that anybody asks for.
        parts, twists = (None if each is None else each.detach() for each in (traces.parts, traces.twists))
        return value, Traces(traces.values, parts, twists)

    def _products(self, u: Tensor, vectors: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """F, and the products of its Jacobian with each of the vectors, [k, B, ...]."""
        value = self.flow.velocity(u, level, self.condition)
        products = [torch.autograd.grad(value, u, vector, create_graph=True)[0] for vector in vectors]
        return value, torch.stack(products)

    def _vectors(self, u: Tensor, node: int) -> Tensor:
        """The probes of a node, or every unit vector for an exact trace, [k, B, ...]."""
        estimate = self._estimate
        if isinstance(estimate, Exact):
            basis = torch.eye(u[0].numel(), dtype=u.dtype, device=u.device)
            return basis.reshape(-1, 1, *u.shape[1:]).expand(-1, *u.shape)
        probes = draw(
            estimate.distribution,
            u,
            self.sample_ids,
            seed=self.seed,
            probes=estimate.probes,
            node=node,
            mask=self.condition.mask,
        )
        return estimate.coloured(probes)
