"""The generative process over time: likelihood, CLIP score and image features of X_t (Tables 4, 5 and 7).

All times of a sample lie on one trajectory from noise keyed by its name. Two densities of X_t are recorded: that of X_t
read as data at t = 0, which the paper shows and which mostly says that noise is not data, and that under the model's
own marginal at time t. Guidance, image size and reconstruction are axes: each combination is a part of its own, and all
of them start from the same noise and take the same probes, so that their differences are paired.

Under the published protocol every time starts from noise of its own, X_t is decoded to an 8-bit image, and what is read
as data is that image, encoded again.

References:
    What happens to diffusion model likelihood when your model is conditional? (Cross and Ragni, 2024), section 4
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from dmlik_pl.flow import LogLikelihood, ProbabilityFlow
from dmlik_pl.metrics import CLIPEncoder, clip_scores
from dmlik_pl.ranges import at_least, finite
from dmlik_pl.records.protocol import ProtocolName, protocol_columns
from dmlik_pl.studies.aside import Aside
from dmlik_pl.studies.base import Estimator, ImageModel, Images, Measure, Outcome, Study, likelihood_columns
from dmlik_pl.studies.stages import StagedBatch, Stages, resample

__all__ = ["TimeSweep"]


@dataclass(frozen=True)
class _Cell:
    """One combination of the axes; a size of None is that of the data."""

    guidance: float
    size: int | None
    reconstructed: bool

    @property
    def label(self) -> str:
        size = "data" if self.size is None else self.size
        return f"guidance={self.guidance:g},size={size}" + (",reconstructed" if self.reconstructed else "")


class TimeSweep(Study):
    """Measure data and samples at given times, for every combination of guidance, size and reconstruction.

    Args:
        times: Times in [0, 1], falling; 1 is noise, 0 data. The noise level of each is recorded as sigma.
        guidance: w of Eq. 10, for sampling and for likelihood: 1 is plain conditional. One weight or several.
        sizes: Pixels per side at which the data are seen and samples made: the data are made smaller from the size they
            come in, which must be the largest. None takes the size they come in.
        reconstruct: Replace data and samples by their reconstruction, to noise and back under the same guidance (the
            paper's "R"): likelihood, CLIP score and features are then of the reconstruction, and its distance to what
            was reconstructed is recorded beside them. [false, true] measures both.
        pixels: Take the likelihood of X_t a second time after the round trip through pixels: decoded to an 8-bit image,
            encoded again.
        clip: Folder or hub name of a CLIP model for the CLIP score; None leaves it out.
        features: A network from images in [0, 1] to features [B, F] for the Frechet and the kernel distance; None
            leaves them out.
        local_files_only: Never download the CLIP model.
        protocol: "published" measures decoded images of new noise at every time, in bits per pixel value, as the
            paper's code did. Reconstructions are then seen by the likelihood only.
        levels: Where each of `times` really lies, for a published protocol whose stages are not what they are called;
            also times in [0, 1], in any order. None takes `times` themselves.
    """

    kind = "time_sweep"
    axes = ("guidance", "sizes", "reconstruct")

    def __init__(
        self,
        times: Sequence[float] = (1.0, 0.75, 0.5, 0.25, 0.0),
        guidance: float | list[float] = 1.0,
        sizes: list[int] | None = None,
        reconstruct: bool | list[bool] = False,
        pixels: bool = False,
        clip: str | None = None,
        features: nn.Module | None = None,
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
        if pixels and self.published:
            raise ValueError("under the published protocol every likelihood is of a decoded image: leave `pixels` out")
        self.times = list(times)
        self.levels = self.times if levels is None else list(levels)
        self.cells = [
            _Cell(*values)
            for values in product(
                _several("guidance", guidance),
                [None] if sizes is None else _several("sizes", sizes),
                _several("reconstruct", reconstruct),
            )
        ]
        finite(guidance=[cell.guidance for cell in self.cells])
        at_least(1, sizes=sizes)
        self.pixels = pixels
        self.encoder = None if clip is None else CLIPEncoder.from_pretrained(clip, local_files_only)
        self.features = features

    def check(self, batch: Images) -> None:
        """Refuse images that cannot be made as small as `sizes` ask."""
        super().check(batch)
        for cell in self.cells:
            if cell.size is not None:
                resample(batch.image, cell.size)

    def parts(self) -> Mapping[str, Measure]:  # noqa: D102
        return {cell.label: partial(self._measure_cell, cell) for cell in self.cells}

    @property
    def deviations(self) -> tuple[str, ...]:
        """What the published protocol does otherwise than it should; nothing under the repaired one."""
        return self._deviations(any(cell.reconstructed for cell in self.cells))

    def _deviations(self, reconstructed: bool) -> tuple[str, ...]:
        if not self.published:
            return ()
        return (
            "every time starts from noise of its own",
            "x_t is decoded to an 8-bit image, and what is read as data is that image, encoded again, with probes of "
            "its own",
            "log-densities of latents are divided by the number of pixel values",
            *([_OTHER_LEVELS] if self.levels != self.times else []),
            *([_UNSEEN_RECONSTRUCTION] if reconstructed else []),
            _NOT_REPRODUCED,
        )

    def measure(self, model: ImageModel, batch: Images, estimator: Estimator) -> list[Outcome]:
        """All combinations of the axes, one after another; a sample fails if it fails in any."""
        found = [part(model, batch, estimator) for part in self.parts().values()]
        return [
            Outcome(
                each[0].sample_id,
                rows=[row for outcome in each for row in outcome.rows],
                error=next((outcome.error for outcome in each if outcome.error), None),
                picture=each[0].picture,
            )
            for each in zip(*found, strict=True)
        ]

    @torch.no_grad()
    def _measure_cell(self, cell: _Cell, model: ImageModel, batch: Images, estimator: Estimator) -> list[Outcome]:
        ids = list(batch.sample_id)
        images = batch.image if cell.size is None else resample(batch.image, cell.size)
        staged = StagedBatch(model, model.flow(cell.guidance), ids, images, model.condition(batch.prompt), estimator)
        if self.published:
            source = staged.each_from_noise(self.times, self.levels)
        else:
            source = staged.on_one_trajectory(self.levels, densities=not cell.reconstructed)
        stages = staged.reconstruct(source, show=not self.published) if cell.reconstructed else source
        read = staged.read(stages.latents, stages.names)
        aside = Aside(ids)
        columns = self._settings(staged.flow, batch) | self._seen(stages, list(batch.prompt), aside)
        if stages.marginals is not None:
            columns |= _likelihoods("bpd_marginal", [read.select(range(len(ids))), *stages.marginals])
        if self.pixels:
            again = staged.read(staged.through_pixels(stages), stages.names)
            columns |= _likelihoods("bpd_pixels", [again])
            for place, failure in enumerate(again.failures):
                if failure:
                    aside.leave_out("BPD pixels", place % len(ids), failure)
        if cell.reconstructed:
            columns |= _round_trip(source, stages)
        shared = dict.fromkeys(_NOT_ALWAYS) | {"size": images.shape[-1], "reconstructed": cell.reconstructed}
        shared |= protocol_columns("published" if self.published else "repaired", self._deviations(cell.reconstructed))
        rows = [
            row | shared | {name: values[place] for name, values in columns.items()}
            for place, row in enumerate(likelihood_columns(read, estimator, staged.flow))
        ]
        for place, row in enumerate(rows):  # an attribute may be called as a column is: of objects, "size" is another
            known = {name: values[place % len(ids)] for name, values in batch.attributes.items()}
            row |= {f"true_{name}" if name in row else name: value for name, value in known.items()}
            row |= aside.columns(place % len(ids))
        if self.published:
            _per_pixel_value(rows, images[0].numel())
        failures = [
            next(filter(None, [stages.failures[b], *read.failures[b :: len(ids)]]), None) for b in range(len(ids))
        ]
        shown = [source, stages] if cell.reconstructed and not self.published else [stages]
        return [
            Outcome(
                name,
                rows=[] if failures[b] else rows[b :: len(ids)],
                error=failures[b],
                picture=None if failures[b] else _grid([[image[b] for image in row.images] for row in shown]),
            )
            for b, name in enumerate(ids)
        ]

    def _settings(self, flow: ProbabilityFlow, batch: Images) -> dict[str, list[Any]]:
        """What is known before anything is measured; like all columns here in the order stage, sample."""
        schedule, count, stages = flow.schedule, len(batch.sample_id), 1 + len(self.times)
        # Data have no time on a trajectory; they are read at the smallest noise level.
        levels = [schedule.t_min, *(min(max(level, schedule.t_min), schedule.t_max) for level in self.levels)]
        return {
            "prompt": list(batch.prompt) * stages,
            "stage": _each(["data", *["sample"] * len(self.times)], count),
            "time": _each([None, *self.times], count),
            "sigma": _each([float(schedule.at(level).r) for level in levels], count),
        }

    def _seen(self, stages: Stages, prompts: list[str], aside: Aside) -> dict[str, list[Any]]:
        """What CLIP and the feature network make of the images."""
        images = torch.stack(stages.images)
        images = images.expand(-1, -1, 3, -1, -1) if images.shape[2] == 1 else images
        count = len(images)

        def of_each(measure: Callable[[Tensor, list[str]], Tensor], places: list[int]) -> list[list[Any]]:
            """The values of all stages of each of some samples."""
            values = measure(images[:, places].flatten(0, 1), [prompts[b] for b in places] * count)
            by_sample: list[list[Any]] = values.float().unflatten(0, (count, len(places))).transpose(0, 1).tolist()
            return by_sample

        everybody: list[int] = list(range(len(prompts)))
        scores: list[list[Any] | None] = [None] * len(prompts)
        features = scores
        if self.encoder is not None:
            scores = aside.take("CLIP score", partial(of_each, partial(clip_scores, self.encoder)), everybody)
        if (network := self.features) is not None:
            features = aside.take(
                "image features", partial(of_each, lambda seen, _: _features(network, seen)), everybody
            )
        return {
            name: [None if each is None else each[k] for k in range(count) for each in found]
            for name, found in (("clip", scores), ("feature", features))
        }


def _features(network: nn.Module, images: Tensor) -> Tensor:
    """What a network makes of images [B, C, H, W]: one vector each, [B, F]."""
    found = network(images)
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(images):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"features must give a vector for each of {len(images)} images, got {shape}")
    return found


_OTHER_LEVELS = "times are the names of stages that lie elsewhere, at the σ given, and some at the same"
_UNSEEN_RECONSTRUCTION = "reconstructions are scored by likelihood only, CLIP and FID see what was to be reconstructed"
_NOT_REPRODUCED = (
    "not reproduced: CLIP scores of images whose 8-bit values overflowed, the mean of FIDs over a growing set, network "
    "times cut to whole steps"
)
_ERRORS = ("standard_error", "probe_variance", "discretisation")
_NOT_ALWAYS = (
    *("bpd_marginal", *(f"bpd_marginal_{error}" for error in _ERRORS)),
    *("bpd_pixels", *(f"bpd_pixels_{error}" for error in _ERRORS)),
    *("round_trip", "round_trip_pixels"),
)


def _several(name: str, given: Any) -> list[Any]:
    """The values of an axis."""
    values = list(given) if isinstance(given, Sequence) else [given]
    if not values or len(set(values)) < len(values):
        raise ValueError(f"{name} must be one value or several different ones, got {given}")
    return values


def _within(times: Sequence[float]) -> bool:
    return all(0 <= time <= 1 for time in times)


def _each(values: Sequence[Any], count: int) -> list[Any]:
    """One value per stage, for each of its samples."""
    return [value for value in values for _ in range(count)]


def _likelihoods(name: str, results: Sequence[LogLikelihood]) -> dict[str, list[float]]:
    """Bits per dimension with the standard error, its variance over probes, and the grid's error."""
    columns: dict[str, list[float]] = {name: [], **{f"{name}_{error}": [] for error in _ERRORS}}
    for result in results:
        unit = result.nats_per_bpd
        columns[name] += result.bpd.tolist()
        columns[f"{name}_standard_error"] += result.bpd_standard_error.tolist()
        columns[f"{name}_probe_variance"] += (result.variance / unit**2).tolist()
        columns[f"{name}_discretisation"] += (result.discretisation / unit).tolist()
    return columns


def _round_trip(source: Stages, reconstruction: Stages) -> dict[str, list[float]]:
    """How far a reconstruction is from its source: relative to the latent, and in grey levels where it was shown."""
    before, after = torch.cat(source.latents), torch.cat(reconstruction.latents)
    columns = {"round_trip": (_rms(after - before) / _rms(before)).tolist()}
    if reconstruction.images is not source.images:
        shift = torch.cat(reconstruction.images) - torch.cat(source.images)
        columns["round_trip_pixels"] = (255 * _rms(shift)).tolist()
    return columns


def _rms(x: Tensor) -> Tensor:
    """Root mean square of each sample, [B]."""
    return x.double().flatten(1).square().mean(1).sqrt()


def _grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Images [C, H, W] side by side, row above row."""
    return torch.cat([torch.cat(list(row), -1) for row in rows], -2)


def _per_pixel_value(rows: Sequence[dict[str, Any]], pixels: int) -> None:
    """Make the bits per dimension of records bits per pixel value."""
    for row in rows:
        for name in ("bpd", "bpd_standard_error"):
            row[name] *= row["dims"] / pixels
