"""The generative process over time: likelihood, CLIP score and Frechet distance of X_t (Table 4 of Cross and Ragni).

All times of a sample lie on one trajectory from noise keyed by its name. Two densities of X_t are recorded: that of X_t
read as data at t = 0, which the paper shows and which mostly says that noise is not data, and that under the model's
own marginal at time t.

Under the published protocol every time starts from noise of its own, X_t is decoded to an 8-bit image, and what is read
as data is that image, encoded again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dmlik_pl.flow import Condition, LogLikelihood, ProbabilityFlow, Purpose, noise, reconstruct, trajectory
from dmlik_pl.metrics import CLIPEncoder, clip_scores
from dmlik_pl.results.protocol import ProtocolName, protocol_columns
from dmlik_pl.studies.base import Estimator, ImageModel, Images, Outcome, Study, likelihood_columns

__all__ = ["TimeSweep"]


@dataclass(frozen=True)
class _Stages:
    """The data and each time of a batch, in this order.

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


class TimeSweep(Study):
    """Measure data and samples at given times.

    Args:
        times: Times in [0, 1], falling; 1 is noise, 0 data. The noise level of each is recorded as sigma.
        guidance: w of Eq. 10, for sampling and for likelihood: 1 is plain conditional.
        clip: Folder or hub name of a CLIP model for the CLIP score; none without.
        features: A network from images in [0, 1] to features [B, F] for the Frechet distance; none without.
        reconstruct: Replace the data by their reconstruction, latent and back, first (the paper's "R").
        local_files_only: Never download the CLIP model.
        protocol: "published" measures decoded images of new noise at every time, in bits per pixel value, as the
            paper's code did. Reconstructions are then seen by the likelihood only.
        levels: Where each of `times` really lies, for a published protocol whose stages are not what they are called;
            also times in [0, 1], in any order. None takes `times` themselves.
    """

    kind = "time_sweep"

    def __init__(
        self,
        times: Sequence[float] = (1.0, 0.75, 0.5, 0.25, 0.0),
        guidance: float = 1.0,
        clip: str | None = None,
        features: nn.Module | None = None,
        reconstruct: bool = False,
        local_files_only: bool = False,
        protocol: ProtocolName = "repaired",
        levels: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if list(times) != sorted(set(times), reverse=True) or not times or not _within(times):
            raise ValueError(f"times must fall strictly within [0, 1], got {list(times)}")
        self.published = protocol == "published"
        if levels is not None and not (self.published and len(levels) == len(times) and _within(levels)):
            raise ValueError(
                "levels belong to the published protocol, and must be as many times in [0, 1] as `times`, "
                f"{len(times)}; got {list(levels)}"
            )
        self.times = list(times)
        self.levels = self.times if levels is None else list(levels)
        self.guidance = guidance
        self.encoder = None if clip is None else CLIPEncoder.from_pretrained(clip, local_files_only)
        self.features = features
        self.reconstruct = reconstruct

    @property
    def deviations(self) -> tuple[str, ...]:
        """What the published protocol does otherwise than it should; nothing under the repaired one."""
        if not self.published:
            return ()
        return (
            "every time starts from noise of its own",
            "x_t is decoded to an 8-bit image, and what is read as data is that image, encoded again, with probes of "
            "its own",
            "log-densities of latents are divided by the number of pixel values",
            *([_OTHER_LEVELS] if self.levels != self.times else []),
            *([_UNSEEN_RECONSTRUCTION] if self.reconstruct else []),
            _NOT_REPRODUCED,
        )

    @torch.no_grad()
    def measure(self, model: ImageModel, batch: Images, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        flow, ids, count = model.flow(self.guidance), list(batch.sample_id), len(batch.sample_id)
        condition = model.condition(batch.prompt)
        data = estimator.state(model.to_latent(batch.image, ids))
        follow = self._each_from_noise if self.published else self._on_one_trajectory
        stages = follow(model, flow, data, condition, batch, estimator)
        names = [name for stage in stages.names for name in stage]
        read = estimator.log_likelihood(flow, torch.cat(stages.latents), condition.tile(len(stages.latents)), names)
        rows = self._rows(flow, read, estimator, stages, batch)
        failures = [stages.failures[b] or next(filter(None, read.failures[b::count]), None) for b in range(count)]
        return [
            Outcome(
                name,
                rows=[] if failures[b] else rows[b::count],
                error=failures[b],
                picture=None if failures[b] else torch.cat([stage[b] for stage in stages.images], -1),
            )
            for b, name in enumerate(ids)
        ]

    def _on_one_trajectory(
        self,
        model: ImageModel,
        flow: ProbabilityFlow,
        data: Tensor,
        condition: Condition,
        batch: Images,
        estimator: Estimator,
    ) -> _Stages:
        """All times on one path from noise, as they are."""
        ids = list(batch.sample_id)
        if self.reconstruct:
            data = reconstruct(flow, data, condition, solver=estimator.solver)
        path = trajectory(
            flow,
            _noise(flow, data, condition, ids, estimator),
            condition,
            times=self.levels,
            solver=estimator.solver,
            densities=True,
            divergence=estimator.divergence,
            sample_ids=ids,
            seed=estimator.seed,
            on_failure="record",
        )
        latents = [data, *path.states]
        images = [model.to_image(latent.nan_to_num()) for latent in latents]
        return _Stages([ids] * len(latents), latents, images, path.marginals, path.failures)

    def _each_from_noise(
        self,
        model: ImageModel,
        flow: ProbabilityFlow,
        data: Tensor,
        condition: Condition,
        batch: Images,
        estimator: Estimator,
    ) -> _Stages:
        """Every time on a path of its own, then decoded to 8 bits and encoded again; images as they were decoded."""
        names, latents, images = [list(batch.sample_id)], [data], [0.5 * batch.image + 0.5]
        failures: list[str | None] = [None] * len(data)
        for time, level in zip(self.times, self.levels, strict=True):
            names.append([f"{name}/t={time:g}" for name in batch.sample_id])
            state = _noise(flow, data, condition, names[-1], estimator)
            if level < flow.schedule.t_max:
                path = trajectory(flow, state, condition, times=[level], solver=estimator.solver, on_failure="record")
                state, failures = path.states[0], [a or b for a, b in zip(failures, path.failures, strict=True)]
            images.append((255 * model.to_image(state.nan_to_num())).round() / 255)
            latents.append(estimator.state(model.to_latent(2 * images[-1] - 1, names[-1])))
        if self.reconstruct:
            latents = [reconstruct(flow, latent, condition, solver=estimator.solver) for latent in latents]
        return _Stages(names, latents, images, None, failures)

    def _rows(
        self, flow: ProbabilityFlow, read: LogLikelihood, estimator: Estimator, stages: _Stages, batch: Images
    ) -> list[dict[str, Any]]:
        """Records in the order stage, sample."""
        count = len(batch.sample_id)
        every = torch.cat(stages.images)
        every = every.expand(-1, 3, -1, -1) if every.shape[1] == 1 else every
        prompts = list(batch.prompt) * len(stages.images)
        clip = None if self.encoder is None else clip_scores(self.encoder, every, prompts).tolist()
        features = None if self.features is None else self.features(every).float().tolist()
        rows = likelihood_columns(read, estimator, flow)
        if self.published:
            _per_pixel_value(rows, batch.image[0].numel())
        # Data have no time on a trajectory; as data they are read at the smallest noise level, their own marginal.
        data = read.select(range(count))
        marginals = [None] * len(stages.names) if stages.marginals is None else [data, *stages.marginals]
        protocol = protocol_columns("published" if self.published else "repaired", self.deviations)
        schedule = flow.schedule
        for stage, (time, level, own) in enumerate(
            zip([None, *self.times], [schedule.t_min, *self.levels], marginals, strict=True)
        ):
            sigma = float(schedule.at(min(max(level, schedule.t_min), schedule.t_max)).r)
            bpd, error = ([None] * count,) * 2 if own is None else (own.bpd.tolist(), own.bpd_standard_error.tolist())
            for b in range(count):
                place = stage * count + b
                rows[place] |= {
                    "prompt": batch.prompt[b],
                    "stage": "data" if time is None else "sample",
                    "time": time,
                    "sigma": sigma,
                    "bpd_marginal": bpd[b],
                    "bpd_marginal_standard_error": error[b],
                    "clip": None if clip is None else clip[place],
                    "feature": None if features is None else features[place],
                }
                rows[place] |= protocol | {name: values[b] for name, values in batch.attributes.items()}
        return rows


_OTHER_LEVELS = "times are the names of stages that lie elsewhere, at the σ given, and some at the same"
_UNSEEN_RECONSTRUCTION = "reconstructions are scored by likelihood only, CLIP and FID see what was to be reconstructed"
_NOT_REPRODUCED = (
    "not reproduced: CLIP scores of images whose 8-bit values overflowed, the mean of FIDs over a growing set, network "
    "times cut to whole steps"
)


def _within(times: Sequence[float]) -> bool:
    return all(0 <= time <= 1 for time in times)


def _noise(
    flow: ProbabilityFlow, like: Tensor, condition: Condition, names: Sequence[str], estimator: Estimator
) -> Tensor:
    """x_T of the shape of ``like`` [B, ...], keyed by name."""
    start = noise(like, names, seed=estimator.seed, purpose=Purpose.LATENT, mask=condition.mask)
    return flow.state(start, flow.schedule.at(flow.schedule.t_max), condition)


def _per_pixel_value(rows: Sequence[dict[str, Any]], pixels: int) -> None:
    """Make the bits per dimension of records bits per pixel value."""
    for row in rows:
        for name in ("bpd", "bpd_standard_error"):
            row[name] *= row["dims"] / pixels
