"""What a time sweep looks at: data, and what the model makes of noise by given times; plain, or reconstructed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dmlik_pl.flow import Condition, LogLikelihood, ProbabilityFlow, Purpose, noise
from dmlik_pl.studies.base import Estimator, ImageModel

__all__ = ["StagedBatch", "Stages", "resample"]


@dataclass(frozen=True)
class Stages:
    """The data and each time of a batch of B samples, in this order.

    Attributes:
        names: Names of the samples, which key their probes.
        latents: What is read as data, [B, ...] each.
        images: What is shown of it, [B, C, H, W] in [0, 1] each.
        marginals: The density of each time under the model's marginal, without the data; None if not taken.
        failures: Why a sample has NaN in some stage; None for those that have not.
    """

    names: list[list[str]]
    latents: list[Tensor]
    images: list[Tensor]
    marginals: list[LogLikelihood] | None
    failures: list[str | None]


@dataclass(frozen=True)
class StagedBatch:
    """A batch of images under one flow, and how its stages are made.

    Attributes:
        model: The model.
        flow: Its flow.
        names: Names of the samples.
        images: The data, [B, C, H, W] in [-1, 1].
        condition: What they are conditioned on.
        estimator: How the flow is integrated and its densities are taken.
    """

    model: ImageModel
    flow: ProbabilityFlow
    names: list[str]
    images: Tensor
    condition: Condition
    estimator: Estimator

    def on_one_trajectory(self, times: Sequence[float], densities: bool) -> Stages:
        """All times, which fall, on one path from noise keyed by sample, not reconstructed.

        Args:
            times: The times; one outside the schedule is moved to its end.
            densities: Whether to take the marginal density of each.
        """
        data = self._latent(self.images, self.names)
        start = self._noise(data, self.names)
        path = self.estimator.trajectory(self.flow, start, self.condition, times, self.names, densities)
        latents = [data, *path.states]
        return Stages([self.names] * len(latents), latents, self._images(latents), path.marginals, path.failures)

    def each_from_noise(self, times: Sequence[float], levels: Sequence[float]) -> Stages:
        """Every time on a path of its own, then decoded to 8 bits and encoded again; images as decoded.

        Args:
            times: What the stages are called.
            levels: The time at which each of them lies, in any order.
        """
        names, latents, images = [self.names], [self._latent(self.images, self.names)], [0.5 * self.images + 0.5]
        failures: list[str | None] = [None] * len(self.names)
        for time, level in zip(times, levels, strict=True):
            names.append([f"{name}/t={time:g}" for name in self.names])
            state = self._noise(latents[0], names[-1])
            if level < self.flow.schedule.t_max:
                path = self.estimator.trajectory(self.flow, state, self.condition, [level], names[-1])
                state, failures = path.states[0], [a or b for a, b in zip(failures, path.failures, strict=True)]
            images.append(_to_8_bits(self.model.to_image(state.nan_to_num())))
            latents.append(self._latent(2 * images[-1] - 1, names[-1]))
        return Stages(names, latents, images, None, failures)

    def reconstruct(self, stages: Stages, show: bool) -> Stages:
        """Every latent after the flow took it to noise and back; it has no marginal density.

        Args:
            stages: What is reconstructed.
            show: Whether the images are those of the reconstructions, or stay what was reconstructed.
        """
        count = len(stages.latents)
        whole = self.estimator.reconstruct(self.flow, torch.cat(stages.latents), self.condition.tile(count))
        latents = list(whole.chunk(count))
        images = self._images(latents) if show else stages.images
        return replace(stages, latents=latents, images=images, marginals=None)

    def through_pixels(self, stages: Stages) -> list[Tensor]:
        """The latent of each stage's image, rounded to 8 bits as in a file."""
        return [
            self._latent(2 * _to_8_bits(image) - 1, names)
            for image, names in zip(stages.images, stages.names, strict=True)
        ]

    def read(self, latents: Sequence[Tensor], names: Sequence[Sequence[str]]) -> LogLikelihood:
        """The log-likelihood of each stage's latents [B, ...] read as data, stage by stage."""
        ids = [name for stage in names for name in stage]
        return self.estimator.log_likelihood(
            self.flow, torch.cat(list(latents)), self.condition.tile(len(latents)), ids
        )

    def _latent(self, images: Tensor, names: Sequence[str]) -> Tensor:
        return self.estimator.state(self.model.to_latent(images, names))

    def _images(self, latents: Sequence[Tensor]) -> list[Tensor]:
        return [self.model.to_image(latent.nan_to_num()) for latent in latents]

    def _noise(self, like: Tensor, names: Sequence[str]) -> Tensor:
        """x_T of the shape of ``like`` [B, ...], keyed by name."""
        start = noise(like, names, seed=self.estimator.seed, purpose=Purpose.LATENT, mask=self.condition.mask)
        return self.flow.state(start, self.flow.schedule.at(self.flow.schedule.t_max), self.condition)


def resample(images: Tensor, size: int) -> Tensor:
    """Images [B, C, H, W] in [-1, 1] made smaller without aliasing, in 8 bits as a file of that size would be.

    Args:
        images: Square images.
        size: Height and width in pixels; images that have it already are left alone.

    Returns:
        Images, [B, C, size, size].

    Raises:
        ValueError: If the images are not square, or smaller than ``size``.
    """
    height, width = images.shape[-2:]
    if height != width or size > width:
        raise ValueError(
            f"images of {height} x {width} pixels cannot be made {size} x {size}: let the data hand over square images "
            "of the largest of `sizes`"
        )
    if size == width:
        return images
    smaller = interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    return 2 * _to_8_bits((0.5 * smaller + 0.5).clamp(0, 1)) - 1


def _to_8_bits(images: Tensor) -> Tensor:
    """Images in [0, 1] rounded to the levels of 8 bits."""
    return (255 * images).round() / 255
