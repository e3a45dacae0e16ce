"""The training of the digit model, its export, and the model that ships with the package."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from diffusers import DDPMPipeline

import dmlik_pl
from dmlik_pl.data.base import collate
from dmlik_pl.data.digits import CLASSES, Digits, DigitSet
from dmlik_pl.modules.training.pixel_diffusion import CLASSES_FILE, PixelDiffusionTraining
from train import cli_main

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


def test_the_training_command_exports_the_averaged_weights_of_its_best_checkpoint(tmp_path):
    output = tmp_path / "model"
    overrides = {
        "model.init_args.output": str(output),
        "model.init_args.unet": json.dumps({"block_out_channels": [8, 16]}),
        "model.init_args.validation_draws": "2",
        "model.init_args.warmup_steps": "2",
        "trainer.max_steps": "36",
        "trainer.check_val_every_n_epoch": "1",
        "trainer.logger.init_args.save_dir": str(tmp_path),
    }
    cli_main(["fit", "--config", "digits_train.yaml", *(f"--{name}={value}" for name, value in overrides.items())])

    (best,) = (path for path in tmp_path.rglob("*.ckpt") if path.name != "last.ckpt")
    checkpoint = torch.load(best, weights_only=True)
    pipeline = DDPMPipeline.from_pretrained(output, local_files_only=True, use_safetensors=True)
    loaded = {f"unet.{name}": value for name, value in pipeline.unet.state_dict().items()}
    assert loaded.keys() == checkpoint["state_dict"].keys()
    assert all(torch.equal(loaded[name], value) for name, value in checkpoint["state_dict"].items())
    current = checkpoint["current_model_state"]["unet.conv_in.weight"]
    assert not torch.equal(loaded["unet.conv_in.weight"], current), "the average differs from the last step's weights"
    assert torch.equal(pipeline.scheduler.alphas_cumprod, small_model().scheduler.alphas_cumprod)
    names = json.loads((output / CLASSES_FILE).read_text())
    assert names == {"classes": list(CLASSES), "null_class": 10}
    (log,) = tmp_path.rglob("metrics.csv")
    bounds = pd.read_csv(log)["val/bits_per_dim"].dropna()
    assert len(bounds) == 2 and bounds.iloc[1] < bounds.iloc[0] < 9.3  # 9.3 bits: a network that says nothing


def test_the_shipped_model_is_small_and_knows_its_digits():
    assert sum(file.stat().st_size for file in ASSET.rglob("*")) < 10e6
    names = json.loads((ASSET / CLASSES_FILE).read_text())
    model = PixelDiffusionTraining(names["classes"], "unused").eval()
    model.unet.load_state_dict(DDPMPipeline.from_pretrained(ASSET, local_files_only=True).unet.state_dict())
    data = DigitSet("test", seed=0)
    batch = collate([data[index] for index in range(0, 400, 10)])
    truth, draws = model.labels(batch.prompt), 10
    error = torch.zeros(40, 10)
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(40, generator=generator)
    with torch.inference_mode():
        for draw in range(draws):
            noise = torch.randn(batch.image.shape, generator=generator)
            level = (start + draw) / draws
            for digit in range(10):
                label = torch.full((40,), digit)
                error[:, digit] += model.noise_error(batch.image, label, level, noise) / draws
    assert (error.argmin(1) == truth).float().mean() >= 0.92
    bits = model.bits_per_dim(batch.image, error[torch.arange(40), truth]).mean()
    assert bits + Digits().dequantisation_bits < 2.0
