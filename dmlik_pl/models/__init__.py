"""Score networks and what they need; each model gives a :class:`~dmlik_pl.flow.ProbabilityFlow`."""

from dmlik_pl.models.adapters import StableDiffusion3
from dmlik_pl.models.base import DiffusionModel, ImageModel
from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.models.door import FromFolder, load, log_likelihood
from dmlik_pl.models.grad_tts import GradTTS, TextToSpeech
from dmlik_pl.models.griffin_lim import GriffinLim
from dmlik_pl.models.hifigan import HiFiGAN
from dmlik_pl.models.likelihoods import Likelihoods
from dmlik_pl.models.pipeline import PipelineModel
from dmlik_pl.models.pixel import PixelDiffusion
from dmlik_pl.models.sdxl import StableDiffusionXL
from dmlik_pl.models.stable_diffusion import StableDiffusion
from dmlik_pl.models.vocoder import Vocoder

__all__ = [
    "DiffusionModel",
    "FromFolder",
    "GaussianMixture",
    "GradTTS",
    "GriffinLim",
    "HiFiGAN",
    "ImageModel",
    "Likelihoods",
    "PipelineModel",
    "PixelDiffusion",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "TextToSpeech",
    "Vocoder",
    "load",
    "log_likelihood",
]
