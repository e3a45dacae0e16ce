"""The trainings of the shapes models through their command line, and the models that ship with the package."""

import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from diffusers.models.embeddings import Timesteps
from scipy.stats import binom

from dmlik_pl.cli import CONFIGS, find_config
from dmlik_pl.data.base import collate
from dmlik_pl.data.shapes import COLOURS, PROMPTS, SHAPES, ShapeImages
from dmlik_pl.metrics.clip import CLIPEncoder
from dmlik_pl.modules.training.diffusion import SDXLTraining
from dmlik_pl.modules.training.times import limit_time_frequency
from dmlik_pl.modules.training.tokens import small_tokenizer
from dmlik_pl.modules.training.vae import object_weight, reconstruction_error
from dmlik_pl.shipped import ASSETS
from train import cli_main

TINY_UNET = '{"block_out_channels": [16, 16], "norm_num_groups": 4}'
TINY_VAE = '{"block_out_channels": [8, 8, 8], "norm_num_groups": 4}'


def fit(config: str, folder: Path, steps: int, *options: str):
    """Train on a few pictures; return the command line and the losses by step."""
    cli = cli_main(
        [
            "fit",
            f"--config={config}",
            f"--model.output={folder / 'model'}",
            f"--trainer.max_steps={steps}",
            "--trainer.val_check_interval=null",
            "--trainer.check_val_every_n_epoch=1000",
            "--trainer.log_every_n_steps=1",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
            f"--trainer.logger.init_args.save_dir={folder}",
            "--data.train_size=48",
            "--data.val_size=24",
            "--data.batch_size=24",
            "--model.warmup_steps=2",
            *options,
        ]
    )
    log = pd.read_csv(Path(cli.trainer.logger.log_dir) / "metrics.csv")
    return cli, log


@pytest.fixture(scope="module")
def trained_vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    cli, log = fit("shapes_vae_train.yaml", folder, 40, f"--model.vae={TINY_VAE}")
    return folder / "model", cli.model, log


@pytest.fixture(scope="module")
def trained_sdxl(tmp_path_factory, trained_vae):
    folder = tmp_path_factory.mktemp("sdxl")
    cli, log = fit("shapes_train.yaml", folder, 40, f"--model.vae={trained_vae[0]}", f"--model.unet={TINY_UNET}")
    return folder / "model", cli, log


def test_the_autoencoder_learns_and_its_export_is_what_was_trained(trained_vae):
    folder, model, log = trained_vae
    assert log["train/error"].iloc[-5:].mean() < 0.7 * log["train/error"].iloc[:5].mean()
    loaded = AutoencoderKL.from_pretrained(folder, local_files_only=True)
    for name, weight in model.vae.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name])
    images = torch.stack([ShapeImages("val", 24)[index].image for index in range(24)])
    with torch.no_grad():
        latents = loaded.encode(images).latent_dist.mode() * loaded.config.scaling_factor
    assert latents.shape == (24, 4, 8, 8)
    assert latents.std().item() == pytest.approx(1, abs=1e-3)


def test_the_loss_weighs_objects_and_sees_what_brightness_hides():
    image = torch.zeros(1, 3, 8, 8)
    image[:, 0, 2:4, 2:4] = 1.0
    weight = object_weight(image, share=4.0)
    assert weight[0, 0, 2:4, 2:4].unique().tolist() == [5.0]
    assert weight.sum().item() == 60 + 4 * 5
    # Of two errors that are equal in the mean square, the one of hue costs more than the one of brightness.
    flat, even = torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8)
    brightness = flat + 0.1
    hue = flat + 0.1 * torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    cost = [reconstruction_error(decoded, flat, even, 2.0, 0.0).item() for decoded in (brightness, hue)]
    assert cost[0] == pytest.approx(0.1, rel=1e-4)
    assert cost[1] > 1.5 * cost[0]


def test_edges_are_weighed_differences_of_neighbours(generator):
    """Against plain loops over a picture that is not square, with weights that differ."""
    decoded, image = torch.rand(2, 2, 3, 3, 4, generator=generator)
    weight = torch.rand(2, 1, 3, 4, generator=generator)
    across, down = [], []
    for b, c, i, j in itertools.product(range(2), range(3), range(3), range(4)):
        error, own = (decoded - image)[b, c], weight[b, 0, i, j] / weight.mean()
        if j > 0:
            across.append(own * abs(error[i, j] - error[i, j - 1]))
        if i > 0:
            down.append(own * abs(error[i, j] - error[i - 1, j]))
    edges = sum(across) / len(across) + sum(down) / len(down)
    without, with_edges = (reconstruction_error(decoded, image, weight, 2.0, share) for share in (0.0, 0.5))
    assert with_edges - without == pytest.approx(0.5 * float(edges), rel=1e-5)


@pytest.mark.parametrize("shift", [0, 1])
def test_fast_frequencies_of_the_time_are_cut_off(shift):
    """What a step changes in diffusers' own embedding tells the frequency of each of its components."""
    embedding = Timesteps(8, flip_sin_to_cos=True, downscale_freq_shift=shift)
    sines = embedding(torch.tensor([1e-3]))[0, 4:] / 1e-3
    linear = torch.nn.Linear(8, 3)
    part = SimpleNamespace(time_embedding=SimpleNamespace(linear_1=linear), config=SimpleNamespace(freq_shift=shift))
    limit_time_frequency(part, highest=0.05)
    kept = (sines < 0.05).repeat(2)
    assert kept.tolist() == [False] * (1 if shift else 2) + [True] * (3 if shift else 2) + kept[:4].tolist()
    assert torch.equal(linear.weight != 0, kept.expand(3, 8))
    linear(torch.ones(1, 8)).sum().backward()
    assert torch.equal(linear.weight.grad, kept.float().expand(3, 8))


def test_the_diffusion_model_learns_and_its_export_is_what_was_trained(trained_sdxl):
    folder, cli, log = trained_sdxl
    losses = log["train/loss"].dropna()
    assert losses.iloc[-5:].mean() < 0.9 * losses.iloc[:5].mean()
    loaded = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        there = getattr(loaded, part).state_dict()
        for name, weight in getattr(cli.model, part).state_dict().items():
            assert torch.equal(weight, there[name]), f"{part}.{name}"
    prompts = ["a photo of a red sphere", "a photo of a cyan cube"]
    with torch.no_grad():
        mine = cli.model.encode(prompts)
        theirs = loaded.encode_prompt(prompts, do_classifier_free_guidance=False)
    assert torch.equal(mine[0], theirs[0])
    assert torch.equal(mine[1], theirs[2])
    assert mine[0].shape == (2, 16, 64)
    assert loaded.config.force_zeros_for_empty_prompt
    picture = loaded(prompts, num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0))
    assert picture.images.shape == (2, 32, 32, 3)


def test_a_fit_can_be_resumed(trained_vae, tmp_path):
    options = [f"--model.vae={trained_vae[0]}", f"--model.unet={TINY_UNET}"]
    first, _ = fit("shapes_train.yaml", tmp_path, 4, *options)
    checkpoint = first.trainer.checkpoint_callback.last_model_path
    second, log = fit("shapes_train.yaml", tmp_path, 6, *options, f"--ckpt_path={checkpoint}")
    assert second.trainer.global_step == 6
    assert log["step"].min() == 4


def test_conditions_drop_to_zeros_for_the_expected_share(trained_vae, monkeypatch):
    torch.manual_seed(0)
    model = SDXLTraining(str(trained_vae[0]), "unused", condition_dropout=0.25)
    seen = []

    def record(latents, condition, time, noise):
        seen.append(condition)
        return latents.square().flatten(1).sum(1)

    monkeypatch.setattr(model, "noise_error", record)
    monkeypatch.setattr(model, "log", lambda *args, **options: None)
    batch = collate([ShapeImages("train", 24)[index] for index in range(24)])
    for _ in range(25):
        model.training_step(batch, 0)
    embedding, pooled = (torch.cat(parts) for parts in zip(*seen, strict=True))
    dropped = (embedding == 0).all(dim=(1, 2))
    assert torch.equal(dropped, (pooled == 0).all(dim=1))
    low, high = binom.interval(0.999, len(dropped), 0.25)
    assert low <= dropped.sum() <= high
    truth = model.encode(batch.prompt)
    kept = int((~dropped[:24]).nonzero()[0])
    assert torch.allclose(embedding[kept], truth[0][kept], atol=1e-6)
    assert torch.allclose(pooled[kept], truth[1][kept], atol=1e-6)


def test_noise_is_added_and_told_as_the_scheduler_does(trained_sdxl):
    model = trained_sdxl[1].model.eval()
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    steps = torch.tensor([0, 999])
    sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).expand(2, -1)
    with torch.no_grad():
        embedding, pooled = model.encode(list(PROMPTS[:2]))
        error = model.noise_error(latents, (embedding, pooled), torch.tensor([0.0, 1.0]), noise)
        signal = model.pipeline.scheduler.alphas_cumprod[steps].reshape(2, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        extra = {"text_embeds": pooled, "time_ids": sizes}
        predicted = model.unet(noisy, steps, embedding, added_cond_kwargs=extra).sample
    assert torch.allclose(error, (predicted - noise).square().sum((1, 2, 3)), rtol=1e-4)


def test_times_are_uniform_in_time_or_in_log_snr(trained_vae):
    torch.manual_seed(0)
    uniform = SDXLTraining(str(trained_vae[0]), "unused", log_snr_share=0.0)
    times = uniform.draw_times(1000).sort().values
    assert torch.allclose(times, (torch.arange(1000) + 0.5).double() / 1000, atol=1e-3)
    uniform.log_snr_share = 1.0
    noise = uniform.schedule.log_snr(uniform.draw_times(1000)).neg().sort().values / 2
    assert noise[0].exp().item() == pytest.approx(0.0292, rel=0.01)
    assert noise[-1].exp().item() == pytest.approx(14.6, rel=0.01)
    assert torch.allclose(noise.diff(), noise.diff().mean(), atol=2e-3)


def test_the_network_never_uses_the_fast_part_of_its_time_embedding(trained_sdxl):
    unet = trained_sdxl[1].model.unet
    weight = unet.time_embedding.linear_1.weight
    fast = 10000.0 ** (-torch.arange(8) / 8) > 0.2
    assert weight[:, fast.repeat(2)].abs().max() == 0
    assert weight[:, ~fast.repeat(2)].abs().min() > 0


def test_words_of_captions_are_single_tokens_and_other_text_survives():
    tokenizer = small_tokenizer(PROMPTS)
    assert all(len(tokenizer(prompt).input_ids) == 8 for prompt in PROMPTS)
    assert len({tuple(tokenizer(prompt).input_ids) for prompt in PROMPTS}) == 24
    assert tokenizer.model_max_length == 16
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.decode(tokenizer("two Zebras!").input_ids, skip_special_tokens=True) == "two zebras !"


def test_clip_learns_and_its_export_works_as_any_clip(tmp_path):
    vision = '{"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "patch_size": 8}'
    cli, log = fit("shapes_clip_train.yaml", tmp_path, 40, f"--model.vision={vision}", "--model.learning_rate=3e-3")
    losses = log["train/loss"].dropna()
    assert losses.iloc[-5:].mean() < 0.8 * losses.iloc[:5].mean()
    loaded = CLIPEncoder.from_pretrained(tmp_path / "model", local_files_only=True)
    batch = collate([ShapeImages("test", 24)[index] for index in range(24)])
    cosines = loaded.images((batch.image + 1) / 2) @ loaded.prompts(PROMPTS).T
    with torch.no_grad():
        expected = cli.model.logits(batch.image, PROMPTS) / cli.model.clip.logit_scale.exp()
    assert torch.allclose(cosines, expected, atol=1e-4)


def test_configurations_are_found_by_name_and_others_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(["fit", "--config", "shapes_train.yaml"])[2] == str(CONFIGS / "shapes_train.yaml")
    assert find_config(["--config=shapes_train.yaml"]) == [f"--config={CONFIGS / 'shapes_train.yaml'}"]
    (tmp_path / "shapes_train.yaml").write_text("{}")
    assert find_config(["--config", "shapes_train.yaml"])[1] == "shapes_train.yaml"
    with pytest.raises(FileNotFoundError, match=r"'shapes_vae_trian\.yaml'.*did you mean shapes_vae_train\.yaml"):
        find_config(["--config", "shapes_vae_trian.yaml"])


def test_the_resolved_configuration_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli_main(["fit", "--config", "shapes_train.yaml", "--model.learning_rate=0.5", "--print_config"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "condition_dropout: 0.1" in printed
    assert "learning_rate: 0.5" in printed


def test_a_missing_autoencoder_is_told():
    with pytest.raises(FileNotFoundError, match=r"shapes_vae_train\.yaml"):
        SDXLTraining("no/such/folder", "unused")


@pytest.fixture(scope="module")
def pictures():
    data = ShapeImages("test", 96)
    return collate([data[index] for index in range(96)])


def test_shipped_files_are_small():
    files = [path for name in ("shapes-sdxl", "shapes-clip") for path in (ASSETS / name).rglob("*") if path.is_file()]
    assert len(files) > 15
    assert max(path.stat().st_size for path in files) < 10e6
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt"}


def test_the_shipped_clip_knows_colours_and_shapes(pictures):
    clip = CLIPEncoder.from_pretrained(ASSETS / "shapes-clip", local_files_only=True)
    nearest = (clip.images((pictures.image + 1) / 2) @ clip.prompts(PROMPTS).T).argmax(dim=1)
    found = [PROMPTS[index].split()[-2:] for index in nearest]
    colours = [pair[0] == true for pair, true in zip(found, pictures.attributes["colour"], strict=True)]
    shapes = [pair[1] == true for pair, true in zip(found, pictures.attributes["shape"], strict=True)]
    assert np.mean(colours) > 0.98
    assert np.mean(shapes) > 0.95


def test_the_shipped_model_paints_what_it_is_asked_for():
    pipeline = StableDiffusionXLPipeline.from_pretrained(ASSETS / "shapes-sdxl", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    clip = CLIPEncoder.from_pretrained(ASSETS / "shapes-clip", local_files_only=True)
    random = torch.Generator().manual_seed(0)
    images = pipeline(
        list(PROMPTS), num_inference_steps=25, guidance_scale=2.0, generator=random, output_type="pt"
    ).images
    nearest = (clip.images(images) @ clip.prompts(PROMPTS).T).argmax(dim=1)
    right = Counter(
        (PROMPTS[index].split()[-2] == prompt.split()[-2], PROMPTS[index].split()[-1] == prompt.split()[-1])
        for index, prompt in zip(nearest, PROMPTS, strict=True)
    )
    assert right[True, True] >= 22
    assert sum(count for (colour, _), count in right.items() if colour) >= 23


def test_the_shipped_model_ranks_the_true_caption_first(pictures):
    training = SDXLTraining(str(ASSETS / "shapes-sdxl" / "vae"), "unused", validation_levels=6)
    shipped = StableDiffusionXLPipeline.from_pretrained(ASSETS / "shapes-sdxl", local_files_only=True)
    for part in ("unet", "text_encoder", "text_encoder_2"):
        getattr(training, part).load_state_dict(getattr(shipped, part).state_dict())
    few = collate([ShapeImages("test", 48)[index] for index in range(0, 48, 2)])
    best = training.prompt_errors(training.latents(few), PROMPTS).argmin(dim=1)
    right = [PROMPTS[index] == prompt for index, prompt in zip(best, few.prompt, strict=True)]
    assert len(COLOURS) * len(SHAPES) == len(PROMPTS) == 24
    assert np.mean(right) > 0.95


def test_a_mistake_in_a_training_is_one_message_and_exit_status_1() -> None:
    command = [sys.executable, str(CONFIGS.parent / "train.py"), "fit", "--config", "nonesuch.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: no configuration 'nonesuch.yaml'") and "Traceback" not in result.stderr
