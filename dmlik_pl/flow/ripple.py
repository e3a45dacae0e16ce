r"""What a network does between the nodes of a grid, seen from the nodes.

A network that is told the time by sines and cosines is not smooth from one node to the next: its field has a part that
no polynomial through the nodes follows. A fourth difference of the field over five neighbouring nodes shows it, as well
as what a smooth field has beyond a cubic. The field has no probe noise, so neither has this.
"""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["Ripple"]

_WINDOW = 5
# What an error of the field does to the log-density, in units of its length times the root of the number of dimensions;
# in many an error is less aligned with anything. Where data are given, the point stays and the error pushes it against
# the score, whose length is that of noise over sin theta; the trace of the error cancels most of the push. Where noise
# is given, the sample moves along, and what is left is the trace of the error, on the scale of the data. Measured on
# the shipped models (``python -m benchmarks.errors``).
_TO_NOISE, _TO_DATA = 0.3, 2.0
_MANY = 128


class Ripple:
    r"""The error of a grid in log r, from the values of :math:`F d\theta / d \log r` as a solver meets them.

    Args:
        closest: Distance in log r below which two nodes are one.
        dims: Number of real dimensions of each sample, [B].
        to_data: Whether the path leads from noise to data.
        guidance: Its weight: what guidance adds to the field, it contracts on the way to data.
    """

    def __init__(self, closest: float, dims: Tensor, *, to_data: bool, guidance: float) -> None:
        self._closest = closest
        self._to_data = to_data
        share = _TO_DATA / math.sqrt(max(1.0, abs(guidance))) if to_data else _TO_NOISE
        self._share = share * dims.sqrt() * (_MANY / dims).clamp(max=1) ** 0.25
        self._recent: list[tuple[float, Tensor]] = []
        self._nodes: list[float] = []
        self._variances: list[Tensor] = []

    def add(self, node: float, field: Tensor) -> None:
        """Take F [B, ...] at the next node in log r; one that nearly meets the last says nothing new."""
        if self._recent and abs(node - self._recent[-1][0]) < self._closest:
            return
        density = 0.5 / math.cosh(node)
        self._recent = [*self._recent[1 - _WINDOW :], (node, density * field)]
        self._nodes.append(node)
        if len(self._recent) == _WINDOW:
            self._variances.append(self._difference())

    def _difference(self) -> Tensor:
        """Squared length of the fourth difference, scaled so that noise of variance 1 in D dimensions makes D, [B]."""
        places = np.array([node for node, _ in self._recent])
        apart = places[:, None] - places + np.eye(_WINDOW)
        weights = 1 / apart.prod(1)
        weights /= np.linalg.norm(weights)
        total = sum(float(w) * field for w, (_, field) in zip(weights, self._recent, strict=True))
        assert isinstance(total, Tensor)
        return total.double().flatten(1).square().sum(1)

    def error(self, start: float) -> Tensor:
        """Estimated error of the log-density at a node, integrated from there to the noise end, nats, [B]."""
        order = np.argsort(self._nodes)
        nodes = np.array(self._nodes)[order]
        # The window around a node; the first and the last serve two nodes more.
        windows = [min(max(i - _WINDOW // 2, 0), len(self._variances) - 1) for i in order]
        variances = torch.stack([self._variances[window] for window in windows])
        steps = np.gradient(np.maximum(nodes, start))
        score = 1.0 if self._to_data else 1 / np.sin(np.arctan(np.exp(nodes)))
        weights = torch.from_numpy((steps * score) ** 2).to(variances)
        return self._share * (weights @ variances).sqrt()
