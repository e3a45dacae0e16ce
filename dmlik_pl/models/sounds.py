"""What models of sounds share: waves stand where models of images have images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from dmlik_pl.models.pipeline import PipelineModel
from dmlik_pl.speech import audio

__all__ = ["SoundModel"]

_ROUNDING = 1e-3  # beyond -1 and 1, as resampling leaves it


class SoundModel(PipelineModel):
    """A network over the latents of sounds [B, C, N] in [-1, 1], which silence fills up to its window.

    Attributes:
        channels: Of the sounds.
        rate: Their sample rate, in Hz.
        window: Samples of the longest one.
    """

    def __init__(self, path: str, **settings: Any) -> None:
        super().__init__(path, **settings)
        config = self.vae.config
        self.channels, self.rate = int(config.audio_channels), int(config.sampling_rate)
        self.window = int(self.denoiser.config.sample_size * self.vae.hop_length)
        self.space = f"latents of a sound that silence fills up to {self.window / self.rate:.4g} s{self.space}"

    def _space(self) -> str:
        return ""  # it is known once the parts are there

    def read(self, images: Any, sample_ids: Sequence[str] | None) -> tuple[Tensor, list[str]]:
        """Sounds as one tensor, with their names.

        Args:
            images: A tensor, which is handed back as it is, or one or several names of sound files.
            sample_ids: Their names; file names, or numbers, by default.

        Raises:
            FileNotFoundError: If a file is not there.
            ValueError: If one is no sound of the model's rate and channels, or they are of several lengths.
        """
        if not isinstance(images, Tensor):
            files = [images] if isinstance(images, str | Path) else list(images)
            if not files or (others := [file for file in files if not isinstance(file, str | Path)]):
                found = f"a {type(others[0]).__name__}" if files else "none"
                raise ValueError(f"sounds must be a tensor [B, C, N], or names of sound files, got {found}")
            waves = [audio.read(file, self.rate, channels=self.channels) for file in files]
            if len(lengths := {wave.shape[-1] for wave in waves}) > 1:
                shown = ", ".join(f"{length / self.rate:.4g} s" for length in sorted(lengths))
                raise ValueError(f"the sounds are of several lengths ({shown}): score those of one length together")
            images, sample_ids = torch.stack(waves), sample_ids or [str(file) for file in files]
        return super().read(images, sample_ids)

    def to_latent(self, images: Tensor, sample_ids: Sequence[str], *, bright: bool = False) -> Tensor:
        """Sounds [B, C, N] in [-1, 1] to latents [B, c, n] of the whole window, in their dtype.

        Raises:
            ValueError: If they are no such sounds, or longer than the window.
        """
        self._check_sounds(images, sample_ids)
        whole = pad(images, (0, self.window - images.shape[-1])).to(self.vae_device, self.vae.dtype)
        latents = [self._encode(sound[None], name) for sound, name in zip(whole, sample_ids, strict=True)]
        return torch.cat(latents).to(images.dtype)

    def _check_sounds(self, sounds: Tensor, sample_ids: Sequence[str]) -> None:
        if sounds.dim() != 3 or 0 in sounds.shape or sounds.shape[1] != self.channels or not sounds.is_floating_point():
            raise ValueError(
                f"sounds must be [B, {self.channels}, N] of floating point at {self.rate} Hz, got "
                f"{list(sounds.shape)} of {sounds.dtype}"
            )
        if isinstance(sample_ids, str) or len(sample_ids) != len(sounds):
            raise ValueError(f"{len(sounds)} sounds need a list of as many names, got {sample_ids!r}")
        if sounds.shape[-1] > self.window:
            raise ValueError(
                f"sounds of {sounds.shape[-1] / self.rate:.4g} s do not fit the model, whose window is "
                f"{self.window / self.rate:.4g} s"
            )
        for name, sound in zip(sample_ids, sounds, strict=True):
            peak = float(sound.abs().max())
            if not peak <= 1 + _ROUNDING:  # nor NaN
                raise ValueError(f"sounds must be finite and lie in [-1, 1], and {name} reaches {peak:.4g}")

    @torch.no_grad()
    def to_sound(self, latents: Tensor) -> Tensor:
        """Latents [B, c, n] to sounds [B, C, N]."""
        latents = latents.to(self.vae_device, self.vae.dtype)
        return torch.cat([self.vae.decode(latent[None]).sample for latent in latents])

    def to_image(self, latents: Tensor) -> Tensor:
        """No images are made of sounds.

        Raises:
            ValueError: Always.
        """
        raise ValueError("this is a model of sounds: to_sound(latents) gives waves")
