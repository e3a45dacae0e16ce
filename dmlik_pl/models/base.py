"""What every model offers to the rest of the package."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dmlik_pl.flow import Condition, NetworkTime, Prediction, Prior, ProbabilityFlow, Schedule
from dmlik_pl.models.inputs import read_images

__all__ = ["ADAPTERS", "DiffusionModel", "ImageModel"]

ADAPTERS: dict[str, "type[DiffusionModel]"] = {}
"""The class of models for each pipeline of diffusers that is known, by the pipeline's name."""


class DiffusionModel(nn.Module, ABC):
    """A network with its noise schedule.

    Attributes:
        space: What p is a density of, in words; repeated in every table.
        schedule: The noise schedule.
        prediction: What the network's output is.
        prior: Density of the state at the noise end.
        network_time: What the network is told of the noise level; the schedule's own time by default.
        pipelines: Names of the pipelines in whose folders such models lie; :func:`dmlik_pl.load` goes by them.
    """

    pipelines: ClassVar[tuple[str, ...]] = ()

    space: str
    schedule: Schedule
    prediction: Prediction
    prior: Prior
    network_time: NetworkTime = "schedule"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ADAPTERS.update(dict.fromkeys(cls.__dict__.get("pipelines", ()), cls))

    @classmethod
    def suited(cls, index: Mapping[str, Any]) -> "type[DiffusionModel]":
        """The class for a folder of one of its pipelines, by its model_index.json: a pipeline may hold other models."""
        return cls

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next((weight.device for weight in self.parameters()), torch.device("cpu"))

    def flow(self, guidance: float = 1.0) -> ProbabilityFlow:
        """The probability flow at a guidance weight: 1 is plain conditional, 0 unconditional."""
        return ProbabilityFlow(
            self.network, self.schedule, self.prediction, self.prior, guidance, self.space, self.network_time
        )

    @abstractmethod
    def network(self, x: Tensor, time: Tensor, inputs: Any) -> Tensor:
        """The network's output for x_t [B, ...] at its own times [B], of the shape and dtype of x."""

    def refuse_half_on(self, device: torch.device) -> None:
        """Refuse float16 on a CPU, which computes it slowly and with no more than its range.

        Raises:
            ValueError: If weights are of float16 and the device is a CPU.
        """
        if device.type == "cpu" and any(weight.dtype is torch.float16 for weight in self.parameters()):
            raise ValueError(
                "the network is of dtype float16 and on a CPU, which is made for float32: set dtype to float32, or to "
                "bfloat16 to save memory, or use an accelerator"
            )

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

    A model of pictures looks at what it is given with :mod:`dmlik_pl.models.inputs`. A model of sounds is one whose
    images are waves [B, C, N].

    Attributes:
        channels: Of the images.
    """

    channels: int = 3

    def read(self, images: Any, sample_ids: Sequence[str] | None) -> tuple[Tensor, list[str]]:
        """What is to be scored as one tensor, with its names: see :func:`~dmlik_pl.models.inputs.read_images`."""
        return read_images(images, sample_ids, self.channels)

    def condition_of(self, images: Tensor, prompts: str | Sequence[str]) -> Condition:
        """The condition of images under their prompts, where the network is told something of the images too."""
        return self.condition(prompts)

    @abstractmethod
    def condition(self, prompts: str | Sequence[str]) -> Condition:
        """The condition of a batch of prompts, or of one prompt for all; with the null branch if the model has one."""

    @abstractmethod
    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] to what p is a density of."""

    @abstractmethod
    def to_image(self, latents: Tensor) -> Tensor:
        """What p is a density of to images [B, C, H, W] in [0, 1]."""
