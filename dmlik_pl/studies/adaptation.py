"""Speech of another domain, taken through the flow of a model and back (Table 3 of Cross and Ragni).

There is no text: the model's mean is the blurred spectrogram, and the flow is to fill in what its own domain has. The
way to x_T is the probability flow, which keeps everything of the recording, or one draw from q(x_T | x_0), which keeps
next to nothing but the mean. The two go by different names here.

Where the same flow leads forward and back, with one mean and one speaker, the way is the identity: what comes out
differs from what went in by the error of the solvers alone. That error is measured for every solver.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlik_pl.flow import LogLikelihood, Solver, SolverError, TorchDiffEq
from dmlik_pl.flow.mid_time import MidTimeEuler
from dmlik_pl.metrics.recognition import Recogniser
from dmlik_pl.metrics.speaker import SpeakerEncoder, speaker_similarity
from dmlik_pl.ranges import at_least
from dmlik_pl.records.missing import HEARD, VOCODED
from dmlik_pl.studies.aside import Aside
from dmlik_pl.studies.base import Estimator, Outcome, Study, likelihood_columns
from dmlik_pl.studies.blur import Blur
from dmlik_pl.studies.flow_paths import NONE, Paths, Route, find_routes, follow
from dmlik_pl.studies.reference_voice import ReferenceVoice, SpeechCorpus, Voice
from dmlik_pl.studies.speech import Listener, SpeechModel, Utterances, about, module_name, once_each
from dmlik_pl.studies.speech_sweep import side_by_side

__all__ = ["Adaptation"]

_ERRORS = ("", "_standard_error", "_probe_variance", "_discretisation")
# Of a likelihood, of a way and of a voice: empty where there is none.
_LIKELIHOOD = (
    *("log_p", "standard_error", "probe_variance", "discretisation", "rounding", "bpd", "bpd_standard_error"),
    *("prior_term", "divergence_term"),
    *(f"bpd_own_mean{end}" for end in _ERRORS),
    *(f"bpd_change{end}" for end in _ERRORS),
)
_WAY = ("latent_rms", "change_rms", "change_max")
_HEARD = ("transcript", "word_errors", "words", "speaker_similarity", "source_similarity")


@dataclass(frozen=True)
class _Adapted:
    """One recording along all routes.

    Attributes:
        source: The spectrogram that went in, [bands, T'].
        frames: Its real frames, T.
        means: One for each blur, [bands, T'].
        latents: x_T by forward and speaker, [blurs, bands, T'].
        mels: What came out, by route, [blurs, bands, T'].
    """

    source: Tensor
    frames: int
    means: list[Tensor]
    latents: dict[tuple[str, int], Tensor]
    mels: dict[Route, Tensor]


class Adaptation(Study):
    """Map recordings towards a model's domain, and say what becomes of words, voice and likelihood.

    Args:
        blurs: The means: each blurs the recording's own spectrogram.
        solvers: Solvers of the probability flow, by the names in the rows. By default the paper's: Euler, Grad-TTS's
            own steps (100), and RK45, dopri5 at tolerances of 1e-5.
        paths: Pairs [forward, reverse]. Forward is the name of a solver; or "stochastic", a draw from q(x_T | x_0); or
            "prior", a draw from N(mu, I) that sees nothing of the recording but its blur; or "none", which changes
            nothing. Reverse is the name of a solver, or "none". "paper" takes those of Table 3, "grid" every forward
            with every reverse. The untouched recording is always measured too.
        speaker: The speaker of the model that recordings are adapted to and scored under.
        source_speaker: The speaker that the model is given on the way forward; None takes `speaker`.
        recogniser: For the word error rate, one of :mod:`dmlik_pl.metrics.recognition`; None leaves it out.
        speaker_encoder: For the similarity of voices, one of :mod:`dmlik_pl.metrics.speaker`; None leaves it out.
        reference: Recordings of the speaker that voices are compared with: a folder of wav or flac files, or speech
            data of :mod:`dmlik_pl.data`, which should hold no recording that is adapted.
        reference_limit: At most this many of them; None takes all.
        protocol: "repaired" takes real frames only. "published" does as the paper's code: spectrograms are padded with
            zeros to a multiple of 4 frames before they are blurred, the padding counts as data but not as dimensions,
            and voices are compared with the first recording of the reference.

    Raises:
        FileNotFoundError: If there are no reference recordings.
        ValueError: If names clash or are unknown.
    """

    kind = "adaptation"
    asks = SpeechModel
    reads = Utterances

    def __init__(
        self,
        blurs: Sequence[Blur] = (Blur(),),
        solvers: dict[str, Solver] | None = None,
        paths: Paths = "paper",
        speaker: int = 0,
        source_speaker: int | None = None,
        recogniser: Recogniser | None = None,
        speaker_encoder: SpeakerEncoder | None = None,
        reference: str | SpeechCorpus | None = None,
        reference_limit: int | None = 50,
        protocol: Literal["repaired", "published"] = "repaired",
    ) -> None:
        super().__init__()
        if not blurs or len({blur.name for blur in blurs}) < len(blurs):
            raise ValueError(f"blurs must be one or more different ones, got {[blur.name for blur in blurs]}")
        at_least(0, speaker=speaker, source_speaker=source_speaker)
        self.blurs = list(blurs)
        self.solvers: Mapping[str, Solver] = solvers or {"Euler": MidTimeEuler(), "RK45": TorchDiffEq("dopri5")}
        self.speaker = speaker
        self.source_speaker = speaker if source_speaker is None else source_speaker
        self.routes = find_routes(paths, self.solvers, self.source_speaker)
        self.round_trips = [Route(name, speaker, name) for name in self.solvers]
        self.listener = Listener(recogniser, None, cepstral_distortion=False, log_f0=False)
        self.speaker_encoder = speaker_encoder
        self.published = protocol == "published"
        limit = 1 if self.published else reference_limit
        self.reference = None if reference is None else ReferenceVoice(reference, limit)
        self._voice: Voice | None = None

    @torch.no_grad()
    def measure(self, model: SpeechModel, batch: Utterances, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        if self._voice is None and self.reference is not None and self.speaker_encoder is not None:
            self._voice = self.reference.heard_by(self.speaker_encoder)
        return [self._measure(model, batch, b, estimator) for b in range(len(batch.sample_id))]

    def _measure(self, model: SpeechModel, batch: Utterances, b: int, estimator: Estimator) -> Outcome:
        """One utterance by itself: all that is made of it has one length, so nothing sees another's padding."""
        name, mel = batch.sample_id[b], batch.mel[b]
        try:
            found = self._adapt(model, name, mel, estimator)
        except SolverError as error:
            return Outcome(name, error=str(error))
        scores = self._score(model, name, found, estimator)
        if isinstance(scores, str):
            return Outcome(name, error=scores)
        adapted = [found.mels[route][:, :, : found.frames].to(mel) for route in self.routes]
        mels = [mel, *(one for each in adapted for one in each)]
        aside = Aside([name] * (1 + len(mels)))
        waves = aside.take(VOCODED, lambda some: [model.vocode(each) for each in some], [None, *mels])
        waves[0] = batch.audio[b]
        heard = self._listen(batch.text[b], batch.audio[b], waves, model.rate, aside)
        shared = about(batch, b) | self._settings(model)
        sounds = {"source": waves[0], "vocoded": waves[1]} | {
            f"{route.forward}-{route.reverse}": waves[2 + i * len(self.blurs)] for i, route in enumerate(self.routes)
        }
        latents = [found.latents[way] for way in dict.fromkeys(route[:2] for route in self.routes)]
        panels = [found.means[0], *(latent[0] for latent in latents), *(each[0] for each in adapted)]
        return Outcome(
            name,
            rows=[row | shared for row in self._rows(found, scores, heard)],
            picture=side_by_side([*(panel[:, : found.frames] for panel in panels), mel]),
            sound={name: wave for name, wave in sounds.items() if wave is not None},
            rate=model.rate,
        )

    def _adapt(self, model: SpeechModel, name: str, mel: Tensor, estimator: Estimator) -> _Adapted:
        frames, source = mel.shape[-1], mel
        if self.published:
            source = pad(mel, (0, model.pad(mel).shape[-1] - frames))
        means = [blur(source, "mirrored" if self.published else "symmetric") for blur in self.blurs]
        x = estimator.state(model.pad(source)).expand(len(means), -1, -1)
        speakers = {self.speaker, self.source_speaker}
        conditions = {who: model.condition(means, [who] * len(means)) for who in speakers}
        latents, mels = follow(
            model,
            conditions,
            x,
            [name] * len(means),
            [*self.routes, *self.round_trips],
            self.speaker,
            self.solvers,
            estimator,
        )
        size = source.shape[-1]
        return _Adapted(
            source,
            frames,
            means,
            {key: latent[..., :size] for key, latent in latents.items()},
            {route: each[..., :size] for route, each in mels.items()},
        )

    def _score(
        self, model: SpeechModel, name: str, found: _Adapted, estimator: Estimator
    ) -> list[list[dict[str, Any]]] | str:
        """For each blur the likelihood of the recording, then of each adapted mel; or why there is none."""
        pairs = []  # mel and mean
        for k, mean in enumerate(found.means):
            adapted = [found.mels[route][k] for route in self.routes]
            own = [self._blurred(k, mel).to(mean) for mel in adapted]
            pairs += [(found.source, mean), *((mel, mean) for mel in adapted), *zip(adapted, own, strict=True)]
        mels = torch.cat([estimator.state(model.pad(mel.to(found.source))) for mel, _ in pairs])
        condition = model.condition([mean for _, mean in pairs], [self.speaker] * len(pairs))
        flow = model.flow()
        result = estimator.log_likelihood(flow, mels, condition, [name] * len(pairs))
        if failure := next(filter(None, result.failures), None):
            return failure
        columns = likelihood_columns(result, estimator, flow)
        bits = found.source.shape[0] * found.frames * math.log(2)
        scores, count = [], 1 + 2 * len(self.routes)
        for first in range(0, len(pairs), count):
            unchanged = dict.fromkeys(f"bpd_change{end}" for end in _ERRORS)
            each = [columns[first] | _bits(result, first, first, first, bits) | unchanged]
            for place in range(first + 1, first + 1 + len(self.routes)):
                each.append(columns[place] | _bits(result, place, place + len(self.routes), first, bits))
            scores.append(each)
        return scores

    def _blurred(self, k: int, mel: Tensor) -> Tensor:
        return self.blurs[k](mel, "mirrored" if self.published else "symmetric")

    def _listen(
        self, text: str, recording: Tensor, waves: Sequence[Tensor | None], rate: int, aside: Aside
    ) -> list[dict[str, Any]]:
        """What is heard of each wave; the first is the recording."""
        rows = [
            {key: row[key] for key in ("recogniser", "transcript", "word_errors", "words")}
            | {"speaker_encoder": None, "speaker_similarity": None, "source_similarity": None}
            for row in self.listener(text, recording, waves, rate, aside)
        ]
        if (encoder := self.speaker_encoder) is not None:
            known = once_each(lambda wave: encoder.embed([wave], rate))
            vectors = aside.take(HEARD["speaker_similarity"], lambda some: list(map(known, some)), waves)
            for vector, row in zip(vectors, rows, strict=True):
                row |= self._similarities(vector, vectors[0])
        return [row | aside.columns(place) for place, row in enumerate(rows)]

    def _similarities(self, vector: Tensor | None, source: Tensor | None) -> dict[str, Any]:
        """Cosines of a voice [1, D] to the recording's and to the reference."""
        return {
            "speaker_encoder": module_name(self.speaker_encoder),
            "source_similarity": _cosine(vector, source),
            "speaker_similarity": _cosine(vector, None if self._voice is None else self._voice.direction[None]),
        }

    def _rows(
        self, found: _Adapted, scores: list[list[dict[str, Any]]], heard: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """A record for the recording, its vocoded mel, each route and each round trip; for every blur."""
        rows: list[dict[str, Any]] = []
        unheard = heard[0] | dict.fromkeys(_HEARD)
        for k, blur in enumerate(self.blurs):
            source, *adapted = scores[k]
            unscored = source | dict.fromkeys(_LIKELIHOOD)
            untouched = self._names(Route(NONE, self.source_speaker, NONE)) | dict.fromkeys(_WAY)
            here = [
                {"stage": "data"} | untouched | source | heard[0],
                {"stage": "vocoded"} | untouched | unscored | heard[1],
            ]
            for i, route in enumerate(self.routes):
                listened = heard[2 + i * len(self.blurs) + k]
                here.append({"stage": "adapted"} | self._way(found, route, k) | adapted[i] | listened)
            here += [{"stage": "round trip"} | self._way(found, r, k) | unscored | unheard for r in self.round_trips]
            mean = {"mean": blur.name, "blur_kernel": blur.kernel, "blur_sigma": blur.sigma}
            rows += [row | mean for row in here]
        return rows

    def _way(self, found: _Adapted, route: Route, k: int) -> dict[str, Any]:
        """Names of a route, and how far it led, over real frames."""
        source = found.source[:, : found.frames].double()
        centred = (found.latents[route[:2]][k] - found.means[k])[:, : found.frames].double()
        change = found.mels[route][k][:, : found.frames].double() - source
        return self._names(route) | {
            "latent_rms": float(centred.square().mean().sqrt()),
            "change_rms": float(change.square().mean().sqrt() / source.std(correction=0)),
            "change_max": float(change.abs().max()),
        }

    def _names(self, route: Route) -> dict[str, Any]:
        solvers = {name: solver.describe() for name, solver in self.solvers.items()}
        return {
            "forward": route.forward,
            "reverse": route.reverse,
            "forward_speaker": route.speaker,
            "reverse_speaker": self.speaker,
            "forward_solver": solvers.get(route.forward),
            "reverse_solver": solvers.get(route.reverse),
        }

    def _settings(self, model: SpeechModel) -> dict[str, Any]:
        voice = self._voice
        return {
            "protocol": "published" if self.published else "repaired",
            "vocoder": type(model.vocoder).__name__,
            "reference": None if voice is None or self.reference is None else self.reference.name,
            "reference_size": None if voice is None else voice.size,
            "reference_similarity": None if voice is None else _known(voice.own_similarity),
        }


def _bits(result: LogLikelihood, place: int, own: int, source: int, bits: float) -> dict[str, float]:
    """Bits per dimension of a mel: under the recording's blur, under its own, and their change from the recording's."""
    adapted, recording = result.select([place]), result.select([source])
    change, error = adapted.minus(recording)
    named = {"bpd": place, "bpd_own_mean": own}
    values = {name: -float(result.log_p[i]) / bits for name, i in named.items()}
    errors = {f"{name}_standard_error": float(result.standard_error[i]) / bits for name, i in named.items()}
    errors["bpd_own_mean_probe_variance"] = float(result.variance[own]) / bits**2
    errors["bpd_own_mean_discretisation"] = float(result.discretisation[own]) / bits
    paired = {"bpd_change": -float(change[0]) / bits, "bpd_change_standard_error": float(error[0]) / bits}
    paired["bpd_change_probe_variance"] = float(adapted.variance_of_difference(recording)) / bits**2
    paired["bpd_change_discretisation"] = float(adapted.discretisation.hypot(recording.discretisation)) / bits
    return values | errors | paired


def _cosine(vector: Tensor | None, other: Tensor | None) -> float | None:
    """Cosine of two vectors [1, D]; None where one is not known."""
    return None if vector is None or other is None else _known(float(speaker_similarity(vector, other)))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
