"""Any text-to-image pipeline of diffusers as a model: an adapter says only what its network is told."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from dmlik_pl.flow import GaussianPrior, Interpolation
from dmlik_pl.models.assembly import assemble
from dmlik_pl.models.folder import Dtype, find_pipeline
from dmlik_pl.models.inputs import shown
from dmlik_pl.models.latents import LatentModel
from dmlik_pl.models.schedules import read_process
from dmlik_pl.models.unfit import DISTILLED
from dmlik_pl.pretrained.files import quiet
from dmlik_pl.ranges import seeds, within

__all__ = ["PipelineModel"]


class PipelineModel(LatentModel):
    """A pipeline whose text encoders, autoencoder and scheduler are used as diffusers has them.

    A subclass names its ``pipelines`` and writes :meth:`_embed`, by the pipeline's own ``encode_prompt``, and
    :meth:`network`, by :meth:`_ask`; where its null condition is not the empty prompt, :meth:`_embed_null` too.

    Args:
        path: A folder in diffusers' layout, a hub id, or a `DiffusionPipeline`, whose parts are then shared.
        revision: Branch, tag or commit of a hub model.
        variant: Infix of the weight files to read, e.g. "fp16".
        dtype: Floating point type of the network. State and log-density keep theirs.
        text_dtype: Floating point type of the text encoders; large ones take half the memory in bfloat16.
        local_files_only: Take hub models from the local cache only; HF_HUB_OFFLINE=1 is respected anyway.
        prior: Density at the noise end: ``total`` is N(0, 1 + r_max^2), ``noise`` N(0, r_max^2). Of flow matching, with
            pure noise at t = 1, both are N(0, I).
        t_min: Time in [0, 1] at which data are read; the smallest that the network was trained at by default.
        t_max: Time in [0, 1] at which the prior is evaluated; the schedule's last step by default.
        interpolation: Log-SNR between the steps of a discrete schedule: a cubic ``spline``, or ``linear``.
        negative_prompt: Prompt of the unconditional branch of guidance; the model's own null condition by default.
        truncate: Cut prompts that are longer than a text window instead of refusing them.
        max_sequence_length: Tokens of the longest text window; the pipeline's own by default.
        vae_sample: Draw latents from the autoencoder's posterior, keyed by sample, instead of taking its mode.
        seed: Seed of those draws.
        distilled: Take a model that was distilled to sample in few steps, whose field was not trained as a score.
        offload: Device that the parts are moved to only while they compute, one layer at a time, by accelerate: for a
            model that does not fit its memory. None moves the whole model with its module.
    """

    denoiser_name = "transformer"
    vae_name = "vae"
    time_name = "timestep"  # the argument by which the network is told the time
    told: Tensor  # the time of the current call, where it is kept exact
    encoders: tuple[str, ...] = ("text_encoder",)  # those that must be there
    unused: tuple[str, ...] = ("image_encoder", "feature_extractor", "safety_checker")
    example = "owner/name"

    def __init__(
        self,
        path: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: Dtype = "float32",
        text_dtype: Dtype = "float32",
        local_files_only: bool = False,
        prior: Literal["total", "noise"] = "total",
        t_min: float | None = None,
        t_max: float | None = None,
        interpolation: Interpolation = "spline",
        negative_prompt: str | None = None,
        truncate: bool = False,
        max_sequence_length: int | None = None,
        vae_sample: bool = False,
        seed: int = 0,
        distilled: bool = False,
        offload: str | None = None,
    ) -> None:
        super().__init__()
        within(0, 1, t_min=t_min, t_max=t_max)
        seeds(seed=seed)
        folder = find_pipeline(
            path,
            (self.denoiser_name, "scheduler", *self.encoders),
            self.example,
            revision=revision,
            variant=variant,
            local_files_only=local_files_only,
            distilled=distilled,
        )
        self._use(read_process(folder.config("scheduler"), t_min, t_max, interpolation, distilled=distilled))
        dtypes: dict[str, str] = {name: text_dtype for name in folder.index if name.startswith("text_encoder")}
        self.pipeline = assemble(folder, {**dtypes, self.denoiser_name: dtype}, self.unused)
        modules = {name: part for name, part in self.pipeline.components.items() if isinstance(part, nn.Module)}
        self.parts = nn.ModuleDict(modules)
        self._check_channels(folder.path)
        self.freeze()
        self.prior = GaussianPrior(prior)
        self.negative_prompt, self.truncate = negative_prompt, truncate
        self.vae_sample, self.seed = vae_sample, seed
        encode = getattr(self.pipeline, "encode_prompt", lambda: None)
        window = inspect.signature(encode).parameters.get("max_sequence_length")
        self.max_sequence_length = max_sequence_length or (window.default if window else None)
        self._offloaded = offload is not None
        if offload is not None:
            self._offload(torch.device(offload))
        self.space = self._space() + (DISTILLED if distilled else "")

    @property
    def denoiser(self) -> Any:
        """The network."""
        return self.parts[self.denoiser_name]

    @property
    def vae(self) -> Any:  # one of the parts
        """The autoencoder."""
        return self.parts[self.vae_name]

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        device: torch.device = self.pipeline._execution_device if self._offloaded else self.denoiser.device
        return device

    @property
    def vae_device(self) -> torch.device:
        """Where the autoencoder computes."""
        return self.device if self._offloaded else super().vae_device

    @property
    def image_factor(self) -> int:
        """Pixels a latent pixel is wide."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_multiple(self) -> int:
        """What the sides of the latents must be multiples of: to be cut into patches, or halved at every level."""
        config = self.denoiser.config
        if self.denoiser_name == "unet":
            return int(2 ** (len(config.block_out_channels) - 1))
        return int(config.get("patch_size") or 1)

    @property
    def _network_word(self) -> str:
        return "U-Net" if self.denoiser_name == "unet" else "patches"

    @property
    def latent_channels(self) -> int:
        """Channels of the latents that the network takes."""
        return int(self.denoiser.config.in_channels)

    def _check_channels(self, folder: Path) -> None:
        given = self.vae.config.get("latent_channels") if self.vae_name in self.parts else None
        if given not in (None, self.latent_channels):
            raise ValueError(
                f"the {self.denoiser_name} in {folder} takes latents of {self.latent_channels} channels and the "
                f"{self.vae_name} gives {given}: they do not belong to one model, or the network takes an image too"
            )

    @property
    def largest_grid(self) -> int | None:
        """Patches along a side that the network has positions for; None where it makes them for any number."""
        return None

    def _check_size(self, images: Tensor) -> None:
        super()._check_size(images)
        side = self.image_factor * self.latent_multiple
        if self.largest_grid is not None and max(images.shape[-2:]) > self.largest_grid * side:
            raise ValueError(
                f"images of size {'x'.join(map(str, images.shape[1:]))} do not fit the model, which has positions for "
                f"sides of {self.largest_grid * side} pixels at most: set the image size of the data"
            )

    def _ask(self, x: Tensor, time: Tensor, exact: Mapping[str, Any] | None = None, **inputs: Any) -> Tensor:
        """The network's output for x_t [B, ...] at its own times, with tensors of floating point in its dtype.

        The time keeps its precision, and so does what is ``exact``. What a network says of its variance, in as many
        channels again, is left out.
        """
        dtype = self.denoiser.dtype
        cast = {name: _cast(value, dtype) for name, value in inputs.items()} | dict(exact or {})

        def network(noised: Tensor, told: Tensor) -> Tensor:
            output: Tensor = self.denoiser(noised.to(dtype), **{self.time_name: told}, return_dict=False, **cast)[0]
            return output[:, : x.shape[1]].to(x.dtype)

        return self.process.through(network, x, time)

    def _keep_time_exact(self, embedding: nn.Module) -> None:
        """Tell an embedding of the time what :attr:`told` is, where the network around it has rounded it to its dtype.

        In half precision a rounded time moves in steps, and the right-hand side of the ODE with it.
        """
        embedding.register_forward_pre_hook(lambda module, args: (self.told.to(args[0].device), *args[1:]))

    @torch.no_grad()
    def _encode_prompt(self, prompt: str, negative: str | None = None, **options: Any) -> Any:
        """What the pipeline's own ``encode_prompt`` makes of one prompt.

        Args:
            prompt: The prompt.
            negative: That of the unconditional branch; without one, only the prompt is encoded.
            **options: Further arguments.

        Raises:
            ValueError: If a prompt is longer than a window and is not to be cut.
        """
        for text in (self._worded(prompt), negative or ""):
            self._check_length(text)
        known = inspect.signature(self.pipeline.encode_prompt).parameters
        usual = {"device": self.device, "do_classifier_free_guidance": negative is not None}
        if self.max_sequence_length is not None:
            usual["max_sequence_length"] = self.max_sequence_length
        if negative is not None:
            usual["negative_prompt"] = negative
        usual = {name: value for name, value in usual.items() if name in known}
        with quiet():
            return self.pipeline.encode_prompt(prompt=prompt, **{**usual, **options})

    def _embed(self, prompt: str) -> dict[str, Tensor]:
        raise ValueError(f"a {type(self).__name__} has no text encoder")

    def _embed_null(self) -> dict[str, Tensor]:
        return self._embed(self.negative_prompt or "")

    def _worded(self, prompt: str) -> str:
        """A prompt with what the pipeline puts around it within the same text window."""
        return prompt

    def _check_length(self, prompt: str) -> None:
        for name, tokenizer in self.pipeline.components.items():
            if self.truncate or tokenizer is None or not name.startswith("tokenizer"):
                continue
            window = self._window(tokenizer)
            length = len(tokenizer(prompt, truncation=False, verbose=False).input_ids)
            if length > window:
                raise ValueError(
                    f"the prompt {shown(prompt)} has {length} tokens for the {name} ({type(tokenizer).__name__}), "
                    f"whose window holds {window}: shorten it, set truncate to true to have it cut, or, for other than "
                    "CLIP's, raise max_sequence_length as far as the model was trained for"
                )

    def _window(self, tokenizer: Any) -> int:
        """Tokens that a text encoder is given at most: CLIP's own window, or the pipeline's for all others."""
        own = int(tokenizer.model_max_length)
        if self.max_sequence_length is None or type(tokenizer).__name__.startswith(("CLIP", "Bert")):
            return own
        return self.max_sequence_length

    def _forget_encoders(self) -> None:
        for name in [name for name in self.parts if name.startswith("text_encoder")]:
            del self.parts[name]
            setattr(self.pipeline, name, None)

    def _offload(self, device: torch.device) -> None:
        from accelerate import cpu_offload

        for part in self.parts.values():
            cpu_offload(part, device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Leave parts where accelerate keeps them."""
        return self if self._offloaded else super()._apply(fn, recurse)

    _offloaded = False


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Tensors of floating point, and those within a dict or tuple, in a dtype; all else as it is."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _cast(each, dtype) for name, each in value.items()}
    return tuple(_cast(each, dtype) for each in value) if isinstance(value, tuple) else value
