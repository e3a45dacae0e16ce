"""The training of the digit model, its export, and the model that ships with the package."""

import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline
from lightning import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

import dmlik_pl
from dmlik_pl.data.base import collate
from dmlik_pl.data.digits import CLASSES, Digits, DigitSet
from dmlik_pl.modules.training.pixel_diffusion import CLASSES_FILE, PixelDiffusionTraining

ASSET = Path(dmlik_pl.__file__).parent / "assets" / "digits"


def small_model(output: str = "unused", **options) -> PixelDiffusionTraining:
    torch.manual_seed(0)
    unet = {"block_out_channels": [8, 16], "dropout": 0.0}
    return PixelDiffusionTraining(CLASSES, output, unet, validation_draws=2, **options)


def test_the_bound_of_a_gaussian_is_its_entropy():
    model = small_model()
    dims, scale = 64, 0.5
    # With x ~ N(0, scale^2), the least possible error of the noise at signal-to-noise ratio q is q s^2 / (1 + q s^2).
    top, bottom = model.schedule.log_snr(0.0).item(), model.schedule.log_snr(1.0).item()
    integral = math.log1p(scale**2 * math.exp(top)) - math.log1p(scale**2 * math.exp(bottom))
    error = torch.tensor([dims * integral / (top - bottom)])
    image = torch.full((1, 1, 8, 8), scale)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * scale**2)
    assert model.bits_per_dim(image, error).item() == pytest.approx(entropy, abs=5e-4)


def test_noise_error_adds_the_noise_of_its_level():
    model = small_model().eval()
    image, noise = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    level, label = torch.tensor([0.0, 1.0]), torch.tensor([3, 10])
    with torch.no_grad():
        error = model.noise_error(image, label, level, noise)
        steps = torch.tensor([0, 999])
        noisy = model.scheduler.add_noise(image, noise, steps)
        expected = (model.unet(noisy, steps, label).sample - noise).square().sum((1, 2, 3))
    assert torch.allclose(error, expected, rtol=1e-4)


def test_unknown_and_repeated_classes_are_refused():
    with pytest.raises(ValueError, match="'eleven'"):
        small_model().labels(["3", "eleven"])
    with pytest.raises(ValueError, match="distinct"):
        PixelDiffusionTraining(["a", "a"], "unused")


def test_a_fit_exports_the_averaged_weights_of_its_best_checkpoint(tmp_path):
    model = small_model(output=str(tmp_path / "model"), warmup_steps=2)
    best = ModelCheckpoint(dirpath=tmp_path, monitor="val/bits_per_dim")
    trainer = Trainer(
        accelerator="cpu",
        max_steps=54,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[EMAWeightAveraging(decay=0.5), best],
    )
    start = model.unet.conv_in.weight.clone()
    trainer.fit(model, Digits(batch_size=197))
    assert trainer.callback_metrics["val/bits_per_dim"] < 4.5  # 9.3 for a network that says nothing
    pipeline = DDPMPipeline.from_pretrained(tmp_path / "model", local_files_only=True, use_safetensors=True)
    kept = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    loaded = pipeline.unet.state_dict()
    assert all(torch.equal(loaded[name.removeprefix("unet.")], value) for name, value in kept.items())
    assert not torch.equal(loaded["conv_in.weight"], start)
    assert torch.equal(pipeline.scheduler.alphas_cumprod, model.scheduler.alphas_cumprod)
    names = json.loads((tmp_path / "model" / CLASSES_FILE).read_text())
    assert names == {"classes": list(CLASSES), "null_class": 10}


def test_the_shipped_model_is_small_and_knows_its_digits():
    assert sum(file.stat().st_size for file in ASSET.rglob("*")) < 10e6
    names = json.loads((ASSET / CLASSES_FILE).read_text())
    model = PixelDiffusionTraining(names["classes"], "unused").eval()
    model.unet.load_state_dict(DDPMPipeline.from_pretrained(ASSET, local_files_only=True).unet.state_dict())
    data = DigitSet("test", seed=0)
    batch = collate([data[index] for index in range(0, 400, 8)])
    truth, draws = model.labels(batch.prompt), 8
    error = torch.zeros(50, 10)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for draw in range(draws):
            noise = torch.randn(batch.image.shape, generator=generator)
            level = (torch.rand(50, generator=generator) + draw) / draws
            for digit in range(10):
                label = torch.full((50,), digit)
                error[:, digit] += model.noise_error(batch.image, label, level, noise) / draws
    assert (error.argmin(1) == truth).float().mean() >= 0.88
    bits = model.bits_per_dim(batch.image, error[torch.arange(50), truth]).mean()
    assert bits + Digits().dequantisation_bits < 2.0
