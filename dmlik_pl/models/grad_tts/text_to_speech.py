"""Grad-TTS as a model of speech: alignment, the condition of a likelihood, synthesis."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from dmlik_pl.flow import Condition, GaussianPrior, LinearVP
from dmlik_pl.models.base import DiffusionModel
from dmlik_pl.models.grad_tts.alignment import duration_log_prob, log_prior, maximum_path, stretch_durations
from dmlik_pl.models.grad_tts.checkpoint import read_network, write_network
from dmlik_pl.models.grad_tts.inputs import check_mel, check_tokens, check_width
from dmlik_pl.models.grad_tts.network import GradTTS, padded_length
from dmlik_pl.models.griffin_lim import GriffinLim
from dmlik_pl.models.vocoder import Vocoder
from dmlik_pl.ranges import above, at_least, between

__all__ = ["Alignment", "Policy", "TextToSpeech", "text_free_mean"]

Policy = Literal["search", "durations"]

DEFAULT_DEVIATION = 0.5


@dataclass(frozen=True)
class Alignment:
    """Which frames belong to which token.

    Attributes:
        durations: How many frames each token has, [L].
        mu: The tokens' means along the frames, [80, T].
        duration_log_p: Log-probability of the durations, given the text, nats.
    """

    durations: Tensor
    mu: Tensor
    duration_log_p: float


def text_free_mean(mu: Tensor) -> Tensor:
    """Each band's mean over the frames of mu [80, T], repeated: what is left of a condition without its text."""
    return mu.mean(1, keepdim=True).expand_as(mu).contiguous()


class TextToSpeech(DiffusionModel):
    """A Grad-TTS whose log-mel spectrograms have a density given their text.

    An utterance is padded to the next multiple of 4 frames and no further: the network sees padded frames, so that more
    of them would change its likelihood.

    Args:
        path: A folder with config.json and model.safetensors, the name of a shipped one, or a file of official weights
            (.pt or .safetensors).
        vocoder: What makes waves of spectrograms; Griffin-Lim by default.
        pe_scale: What time is multiplied by before it is embedded; that of the folder by default, else 1000. The
            oldest official weights, grad-tts-old.pt, were trained with 1.
        beta_min: Noise rate at t = 0; that of the folder by default, else 0.05.
        beta_max: Noise rate at t = 1; that of the folder by default, else 20.
        duration_deviation: Standard deviation of a duration's natural logarithm around its prediction, of which the
            probability of an alignment is made; that of the folder by default, else 0.5.
        t_min: Time at which data are read.

    Raises:
        FileNotFoundError: If there are no weights; the message says where to get them.
        ValueError: If they do not fit.

    References:
        | Grad-TTS: A Diffusion Probabilistic Model for Text-to-Speech (Popov et al., 2021)
    """

    space = "log-mel spectrogram (natural log, 80 bands)"

    def __init__(
        self,
        path: str,
        vocoder: Vocoder | None = None,
        pe_scale: float | None = None,
        beta_min: float | None = None,
        beta_max: float | None = None,
        duration_deviation: float | None = None,
        t_min: float = 1e-5,
    ) -> None:
        super().__init__()
        above(0, pe_scale=pe_scale, beta_max=beta_max, duration_deviation=duration_deviation)
        at_least(0, beta_min=beta_min)
        between(0, 1, t_min=t_min)
        network, stored = read_network(path, {"pe_scale": pe_scale, "beta_min": beta_min, "beta_max": beta_max})
        self._assemble(network, vocoder, stored if duration_deviation is None else duration_deviation, t_min)
        self.freeze()

    @classmethod
    def wrap(
        cls,
        network: GradTTS,
        vocoder: Vocoder | None = None,
        duration_deviation: float | None = None,
        t_min: float = 1e-5,
    ) -> Self:
        """The model around a network that is trained further: weights are shared, and nothing is frozen."""
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._assemble(network, vocoder, duration_deviation, t_min)
        return model

    @classmethod
    def from_pretrained(cls, path: str | Path, **options: Any) -> Self:
        """Read what :meth:`save_pretrained` wrote; options are those of the constructor."""
        return cls(str(path), **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors; the vocoder is not part of them."""
        write_network(folder, self.grad_tts, self.duration_deviation)

    def _assemble(self, network: GradTTS, vocoder: Vocoder | None, deviation: float | None, t_min: float) -> None:
        self.grad_tts = network
        self.vocoder = GriffinLim() if vocoder is None else vocoder
        self.rate = self.vocoder.rate
        self.duration_deviation = DEFAULT_DEVIATION if deviation is None else deviation
        if self.duration_deviation <= 0:
            raise ValueError(f"duration_deviation must be positive, got {self.duration_deviation:g}")
        self.schedule = LinearVP(network.decoder.beta_min, network.decoder.beta_max, t_min=t_min)
        self.prediction = "score"
        self.prior = GaussianPrior("total")

    @property
    def _weight(self) -> Tensor:
        """A tensor of the network, for its device and dtype."""
        return self.grad_tts.encoder.emb.weight

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The score at x_t [B, 80, T] and times [B], of the shape and dtype of x."""
        weight = self._weight
        speaker = self.grad_tts.spk_emb(inputs["speaker"]) if "speaker" in inputs else None
        score: Tensor = self.grad_tts.decoder.estimator(
            x.to(weight), inputs["mask"], inputs["mu"].to(weight), time.to(weight), speaker
        )
        return score.to(x.dtype)

    def condition(self, mu: Tensor | Sequence[Tensor], speaker: Sequence[int] | None = None) -> Condition:
        """The condition of a batch of utterances.

        Args:
            mu: Aligned means of each, [80, T_i]; all T_i round up to the same multiple of 4. One alone is a batch of
                one.
            speaker: Speakers, one for each; 0 by default.

        Raises:
            ValueError: If means are no spectrograms, their padded lengths differ, there are more or fewer speakers, or
                the model does not know one.
        """
        mu = [mu] if isinstance(mu, Tensor) and mu.dim() == 2 else list(mu)
        for value in mu:
            check_width(value, self.grad_tts.n_feats)
        speaker = [0] * len(mu) if speaker is None else list(speaker)
        if len(speaker) != len(mu):
            raise ValueError(f"{len(speaker)} speakers for {len(mu)} utterances")
        lengths = sorted({padded_length(value.shape[1]) for value in mu})
        if len(lengths) != 1:
            raise ValueError(
                f"utterances of different padded lengths, {lengths} frames, in one batch: padding an utterance further "
                "than to its own multiple of 4 would change its likelihood. Batch equal lengths, or one by one"
            )
        device = self._weight.device
        means = torch.cat([self.pad(value) for value in mu]).to(device)
        frames = torch.tensor([value.shape[1] for value in mu], device=device)
        mask = torch.arange(lengths[0], device=device)[None, None] < frames[:, None, None]
        inputs = {"mu": means, "mask": mask}
        if self.grad_tts.n_spks > 1:
            inputs["speaker"] = torch.tensor([self._known(value) for value in speaker], device=device)
        return Condition(inputs, mean=means, mask=mask.expand_as(means))

    def pad(self, mel: Tensor) -> Tensor:
        """A spectrogram [80, T] as a batch of one, [1, 80, T'], with zeros up to the next multiple of 4.

        Raises:
            ValueError: If it is not a spectrogram.
        """
        check_width(mel, self.grad_tts.n_feats)
        frames = mel.shape[1]
        return nn.functional.pad(mel, (0, padded_length(frames) - frames))[None]

    @torch.no_grad()
    def align(self, tokens: Tensor, mel: Tensor, policy: Policy = "search", speaker: int = 0) -> Alignment:
        """Align a text with a spectrogram.

        Args:
            tokens: Token ids, [L].
            mel: Log-mel spectrogram, [80, T].
            policy: ``search`` is the best monotonic path for this spectrogram; ``durations`` looks at nothing of it but
                its length: every token gets one frame, and the others are shared as the model predicts.
            speaker: Who speaks. The official text encoder ignores it.

        Raises:
            ValueError: If it is no log-mel spectrogram of a wave in [-1, 1], there are fewer frames than tokens, or the
                model does not know a token or the speaker.
        """
        self._known(speaker)
        check_mel(mel, self.grad_tts.n_feats)
        means, log_durations = self._encode(tokens)
        frames = mel.shape[1]
        if frames < len(tokens):
            raise ValueError(
                f"alignment impossible: {len(tokens)} tokens, {frames} frames, and every token needs a frame"
            )
        match policy:
            case "search":
                value = log_prior(means[None], mel.to(means)[None])
                durations = maximum_path(value, torch.ones_like(value))[0].sum(1).long()
            case "durations":
                durations = stretch_durations(log_durations.exp(), frames)
            case _:
                raise ValueError(f"unknown alignment policy {policy!r}: there are 'search' and 'durations'")
        return self._spread(means, log_durations, durations)

    @torch.no_grad()
    def predict(self, tokens: Tensor, speaker: int = 0) -> Alignment:
        """Give a text the durations, and so the length, that the official sampler would give it.

        Args:
            tokens: Token ids, [L].
            speaker: Who speaks. The official text encoder ignores it.

        Raises:
            ValueError: If the model does not know a token or the speaker.
        """
        self._known(speaker)
        means, log_durations = self._encode(tokens)
        return self._spread(means, log_durations, log_durations.exp().ceil().long().clamp(min=1))

    def _spread(self, means: Tensor, log_durations: Tensor, durations: Tensor) -> Alignment:
        log_p = float(duration_log_prob(durations, log_durations, self.duration_deviation).sum())
        return Alignment(durations, means.repeat_interleave(durations, 1), log_p)

    @torch.no_grad()
    def synthesise(
        self,
        tokens: Tensor,
        speaker: int = 0,
        durations: Tensor | None = None,
        *,
        steps: int = 50,
        temperature: float = 1.0,
        stochastic: bool = False,
        length_scale: float = 1.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Speak a text as the official sampler does.

        Args:
            tokens: Token ids, [L].
            speaker: Who speaks.
            durations: Whole durations in frames, [L]; the predicted ones by default.
            steps: Steps of the reverse diffusion.
            temperature: What the noise is divided by: a higher temperature means less noise.
            stochastic: Whether to follow the reverse SDE instead of the probability flow.
            length_scale: What predicted durations are multiplied by after rounding up.
            noise: Standard normal noise [80, T'], T' being T rounded up to a multiple of 4; drawn by default.

        Returns:
            The log-mel spectrogram, [80, T].

        Raises:
            ValueError: If durations do not fit the tokens, or the model does not know a token or the speaker.
        """
        who = torch.tensor([self._known(speaker)], device=self._weight.device)
        given = None if noise is None else noise[None]
        if durations is None:
            ids, length = self._batch_of_one(tokens)
            spoken = self.grad_tts(ids, length, steps, temperature, stochastic, who, length_scale, noise=given)
            return spoken.decoder_outputs[0]
        means, _ = self._encode(tokens)
        if len(durations) != len(tokens) or bool((durations < 0).any()) or int(durations.sum()) == 0:
            raise ValueError(
                f"{len(durations)} durations of {int(durations.sum())} frames in all do not fit {len(tokens)} tokens"
            )
        mu = means.repeat_interleave(durations.to(means.device), 1)
        condition = self.condition([mu], [speaker]).inputs
        z = torch.randn_like(condition["mu"]) if given is None else given.to(condition["mu"])
        mel = self.grad_tts.decoder(
            condition["mu"] + z / temperature,
            condition["mask"].to(means),
            condition["mu"],
            steps,
            stochastic,
            self.grad_tts.embed_speaker(who),
        )
        return mel[0, :, : mu.shape[1]]

    def vocode(self, mel: Tensor) -> Tensor:
        """A log-mel spectrogram [80, T] as a wave [256 T] at ``rate``.

        Raises:
            ValueError: If it is not a spectrogram.
        """
        check_width(mel, self.grad_tts.n_feats)
        wave: Tensor = self.vocoder(mel[None])
        return wave[0]

    def _encode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Means [80, L] and natural logarithms of durations [L] of a text alone."""
        means, log_durations, _ = self.grad_tts.encoder(*self._batch_of_one(tokens))
        return means[0], log_durations[0, 0]

    def _batch_of_one(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids [1, L] and their number [1]."""
        weight = self._weight
        check_tokens(tokens, len(weight))
        return tokens[None].to(weight.device), torch.tensor([len(tokens)], device=weight.device)

    def _known(self, speaker: int) -> int:
        if not 0 <= speaker < self.grad_tts.n_spks:
            raise ValueError(f"speaker {speaker} is not among the model's {self.grad_tts.n_spks}, counted from 0")
        return speaker
