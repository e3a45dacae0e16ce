"""What every study shares: what it needs of a model and of a batch, and how its likelihoods are taken."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable
from zlib import crc32

import torch
from torch import Tensor, nn

from dmlik_pl.flow import (
    Condition,
    Divergence,
    Exact,
    Hutchinson,
    LogLikelihood,
    Multistep,
    ProbabilityFlow,
    Rivals,
    Solver,
    Target,
    Trajectory,
    log_likelihood,
    reconstruct,
    trajectory,
)
from dmlik_pl.flow.target import batches
from dmlik_pl.ranges import at_least, seeds

__all__ = ["Estimator", "ImageModel", "Images", "Measure", "Model", "Outcome", "Study", "likelihood_columns"]


@runtime_checkable
class Model(Protocol):
    """A conditional diffusion model as studies see it.

    Attributes:
        space: What p is a density of, e.g. "VAE latents times 0.13025".
    """

    space: str

    def flow(self, guidance: float = 1.0) -> ProbabilityFlow:
        """The model's probability flow at a guidance weight."""
        ...


@runtime_checkable
class ImageModel(Model, Protocol):
    """It needs a model of images, with the methods condition, to_latent and to_image."""

    def condition(self, prompts: Sequence[str]) -> Condition:
        """What a prompt is to the network."""
        ...

    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] to what p is a density of."""
        ...

    def to_image(self, latents: Tensor) -> Tensor:
        """The other way, to images [B, C, H, W] in [0, 1]."""
        ...


@runtime_checkable
class Images(Protocol):
    """A batch of images with their true prompts and attributes."""

    sample_id: list[str]
    image: Tensor
    prompt: list[str]
    attributes: dict[str, list[str]]


@dataclass(frozen=True)
class Estimator:
    """How likelihoods are taken; one for all studies of a run.

    Attributes:
        solver: Integrates the flow.
        divergence: Takes its traces.
        seed: Seed of probes, latents and bounds.
        max_batch: Samples that go through the network at once; bounds the memory and changes no result.
        double: Hold state and log-density in float64 instead of float32.
        rounding_every: How often the effect of rounding is measured in guided flows, whose way to noise may amplify the
            last digit of x a million times: one sample in this many, chosen by its name, is solved once more from x
            shaken by the precision of its type; 0 measures it on none.
        dequantisation_bits: Bits per dimension between the density of uniformly dequantised data and the probability of
            their discrete levels, e.g. log2(256 / 2) for 8-bit images in [-1, 1]. Recorded, and shown by its name
            beside the density's BPD, never added to it. 0 for data that are not discrete.
        target: The error to reach, in place of the solver's nodes and the divergence; None takes these.
    """

    solver: Solver = field(default_factory=Multistep)
    divergence: Divergence = field(default_factory=Hutchinson)
    seed: int = 0
    max_batch: int = 64
    double: bool = False
    rounding_every: int = 4
    dequantisation_bits: float = 0.0
    target: Target | None = None

    def __post_init__(self) -> None:
        at_least(1, max_batch=self.max_batch)
        seeds(seed=self.seed)
        at_least(0, dequantisation_bits=self.dequantisation_bits, rounding_every=self.rounding_every)

    def state(self, x: Tensor) -> Tensor:
        """Cast x to the dtype of the state."""
        return x.double() if self.double else x.float()

    def log_likelihood(
        self,
        flow: ProbabilityFlow,
        x: Tensor,
        condition: Condition,
        sample_ids: Sequence[str],
        rivals: Rivals | None = None,
        paired: LogLikelihood | None = None,
    ) -> LogLikelihood:
        """Log-likelihoods of x [B, ...] read as data, in pieces that fit the memory; failures are recorded.

        Args:
            flow: The model.
            x: Samples.
            condition: What they are conditioned on.
            sample_ids: Their names. Where there is a target, those of one name share a grid.
            rivals: Who competes for a target of differences; all of one name by default.
            paired: Other likelihoods of the same samples, whose grids are taken so that differences to them are paired.
        """
        condition = condition.spread(x)
        parts = self._pieces(sample_ids)
        grids = None if paired is None or self.target is None else paired.integral.nodes
        found = LogLikelihood.cat(
            [
                log_likelihood(
                    flow,
                    self.state(x[piece]),
                    condition.select(piece),
                    solver=self.solver,
                    divergence=None if self.target is not None else self.divergence,
                    sample_ids=(names := [sample_ids[b] for b in piece]),
                    seed=self.seed,
                    rounding=self._shaken(flow, names),
                    on_failure="record",
                    target=self.target,
                    rivals=None if rivals is None or self.target is None else rivals.among(piece),
                    grids=None if grids is None else [grids[b] for b in piece],
                    max_batch=self.max_batch,
                )
                for piece in parts
            ]
        )
        order = [b for piece in parts for b in piece]
        return found if order == sorted(order) else found.select(sorted(range(len(order)), key=order.__getitem__))

    def trajectory(
        self,
        flow: ProbabilityFlow,
        latent: Tensor,
        condition: Condition,
        times: Sequence[float],
        sample_ids: Sequence[str],
        densities: bool = False,
    ) -> Trajectory:
        """Each latent [B, ...] through the flow to data, as :func:`dmlik_pl.flow.trajectory`; failures are recorded."""
        return trajectory(
            flow,
            latent,
            condition,
            times=times,
            solver=self.solver,
            densities=densities,
            divergence=None if self.target is not None else self.divergence,
            sample_ids=sample_ids,
            seed=self.seed,
            on_failure="record",
            target=self.target if densities else None,
            max_batch=self.max_batch,
        )

    def _pieces(self, sample_ids: Sequence[str]) -> list[list[int]]:
        """Positions that are measured together: what fits the memory, and with a target all of one name."""
        if self.target is None:
            return [list(some) for some in pieces(range(len(sample_ids)), self.max_batch)]
        return batches(sample_ids, self.max_batch)

    def describe_solver(self) -> str:
        """The solver in words, for tables."""
        solver = self.solver
        if self.target is None or not isinstance(solver, Multistep):
            return solver.describe()
        return f"multistep(order {solver.order}), to an error of {self.target.describe()}"

    def _shaken(self, flow: ProbabilityFlow, sample_ids: Sequence[str]) -> list[int]:
        """Positions of the samples of which the effect of rounding is measured, the same whatever their batch."""
        if not self.rounding_every or 0 <= flow.guidance <= 1:
            return []
        return [i for i, name in enumerate(sample_ids) if crc32(name.encode()) % self.rounding_every == 0]

    def reconstruct(self, flow: ProbabilityFlow, x: Tensor, condition: Condition) -> Tensor:
        """Each x [B, ...] through the flow to noise and back, in pieces that fit the memory; NaN where that fails."""
        return torch.cat(
            [
                reconstruct(
                    flow, self.state(x[piece]), condition.select(piece), solver=self.solver, on_failure="record"
                )
                for piece in pieces(range(len(x)), self.max_batch)
            ]
        )

    def describe_probes(self) -> str:
        """The trace estimator in words, for tables."""
        if self.target is not None:
            return "rademacher in nested colours per node, as many as the error asks for"
        if isinstance(self.divergence, Exact):
            return "exact trace"
        fresh = "per node" if isinstance(self.solver, Multistep) else "per trajectory"
        structure = ""
        if isinstance(self.divergence, Hutchinson) and self.divergence.colours > 1:
            structure = f", {self.divergence.colours} {'learned ' if self.divergence.colouring else ''}colours"
        return f"{self.divergence.probes} {self.divergence.distribution} {fresh}{structure}"


@dataclass(frozen=True)
class Outcome:
    """What a study found of one sample.

    Attributes:
        sample_id: Name of the sample.
        rows: Its records; empty if it failed.
        error: Why it failed.
        picture: An image [C, H, W] in [0, 1] worth a look.
        sound: Waveforms [N] in [-1, 1] worth hearing, by name.
        rate: Their sample rate, Hz.
    """

    sample_id: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    picture: Tensor | None = None
    sound: Mapping[str, Tensor] = field(default_factory=dict)
    rate: int = 0


Measure = Callable[[Any, Any, Estimator], list[Outcome]]
"""Takes a model, a batch and how likelihoods are taken; gives one outcome for each sample of the batch."""


class Study(nn.Module, ABC):
    """One experiment: what is asked of a batch and which records it yields.

    Attributes:
        kind: What experiment it is; decides which tables and figures are made of its records.
        asks: The protocol of the models that it can measure; its docstring completes the message about
            another model.
        reads: The protocol of the batches that it can measure; the first sentence of its docstring completes the
            message about other data.
        axes: Names of the arguments that only list its parts; their values change no part.
    """

    kind: str
    asks: type = ImageModel
    reads: type = Images
    axes: tuple[str, ...] = ()

    @abstractmethod
    def measure(self, model: Any, batch: Any, estimator: Estimator) -> list[Outcome]:
        """One outcome for each sample of the batch.

        Args:
            model: A model of the protocol `asks`.
            batch: Samples of the kind that the model is of, e.g. :class:`Images`.
            estimator: How likelihoods are taken.
        """

    def check(self, batch: Any) -> None:
        """Refuse data that it cannot measure, before a model is loaded.

        Args:
            batch: One sample of the data; a run shows one of every class.

        Raises:
            ValueError: If the data lack something that the study's settings need.
        """
        if not isinstance(batch, self.reads):
            wanted = str(self.reads.__doc__).partition("\n")[0].partition(",")[0].rstrip(".")
            raise ValueError(
                f"{type(self).__name__} measures {wanted[0].lower()}{wanted[1:]}; the data hand over another kind, a "
                f"{type(batch).__name__}"
            )

    def parts(self) -> Mapping[str, Measure]:
        """What is measured and kept apart, by label; together they are the study.

        A run resumes part by part, and takes over parts of equal settings from other runs. So a label names the values
        of all `axes`, for instance "guidance=3,size=512", whatever other values they have. A study without axes is a
        single part with an empty label.
        """
        return {"": self.measure}


def likelihood_columns(result: LogLikelihood, estimator: Estimator, flow: ProbabilityFlow) -> list[dict[str, Any]]:
    """One record per sample with everything that says how its likelihood was made; log-likelihoods in nats."""
    shared = {
        "density": result.density,
        "guidance": flow.guidance,
        "space": flow.space,
        "r_min": result.r,
        "r_max": result.r_max,
        "interpolation": flow.schedule.interpolation,
        "solver": estimator.describe_solver(),
        "probes": estimator.describe_probes(),
        "dequantisation_bits": estimator.dequantisation_bits,
    }
    columns = {
        "log_p": result.log_p,
        "standard_error": result.standard_error,
        "probe_variance": result.variance,
        "discretisation": result.discretisation,
        "bpd": result.bpd,
        "bpd_standard_error": result.bpd_standard_error,
        "prior_term": result.prior,
        "divergence_term": result.divergence,
    }
    values = {name: column.tolist() for name, column in columns.items()}
    values["rounding"] = [None if math.isnan(value) else value for value in result.rounding.tolist()]
    dims = result.dims.tolist()
    values["nodes"], values["shortfall"] = result.integral.nodes, result.short
    values |= dict(zip(("nfe_forward", "nfe_vjp", "nfe_jvp"), result.calls.T.tolist(), strict=True))
    return [
        {name: column[b] for name, column in values.items()} | {"dims": int(dims[b])} | shared for b in range(len(dims))
    ]


def pieces(places: Sequence[int], size: int) -> Iterator[list[int]]:
    """Places in pieces that go through the network at once."""
    for start in range(0, len(places), size):
        yield list(places[start : start + size])


def tile(tensor: Tensor, copies: int) -> Tensor:
    """The whole batch several times, one after another; the order of :meth:`Condition.tile`."""
    return torch.cat([tensor] * copies)
