"""A model of speech of which every likelihood is known, and utterances for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dmlik_pl.data.speech import UtteranceBatch
from dmlik_pl.flow import Condition, GaussianPrior, LinearVP
from dmlik_pl.metrics.recognition import Recogniser
from dmlik_pl.models.base import DiffusionModel
from dmlik_pl.models.grad_tts.alignment import log_prior, maximum_path, stretch_durations
from dmlik_pl.speech.text import EnglishFrontEnd

BANDS = 3
DEVIATION = 0.6


@dataclass
class ToyAlignment:
    durations: Tensor
    mu: Tensor
    duration_log_p: float


class Hum(nn.Module):
    """Each band is the loudness of one harmonic."""

    def forward(self, mel: Tensor) -> Tensor:
        time = torch.arange(256 * mel.shape[-1]) / 22_050
        loud = mel.float().repeat_interleave(256, -1).clamp(-6, 1).exp() * 0.1
        tones = torch.stack([torch.sin(2 * math.pi * 120 * k * time) for k in range(1, BANDS + 1)])
        return (loud * tones).sum(0).clamp(-1, 1)


class ToySpeech(DiffusionModel):
    """Mels of three bands: N(mu, DEVIATION^2 I) around the means of their tokens, padded to a multiple of 4 frames."""

    space = "toy mels"
    prediction = "score"
    prior = GaussianPrior()
    rate = 22_050

    def __init__(self) -> None:
        super().__init__()
        self.schedule = LinearVP(beta_max=30.0)  # nothing of the data is left for the prior to miss
        self.vocoder = Hum()

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        level = self.schedule.at(time.double())
        variance = ((level.alpha * DEVIATION) ** 2 + level.sigma**2)[:, None, None]
        return (-(x.double() - inputs["mu"]) / variance * inputs["mask"]).to(x)

    def means(self, tokens: Tensor) -> Tensor:
        """Of each token, [3, L]."""
        number = tokens.double()
        return torch.stack([torch.cos(number), torch.sin(2 * number), number / 150])

    def spread(self, tokens: Tensor, durations: Tensor) -> ToyAlignment:
        mu = self.means(tokens).repeat_interleave(durations, 1)
        return ToyAlignment(durations, mu, -float(durations.double().log().sum()))

    def align(self, tokens: Tensor, mel: Tensor, policy: str, speaker: int = 0) -> ToyAlignment:
        frames = mel.shape[-1]
        if frames < len(tokens):
            raise ValueError(f"alignment impossible: {len(tokens)} tokens, {frames} frames")
        if policy == "durations":
            return self.spread(tokens, stretch_durations(torch.ones(len(tokens)), frames))
        value = log_prior(self.means(tokens)[None], mel.double()[None])
        return self.spread(tokens, maximum_path(value, torch.ones_like(value))[0].sum(1).long())

    def predict(self, tokens: Tensor, speaker: int = 0) -> ToyAlignment:
        return self.spread(tokens, torch.full((len(tokens),), 3))

    def condition(self, mu: Sequence[Tensor], speaker: Sequence[int]) -> Condition:
        assert len({-(-value.shape[-1] // 4) for value in mu}) == 1
        means = torch.cat([self.pad(value) for value in mu])
        frames = torch.tensor([value.shape[-1] for value in mu])
        mask = (torch.arange(means.shape[-1]) < frames[:, None])[:, None]
        return Condition({"mu": means, "mask": mask}, mean=means, mask=mask.expand_as(means))

    def pad(self, mel: Tensor) -> Tensor:
        return nn.functional.pad(mel, (0, -mel.shape[-1] % 4), value=7.0)[None]  # must not matter

    def vocode(self, mel: Tensor) -> Tensor:
        return self.vocoder(mel)

    def log_prob(self, x: Tensor, mu: Tensor, alpha: float, sigma: float) -> float:
        """Log-density of x_t [3, T] at a noise level, nats; data are read at alpha = 1, sigma = r_min."""
        return float(torch.distributions.Normal(mu, math.hypot(alpha * DEVIATION, sigma)).log_prob(x.double()).sum())


class Loudness(Recogniser):
    """Hears one word for every 2000 samples that are loud."""

    rate = 22_050

    def transcribe_one(self, wave: Tensor) -> str:
        return " ".join(["window"] * int((wave.abs() > 0.02).sum() / 2000))


def make_utterances(model: ToySpeech, texts: Sequence[str], frames: Sequence[int], seed: int = 1) -> UtteranceBatch:
    """Utterances of given lengths, drawn from the model under equal durations."""
    generator, front_end = torch.Generator().manual_seed(seed), EnglishFrontEnd(blanks=False)
    tokens = [front_end(text) for text in texts]
    mels = []
    for ids, length in zip(tokens, frames, strict=True):
        blank = torch.zeros(BANDS, length)
        mu = model.align(ids, blank, "durations").mu if length >= len(ids) else blank
        mels.append((mu + DEVIATION * torch.randn(BANDS, length, generator=generator)).float())
    return UtteranceBatch(
        sample_id=[f"toy-{i}" for i in range(len(texts))],
        text=list(texts),
        tokens=tokens,
        audio=[model.vocode(mel) for mel in mels],
        mel=mels,
        speaker=[i % 2 for i in range(len(texts))],
        attributes={"voice": [("low", "high")[i % 2] for i in range(len(texts))]},
    )
