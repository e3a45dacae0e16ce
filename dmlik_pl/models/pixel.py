"""Pixel diffusion: unconditional and class-conditional models of the DDPM type."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from dmlik_pl.flow import Condition, GaussianPrior, Interpolation
from dmlik_pl.models.base import ImageModel
from dmlik_pl.models.folder import Dtype, PipelineFolder, find_pipeline
from dmlik_pl.models.inputs import as_prompts, check_images
from dmlik_pl.models.schedules import read_process
from dmlik_pl.models.unfit import refuse_other_inputs
from dmlik_pl.pretrained.files import read_json
from dmlik_pl.ranges import within

__all__ = ["PixelDiffusion"]

CLASSES_FILE = "classes.json"


class PixelDiffusion(ImageModel):
    """A `UNet2DModel` over pixels in [-1, 1]; where it knows classes, a prompt is the name of a class.

    A network that also predicts its variance is read for its mean.

    Args:
        path: A folder in diffusers' layout, the name of a shipped model, or a hub id.
        classes: Names of the classes in the order of their embeddings; by default those of ``classes.json`` in the
            folder. One embedding more than names is the null class, the unconditional branch of guidance.
        revision: Branch, tag or commit of a hub model.
        variant: Infix of the weight files to read, e.g. "fp16".
        dtype: Floating point type of the network. State and log-density keep theirs.
        local_files_only: Take hub models from the local cache only; HF_HUB_OFFLINE=1 is respected anyway.
        prior: Density at the noise end: ``total`` is N(0, 1 + r_max^2), ``noise`` N(0, r_max^2).
        t_min: Time in [0, 1] at which data are read; the schedule's first step by default.
        t_max: Time in [0, 1] at which the prior is evaluated; the schedule's last step by default.
        interpolation: Log-SNR between the schedule's steps: a cubic ``spline``, or ``linear`` as samplers of
            diffusers have it.

    References:
        | Denoising Diffusion Probabilistic Models (Ho et al., 2020)
    """

    pipelines: ClassVar[tuple[str, ...]] = ("DDPMPipeline", "DDIMPipeline")
    space = "pixels in [-1, 1]"
    fed: tuple[str, ...] = ("num_class_embeds",)  # settings of the U-Net's inputs beside time that it is told

    def __init__(
        self,
        path: str,
        classes: list[str] | None = None,
        revision: str | None = None,
        variant: str | None = None,
        dtype: Dtype = "float32",
        local_files_only: bool = False,
        prior: Literal["total", "noise"] = "total",
        t_min: float | None = None,
        t_max: float | None = None,
        interpolation: Interpolation = "spline",
    ) -> None:
        super().__init__()
        within(0, 1, t_min=t_min, t_max=t_max)
        folder = find_pipeline(
            path,
            ("unet", "scheduler"),
            "google/ddpm-cifar10-32",
            revision=revision,
            variant=variant,
            local_files_only=local_files_only,
        )
        if folder.index["unet"][1] != "UNet2DModel" or {"vae", "vqvae"} & folder.index.keys():
            raise ValueError(
                f"{folder.path} holds a {folder.index.get('_class_name')}, which is no diffusion of pixels by a "
                "UNet2DModel: use StableDiffusionXL or StableDiffusion of dmlik_pl.models for text-to-image models"
            )
        from diffusers import UNet2DModel

        refuse_other_inputs(folder.config("unet"), folder.path / "unet", self.fed)
        process = read_process(folder.config("scheduler"), t_min, t_max, interpolation)
        self.process, self.schedule, self.prediction = process, process.schedule, process.prediction
        self.network_time = process.network_time
        self.unet = folder.model(UNet2DModel, "unet", dtype)
        self.freeze()
        self.channels = self.unet.config.in_channels
        given, taken = self.unet.config.out_channels, self.unet.config.in_channels
        if given not in (taken, 2 * taken):
            raise ValueError(
                f"the U-Net in {folder.path} takes {taken} channels and gives {given}: an image-conditioned model has "
                "no likelihood of an image alone"
            )
        self.prior = GaussianPrior(prior)
        self.class_index, self.null_class = self._classes(folder, classes)

    def _classes(self, folder: PipelineFolder, names: list[str] | None) -> tuple[dict[str, int], int | None]:
        """Index of each class name, and of the null class; none of either for an unconditional model."""
        embeddings = self.unet.config.num_class_embeds
        if embeddings is None:
            if names:
                raise ValueError(f"classes were given, but the model in {folder.path} is unconditional")
            return {}, None
        file = folder.path / CLASSES_FILE
        if names is None:
            if not file.is_file():
                raise FileNotFoundError(
                    f"the model in {folder.path} knows {embeddings} classes: name them with `classes`, or in {file} as "
                    '{"classes": ["name", ...]}'
                )
            names = [str(name) for name in read_json(file).get("classes", [])]
        if len(set(names)) != len(names) or embeddings - len(names) not in (0, 1):
            raise ValueError(
                f"the model in {folder.path} has {embeddings} class embeddings, one of which may be the null class, "
                f"and {len(names)} names were given ({len(set(names))} of them distinct)"
            )
        return {name: i for i, name in enumerate(names)}, len(names) if embeddings > len(names) else None

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor] | None) -> Tensor:
        """The U-Net's output for x_t [B, C, H, W] at its own times [B], which may lie between steps."""
        labels = None if inputs is None else inputs["label"]

        def unet(noised: Tensor, step: Tensor) -> Tensor:
            output: Tensor = self.unet(noised.to(self.unet.dtype), step, class_labels=labels).sample
            return output[:, : x.shape[1]].to(x.dtype)

        return self.process.through(unet, x, time)

    def condition(self, prompts: str | Sequence[str]) -> Condition:
        """The condition of a batch of class names, or of one for all images.

        An unconditional model takes any prompts and ignores them. The empty prompt is the null class, if there is one.

        Raises:
            ValueError: If a prompt is not a class of the model.
        """
        prompts = as_prompts(prompts)
        if not self.class_index:
            return Condition()
        index = self.class_index if self.null_class is None else {**self.class_index, "": self.null_class}
        if unknown := sorted(set(prompts) - index.keys()):
            raise ValueError(f"the model knows no class {unknown}; its classes are {list(self.class_index)}")
        label = torch.tensor([index[prompt] for prompt in prompts], device=self.unet.device)
        null = None if self.null_class is None else {"label": torch.full_like(label, self.null_class)}
        return Condition({"label": label}, null)

    def to_latent(self, images: Tensor, sample_ids: Sequence[str], *, bright: bool = False) -> Tensor:
        """Images [B, C, H, W] in [-1, 1]: themselves, once range and size are found to be the model's.

        Args:
            images: The images.
            sample_ids: Their names, for messages.
            bright: Whether images without a value below 0 are known to be in [-1, 1], see
                :func:`~dmlik_pl.models.inputs.check_images`.

        Raises:
            ValueError: If they are not such images, or of another size than the model's.
        """
        check_images(images, sample_ids, bright=bright)
        config = self.unet.config
        depth = 2 ** (len(config.block_out_channels) - 1)
        size = config.sample_size
        sides = (size, size) if isinstance(size, int) else size
        fits = tuple(images.shape[-2:]) == tuple(sides) if sides else not any(s % depth for s in images.shape[-2:])
        if images.shape[1] != config.in_channels or not fits:
            wanted = "x".join(map(str, sides)) if sides else f"height and width in multiples of {depth}"
            raise ValueError(
                f"images of size {'x'.join(map(str, images.shape[1:]))} do not fit the model, which takes "
                f"{config.in_channels} channels and {wanted}: set the size or the channels of the data"
            )
        return images

    def to_image(self, latents: Tensor) -> Tensor:
        """States [B, C, H, W] as images in [0, 1]."""
        return (latents / 2 + 0.5).clamp(0, 1)
