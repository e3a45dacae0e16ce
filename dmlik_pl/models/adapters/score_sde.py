"""NCSN++ and other score networks of the variance-exploding SDE."""

from collections.abc import Sequence

from torch import Tensor

from dmlik_pl.models.pixel import PixelDiffusion

__all__ = ["ScoreSDE"]


class ScoreSDE(PixelDiffusion):
    """A `UNet2DModel` that gives the score at a noise scale sigma, over pixels in [0, 1].

    References:
        | Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), VE SDE
    """

    pipelines = ("ScoreSdeVePipeline",)
    space = "pixels in [0, 1]"
    fed = ("num_class_embeds", "time_embedding_type")

    def to_latent(self, images: Tensor, sample_ids: Sequence[str], *, bright: bool = False) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] to pixels in [0, 1]; see :meth:`PixelDiffusion.to_latent`."""
        return super().to_latent(images, sample_ids, bright=bright) / 2 + 0.5

    def to_image(self, latents: Tensor) -> Tensor:
        """States [B, C, H, W] as images in [0, 1]."""
        return latents.clamp(0, 1)
