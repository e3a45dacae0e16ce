r"""The trace of the flow's Jacobian, exact or estimated.

What is estimated is only tr(dF/du), the part that the network makes; the rest of the divergence is known in closed form
(:mod:`dmlik_pl.flow.likelihood`).

References:
    | A Stochastic Estimator of the Trace of the Influence Matrix (Hutchinson, 1989)
    | FFJORD (Grathwohl et al., 2019)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from scipy.linalg import hadamard
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dmlik_pl.flow.colouring import colour_index, learned
from dmlik_pl.flow.probes import Distribution
from dmlik_pl.flow.traces import Traces

__all__ = ["NFE", "Divergence", "Exact", "Hutchinson", "PullBack"]

Field = Callable[[Tensor], Tensor]
"""``field(u) -> F`` for u [n B, ...]: a batch may be stacked n times."""


@dataclass
class NFE:
    """Network evaluations per sample: forward passes, and derivatives taken of them."""

    forward: int = 0
    vjp: int = 0
    jvp: int = 0

    def __add__(self, other: "NFE") -> "NFE":
        """Of both together."""
        return NFE(self.forward + other.forward, self.vjp + other.vjp, self.jvp + other.jvp)


class Divergence(Protocol):
    """A way to get F and its trace at a state."""

    @property
    def probes(self) -> int:
        """Number of probe vectors per evaluation; 0 if none are wanted."""
        ...

    @property
    def distribution(self) -> Distribution:
        """Of the probes."""
        ...

    @property
    def set_size(self) -> int:
        """Probes that make one unbiased draw; draws are averaged and their scatter is the standard error."""
        ...

    def __call__(self, field: Field, u: Tensor, probes: Tensor, nfe: NFE) -> tuple[Tensor, Traces]:
        """F of shape of u, and draws of the trace."""
        ...


def _terms(probes: Tensor, products: Tensor) -> Tensor:
    """What sums to the quadratic forms, [k, B, D] in float64."""
    return (probes.double() * products.double()).flatten(2)


class PullBack:
    """Products of vectors with a Jacobian, all in one backward pass or one after another.

    One pass is cheaper wherever it is possible. Some operations of some networks have no vectorised form; that is found
    out once, so that no later call pays for the attempt.
    """

    def __init__(self) -> None:
        self._together = True

    def __call__(self, value: Tensor, leaf: Tensor, vectors: Tensor, field: Field, *, keep: bool = False) -> Tensor:
        """Products of k vectors [k, B, ...] with the Jacobian of a value by its leaf.

        Args:
            value: What the field gives at the leaf.
            leaf: A state that asks for gradients.
            vectors: The vectors.
            field: The field, to make the value anew where the graph was freed by a pass that failed.
            keep: Keep the graph for more products; otherwise the last one frees it as it goes.
        """
        if self._together and len(vectors) > 1:
            try:
                return torch.autograd.grad(value, leaf, vectors, is_grads_batched=True, retain_graph=keep)[0]
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # in many words; whatever else is wrong, the products one by one will say
                self._together = False
                value = value if keep else field(leaf)
        last = len(vectors) - 1
        return torch.stack(
            [torch.autograd.grad(value, leaf, v, retain_graph=keep or i < last)[0] for i, v in enumerate(vectors)]
        )


@dataclass(frozen=True)
class Exact:
    """The whole trace, one VJP per dimension: for small D and for tests.

    Attributes:
        chunk: Dimensions taken in one vectorised backward pass; bounds the memory.
    """

    chunk: int = 64
    probes: int = 0
    distribution: Distribution = "rademacher"
    set_size: int = 1
    _pull_back: PullBack = field(default_factory=PullBack, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")

    def __call__(self, field: Field, u: Tensor, probes: Tensor, nfe: NFE) -> tuple[Tensor, Traces]:  # noqa: D102
        size = u[0].numel()
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            value = field(leaf)
            trace = torch.zeros(len(u), dtype=torch.float64, device=u.device)
            for start in range(0, size, self.chunk):
                index = torch.arange(start, min(start + self.chunk, size), device=u.device)
                basis = torch.zeros(len(index), size, dtype=u.dtype, device=u.device)
                basis[torch.arange(len(index)), index] = 1
                vectors = basis.reshape(len(index), 1, *u.shape[1:]).expand(-1, len(u), *u.shape[1:])
                more = start + self.chunk < size
                trace += self.traces(vectors, self._pull_back(value, leaf, vectors, field, keep=more)).values[0]
        nfe.forward += 1
        nfe.vjp += size
        return value.detach(), Traces(trace[None])

    def traces(self, vectors: Tensor, products: Tensor) -> Traces:
        """The trace, or a part of it, from unit vectors [k, B, ...] and their products with the Jacobian."""
        return Traces(_terms(vectors, products).sum((0, 2))[None])


@dataclass(frozen=True)
class Hutchinson:
    r"""Average of :math:`v^\top J v` over random probes v.

    Attributes:
        probes: k, the probes at each evaluation; with a fixed grid every node has its own.
        distribution: ``rademacher`` has no variance from the diagonal of J; ``gaussian`` has, and is there to compare.
        method: ``vjp`` (one forward and k backward passes, in one vectorised call where the network allows it), ``jvp``
            (forward mode; attention falls back to its mathematical form), ``fd`` (2 k + 1 forward passes, for networks
            without derivatives).
        colours: K, a power of two of which k must be a multiple. The K probes of one draw carry the rows of a Hadamard
            matrix, one sign per colour, so that products of dimensions of different colours cancel exactly. 1 makes
            every probe a draw of its own. Two or more draws per node, k = 2 K, have the sharper error bar.
        colouring: Which dimensions have which colour: None for a lattice over channel, row and column (mel bin and
            frame, position), that keeps neighbours apart; or a learned one, by its file, the folder of its model or the
            name of a shipped model. See :mod:`dmlik_pl.flow.colouring`.
        step: Half-width of the finite difference in units of the state; None suits the dtype.
    """

    probes: int = 1
    distribution: Distribution = "rademacher"
    method: Literal["vjp", "jvp", "fd"] = "vjp"
    colours: int = 1
    colouring: str | None = None
    step: float | None = None
    _pull_back: PullBack = field(default_factory=PullBack, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.colours < 1 or math.log2(self.colours) % 1:
            raise ValueError(f"colours={self.colours} must be a power of two (Hadamard signs)")
        if self.step is not None and not 0 < self.step < math.inf:
            raise ValueError(f"step must be above 0, or None for one that suits the dtype, got {self.step}")
        if self.probes < 1 or self.probes % self.colours:
            raise ValueError(
                f"probes={self.probes} must be a positive multiple of colours={self.colours}: "
                f"try probes={max(1, round(self.probes / self.colours)) * self.colours}"
            )
        if self.colouring is not None:
            if self.colours == 1:
                raise ValueError(f"colouring={self.colouring!r} needs colours: give colours and probes, e.g. 8 of each")
            learned(self.colouring, self.colours)

    @property
    def set_size(self) -> int:
        """Probes that make one unbiased draw."""
        return self.colours

    def __call__(self, field: Field, u: Tensor, probes: Tensor, nfe: NFE) -> tuple[Tensor, Traces]:  # noqa: D102
        vectors = self.coloured(probes)
        match self.method:
            case "vjp":
                value, products = self._vjp(field, u, vectors)
                nfe.forward += 1
                nfe.vjp += self.probes
            case "jvp":
                value, products = self._jvp(field, u, vectors)
                nfe.forward += 1
                nfe.jvp += self.probes
            case "fd":
                value, products = self._difference(field, u, vectors)
                nfe.forward += 1 + 2 * self.probes
        return value, self.traces(vectors, products)

    def traces(self, vectors: Tensor, products: Tensor) -> Traces:
        """Draws of the trace from coloured probes [k, B, ...] and their products with the Jacobian."""
        terms = _terms(vectors, products).unflatten(0, (-1, self.colours)).mean(1)
        if self.distribution == "gaussian":
            return Traces(terms.sum(-1))
        return Traces.of_signs(vectors[:: self.colours], terms, products.dtype)

    def coloured(self, probes: Tensor) -> Tensor:
        """Probes of sets: one random field each, times one sign per colour; the first probe of a set is the field."""
        if self.colours == 1:
            return probes
        shape = tuple(probes.shape[2:])
        index = colour_index(shape, self.colours, self.colouring).flatten()
        rows = torch.from_numpy(hadamard(self.colours))[:, index].to(probes).reshape(self.colours, 1, *shape)
        return (probes.unflatten(0, (-1, self.colours))[:, :1] * rows).flatten(0, 1)

    def _vjp(self, field: Field, u: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            value = field(leaf)
            products = self._pull_back(value, leaf, vectors, field)
        return value.detach(), products

    def _jvp(self, field: Field, u: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        def push(vector: Tensor) -> tuple[Tensor, Tensor]:
            result = torch.func.jvp(field, (u,), (vector,))
            return result[0], result[1]

        try:
            # One value for all vectors; the fused attention kernels have no forward derivative.
            with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
                value, products = torch.func.vmap(push, out_dims=(None, 0))(vectors)  # type: ignore[arg-type]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RuntimeError(f"this network has no forward derivative, use method='vjp' or 'fd' ({error})") from error
        return value, products

    def _difference(self, field: Field, u: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        step = self.step if self.step is not None else (1e-4 if u.dtype == torch.float64 else 1e-2)
        around = torch.cat([u + step * vectors, u - step * vectors]).flatten(0, 1)
        with torch.no_grad():
            value, shifted = field(u), field(around)
        plus, minus = shifted.unflatten(0, (2, len(vectors), len(u)))
        return value, (plus - minus) / (2 * step)
