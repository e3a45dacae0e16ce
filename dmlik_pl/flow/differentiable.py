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

    def velocity(self, u: Tensor, level: NoiseLevel) -> Tensor:
        """F at u."""
        with torch.enable_grad():
            value: Tensor = checkpoint(self.flow.velocity, u, level, self.condition, use_reentrant=False)
        self.nfe.forward += 1
        self._note_failures(value.isfinite().flatten(1).all(1), level)
        return value

    def velocity_and_trace(self, u: Tensor, level: NoiseLevel, node: int) -> tuple[Tensor, Tensor]:
        """F at u and the trace of its Jacobian, [draws, B] in float64, both with their graphs."""
        with torch.enable_grad():
            start = u if u.requires_grad else u.detach().requires_grad_()
            vectors = self._vectors(u, node)
            value, forms = checkpoint(self._forms, start, vectors, level, use_reentrant=False)
        self.nfe.forward += 1
        self.nfe.vjp += len(vectors)
        estimate = self.divergence
        trace = forms.sum(0)[None] if estimate.probes == 0 else forms.unflatten(0, (-1, estimate.set_size)).mean(1)
        self._note_failures(value.isfinite().flatten(1).all(1) & trace.isfinite().all(0), level)
        return value, trace

    def _forms(self, u: Tensor, vectors: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """F, and v^T J v for each of the vectors, [k, B] in float64."""
        value = self.flow.velocity(u, level, self.condition)
        forms = []
        for vector in vectors:
            (product,) = torch.autograd.grad(value, u, vector, create_graph=True)
            forms.append((vector.double() * product.double()).flatten(1).sum(1))
        return value, torch.stack(forms)

    def _vectors(self, u: Tensor, node: int) -> Tensor:
        """The probes of a node, or every unit vector for an exact trace, [k, B, ...]."""
        estimate = self.divergence
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
        return estimate._coloured(probes) if isinstance(estimate, Hutchinson) else probes
