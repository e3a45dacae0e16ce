"""What text-to-image models in a VAE's latent space share; each model adds its text encoders."""

import inspect
from abc import abstractmethod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dmlik_pl.flow import GaussianPrior, Interpolation
from dmlik_pl.models.folder import Dtype, PipelineFolder, find_pipeline, write_pipeline
from dmlik_pl.models.latents import LatentModel
from dmlik_pl.models.lora import fuse_lora
from dmlik_pl.models.schedules import read_process
from dmlik_pl.models.text import TextEncoder
from dmlik_pl.models.unfit import DISTILLED, refuse_other_inputs
from dmlik_pl.ranges import seeds, within

__all__ = ["LatentDiffusion"]


class LatentDiffusion(LatentModel):
    """A U-Net over the latents of a VAE, conditioned on prompts by CLIP's text encoders.

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
        distilled: Take a model that was distilled to sample in few steps, whose field was not trained as a score.
        told_guidance: What the U-Net is told of guidance, where that is distilled into it (LCM); the default of its
            pipeline's own call if None. It is an input of the U-Net and not Eq. 10.
    """

    components: tuple[str, ...]
    example: str
    fed: tuple[str, ...] = (
        "time_cond_proj_dim",
    )  # settings of the U-Net's inputs beside text and time that it is told
    suffixes: tuple[str, ...] = ("",)  # of the text encoders' subfolders
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
        distilled: bool = False,
        told_guidance: float | None = None,
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
            distilled=distilled,
        )
        from diffusers import AutoencoderKL, UNet2DConditionModel

        refuse_other_inputs(folder.config("unet"), folder.path / "unet", self.fed)
        self.scheduler = folder.config("scheduler")
        self._use(read_process(self.scheduler, t_min, t_max, interpolation, distilled=distilled))
        self.unet = folder.model(UNet2DConditionModel, "unet", dtype)
        if lora is not None:
            fuse_lora(self.unet, self.lora_files, lora)
        self.vae = folder.model(AutoencoderKL, "vae", "float32")
        self.text_encoders = nn.ModuleList(self._text_encoders(folder, truncate))
        self.freeze()
        self.settings = folder.index
        self.told_guidance = self._guidance_to_tell(folder, told_guidance)
        told = "" if self.told_guidance is None else self._telling(self.told_guidance)
        self.space = self._space() + told + (DISTILLED if distilled else "")
        self.prior = GaussianPrior(prior)
        self.negative_prompt = negative_prompt
        self.vae_sample = vae_sample
        self.seed = seed
        self._check(folder)

    @property
    def denoiser(self) -> Any:
        """The U-Net."""
        return self.unet

    @abstractmethod
    def _text_encoders(self, folder: PipelineFolder, truncate: bool) -> list[TextEncoder]:
        """The text encoders of the model."""

    @property
    def lora_files(self) -> Any:
        """The class of diffusers that reads and writes low-rank changes of this model."""
        from diffusers import loaders

        return getattr(loaders, self.lora_loader)

    def save(self, folder: Path) -> None:
        """Write the model, with its present weights, as a folder in diffusers' layout."""
        parts = {"unet": self.unet, "vae": self.vae}
        for encoder, suffix in zip(self.text_encoders, self.suffixes, strict=True):
            parts |= {f"text_encoder{suffix}": encoder.encoder, f"tokenizer{suffix}": encoder.tokenizer}
        write_pipeline(folder, parts, self.scheduler, self.settings)

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The U-Net's output for x_t [B, C, H, W] at steps time [B], which may lie between those of the grid.

        The time keeps its precision whatever the U-Net's: half precision would round it to whole steps and beyond.
        """
        told: dict[str, Any] = {
            "encoder_hidden_states": inputs["text"].to(self.unet.dtype),
            "added_cond_kwargs": self._added_conditions(x, inputs),
            "timestep_cond": self._embedded_guidance(x),
        }

        def unet(noised: Tensor, step: Tensor) -> Tensor:
            output: Tensor = self.unet(noised.to(self.unet.dtype), step, **told).sample
            return output.to(x.dtype)

        return self.process.through(unet, x, time)

    def _guidance_to_tell(self, folder: PipelineFolder, given: float | None) -> float | None:
        """What the U-Net is told of guidance; None if it does not ask."""
        if self.unet.config.time_cond_proj_dim is None:
            if given is not None:
                raise ValueError(f"the U-Net in {folder.path} is told no guidance: leave out told_guidance={given:g}")
            return None
        import diffusers

        call = getattr(diffusers, str(folder.index["_class_name"])).__call__
        return float(inspect.signature(call).parameters["guidance_scale"].default if given is None else given)

    def _embedded_guidance(self, x: Tensor) -> Tensor | None:
        """The embedding of the guidance that the U-Net is told, [B, E]."""
        if self.told_guidance is None:
            return None
        from diffusers import StableDiffusionPipeline

        told, width = torch.full((len(x),), self.told_guidance - 1), self.unet.config.time_cond_proj_dim
        embed: Any = StableDiffusionPipeline.get_guidance_scale_embedding  # a function of its arguments alone
        embedded: Tensor = embed(None, told, embedding_dim=width)
        return embedded.to(x.device, self.unet.dtype)

    def _added_conditions(self, x: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """What the U-Net is conditioned on besides text and time."""
        return None

    @property
    def image_factor(self) -> int:
        """Pixels a latent pixel is wide."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_multiple(self) -> int:
        """What the sides of the latents must be multiples of, to be halved at each level of the U-Net."""
        return int(2 ** (len(self.unet.config.block_out_channels) - 1))

    def _forget_encoders(self) -> None:
        self.text_encoders = nn.ModuleList()

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
