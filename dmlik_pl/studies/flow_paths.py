"""Ways through a flow and back: data to x_T, and x_T to data, each by a way of its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dmlik_pl.flow import Condition, Purpose, Solver, decode, encode, noise
from dmlik_pl.studies.base import Estimator, Model

__all__ = ["NONE", "PRIOR", "STOCHASTIC", "Paths", "Route", "find_routes", "follow"]

NONE, STOCHASTIC, PRIOR = "none", "stochastic", "prior"

Paths = Sequence[tuple[str, str]] | Literal["paper", "grid"]
"""Pairs of forward and reverse, or those of Table 3, or every forward with every reverse."""


class Route(NamedTuple):
    """One way there and back.

    Attributes:
        forward: How x_T is made: a solver's name, or "stochastic", "prior" or "none".
        speaker: The speaker that the model is given on the way forward.
        reverse: How data are made of x_T: a solver's name, or "none".
    """

    forward: str
    speaker: int
    reverse: str


def find_routes(paths: Paths, solvers: Mapping[str, Solver], speaker: int) -> list[Route]:
    """The routes of a study; that of untouched data, none and none, is left out.

    Args:
        paths: Which ones.
        solvers: The solvers by name.
        speaker: The speaker on the way forward.

    Raises:
        ValueError: If names clash or are unknown.
    """
    if reserved := {NONE, STOCHASTIC, PRIOR} & set(solvers):
        raise ValueError(f"a solver cannot be called {', '.join(sorted(reserved))}: that names something else")
    if paths == "paper":
        paths = [(STOCHASTIC, "Euler"), ("RK45", "Euler"), ("RK45", "RK45")]
    elif paths == "grid":
        paths = [(forward, reverse) for forward in (STOCHASTIC, PRIOR, *solvers) for reverse in solvers]
    for forward, reverse in paths:
        if forward not in (NONE, STOCHASTIC, PRIOR, *solvers) or reverse not in (NONE, *solvers):
            raise ValueError(
                f"unknown path [{forward}, {reverse}]: forward is none, stochastic, prior or a solver, reverse is none "
                f"or a solver, and the solvers are {', '.join(solvers)}"
            )
    routes = [Route(forward, speaker, reverse) for forward, reverse in paths if (forward, reverse) != (NONE, NONE)]
    return list(dict.fromkeys(routes))


def follow(
    model: Model,
    conditions: Mapping[int, Condition],
    x: Tensor,
    names: Sequence[str],
    routes: Sequence[Route],
    speaker: int,
    solvers: Mapping[str, Solver],
    estimator: Estimator,
) -> tuple[dict[tuple[str, int], Tensor], dict[Route, Tensor]]:
    """Take data along routes; what routes have in common is done once.

    Args:
        model: The model.
        conditions: The batch's condition by speaker.
        x: Data, [B, ...].
        names: Names that key the random draws, B of them; equal names get equal draws.
        routes: The ways.
        speaker: The speaker on the way back.
        solvers: The solvers by name.
        estimator: Its seed and the size of its batches.

    Returns:
        x_T by forward and its speaker, and data by route, [B, ...] each.

    Raises:
        SolverError: If a solver gives no result.
    """
    flow = model.flow()

    def solved(direction: Callable[..., Tensor], state: Tensor, who: int, name: str) -> Tensor:
        size = estimator.max_batch
        pieces = [slice(start, start + size) for start in range(0, len(state), size)]
        condition = conditions[who]
        return torch.cat([direction(flow, state[p], condition.select(p), solver=solvers[name]) for p in pieces])

    def forward(name: str, who: int) -> Tensor:
        if name == NONE:
            return x
        if name in solvers:
            return solved(encode, x, who, name)
        level, condition = flow.schedule.at(flow.schedule.t_max).like(x), conditions[who].spread(x)
        mean = torch.zeros_like(x) if condition.mean is None else condition.mean.to(x)
        draw = noise(x, names, seed=estimator.seed, purpose=Purpose.LATENT, mask=condition.mask)
        if name == PRIOR:
            latent = mean + level.scale * draw
        else:
            latent = level.alpha * x + (1 - level.alpha) * mean + level.sigma * draw
        return latent if condition.mask is None else latent * condition.mask

    latents = {key: forward(*key) for key in dict.fromkeys((route.forward, route.speaker) for route in routes)}
    arrived = {}
    for route in routes:
        latent = latents[route.forward, route.speaker]
        arrived[route] = latent if route.reverse == NONE else solved(decode, latent, speaker, route.reverse)
    return latents, arrived
