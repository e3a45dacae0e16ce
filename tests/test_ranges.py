"""Every number that a configuration can hold is refused where it is out of range, by whoever it is given to."""

import math
from collections.abc import Callable

import pytest
from toy import ToyData

from dmlik_pl import ranges
from dmlik_pl.callbacks import LikelihoodMonitor, Synthesis
from dmlik_pl.data.captioned import ImagePrompts
from dmlik_pl.data.digits import Digits
from dmlik_pl.data.drawings import Drawings
from dmlik_pl.data.folders import CLEVR, PACS
from dmlik_pl.data.held_out import HeldOut
from dmlik_pl.data.ljspeech import LJSpeech
from dmlik_pl.data.nbest import StoredLists
from dmlik_pl.data.shapes import Shapes
from dmlik_pl.data.spoken import Channel, Spoken
from dmlik_pl.data.tedlium import TEDLIUM
from dmlik_pl.flow import Exact, Hutchinson, Multistep, TorchDiffEq
from dmlik_pl.flow.mid_time import MidTimeEuler
from dmlik_pl.metrics import Wav2Vec2, Whisper, WordLoop
from dmlik_pl.models import GriffinLim, PixelDiffusion, StableDiffusionXL, TextToSpeech
from dmlik_pl.modules.training.adapter import LoRA
from dmlik_pl.modules.training.clip import CLIPTraining
from dmlik_pl.modules.training.fine_tuning import FineTuning
from dmlik_pl.modules.training.grad_tts import GradTTSTraining
from dmlik_pl.modules.training.loss_weight import MinSNR
from dmlik_pl.modules.training.pixel_diffusion import PixelDiffusionTraining
from dmlik_pl.modules.training.vae import VAETraining
from dmlik_pl.studies import Adaptation, PromptAccuracy, Rescoring, SpeechSweep, TextGain, TimeSweep
from dmlik_pl.studies.base import Estimator

NAN = math.nan
WANTED = {
    "candidates": {"class": ["cat", "dog"]},
    "template": "a {class}",
}


@pytest.mark.parametrize(
    ("check", "low", "inside", "outside"),
    [
        (ranges.finite, (), [0, -1e300, 10**400, None, [1, 2.0]], [NAN, math.inf, [1, NAN]]),
        (ranges.at_least, (1,), [1, 1.5, 10**400, None, []], [0, 0.999, NAN, math.inf, [2, 0]]),
        (ranges.above, (0,), [1e-300, 3], [0, -1, NAN, math.inf]),
        (ranges.within, (0, 1), [0, 1, 0.5, (0, 1)], [-1e-9, 1 + 1e-9, NAN]),
        (ranges.between, (0, 1), [1e-9, 0.5], [0, 1, NAN]),
        (ranges.seeds, (), [0, 2**63 - 1], [-1, 2**63, NAN]),
    ],
)
def test_ranges_hold_what_they_say(check: Callable[..., None], low, inside, outside) -> None:
    for value in inside:
        check(*low, value=value)
    for value in outside:
        with pytest.raises(ValueError, match=r"^first must be .*, got "):
            check(*low, first=value, second=0.5)


@pytest.mark.parametrize(
    ("kind", "given", "wrong"),
    [
        (ToyData, {}, {"batch_size": 0, "num_workers": -1, "limit": 0}),
        (PACS, {"root": "x"}, {"size": 0, "per_cell": -1}),
        (CLEVR, {"root": "x"}, {"size": -4, "limit": -1}),
        (ImagePrompts, {"root": "x", "prompts": "y"}, {"size": 0}),
        (Digits, {}, {"train_batch_size": 0, "seed": -1}),
        (Shapes, {}, {"train_size": 0, "val_size": 0, "test_size": -1, "seed": -1}),
        (Drawings, {}, {"train_size": 0, "val_size": 0, "test_size": -1, "seed": -1}),
        (HeldOut, {"images": ToyData()}, {"held_out": 1.0, "seed": -1}),
        (LJSpeech, {"root": "x"}, {"validation_size": -1, "test_size": -1, "max_seconds": 0.0, "train_batch_size": 0}),
        (TEDLIUM, {"root": "x"}, {"max_seconds": NAN, "seed": -1}),
        (Spoken, {}, {"train_size": 0, "words_per_minute": 20, "seed": -1}),
        (Channel, {"name": "x"}, {"low": NAN, "high": math.inf, "snr": NAN}),
        (StoredLists, {"path": "x"}, {"probes": 0, "max_seconds": -1.0}),
        (Estimator, {}, {"max_batch": -3, "seed": -1, "dequantisation_bits": NAN}),
        (Multistep, {}, {"nodes": 6, "order": 1}),
        (MidTimeEuler, {}, {"steps": 0}),
        (TorchDiffEq, {}, {"steps": 0, "rtol": -1.0, "atol": NAN, "max_nfe": 0}),
        (Exact, {}, {"chunk": 0}),
        (Hutchinson, {}, {"probes": 0, "colours": 3, "step": 0.0}),
        (Whisper, {"path": "x"}, {"beams": 0}),
        (Wav2Vec2, {"path": "x"}, {"beams": 0, "language_weight": NAN, "word_score": math.inf}),
        (WordLoop, {"vocabulary": ["a"]}, {"insertion_probability": 0.0, "padding": -1.0, "noise": NAN}),
        (GriffinLim, {}, {"iterations": 0, "momentum": 2.0, "seed": -1}),
        (StableDiffusionXL, {"path": "x"}, {"t_min": -1.0, "t_max": NAN, "seed": -1}),
        (PixelDiffusion, {"path": "x"}, {"t_min": 2.0, "t_max": -1.0}),
        (
            TextToSpeech,
            {"path": "x"},
            {"pe_scale": 0.0, "beta_min": -1.0, "beta_max": 0.0, "duration_deviation": 0.0, "t_min": 1.0},
        ),
        (PromptAccuracy, WANTED, {"guidance": NAN, "confidence": 1.0, "elbo_draws": -1}),
        (TimeSweep, {}, {"guidance": math.inf, "sizes": [0], "times": [2.0]}),
        (SpeechSweep, {}, {"times": [1.0, NAN, 0.0]}),
        (TextGain, {}, {"confidence": 0.0}),
        (Rescoring, {}, {"hypotheses": 0}),
        (Adaptation, {}, {"speaker": -1, "source_speaker": -2}),
        (LikelihoodMonitor, {}, {"every_n_validations": 0, "samples": 0, "max_nfe": 0, "seed": -1, "elbo_draws": 1}),
        (Synthesis, {}, {"every_n_epochs": 0, "samples": 0, "seed": -1}),
        (LoRA, {}, {"rank": 0, "alpha": 0.0}),
        (MinSNR, {}, {"gamma": 0.0}),
        (CLIPTraining, {"output": "x"}, {"embedding": 0, "text_length": 1, "noise": -1.0, "learning_rate": 0.0}),
        (VAETraining, {"output": "x"}, {"object_share": -1.0, "kl_share": NAN, "weight_decay": -1.0}),
        (
            FineTuning,
            {"output": "x", "diffusion": None},
            {"condition_dropout": 2.0, "log_snr_share": -1.0, "max_time_frequency": 0.0, "seed": -1},
        ),
        (
            GradTTSTraining,
            {"output": "x"},
            {"segment_frames": 0, "gradient_norm": 0.0, "encoder_steps": -1, "ragged_share": 2.0, "warmup_steps": -1},
        ),
        (
            PixelDiffusionTraining,
            {"output": "x", "classes": ["a"]},
            {"condition_dropout": -1.0, "beta_start": 0.0, "beta_end": 1.0, "train_steps": 1, "validation_draws": 0},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_number_out_of_range_is_refused_by_name(kind, given, wrong) -> None:
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            kind(**given | {name: value})
