r"""One ODE for every Gaussian diffusion model.

With :math:`\theta = \arctan(\sigma_t / \alpha_t)`, :math:`\rho = \sqrt{\alpha_t^2 + \sigma_t^2}` and the unit-scale
state :math:`u = (x_t - (1 - \alpha_t) \mu) / \rho`, the probability flow of every model is

.. math:: \frac{du}{d\theta} = F(u, \theta) = \cos\theta \, \hat\epsilon - \sin\theta \, \hat x_0

regular from data (theta near 0) to pure noise (theta = pi/2). Epsilon-, x0-, v-, velocity- and score-prediction differ
only in the line that turns the network's output into F. For data of unit variance F vanishes, so what has to be
integrated, and estimated, is only how far the data are from that.

References:
    | Song et al. (2021), Eq. 13; Progressive Distillation (Salimans and Ho, 2022), appendix D, for the angle
    | What happens to diffusion model likelihood when your model is conditional? (Cross and Ragni, 2024), Eq. 3, 6, 9
        and 10
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from dmlik_pl.flow.prior import GaussianPrior, Prior
from dmlik_pl.flow.schedule import NoiseLevel, Schedule, fit

__all__ = ["Condition", "Network", "NetworkTime", "Prediction", "ProbabilityFlow"]

Prediction = Literal["epsilon", "x0", "v", "velocity", "score"]

NetworkTime = Literal["schedule", "sigma", "log_snr", "reversed"] | Callable[[NoiseLevel], Tensor]
"""What a network is told of the noise level: by name, or any function of the level.

``schedule`` is the schedule's own :meth:`~dmlik_pl.flow.Schedule.network_time`: t, or the step. ``sigma`` is the
noise-to-signal ratio r, the sigma of EDM's and k-diffusion's denoisers. ``log_snr`` is -2 log r. ``reversed`` is 1 - t,
for networks that call noise 0 and data 1; their ``velocity`` is dx/d(1 - t), from noise to data.
"""

Network = Callable[[Tensor, Tensor, Any], Tensor]
"""``network(x_t, time, inputs) -> output``: x_t [B, ...], time [B], inputs a tree of tensors [B, ...]."""


def _tree_map(function: Callable[[Tensor], Any], tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, dict):
        return {key: _tree_map(function, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_tree_map(function, value) for value in tree)
    return tree


def _tree_cat(trees: Sequence[Any]) -> Any:
    first = trees[0]
    if isinstance(first, Tensor):
        return torch.cat(list(trees))
    if isinstance(first, dict):
        return {key: _tree_cat([tree[key] for tree in trees]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(_tree_cat(branch) for branch in zip(*trees, strict=True))
    return first


def _one_each(name: str, tensor: Tensor, count: int) -> Tensor:
    """A tensor of a condition with leading dimension ``count``, which 1 stands for too."""
    held = len(tensor) if tensor.dim() else 0
    if held not in (1, count):
        raise ValueError(
            f"the {name} of the condition are of {held} samples ({list(tensor.shape)}), and x is of {count}: give one "
            "condition for each sample, or one for all"
        )
    return tensor.expand(count, *tensor.shape[1:])


def _like(name: str, tensor: Tensor | None, x: Tensor) -> Tensor | None:
    """The mean or mask of a condition with every dimension of x."""
    try:
        return None if tensor is None else tensor.expand_as(x)
    except RuntimeError as error:
        shapes = f"{list(tensor.shape)}, and x is {list(x.shape)}" if tensor is not None else ""
        raise ValueError(f"the {name} of the condition is {shapes}: it must be broadcastable to x") from error


@dataclass(frozen=True)
class Condition:
    """What a batch of B samples is conditioned on.

    Attributes:
        inputs: Handed to the network: a tree (dict, list, tuple) of tensors with leading dimension B, or 1 for one
            condition of all samples; or None.
        null: The same tree for the unconditional branch; needed for any guidance but 1.
        mean: mu(y) of a mean-reverting process, broadcastable to x; None for zero.
        mask: Boolean, broadcastable to x: which dimensions are real. Every term of a likelihood respects it.
    """

    inputs: Any = None
    null: Any = None
    mean: Tensor | None = None
    mask: Tensor | None = None

    @property
    def count(self) -> int:
        """Of how many samples it is: the largest leading dimension of its inputs, and 1 without any."""
        sizes = [1]
        _tree_map(lambda tensor: sizes.append(len(tensor) if tensor.dim() else 1), (self.inputs, self.null))
        return max(sizes)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every tensor."""
        return replace(self, **{f.name: _tree_map(function, getattr(self, f.name)) for f in fields(self)})

    def select(self, index: Any) -> Self:
        """The condition of some samples: ``index`` is whatever indexes the leading dimension."""
        return self.map(lambda tensor: tensor[index])

    def tile(self, copies: int) -> "Condition":
        """The whole batch ``copies`` times, one after another."""
        return self if copies == 1 else self.cat([self] * copies)

    def spread(self, x: Tensor) -> Self:
        """The condition with an entry for every sample of x [B, ...], and mean and mask for every dimension of it.

        Raises:
            ValueError: If it is of a different number of samples, or mean or mask do not fit; the message names what.
        """
        count = len(x)
        inputs = _tree_map(lambda tensor: _one_each("inputs", tensor, count), self.inputs)
        null = _tree_map(lambda tensor: _one_each("null inputs", tensor, count), self.null)
        mean, mask = (_like(name, getattr(self, name), x) for name in ("mean", "mask"))
        if mask is not None and mask.dtype is not torch.bool:
            raise ValueError(f"the mask of a condition must be boolean, got {mask.dtype}")
        return replace(self, inputs=inputs, null=null, mean=mean, mask=mask)

    @staticmethod
    def cat(conditions: "Sequence[Condition]") -> "Condition":
        """Conditions of several batches as that of one."""
        return Condition(**{f.name: _tree_cat([getattr(c, f.name) for c in conditions]) for f in fields(Condition)})


@dataclass(frozen=True)
class ProbabilityFlow:
    """A score network and its schedule as an ODE between data and noise.

    Attributes:
        network: The bare network, see :data:`Network`.
        schedule: Its noise schedule.
        prediction: What the network's output is. ``v`` is alpha eps - sigma x0; ``velocity`` is dx_t/dt.
        prior: Density of the state at the noise end.
        guidance: w of eps(w) = eps_u + w (eps_c - eps_u), Eq. 10 of Cross and Ragni: 1 is plain conditional, 0
            unconditional. The weight of Ho and Salimans is w - 1.
        space: What x is, in words, e.g. "VAE latents times 0.13025"; repeated in every table.
        network_time: What the network is told of the noise level, see :data:`NetworkTime`. Another than it was trained
            with gives another density, without a sign of it.

    Raises:
        ValueError: If prediction or network time are unknown.

    Example:
        For standard normal data v is zero, and F vanishes:

        >>> from dmlik_pl.flow import Condition, LinearVP, ProbabilityFlow
        >>> flow = ProbabilityFlow(lambda x, t, inputs: 0 * x, LinearVP(), "v")
        >>> level = flow.schedule.at(torch.tensor(0.5))
        >>> flow.velocity(torch.ones(1, 2), level, Condition())
        tensor([[0., 0.]])
        >>> flow.density(Condition())
        'p(x)'
    """

    network: Network
    schedule: Schedule
    prediction: Prediction = "epsilon"
    prior: Prior = GaussianPrior("total")  # noqa: RUF009 (frozen, without state of its own)
    guidance: float = 1.0
    space: str = "data"
    network_time: NetworkTime = "schedule"

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            raise ValueError(f"unknown prediction {self.prediction!r}: there are {', '.join(get_args(Prediction))}")
        names = get_args(get_args(NetworkTime)[0])
        if not callable(self.network_time) and self.network_time not in names:
            raise ValueError(
                f"unknown network_time {self.network_time!r}: there are {', '.join(names)}, and functions of the level"
            )

    @property
    def evaluations_per_call(self) -> int:
        """Network evaluations per sample that one velocity costs: two where both branches of guidance are needed."""
        return 1 if self.guidance in (0.0, 1.0) else 2

    def density(self, condition: Condition) -> str:
        """Name of the density that the flow assigns: a guided flow is not the diffusion of any p(x|y)."""
        if self.guidance not in (0, 1):
            return f"guided flow at w={self.guidance:g}"
        conditional = condition.mean is not None or (condition.inputs is not None and self.guidance == 1)
        return "p(x|y)" if conditional else "p(x)"

    def velocity(self, u: Tensor, level: NoiseLevel, condition: Condition) -> Tensor:
        r""":math:`F(u, \theta) = du/d\theta`, shape of u; one call of the network.

        Args:
            u: Unit-scale state, [B, ...].
            level: Noise level, scalar or one for each sample.
            condition: Condition of the batch.

        Raises:
            ValueError: If guidance needs the unconditional branch and the condition has none.
        """
        at = level.like(u)
        cos, sin = at.alpha / at.scale, at.sigma / at.scale
        time = self._told(level).to(u).expand(len(u))
        output = self._output(self.state(u, level, condition), time, condition).to(u.dtype)
        match self.prediction:
            case "epsilon":
                field = (output - sin * u) / cos
            case "score":
                field = (-at.sigma * output - sin * u) / cos
            case "x0":
                field = (cos * u - output) / sin
            case "v":
                field = output / at.scale
            case "velocity":
                d_alpha, d_sigma = (fit(rate, u) for rate in self.schedule.rates(level.t))
                if self.network_time == "reversed":
                    output = -output
                if condition.mean is not None:
                    output = output + d_alpha * condition.mean
                radial = d_alpha * cos + d_sigma * sin
                field = (output - radial * u) / (d_sigma * cos - d_alpha * sin)
        return field if condition.mask is None else field * condition.mask

    def denoise(self, u: Tensor, level: NoiseLevel, condition: Condition) -> tuple[Tensor, Tensor]:
        """Predicted data and predicted noise, (x0_hat, eps_hat), each of the shape of u."""
        at = level.like(u)
        cos, sin = at.alpha / at.scale, at.sigma / at.scale
        field = self.velocity(u, level, condition)
        return cos * u - sin * field, sin * u + cos * field

    def state(self, u: Tensor, level: NoiseLevel, condition: Condition) -> Tensor:
        """x_t, the model's own coordinates, of a unit-scale state u."""
        at = level.like(u)
        x = at.scale * u
        if condition.mean is not None:
            x = x + (1 - at.alpha) * condition.mean
        return x if condition.mask is None else x * condition.mask

    def unit_state(self, x: Tensor, level: NoiseLevel, condition: Condition) -> Tensor:
        """Inverse of :meth:`state`."""
        at = level.like(x)
        if condition.mean is not None:
            x = x - (1 - at.alpha) * condition.mean
        u = x / at.scale
        return u if condition.mask is None else u * condition.mask

    def _told(self, level: NoiseLevel) -> Tensor:
        """The network's time at a level, of the shape of the level's."""
        match self.network_time:
            case "schedule":
                return self.schedule.network_time(level.t)
            case "sigma":
                return level.r
            case "log_snr":
                return -2 * level.r.log()
            case "reversed":
                return 1 - level.t
            case function:
                return function(level)

    def _output(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        conditional = any(part is not None for part in (condition.inputs, condition.null, condition.mean))
        if self.guidance == 1 or (self.guidance == 0 and not conditional):
            return self.network(x, time, condition.inputs)
        if condition.null is None:
            raise ValueError(
                f"guidance w={self.guidance:g} needs the unconditional branch, but the condition has none: "
                "give Condition(null=...) or use guidance=1"
            )
        if self.guidance == 0:
            return self.network(x, time, condition.null)
        both = _tree_cat([condition.null, condition.inputs])
        null, given = self.network(torch.cat([x, x]), torch.cat([time, time]), both).chunk(2)
        return null + self.guidance * (given - null)
