"""What every model offers to the rest of the package."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dmlik_pl.flow import Condition, NetworkTime, Prediction, Prior, ProbabilityFlow, Schedule

__all__ = ["DiffusionModel", "ImageModel"]


class DiffusionModel(nn.Module, ABC):
    """A network with its noise schedule.

    Attributes:
        space: What p is a density of, in words; repeated in every table.
        schedule: The noise schedule.
        prediction: What the network's output is.
        prior: Density of the state at the noise end.
        network_time: What the network is told of the noise level; the schedule's own time by default.
    """

    space: str
    schedule: Schedule
    prediction: Prediction
    prior: Prior
    network_time: NetworkTime = "schedule"

    def flow(self, guidance: float = 1.0) -> ProbabilityFlow:
        """The probability flow at a guidance weight: 1 is plain conditional, 0 unconditional."""
        return ProbabilityFlow(
            self.network, self.schedule, self.prediction, self.prior, guidance, self.space, self.network_time
        )

    @abstractmethod
    def network(self, x: Tensor, time: Tensor, inputs: Any) -> Tensor:
        """The network's output for x_t [B, ...] at its own times [B], of the shape and dtype of x."""

    def fingerprint(self) -> str:
        """Digest of the weights as they are, the same wherever they lie and on whatever device."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def freeze(self) -> None:
        """Put the model into evaluation mode and keep its weights from asking for gradients."""
        self.requires_grad_(False)
        self.eval()


class ImageModel(DiffusionModel):
    """A model of images, with the ways from images and prompts to what it models and back.

    A model of pictures looks at what it is given with :mod:`dmlik_pl.models.inputs`.
    """

    @abstractmethod
    def condition(self, prompts: str | Sequence[str]) -> Condition:
        """The condition of a batch of prompts, or of one prompt for all; with the null branch if the model has one."""

    @abstractmethod
    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] to what p is a density of."""

    @abstractmethod
    def to_image(self, latents: Tensor) -> Tensor:
        """What p is a density of to images [B, C, H, W] in [0, 1]."""
