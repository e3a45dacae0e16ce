r"""Traces along a path that is known, by as many probes at each of its nodes as an error asks for.

The states of a path need no derivatives. Once they are there, a node can be asked again and again: each time the
colours of its probes are doubled (:func:`~dmlik_pl.flow.colouring.nested_index`), which keeps the probes that there are
and has a far smaller variance than as many independent ones. In the end a node has a colour for each dimension, and
its trace is exact.

References:
    | Hierarchical probing for estimating the trace of the matrix inverse (Stathopoulos et al., 2013)
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dmlik_pl.flow.colouring import hadamard_rows, nested_index
from dmlik_pl.flow.divergence import PullBack
from dmlik_pl.flow.dynamics import Dynamics
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.flow.probes import draw
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.flow.traces import PARTS, sketched

__all__ = ["GAIN", "Refinement", "allocate"]

GAIN = 1.4
"""Power of the number of colours by which the variance of a node is supposed to fall; independent probes have 1."""

_TOGETHER = 16  # products in one backward pass: what more of them would save is little, and they take memory


class Refinement:
    """Traces at the nodes of one path of B samples.

    Attributes:
        colours: How many probes each node of each sample has had, [nodes, B], powers of two or 0.
        calls: Forward passes, VJPs and JVPs that each sample has cost, [B, 3].
        most: Colours with which nothing is left to add: one for each dimension of a small sample.

    Args:
        dynamics: Flow and condition of the samples; failures are noted there.
        path: State [B, ...] and noise level of every node, from data to noise.
        max_batch: Samples that go through the network at once.
    """

    def __init__(self, dynamics: Dynamics, path: Sequence[tuple[Tensor, NoiseLevel]], max_batch: int) -> None:
        self._dynamics, self._path, self._max_batch = dynamics, path, max_batch
        u = path[0][0]
        self._index = nested_index(tuple(u.shape[1:]))
        self.most = 1 << int(self._index.max()).bit_length()
        self.colours = torch.zeros(len(path), len(u), dtype=torch.long)
        self.calls = torch.zeros(len(u), 3, dtype=torch.long)
        self._values = torch.zeros(len(path), len(u), dtype=torch.float64, device=u.device)
        self._parts = u.new_zeros(len(path), len(u), min(PARTS, self._index.numel()))
        self._pull_back = PullBack()

    def to(self, colours: Tensor) -> None:
        """Bring every node to so many colours [nodes, B], powers of two, if it has fewer."""
        for node in range(len(self._path)):
            for before, after, samples in _changes(self.colours[node], colours[node]):
                for start in range(0, len(samples), self._max_batch):
                    self._add(node, range(before, after), samples[start : start + self._max_batch])
        self.colours = torch.maximum(self.colours, colours)

    def fill(self, integral: TraceIntegral) -> TraceIntegral:
        """An integral on this path with its traces."""
        count = self.colours.clamp(min=1).to(self._values)
        values, parts = self._values / count, self._parts / count.to(self._parts)[..., None]
        exact = bool((self.colours[:, self.colours.any(0)] == self.most).all())
        return TraceIntegral(values[:, None], integral.weights, integral.log_r, exact, parts[:, None])

    def _add(self, node: int, rows: range, samples: list[int]) -> None:
        """The products of some rows of probes with the Jacobians of some samples at a node."""
        (u, level), whole = self._path[node], self._dynamics
        condition, names = whole.condition.select(samples), [whole.sample_ids[b] for b in samples]
        mask, few = condition.mask, u[samples]
        field = draw("rademacher", few, names, seed=whole.seed, probes=1, node=node, mask=mask)[0]
        fine = torch.ones(len(u), dtype=torch.bool, device=u.device)
        with torch.enable_grad():
            leaf = few.detach().requires_grad_()

            def field_at(state: Tensor) -> Tensor:
                return whole.flow.velocity(state, level, condition)

            value = field_at(leaf)
            for some in (rows[start : start + _TOGETHER] for start in range(0, len(rows), _TOGETHER)):
                vectors = field * hadamard_rows(some, self._index)[:, None].to(field)
                products = self._pull_back(value, leaf, vectors, field_at, keep=some.stop < rows.stop)
                terms = (vectors.double() * products.double()).sum(0).flatten(1)
                parts = sketched(terms, field.flatten(1) != 0, u.dtype)
                self._values[node, samples] += terms.sum(-1)
                self._parts[node, samples] += parts
                fine[samples] &= terms.isfinite().all(1)
        self.calls[samples] += torch.tensor([1, len(rows), 0])
        whole.note(fine, level)


def _changes(before: Tensor, after: Tensor) -> Iterator[tuple[int, int, list[int]]]:
    """Samples whose number of colours rises, by what it was and becomes."""
    groups: dict[tuple[int, int], list[int]] = {}
    for b, pair in enumerate(zip(before.tolist(), after.tolist(), strict=True)):
        if pair[1] > pair[0]:
            groups.setdefault(pair, []).append(b)
    return ((*pair, samples) for pair, samples in groups.items())


def allocate(shares: Tensor, colours: Tensor, allowed: float, most: int, budget: float = math.inf) -> Tensor:
    """Colours with which the nodes of one sample should leave no more variance than is allowed.

    The node whose doubling takes away most variance per probe is doubled, again and again.

    Args:
        shares: What each node adds to the variance with the colours that it has, [nodes].
        colours: These, [nodes].
        allowed: The variance to come down to.
        most: Colours beyond which no node goes.
        budget: Network evaluations that it may cost: one for each node that is asked again, and one per probe.
    """
    left, wanted = shares.double().clamp(min=0).tolist(), colours.tolist()
    fall, total = 1 - 2**-GAIN, math.fsum(left)
    while total > allowed:
        gains = [share / k if k < most else -1.0 for share, k in zip(left, wanted, strict=True)]
        best = max(range(len(gains)), key=gains.__getitem__)
        cost = wanted[best] + (wanted[best] == colours[best])
        if gains[best] <= 0 or cost > budget:
            break
        budget -= cost
        total -= left[best] * fall
        left[best] *= 1 - fall
        wanted[best] *= 2
    return torch.tensor(wanted)
