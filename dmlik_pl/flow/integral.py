r"""The integral of the trace along a trajectory, with the error that its probes leave."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri, stdtrit
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from dmlik_pl.flow.traces import Traces

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
        weights: Quadrature weight of each node, [nodes] in float64; [nodes, B] where samples have grids of their own,
            the shorter ones with weights of zero behind.
        log_r: Where the nodes are, ascending, of the shape of ``weights``; NaN where a sample has no node.
        exact: Whether the traces are exact; then there is no probe error.
        parts: Parts of the draws that tell their noise, see :class:`~dmlik_pl.flow.traces.Traces`,
            [nodes, draws, B, parts]; None if the draws are all there is.
        twists: What tells the antisymmetric part of the Jacobian, [nodes, draws - 1, B]; None if not known.
    """

    values: Tensor
    weights: Tensor
    log_r: Tensor
    exact: bool = False
    parts: Tensor | None = None
    twists: Tensor | None = None

    @classmethod
    def of(cls, traces: Sequence[Traces], weights: Tensor, log_r: Tensor, *, exact: bool) -> "TraceIntegral":
        """From the traces at each node, in the order of the nodes."""

        def stacked(name: str) -> Tensor | None:
            found = [getattr(trace, name) for trace in traces]
            return None if found[0] is None else torch.stack(found)

        values = torch.stack([trace.values for trace in traces])
        return cls(values, weights, log_r, exact, stacked("parts"), stacked("twists"))

    @property
    def total(self) -> Tensor:
        """The integral, nats, [B]."""
        weights = self.weights if self.weights.dim() == 2 else self.weights[:, None]
        return (weights * self.values.mean(1)).sum(0)

    @property
    def standard_error(self) -> Tensor:
        """Standard error over probes, nats, [B]: 1.96 of them on either side are a 95 % confidence interval.

        With two or more draws per node it comes from their scatter at each node, with one from the scatter of
        each node around the cubic through its four neighbours (the integrand is smooth in log r, probe noise is not).
        Few nodes and few directions may carry most of the noise, so that this scatter is itself uncertain: the root of
        :attr:`variance` is widened by the quantile of Student's t for its degrees of freedom. NaN where there is
        nothing to compare: one probe for the whole trajectory says nothing of its error.
        """
        variance, freedom = self._variance_and_freedom()
        return variance.sqrt() * torch.from_numpy(widening(freedom.cpu().numpy())).to(variance).nan_to_num()

    @property
    def variance(self) -> Tensor:
        """Estimated variance over probes, nats^2, [B]; NaN for one probe per trajectory.

        It is unbiased for a symmetric Jacobian, and with two or more draws per node for any. With one draw of signs it
        has twice the squared length of the antisymmetric part too much.
        """
        return self._variance_and_freedom()[0]

    @property
    def nodes(self) -> list[int]:
        """Number of nodes of each sample."""
        return self._by_sample().log_r.isfinite().sum(0).tolist()

    @property
    def shares(self) -> Tensor:
        """What each node adds to the variance of one draw, smoothed over five neighbours, nats^2, [nodes, B]."""
        assert self.weights.dim() == 1 and self.values.shape[1] == 1
        parts = self.values[..., None] if self.parts is None else self.parts.double()
        _, squared_weights, noise, _ = self._noise(parts[:, 0])
        return squared_weights[:, None] * _smooth(noise)

    def __sub__(self, other: "TraceIntegral") -> "TraceIntegral":
        """Difference of two integrals on the same nodes and probes; its standard error is that of the pairs."""
        same = self.values.shape[:2] == other.values.shape[:2] and self.weights.shape == other.weights.shape
        if not same or not torch.equal(self.weights, other.weights):
            raise ValueError("integrals on different grids or probes cannot be paired: use the same solver and times")
        return self._joined(lambda mine, theirs: mine - theirs, other, exact=self.exact and other.exact)

    def reweighted(self, weights: Tensor) -> "TraceIntegral":
        """The same traces integrated over another range."""
        return replace(self, weights=weights)

    def select(self, index: Any) -> "TraceIntegral":
        """Those of some samples."""
        chosen = self._map(lambda tensor: tensor[:, :, index])
        if self.weights.dim() == 1:
            return chosen
        chosen = replace(chosen, weights=self.weights[:, index], log_r=self.log_r[:, index])
        return chosen._of_length(int(chosen.log_r.isfinite().any(1).sum()))

    def apart_from_common(self, usable: Sequence[bool]) -> "TraceIntegral":
        """What each sample has beside the mean of those that are usable: for samples that share their probes."""
        return self._map(lambda tensor: tensor - tensor[:, :, list(usable)].mean(2, keepdim=True))

    def to(self, *args: Any, **options: Any) -> "TraceIntegral":
        """The same on another device or of another dtype."""
        moved = self._map(lambda tensor: tensor.to(*args, **options))
        return replace(moved, weights=self.weights.to(*args, **options), log_r=self.log_r.to(*args, **options))

    @staticmethod
    def cat(several: "Sequence[TraceIntegral]") -> "TraceIntegral":
        """Those of several batches, made with the same settings, as those of one."""
        first = several[0]
        if any(each.weights.dim() == 2 or not torch.equal(each.weights, first.weights) for each in several):
            longest = max(len(each.values) for each in several)
            several = [each._by_sample()._of_length(longest) for each in several]
        joined = several[0]
        for other in several[1:]:
            joined = joined._joined(lambda mine, theirs: torch.cat([mine, theirs], 2), other, exact=joined.exact)
        if joined.weights.dim() == 1:
            return joined
        weights, log_r = (torch.cat([getattr(each, name) for each in several], 1) for name in ("weights", "log_r"))
        return replace(joined, weights=weights, log_r=log_r)

    def _by_sample(self) -> "TraceIntegral":
        """The same with a grid for each sample."""
        if self.weights.dim() == 2:
            return self
        weights, log_r = (grid[:, None].expand(-1, self.values.shape[2]) for grid in (self.weights, self.log_r))
        return replace(self, weights=weights, log_r=log_r)

    def _of_length(self, nodes: int) -> "TraceIntegral":
        """The same with places for so many nodes; those that no sample has are empty, or go."""

        def fit(tensor: Tensor, empty: float = 0.0) -> Tensor:
            more = tensor.new_full((max(0, nodes - len(tensor)), *tensor.shape[1:]), empty)
            return torch.cat([tensor[:nodes], more])

        return replace(self._map(fit), weights=fit(self.weights), log_r=fit(self.log_r, math.nan))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TraceIntegral":
        """A function of every tensor [nodes, draws, B, ...]."""
        parts, twists = (None if tensor is None else function(tensor) for tensor in (self.parts, self.twists))
        return replace(self, values=function(self.values), parts=parts, twists=twists)

    def _joined(
        self, function: Callable[[Tensor, Tensor], Tensor], other: "TraceIntegral", *, exact: bool
    ) -> "TraceIntegral":
        """A function of every tensor [nodes, draws, B, ...] of both."""

        def both(name: str) -> Tensor | None:
            mine, theirs = getattr(self, name), getattr(other, name)
            return None if mine is None or theirs is None else function(mine, theirs)

        values = function(self.values, other.values)
        return replace(self, values=values, parts=both("parts"), twists=both("twists"), exact=exact)

    def _variance_and_freedom(self) -> tuple[Tensor, Tensor]:
        """The variance and its effective number of degrees of freedom (Satterthwaite), [B] each."""
        if self.weights.dim() == 1:
            return self._on_one_grid()
        variance, freedom = (self.values.new_empty(self.values.shape[2]) for _ in range(2))
        for index in self._grids():
            part = self.select(index)
            own = replace(part, weights=part.weights[:, 0], log_r=part.log_r[:, 0])
            variance[index], freedom[index] = own._on_one_grid()
        return variance, freedom

    def _grids(self) -> list[list[int]]:
        """Samples that have a grid in common."""
        groups: dict[tuple[float, ...], list[int]] = {}
        for b, grid in enumerate(self.log_r.T.nan_to_num(math.inf).tolist()):
            groups.setdefault(tuple(grid), []).append(b)
        return list(groups.values())

    def _on_one_grid(self) -> tuple[Tensor, Tensor]:
        nodes, draws, batch = self.values.shape
        if self.exact:
            return self.values.new_zeros(batch), self.values.new_full((batch,), math.inf)
        parts = self.values[..., None] if self.parts is None else self.parts.double()
        if draws > 1:
            variance, freedom = self._from_draws(parts)
        elif nodes >= 7:
            variance, freedom = self._from_neighbours(parts[:, 0])
        else:
            variance = freedom = self.values.new_full((batch,), math.nan)
        return variance, freedom.clamp(min=1)

    def _from_draws(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        draws, squared_weights = parts.shape[1], self.weights**2
        shares = squared_weights[:, None] * parts.var(1).sum(-1) / draws
        variance = shares.sum(0)
        # The square of an estimate with n degrees of freedom is (n + 2) / n too large on average.
        known = (draws - 1) * _rank(parts[:, 0] - parts[:, 1], squared_weights, apart=1)
        freedom = variance**2 / (shares**2 / (known + 2)).sum(0) - 2
        if self.twists is not None:
            antisymmetric = squared_weights @ (self.twists**2).mean(1) / (2 * draws)
            variance = torch.maximum(variance - antisymmetric, variance / 2)
        return variance, freedom

    def _noise(self, parts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What is left of the parts beside cubics through neighbours: [nodes, B, parts], how it counts, and variances.

        Returns:
            The rest, squared weights of nodes [nodes], the variance at each node [nodes, B], and the matrix that took
            the rest.
        """
        # sin cos dlog r = dtheta: the integrand over log r is flat at both ends, the trace itself need not be
        density = 0.5 / torch.cosh(self.log_r)
        residual = torch.from_numpy(_interpolation_residual(self.log_r.cpu().numpy())).to(self.values)
        rest = torch.einsum("nm,mbp->nbp", residual, density[:, None, None] * parts)
        variances = (rest**2).sum(-1) / (residual**2).sum(1)[:, None]
        return rest, (self.weights / density) ** 2, variances, residual

    def _from_neighbours(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        rest, squared_weights, noise, residual = self._noise(parts)
        norm = (residual**2).sum(1)
        variance = squared_weights @ noise
        # Neighbours share their noise: the variance is a quadratic form of it, and so is the variance of the variance.
        form = residual.T @ ((squared_weights / norm)[:, None] * residual)
        smooth = _smooth(noise)
        expected = torch.diagonal(form) @ smooth
        freedom = expected**2 / torch.einsum("ij,ib,jb->b", form**2, smooth, smooth)
        return variance, freedom * _rank(rest, squared_weights / norm, apart=_WINDOW)


def _smooth(noise: Tensor) -> Tensor:
    """Variances [nodes, B], each the mean of five neighbours."""
    return avg_pool1d(pad(noise.T[:, None], (2, 2), mode="replicate"), 5, 1)[:, 0].T


_SUPPOSED = 2  # pairs of nodes whose noise has one direction: see `python -m benchmarks.coverage`
_WINDOW = 5  # nodes that a residual against the four nearest others is made of


def _rank(noise: Tensor, weights: Tensor, *, apart: int) -> Tensor:
    r"""Number of directions among which the parts of the noise [nodes, B, parts] are spread, [B]; 1 for a single part.

    Of independent noises :math:`\delta_n` with one covariance C, :math:`|\delta_n|^2 |\delta_m|^2` over
    :math:`(\delta_n \cdot \delta_m)^2` is :math:`(\mathrm{tr}\,C)^2 / \mathrm{tr}\,C^2`. Nodes closer than ``apart``
    are not independent. Few nodes may carry the noise, and those far apart in other directions than close ones, so some
    pairs of nodes with all their noise in one direction are supposed beside those that there are.
    """
    if noise.shape[-1] == 1:
        return noise.new_ones(noise.shape[1])
    products = torch.einsum("nbp,mbp->bnm", noise, noise)
    lengths = torch.diagonal(products, dim1=1, dim2=2)
    index = torch.arange(len(weights), device=noise.device)
    chosen = weights[:, None] * weights * ((index[:, None] - index).abs() >= apart)
    pairs = chosen * lengths[:, :, None] * lengths[:, None]
    total = pairs.sum((1, 2))
    aligned = ((chosen * products**2).sum((1, 2)) / total).nan_to_num(1.0)
    count = (total**2 / (2 * (pairs**2).sum((1, 2)))).nan_to_num(0.0)
    return (count + _SUPPOSED) / (count * aligned + _SUPPOSED)


def _interpolation_residual(nodes: np.ndarray) -> np.ndarray:
    """Matrix that takes from each value the cubic through the four nearest others."""
    count = len(nodes)
    residual = np.eye(count)
    for i in range(count):
        near = np.argsort(np.abs(nodes - nodes[i]), kind="stable")[1:_WINDOW]
        for j in near:
            others = near[near != j]
            residual[i, j] = -np.prod((nodes[i] - nodes[others]) / (nodes[j] - nodes[others]))
    return residual
