"""What text-to-image models in a VAE's latent space share; each model adds its text encoders."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dmlik_pl.flow import Condition, GaussianPrior, Interpolation, Purpose, noise
from dmlik_pl.models.base import ImageModel
from dmlik_pl.models.folder import Dtype, PipelineFolder, find_pipeline, write_pipeline
from dmlik_pl.models.inputs import as_prompts, check_images
from dmlik_pl.models.lora import fuse_lora
from dmlik_pl.models.schedules import read_schedule
from dmlik_pl.models.text import TextEncoder
from dmlik_pl.models.unfit import refuse_other_inputs
from dmlik_pl.ranges import seeds, within

__all__ = ["LatentDiffusion"]

_REMEMBERED = 256  # prompts whose embeddings are kept; SDXL's take 0.6 MB each


class LatentDiffusion(ImageModel):
    """A U-Net over the latents of a VAE, conditioned on prompts.

    The U-Net runs in any dtype; VAE and text encoders, which run once per sample and prompt, in float32. Images
    and prompts are encoded one by one: no result depends on what else is in the batch.

    Args:
        path: A folder in diffusers' layout, the name of a shipped model, or a hub id.
        revision: Branch, tag or commit of a hub model.
        variant: Infix of the weight files to read, e.g. "fp16".
        dtype: Floating point type of the U-Net. State and log-density keep theirs.
        local_files_only: Take hub models from the local cache only; HF_HUB_OFFLINE=1 is respected anyway.
        prior: Density at the noise end: ``total`` is N(0, 1 + r_max^2), ``noise`` N(0, r_max^2).
        t_min: Time in [0, 1] at which data are read; the schedule's first step by default.
        t_max: Time in [0, 1] at which the prior is evaluated; the schedule's last step by default.
        interpolation: Log-SNR between the schedule's steps: a cubic ``spline``, or ``linear`` as samplers of
            diffusers have it.
        negative_prompt: Prompt of the unconditional branch of guidance; the model's own null condition by default.
        truncate: Cut prompts that are longer than the text window instead of refusing them.
        vae_sample: Draw latents from the VAE's posterior, keyed by sample, instead of taking its mode.
        seed: Seed of those draws.
        lora: File or folder with a low-rank change that is added to the U-Net's weights; needs the extra `finetune`.
    """

    components: tuple[str, ...]
    example: str
    fed: tuple[str, ...] = ()  # settings of the U-Net's inputs beside text and time that it is told
    lora_loader: str  # the class in diffusers.loaders that knows the files of low-rank changes

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: Dtype = "float32",
        local_files_only: bool = False,
        prior: Literal["total", "noise"] = "total",
        t_min: float | None = None,
        t_max: float | None = None,
        interpolation: Interpolation = "spline",
        negative_prompt: str | None = None,
        truncate: bool = False,
        vae_sample: bool = False,
        seed: int = 0,
        lora: str | None = None,
    ) -> None:
        super().__init__()
        within(0, 1, t_min=t_min, t_max=t_max)
        seeds(seed=seed)
        folder = find_pipeline(
            path,
            self.components,
            self.example,
            revision=revision,
            variant=variant,
            local_files_only=local_files_only,
        )
        from diffusers import AutoencoderKL, UNet2DConditionModel

        refuse_other_inputs(folder.config("unet"), folder.path / "unet", self.fed)
        self.scheduler = folder.config("scheduler")
        self.schedule, self.prediction = read_schedule(self.scheduler, t_min, t_max, interpolation)
        self.unet = folder.model(UNet2DConditionModel, "unet", dtype)
        if lora is not None:
            fuse_lora(self.unet, self.lora_files, lora)
        self.vae = folder.model(AutoencoderKL, "vae", "float32")
        self.text_encoders = nn.ModuleList(self._text_encoders(folder, truncate))
        self.freeze()
        self.settings = folder.index
        self.space = f"VAE latents times {self.vae.config.scaling_factor:g}"
        self.prior = GaussianPrior(prior)
        self.negative_prompt = negative_prompt
        self.vae_sample = vae_sample
        self.seed = seed
        self._embeddings: dict[str, dict[str, Tensor]] = {}
        self._check(folder)

    @abstractmethod
    def _text_encoders(self, folder: PipelineFolder, truncate: bool) -> list[TextEncoder]:
        """The text encoders of the model."""

    @abstractmethod
    def _embed(self, prompt: str) -> dict[str, Tensor]:
        """Embeddings of one prompt by name, each with leading dimension 1."""

    @abstractmethod
    def _embed_null(self) -> dict[str, Tensor]:
        """Embeddings of the unconditional branch."""

    @property
    def lora_files(self) -> Any:
        """The class of diffusers that reads and writes low-rank changes of this model."""
        from diffusers import loaders

        return getattr(loaders, self.lora_loader)

    def save(self, folder: Path) -> None:
        """Write the model, with its present weights, as a folder in diffusers' layout."""
        parts = {"unet": self.unet, "vae": self.vae}
        for encoder, suffix in zip(self.text_encoders, ("", "_2"), strict=False):
            parts |= {f"text_encoder{suffix}": encoder.encoder, f"tokenizer{suffix}": encoder.tokenizer}
        write_pipeline(folder, parts, self.scheduler, self.settings)

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The U-Net's output for x_t [B, C, H, W] at steps time [B], which may lie between those of the grid.

        The time keeps its precision whatever the U-Net's: half precision would round it to whole steps and beyond.
        """
        output = self.unet(
            x.to(self.unet.dtype),
            time,
            encoder_hidden_states=inputs["text"].to(self.unet.dtype),
            added_cond_kwargs=self._added_conditions(x, inputs),
        )
        value: Tensor = output.sample.to(x.dtype)
        return value

    def _added_conditions(self, x: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """What the U-Net is conditioned on besides text and time."""
        return None

    def condition(self, prompts: str | Sequence[str]) -> Condition:
        """The condition of a batch of prompts, or of one prompt for all images, with the null branch.

        Raises:
            ValueError: If a prompt is not a text, or longer than the text window.
        """
        known = [self._remembered(f"prompt {prompt}", partial(self._embed, prompt)) for prompt in as_prompts(prompts)]
        null = self._remembered("null", self._embed_null)
        inputs = {name: torch.cat([each[name] for each in known]) for name in null}
        return Condition(inputs, {name: value.expand_as(inputs[name]) for name, value in null.items()})

    def _remembered(self, key: str, embed: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if key not in self._embeddings:
            if len(self._embeddings) >= _REMEMBERED:
                self._embeddings.clear()
            self._embeddings[key] = embed()
        device = self.unet.device
        return {name: value.to(device) for name, value in self._embeddings[key].items()}

    def to_latent(self, images: Tensor, sample_ids: Sequence[str], *, bright: bool = False) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] to scaled latents [B, C, h, w], in the images' dtype.

        Args:
            images: The images.
            sample_ids: Their names, which key what is drawn for them.
            bright: Whether images without a value below 0 are known to be in [-1, 1], see
                :func:`~dmlik_pl.models.inputs.check_images`.

        Raises:
            ValueError: If they are not such images, or the model cannot take images of this size.
        """
        check_images(images, sample_ids, bright=bright)
        self._check_size(images)
        latents = [
            self._encode(image[None].to(self.vae.device, self.vae.dtype), name)
            for image, name in zip(images, sample_ids, strict=True)
        ]
        shift, scale = self._latent_scale()
        return ((torch.cat(latents) - shift) * scale).to(images.dtype)

    @torch.no_grad()
    def _encode(self, image: Tensor, sample_id: str) -> Tensor:
        posterior = self.vae.encode(image).latent_dist
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
            for latent in latents.to(self.vae.device, self.vae.dtype)
        ]
        return (torch.cat(decoded) / 2 + 0.5).clamp(0, 1)

    def _latent_scale(self) -> tuple[Tensor, Tensor]:
        """What is taken off the VAE's latents, and what the rest is multiplied by; scalars or one value per channel."""
        config = self.vae.config
        factor = torch.tensor(config.scaling_factor, device=self.vae.device, dtype=self.vae.dtype)
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and deviation is not None:
            return factor.new_tensor(mean)[:, None, None], factor / factor.new_tensor(deviation)[:, None, None]
        return factor.new_tensor(config.get("shift_factor") or 0.0), factor

    @property
    def image_factor(self) -> int:
        """Pixels a latent pixel is wide."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def _check_size(self, images: Tensor) -> None:
        depth = 2 ** (len(self.unet.config.block_out_channels) - 1)
        multiple = self.image_factor * depth
        channels = self.vae.config.in_channels
        if images.shape[1] != channels or any(side % multiple for side in images.shape[-2:]):
            shape = "x".join(map(str, images.shape[1:]))
            raise ValueError(
                f"images of size {shape} do not fit the model: it takes {channels} channels, and heights and widths "
                f"that are multiples of {multiple} (VAE {self.image_factor} x U-Net {depth}): "
                "set the image size of the data"
            )

    def _check(self, folder: PipelineFolder) -> None:
        """Refuse components that do not belong together."""
        unet, given = self.unet.config, self.vae.config.latent_channels
        if unet.in_channels != given:
            raise ValueError(
                f"the U-Net in {folder.path} takes {unet.in_channels} channels and the VAE gives {given}: inpainting "
                "and image-conditioned models have no likelihood of an image given a prompt alone"
            )
        if unet.out_channels != given:
            raise ValueError(f"the U-Net in {folder.path} gives {unet.out_channels} channels for latents of {given}")
        encoders: Any = self.text_encoders
        text = sum(encoder.encoder.config.hidden_size for encoder in encoders)
        if unet.cross_attention_dim != text:
            raise ValueError(
                f"the U-Net in {folder.path} attends to {unet.cross_attention_dim} values per token, and its text "
                f"encoders give {text}: they do not belong to one model"
            )
