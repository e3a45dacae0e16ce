r"""The integral of the trace along a trajectory, with the error that its probes leave."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

__all__ = ["TraceIntegral"]


def widening(freedom: Any) -> Any:
    """Factor by which the 97.5 % quantile of Student's t exceeds the normal one, elementwise."""
    return stdtrit(freedom, 0.975) / ndtri(0.975)


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
        """Standard error over probes, nats, [B]: 1.96 of them on either side are a 95 % confidence interval.

        With two or more draws per node it comes from their scatter at each node, with one from the scatter of
        each node around the cubic through its four neighbours (the integrand is smooth in log r, probe noise is not).
        Few nodes may carry most of the noise, so that this scatter is itself uncertain: the root of :attr:`variance` is
        widened by the quantile of Student's t for its degrees of freedom. NaN where there is nothing to compare: one
        probe for the whole trajectory says nothing of its error.
        """
        variance, freedom = self._variance_and_freedom()
        return variance.sqrt() * torch.from_numpy(widening(freedom.cpu().numpy())).to(variance).nan_to_num()

    @property
    def variance(self) -> Tensor:
        """Unbiased estimate of the variance over probes, nats^2, [B]; NaN for one probe per trajectory."""
        return self._variance_and_freedom()[0]

    def __sub__(self, other: "TraceIntegral") -> "TraceIntegral":
        """Difference of two integrals on the same nodes and probes; its standard error is that of the pairs."""
        if self.values.shape[:2] != other.values.shape[:2] or not torch.equal(self.weights, other.weights):
            raise ValueError("integrals on different grids or probes cannot be paired: use the same solver and times")
        return replace(self, values=self.values - other.values, exact=self.exact and other.exact)

    def reweighted(self, weights: Tensor) -> "TraceIntegral":
        """The same traces integrated over another range."""
        return replace(self, weights=weights)

    def _variance_and_freedom(self) -> tuple[Tensor, Tensor]:
        """The variance and its effective number of degrees of freedom (Satterthwaite), [B] each."""
        nodes, draws, batch = self.values.shape
        if self.exact:
            return self.values.new_zeros(batch), self.values.new_full((batch,), math.inf)
        if draws > 1:
            parts = self.weights[:, None] ** 2 * self.values.var(1) / draws
            variance = parts.sum(0)
            # The square of an estimate with n degrees of freedom is (n + 2) / n too large on average.
            freedom = variance**2 / (parts**2 / (draws + 1)).sum(0) - 2
        elif nodes >= 7:
            variance, freedom = self._from_neighbours()
        else:
            variance = freedom = self.values.new_full((batch,), math.nan)
        return variance, freedom.clamp(min=1)

    def _from_neighbours(self) -> tuple[Tensor, Tensor]:
        # sin cos dlog r = dtheta: the integrand over log r is flat at both ends, the trace itself need not be
        density = 0.5 / torch.cosh(self.log_r)
        residual = torch.from_numpy(_interpolation_residual(self.log_r.cpu().numpy())).to(self.values)
        norm = (residual**2).sum(1)
        noise = (residual @ (density[:, None] * self.values[:, 0])) ** 2 / norm[:, None]  # variance at each node
        squared_weights = (self.weights / density) ** 2
        variance = squared_weights @ noise
        # Neighbours share their noise: the variance is a quadratic form of it, and so is the variance of the variance.
        form = residual.T @ ((squared_weights / norm)[:, None] * residual)
        smooth = avg_pool1d(pad(noise.T[:, None], (2, 2), mode="replicate"), 5, 1)[:, 0].T
        expected = torch.diagonal(form) @ smooth
        return variance, expected**2 / torch.einsum("ij,ib,jb->b", form**2, smooth, smooth)


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
