"""One file for each pipeline of diffusers beside the U-Nets of CLIP's texts: what its network is told."""

from dmlik_pl.models.adapters.sd3 import StableDiffusion3

__all__ = ["StableDiffusion3"]
