"""The generative process over time: likelihood, CLIP score and Frechet distance of X_t (Table 4 of Cross and Ragni).

All times of a sample lie on one trajectory from noise keyed by its name. Two densities of X_t are recorded: that of X_t
read as data at t = 0, which the paper shows and which mostly says that noise is not data, and that under the model's
own marginal at time t.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dmlik_pl.flow import LogLikelihood, ProbabilityFlow, Purpose, noise, reconstruct, trajectory
from dmlik_pl.metrics import CLIPEncoder, clip_scores
from dmlik_pl.studies.base import Estimator, ImageModel, Images, Outcome, Study, likelihood_columns

__all__ = ["TimeSweep"]


class TimeSweep(Study):
    """Measure data and samples at given times.

    Args:
        times: Times in [0, 1], falling; 1 is noise, 0 data. The noise level of each is recorded as sigma.
        guidance: w of Eq. 10, for sampling and for likelihood: 1 is plain conditional.
        clip: Folder or hub name of a CLIP model for the CLIP score; none without.
        features: A network from images in [0, 1] to features [B, F] for the Frechet distance; none without.
        reconstruct: Replace the data by their reconstruction, latent and back, first (the paper's "R").
        local_files_only: Never download the CLIP model.
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
    ) -> None:
        super().__init__()
        if list(times) != sorted(set(times), reverse=True) or not times or not 0 <= times[-1] <= times[0] <= 1:
            raise ValueError(f"times must fall strictly within [0, 1], got {list(times)}")
        self.times = list(times)
        self.guidance = guidance
        self.encoder = None if clip is None else CLIPEncoder.from_pretrained(clip, local_files_only)
        self.features = features
        self.reconstruct = reconstruct

    @torch.no_grad()
    def measure(self, model: ImageModel, batch: Images, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        flow, ids, count = model.flow(self.guidance), batch.sample_id, len(batch.sample_id)
        condition = model.condition(batch.prompt)
        data = estimator.state(model.to_latent(batch.image, ids))
        if self.reconstruct:
            data = reconstruct(flow, data, condition, solver=estimator.solver)
        start = noise(data, ids, seed=estimator.seed, purpose=Purpose.LATENT, mask=condition.mask)
        path = trajectory(
            flow,
            flow.state(start, flow.schedule.at(flow.schedule.t_max), condition),
            condition,
            times=self.times,
            solver=estimator.solver,
            densities=True,
            divergence=estimator.divergence,
            sample_ids=ids,
            seed=estimator.seed,
            on_failure="record",
        )
        assert path.marginals is not None
        stages = [data, *path.states]
        copies = len(stages)
        read = estimator.log_likelihood(flow, torch.cat(stages), condition.tile(copies), list(ids) * copies)
        images = [model.to_image(stage.nan_to_num()) for stage in stages]
        rows = self._rows(flow, read, estimator, [None, *path.marginals], images, batch)
        failures = [path.failures[b] or next(filter(None, read.failures[b::count]), None) for b in range(count)]
        return [
            Outcome(
                name,
                rows=[] if failures[b] else rows[b::count],
                error=failures[b],
                picture=None if failures[b] else torch.cat([stage[b] for stage in images], -1),
            )
            for b, name in enumerate(ids)
        ]

    def _rows(
        self,
        flow: ProbabilityFlow,
        read: LogLikelihood,
        estimator: Estimator,
        marginals: Sequence[LogLikelihood | None],
        images: Sequence[Tensor],
        batch: Images,
    ) -> list[dict[str, object]]:
        """Records in the order stage, sample."""
        count = len(batch.sample_id)
        every = torch.cat(list(images))
        every = every.expand(-1, 3, -1, -1) if every.shape[1] == 1 else every
        prompts = list(batch.prompt) * len(images)
        clip = None if self.encoder is None else clip_scores(self.encoder, every, prompts).tolist()
        features = None if self.features is None else self.features(every).float().tolist()
        rows = likelihood_columns(read, estimator, flow)
        for stage, marginal in enumerate(marginals):
            # Data have no time on a trajectory; as data they are read at the smallest noise level, their own marginal.
            own = marginal or read.select(range(count))
            level = flow.schedule.t_min if marginal is None else max(self.times[stage - 1], flow.schedule.t_min)
            bpd, error = own.bpd.tolist(), own.bpd_standard_error.tolist()
            for b in range(count):
                place = stage * count + b
                rows[place] |= {
                    "prompt": batch.prompt[b],
                    "stage": "data" if marginal is None else "sample",
                    "time": None if marginal is None else self.times[stage - 1],
                    "sigma": float(flow.schedule.at(min(level, flow.schedule.t_max)).r),
                    "bpd_marginal": bpd[b],
                    "bpd_marginal_standard_error": error[b],
                    "clip": None if clip is None else clip[place],
                    "feature": None if features is None else features[place],
                }
                rows[place] |= {name: values[b] for name, values in batch.attributes.items()}
        return rows
