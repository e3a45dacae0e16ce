"""Speech over time: likelihood, and what is heard, of X_t (Table 1 of Cross and Ragni).

All times of an utterance lie on one trajectory from noise keyed by its name. Each X_t is spoken by the vocoder and
compared with the recording. So are the recording itself and its mel, spoken by the vocoder: what the vocoder alone
costs. As in the sweep of images, two densities of X_t are recorded: read as data at t = 0, as the paper does, and under
the model's own marginal at time t.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from dmlik_pl.flow import LogLikelihood, ProbabilityFlow, Purpose, Trajectory, noise
from dmlik_pl.metrics.recognition import Recogniser
from dmlik_pl.metrics.speaker import SpeakerEncoder
from dmlik_pl.ranges import within
from dmlik_pl.records.missing import VOCODED
from dmlik_pl.records.protocol import ProtocolName, protocol_columns
from dmlik_pl.studies.aside import Aside
from dmlik_pl.studies.base import Estimator, Outcome, Study, likelihood_columns
from dmlik_pl.studies.speech import Aligned, Listener, Policy, SpeechModel, Utterances, about

__all__ = ["SpeechSweep"]

PAPER_TIMES = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0)

# Of a likelihood: empty where a wave was only listened to.
_LIKELIHOOD = (
    *("log_p", "standard_error", "probe_variance", "discretisation", "rounding", "bpd", "bpd_standard_error"),
    *("prior_term", "divergence_term"),
)


_DEVIATIONS = (
    "every stage is scored with probes of its own",
    "padded frames are scored with the others but do not count as dimensions",
    "mel cepstra are of frames of 512 samples in [-1, 1]",
    "the error of the pitch is 0 where none is defined",
    "not reproduced: the paper's script scores one stage twice and another never, and stops at the second batch",
)


class SpeechSweep(Study):
    """Measure recordings and samples at given times.

    Args:
        times: Times in [0, 1], falling; 1 is noise, 0 data. The noise level of each is recorded as sigma.
        durations: Durations of the samples' tokens: "reference" takes those of the recording's alignment, as in the
            paper, so that a sample knows how long every phone of the recording lasts; "model" takes the predicted ones.
        alignment: Alignment of the recording: "search" is the best path for this mel (the paper's), "durations" the
            predicted durations, stretched to its length without looking at it.
        recogniser: For the word error rate, one of :mod:`dmlik_pl.metrics.recognition`; None leaves it out.
        speaker_encoder: For the similarity of voices, one of :mod:`dmlik_pl.metrics.speaker`; None leaves it out.
        cepstral_distortion: Whether to take the mel-cepstral distortion.
        log_f0: Whether to take the error of the logarithmic pitch.
        protocol: "published" does as the paper's code; `deviations` says what that is.
    """

    kind = "speech_sweep"
    asks = SpeechModel
    reads = Utterances

    def __init__(
        self,
        times: Sequence[float] = PAPER_TIMES,
        durations: Literal["reference", "model"] = "reference",
        alignment: Policy = "search",
        recogniser: Recogniser | None = None,
        speaker_encoder: SpeakerEncoder | None = None,
        cepstral_distortion: bool = True,
        log_f0: bool = True,
        protocol: ProtocolName = "repaired",
    ) -> None:
        super().__init__()
        if list(times) != sorted(set(times), reverse=True) or not times or not 0 <= times[-1] <= times[0] <= 1:
            raise ValueError(f"times must fall strictly within [0, 1], got {list(times)}")
        within(0, 1, times=list(times))
        self.times = list(times)
        self.durations = durations
        self.alignment = alignment
        self.published = protocol == "published"
        self.listener = Listener(recogniser, speaker_encoder, cepstral_distortion, log_f0, self.published)

    @property
    def deviations(self) -> tuple[str, ...]:
        """What the published protocol does otherwise than it should; nothing under the repaired one."""
        return _DEVIATIONS if self.published else ()

    @torch.no_grad()
    def measure(self, model: SpeechModel, batch: Utterances, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        # An utterance that cannot be aligned is found here, before any costly work on its neighbours.
        alignments = [
            model.align(tokens, mel, self.alignment, speaker)
            for tokens, mel, speaker in zip(batch.tokens, batch.mel, batch.speaker, strict=True)
        ]
        return [self._measure(model, batch, b, aligned, estimator) for b, aligned in enumerate(alignments)]

    def _measure(
        self, model: SpeechModel, batch: Utterances, b: int, aligned: Aligned, estimator: Estimator
    ) -> Outcome:
        """One utterance by itself, its stages side by side: they have one length, so none sees another's padding."""
        flow, name, speaker, mel = model.flow(), batch.sample_id[b], batch.speaker[b], batch.mel[b]
        spoken = aligned if self.durations == "reference" else model.predict(batch.tokens[b], speaker)
        path = self._follow(model, flow, spoken, name, speaker, estimator)
        if path.failures[0]:
            return Outcome(name, error=path.failures[0])
        data = estimator.state(model.pad(mel))
        groups = [([data], aligned), (path.states, spoken)]
        if spoken is aligned:
            groups = [([data, *path.states], aligned)]
        reads = [
            estimator.log_likelihood(
                flow,
                torch.cat(stages),
                model.condition([self._mean(model, own)] * len(stages), [speaker] * len(stages)),
                [f"{name}/{place}" if self.published else name for place in range(len(stages))],
            )
            for stages, own in groups
        ]
        if failure := next(filter(None, (failure for read in reads for failure in read.failures)), None):
            return Outcome(name, error=failure)
        states = [state[0, :, : spoken.mu.shape[-1]] for state in path.states]
        mels, aside = [mel, *(state.to(mel) for state in states)], Aside([name] * (2 + len(states)))
        waves = aside.take(VOCODED, lambda some: [model.vocode(each) for each in some], [None, *mels])
        waves[0] = batch.audio[b]
        heard = self.listener(batch.text[b], batch.audio[b], waves, model.rate, aside)
        likelihoods = [
            self._of_real_frames(row, own.mu)
            for read, (_, own) in zip(reads, groups, strict=True)
            for row in likelihood_columns(read, estimator, flow)
        ]
        shared = about(batch, b) | {
            "alignment": self.alignment,
            "durations": self.durations,
            "vocoder": type(model.vocoder).__name__,
        }
        shared |= protocol_columns("published" if self.published else "repaired", self.deviations)
        rows = self._rows(flow, likelihoods, reads[0], path)
        sounds = {"source": waves[0], "vocoded": waves[1], f"t{self.times[-1]:g}": waves[-1]}
        log_p = [aligned.duration_log_p] * 2 + [spoken.duration_log_p] * len(states)
        return Outcome(
            name,
            rows=[
                row | listened | {"duration_log_p": duration} | shared | aside.columns(place)
                for place, (row, listened, duration) in enumerate(zip(rows, heard, log_p, strict=True))
            ],
            picture=side_by_side([spoken.mu, *states, mel]),
            sound={name: wave for name, wave in sounds.items() if wave is not None},
            rate=model.rate,
        )

    def _follow(
        self,
        model: SpeechModel,
        flow: ProbabilityFlow,
        spoken: Aligned,
        name: str,
        speaker: int,
        estimator: Estimator,
    ) -> Trajectory:
        condition = model.condition([self._mean(model, spoken)], [speaker])
        centre = estimator.state(model.pad(spoken.mu))
        start = noise(centre, [name], seed=estimator.seed, purpose=Purpose.LATENT, mask=condition.mask)
        latent = centre + start  # N(mu, I)
        return estimator.trajectory(flow, latent, condition, self.times, [name], densities=not self.published)

    def _rows(
        self, flow: ProbabilityFlow, likelihoods: Sequence[dict[str, Any]], read: LogLikelihood, path: Trajectory
    ) -> list[dict[str, Any]]:
        """Records of the recording, of its mel through the vocoder, and of each time."""
        schedule = flow.schedule
        data, *samples = likelihoods
        # Data have no time on a trajectory; as data they are read at the smallest noise level, their own marginal.
        own, *marginals = [read, *path.marginals] if path.marginals is not None else [None] * (1 + len(samples))
        rows = [
            data | {"stage": "data", "time": None, "sigma": read.r} | _marginal(own),
            data | dict.fromkeys(_LIKELIHOOD) | {"stage": "vocoded", "time": None, "sigma": None},
        ]
        for row, time, marginal in zip(samples, self.times, marginals, strict=True):
            level = schedule.at(min(max(time, schedule.t_min), schedule.t_max))
            rows.append(row | {"stage": "sample", "time": time, "sigma": float(level.r)} | _marginal(marginal))
        return rows

    def _mean(self, model: SpeechModel, aligned: Aligned) -> Tensor:
        """The means [bands, T], or with the frames that pad them, all taken for real."""
        return model.pad(aligned.mu)[0] if self.published else aligned.mu

    def _of_real_frames(self, row: dict[str, Any], mu: Tensor) -> dict[str, Any]:
        """A likelihood's columns; where padded frames are scored they are still no dimensions."""
        if not self.published:
            return row
        share = row["dims"] / mu.numel()
        scaled = {name: row[name] * share for name in ("bpd", "bpd_standard_error")}
        return row | scaled | {"dims": mu.numel()}


def _marginal(result: LogLikelihood | None) -> dict[str, float | None]:
    """Density of the first sample of a result as that at its own time; nothing if it was not taken."""
    if result is None:
        errors = ("standard_error", "probe_variance", "discretisation")
        return dict.fromkeys(("bpd_marginal", *(f"bpd_marginal_{error}" for error in errors)))
    return {
        "bpd_marginal": float(result.bpd[0]),
        "bpd_marginal_standard_error": float(result.bpd_standard_error[0]),
        "bpd_marginal_probe_variance": float((result.variance / result.nats_per_bpd**2)[0]),
        "bpd_marginal_discretisation": float((result.discretisation / result.nats_per_bpd)[0]),
    }


def side_by_side(mels: Sequence[Tensor]) -> Tensor:
    """Mels [bands, T_i] as one coloured image [3, bands, n max T_i] in [0, 1], in the last one's range of values."""
    from matplotlib import colormaps

    low, high = mels[-1].min(), mels[-1].max()
    width = max(mel.shape[-1] for mel in mels)
    panels = []
    for mel in mels:
        level = ((mel.to(mels[-1]) - low) / (high - low)).clamp(0, 1).flip(0)
        colours = torch.from_numpy(colormaps["magma"](level.cpu().numpy())[..., :3]).movedim(-1, 0)
        panels.append(torch.nn.functional.pad(colours, (0, width - mel.shape[-1]), value=1.0))
    return torch.cat(panels, -1).float()
