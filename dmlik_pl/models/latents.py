"""What models of images in an autoencoder's latent space share, whatever network stands in it."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import Condition, Purpose, noise
from dmlik_pl.models.base import ImageModel
from dmlik_pl.models.inputs import as_prompts, check_images
from dmlik_pl.models.schedules import NoiseProcess

__all__ = ["LatentModel"]

_REMEMBERED = 256  # prompts whose embeddings are kept; SDXL's take 0.6 MB each


class LatentModel(ImageModel):
    """A network over the latents of an autoencoder, conditioned on prompts.

    The network runs in any dtype; autoencoder and text encoders, which run once per sample and once per prompt, in
    float32. Images and prompts are encoded one by one: no result depends on what else is in the batch.

    Attributes:
        vae: The autoencoder.
        process: What the network was trained to undo.
        vae_sample: Whether latents are drawn from the autoencoder's posterior, keyed by sample.
        seed: Seed of those draws.
    """

    vae: Any
    vae_sample: bool = False
    seed: int = 0

    def __init__(self) -> None:
        super().__init__()
        self._embeddings: dict[str, dict[str, Tensor]] = {}
        self._encoders_dropped = False

    @property
    @abstractmethod
    def denoiser(self) -> Any:
        """The network."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        device: torch.device = self.denoiser.device
        return device

    @property
    def vae_device(self) -> torch.device:
        """Where the autoencoder computes."""
        device: torch.device = self.vae.device
        return device

    @property
    @abstractmethod
    def image_factor(self) -> int:
        """Pixels a latent pixel is wide."""

    @property
    @abstractmethod
    def latent_multiple(self) -> int:
        """What the sides of the latents must be multiples of."""

    @abstractmethod
    def _embed(self, prompt: str) -> dict[str, Tensor]:
        """Embeddings of one prompt by name, each with leading dimension 1."""

    @abstractmethod
    def _embed_null(self) -> dict[str, Tensor]:
        """Embeddings of the unconditional branch."""

    @abstractmethod
    def _forget_encoders(self) -> None:
        """Let go of the text encoders."""

    def _use(self, process: NoiseProcess) -> None:
        """Take schedule, prediction and network time from a process."""
        self.process = process
        self.schedule, self.prediction = process.schedule, process.prediction
        self.network_time = process.network_time

    def condition(self, prompts: str | Sequence[str]) -> Condition:
        """The condition of a batch of prompts, or of one prompt for all images, with the null branch.

        Raises:
            ValueError: If a prompt is no text, or longer than the text window.
        """
        known = [self._remembered(f"prompt {prompt}", partial(self._embed, prompt)) for prompt in as_prompts(prompts)]
        null = self._remembered("null", self._embed_null)
        inputs = {name: torch.cat([each[name] for each in known]) for name in null}
        return Condition(inputs, {name: value.expand_as(inputs[name]) for name, value in null.items()})

    def drop_text_encoders(self, prompts: Iterable[str]) -> None:
        """Encode prompts, and let go of the text encoders: from then on no other prompt is known.

        Args:
            prompts: All prompts that will be asked for; the null condition is kept beside them.
        """
        for prompt in as_prompts(list(prompts)):
            self._embeddings[f"prompt {prompt}"] = self._embed(prompt)
        self._embeddings["null"] = self._embed_null()
        self._encoders_dropped = True
        self._forget_encoders()

    def _remembered(self, key: str, embed: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if key not in self._embeddings:
            if self._encoders_dropped:
                raise ValueError(f"the text encoders were dropped, and the {key!r} was not encoded before")
            if len(self._embeddings) >= _REMEMBERED:
                self._embeddings.clear()
            self._embeddings[key] = embed()
        return {name: value.to(self.device) for name, value in self._embeddings[key].items()}

    def to_latent(self, images: Tensor, sample_ids: Sequence[str], *, bright: bool = False) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to scaled latents [B, C, h, w], in the images' dtype.

        Args:
            images: The images.
            sample_ids: Their names, which key what is drawn for them.
            bright: Whether images without a value below 0 are known to be in [-1, 1], see
                :func:`~dmlik_pl.models.inputs.check_images`.

        Raises:
            ValueError: If they are no such images, or the model cannot take images of this size.
        """
        check_images(images, sample_ids, bright=bright)
        self._check_size(images)
        latents = [
            self._encode(image[None].to(self.vae_device, self.vae.dtype), name)
            for image, name in zip(images, sample_ids, strict=True)
        ]
        shift, scale = self._latent_scale()
        return ((torch.cat(latents) - shift) * scale).to(images.dtype)

    @torch.no_grad()
    def _encode(self, image: Tensor, sample_id: str) -> Tensor:
        encoded = self.vae.encode(image)
        if not hasattr(encoded, "latent_dist"):  # an autoencoder without a posterior
            latent: Tensor = encoded[0]
            return latent
        posterior = encoded.latent_dist
        if not self.vae_sample:
            mode: Tensor = posterior.mode()
            return mode
        random = noise(posterior.mean, [sample_id], seed=self.seed, purpose=Purpose.ENCODER)
        sample: Tensor = posterior.mean + posterior.std * random
        return sample

    @torch.no_grad()
    def to_image(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, C, h, w] to images [B, 3, H, W] in [0, 1]."""
        shift, scale = self._latent_scale()
        decoded = [
            self.vae.decode(latent[None] / scale + shift).sample
            for latent in latents.to(self.vae_device, self.vae.dtype)
        ]
        return (torch.cat(decoded) / 2 + 0.5).clamp(0, 1)

    def _latent_scale(self) -> tuple[Tensor, Tensor]:
        """What is taken off the latents, and what the rest is multiplied by; scalars, or one value per channel."""
        config = self.vae.config
        factor = torch.tensor(config.get("scaling_factor", 1.0), device=self.vae_device, dtype=self.vae.dtype)
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and deviation is not None:
            return factor.new_tensor(mean)[:, None, None], factor / factor.new_tensor(deviation)[:, None, None]
        return factor.new_tensor(config.get("shift_factor") or 0.0), factor

    def _space(self) -> str:
        """What p is a density of."""
        config = self.vae.config
        shift = f"less {config.shift_factor:g}, " if config.get("shift_factor") else ""
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            shift = "standardised by channel, "
        return f"VAE latents {shift}times {config.get('scaling_factor', 1.0):g}"

    @staticmethod
    def _telling(guidance: float) -> str:
        """What a density is of beside the space, where guidance is distilled into the network, in words."""
        return f", by a network that is told guidance {guidance:g}"

    def _check_size(self, images: Tensor) -> None:
        multiple = self.image_factor * self.latent_multiple
        channels = self.vae.config.in_channels
        if images.shape[1] != channels or any(side % multiple for side in images.shape[-2:]):
            shape = "x".join(map(str, images.shape[1:]))
            raise ValueError(
                f"images of size {shape} do not fit the model: it takes {channels} channels, and heights and widths "
                f"that are multiples of {multiple} (VAE {self.image_factor} x {self._network_word} "
                f"{self.latent_multiple}): set the image size of the data"
            )

    @property
    def _network_word(self) -> str:
        return "U-Net"
