r"""The integral of the trace along a trajectory, with the error that its probes leave."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

__all__ = ["TraceIntegral"]


@dataclass(frozen=True)
class TraceIntegral:
    r""":math:`\int \mathrm{tr}(\partial F / \partial u) \, d\theta` as a weighted sum over nodes.

    Attributes:
        values: Trace at each node, [nodes, draws, B] in float64. Probes of different nodes are independent. A solver
            that keeps one probe for the whole trajectory has a single node: the finished integral.
        weights: Quadrature weight of each node, [nodes] in float64.
        log_r: Where the nodes are, ascending, [nodes] in float64.
        exact: Whether the traces are exact; then there is no probe error.
    """

    values: Tensor
    weights: Tensor
    log_r: Tensor
    exact: bool = False

    @property
    def total(self) -> Tensor:
        """The integral, nats, [B]."""
        return torch.einsum("n,ndb->b", self.weights, self.values) / self.values.shape[1]

    @property
    def standard_error(self) -> Tensor:
        """Standard error over probes, nats, [B].

        With two draws or more a node it comes from their scatter at each node, with one draw a node from the scatter of
        each node around the cubic through its four neighbours (the integrand is smooth in log r, probe noise is not).
        NaN where neither is possible: one probe for the whole trajectory says nothing of its error.
        """
        nodes, draws, batch = self.values.shape
        if self.exact:
            return self.values.new_zeros(batch)
        if draws > 1:
            variance = self.values.var(1) / draws
        elif nodes >= 7:
            variance = self._neighbour_variance()
        else:
            return self.values.new_full((batch,), math.nan)
        return torch.einsum("n,nb->b", self.weights**2, variance).sqrt()

    def __sub__(self, other: "TraceIntegral") -> "TraceIntegral":
        """Difference of two integrals on the same nodes and probes; its standard error is that of the pairs."""
        if self.values.shape[:2] != other.values.shape[:2] or not torch.equal(self.weights, other.weights):
            raise ValueError("integrals on different grids or probes cannot be paired: use the same solver and times")
        return replace(self, values=self.values - other.values, exact=self.exact and other.exact)

    def reweighted(self, weights: Tensor) -> "TraceIntegral":
        """The same traces integrated over another range."""
        return replace(self, weights=weights)

    def _neighbour_variance(self) -> Tensor:
        # sin cos dlog r = dtheta: the integrand over log r is flat at both ends, the trace itself need not be
        density = 0.5 / torch.cosh(self.log_r)
        residual = torch.from_numpy(_interpolation_residual(self.log_r.cpu().numpy())).to(self.values)
        integrand = density[:, None] * self.values[:, 0]
        return (residual @ integrand) ** 2 / (residual**2).sum(1, keepdim=True) / density[:, None] ** 2


def _interpolation_residual(nodes: np.ndarray) -> np.ndarray:
    """Matrix that takes from each value the cubic through the four nearest others."""
    count = len(nodes)
    residual = np.eye(count)
    for i in range(count):
        near = np.argsort(np.abs(nodes - nodes[i]), kind="stable")[1:5]
        for j in near:
            others = near[near != j]
            residual[i, j] = -np.prod((nodes[i] - nodes[others]) / (nodes[j] - nodes[others]))
    return residual
