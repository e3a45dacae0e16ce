"""A conditional image model of which every likelihood is known, for tests of studies and of the evaluation."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dmlik_pl.flow import Condition, LinearVP, ProbabilityFlow
from dmlik_pl.models.closed_form import GaussianMixture

SHIFTS = {"dark small": -0.8, "dark large": -0.3, "light small": 0.3, "light large": 0.8}


class ToyModel(nn.Module):
    """Images of 1 x 2 x 2 pixels: a mixture of two Gaussians, shifted by what the prompt says."""

    space = "toy pixels"

    def __init__(self, broken: Sequence[str] = ()) -> None:
        super().__init__()
        eye = torch.eye(4, dtype=torch.float64)
        centres = torch.tensor([[0.3, -0.2, 0.1, 0.0], [-0.3, 0.2, 0.0, 0.1]], dtype=torch.float64)
        self.mixture = GaussianMixture(centres, torch.stack([0.16 * eye, 0.09 * eye + 0.04]))
        self.schedule = LinearVP(beta_max=30.0)  # nothing of the data is left for the prior to miss
        self.broken = set(broken)
        self.seen: list[str] = []

    def shift(self, prompts: Sequence[str]) -> Tensor:
        return torch.stack([torch.full((4,), SHIFTS[p], dtype=torch.float64) for p in prompts])

    def flow(self, guidance: float = 1.0) -> ProbabilityFlow:
        inner = self.mixture.flow(self.schedule, "v").network

        def network(x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
            return inner(x.flatten(1).double(), time, inputs).reshape(x.shape).to(x)

        return ProbabilityFlow(network, self.schedule, "v", guidance=guidance, space=self.space)

    def condition(self, prompts: Sequence[str]) -> Condition:
        unknown = [prompt for prompt in prompts if prompt not in SHIFTS]
        if unknown:
            raise ValueError(f"unknown prompt {unknown[0]!r}")
        shift = self.shift(prompts)
        return Condition({"shift": shift}, {"shift": torch.zeros_like(shift)})

    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        self.seen += sample_ids
        latent = images.double()
        for b, name in enumerate(sample_ids):
            if name in self.broken:
                latent[b] = torch.nan
        return latent

    def to_image(self, latents: Tensor) -> Tensor:
        return (0.5 * latents + 0.5).clamp(0, 1)
