"""One file for each pipeline of diffusers beside the U-Nets of CLIP's texts: what its network is told."""

from dmlik_pl.models.adapters.aura_flow import AuraFlow
from dmlik_pl.models.adapters.dit import DiT
from dmlik_pl.models.adapters.flux import Flux
from dmlik_pl.models.adapters.hunyuan_dit import HunyuanDiT
from dmlik_pl.models.adapters.kandinsky import KandinskyDecoder
from dmlik_pl.models.adapters.kolors import Kolors
from dmlik_pl.models.adapters.ldm import UnconditionalLDM
from dmlik_pl.models.adapters.lumina2 import Lumina2
from dmlik_pl.models.adapters.pixart import PixArt
from dmlik_pl.models.adapters.sana import Sana
from dmlik_pl.models.adapters.score_sde import ScoreSDE
from dmlik_pl.models.adapters.sd3 import StableDiffusion3
from dmlik_pl.models.adapters.sdxl_refiner import SDXLRefiner
from dmlik_pl.models.adapters.stable_audio import StableAudio
from dmlik_pl.models.adapters.stable_cascade import StableCascadePrior

__all__ = [
    "AuraFlow",
    "DiT",
    "Flux",
    "HunyuanDiT",
    "KandinskyDecoder",
    "Kolors",
    "Lumina2",
    "PixArt",
    "SDXLRefiner",
    "Sana",
    "ScoreSDE",
    "StableAudio",
    "StableCascadePrior",
    "StableDiffusion3",
    "UnconditionalLDM",
]
