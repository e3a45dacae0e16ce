"""The one door: from a folder or a pipeline to a likelihood with its error, in Python and on the command line."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_models import make_tiny_ddpm, make_tiny_sd, make_tiny_sdxl

import dmlik_pl as dmlik
from dmlik_pl.flow import log_likelihood
from dmlik_pl.models import PixelDiffusion, StableDiffusion, StableDiffusionXL

PROMPTS = ["a photo of a dog", "a sketch of a horse"]
FAST = dmlik.Multistep(9)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    scheduler = {"prediction_type": "v_prediction"}
    return make_tiny_sdxl(tmp_path_factory.mktemp("door"), scheduler=scheduler)


@pytest.fixture(scope="module")
def model(folder):
    return dmlik.load(folder)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(2)]


@pytest.fixture
def images(pictures):
    return torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1).float() / 127.5 - 1 for p in pictures])


def test_the_package_costs_no_time_to_import():
    code = "import sys, dmlik_pl; print(len({'torch', 'diffusers', 'pandas'} & sys.modules.keys()), dmlik_pl.__all__)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, names = found.stdout.strip().split(" ", 1)
    assert count == "0" and "'log_likelihood'" in names
    assert all(hasattr(dmlik, name) for name in dmlik.__all__) and "load" in dir(dmlik)
    with pytest.raises(AttributeError, match="has no attribute 'likelihood'; it has Condition, "):
        dmlik.likelihood  # noqa: B018


def test_the_folder_says_which_class(folder, tmp_path):
    assert isinstance(dmlik.load(folder), StableDiffusionXL)
    assert isinstance(dmlik.load(str(make_tiny_sd(tmp_path / "sd"))), StableDiffusion)
    assert isinstance(dmlik.load(make_tiny_ddpm(tmp_path / "ddpm"), t_min=0.25), PixelDiffusion)
    assert dmlik.load("digits", t_min=0.25).schedule.t_min == 0.25
    with pytest.raises(ValueError, match=r"PixelDiffusion, the class of a DDPMPipeline, has no such setting.*'lora'"):
        dmlik.load("digits", lora="nothing")
    with pytest.raises(
        ValueError, match=r"a DiffusionPipeline, got a Linear: a network of your own.*docs/own-network\.md"
    ):
        dmlik.load(torch.nn.Linear(2, 2))


def test_a_pipeline_in_memory_is_as_good_as_its_folder(folder, model, images):
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    found = dmlik.log_likelihood(dmlik.load(pipeline), images, PROMPTS, solver=FAST)
    torch.testing.assert_close(found.log_p, dmlik.log_likelihood(model, images, PROMPTS, solver=FAST).log_p)
    half = StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.bfloat16)
    assert dmlik.load(half).unet.dtype == torch.bfloat16 and dmlik.load(half).vae.dtype == torch.float32


def test_likelihoods_are_those_of_the_low_level_call(model, images):
    ids = ["first", "second"]
    found = dmlik.log_likelihood(model, images, PROMPTS, guidance=2.0, sample_ids=ids, solver=FAST, seed=3, max_batch=1)
    x = model.to_latent(images, ids)
    wanted = log_likelihood(
        model.flow(2.0), x, model.condition(PROMPTS), solver=FAST, sample_ids=ids, seed=3, rounding=[0, 1]
    )
    torch.testing.assert_close(found.log_p, wanted.log_p, rtol=1e-4, atol=1e-3)
    parts = [wanted.standard_error, wanted.discretisation, wanted.rounding]
    total = sum(part**2 for part in parts).sqrt()
    torch.testing.assert_close(found.error, total, rtol=0.02, atol=0)
    frame = found.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["sample_id"].tolist() == ids and frame["prompt"].tolist() == PROMPTS
    assert frame["bpd_error"].to_numpy() == pytest.approx(frame["error"] / (256 * np.log(2)))
    assert (frame["forward"] == 18).all() and (frame["density"] == "guided flow at w=2").all()


def test_what_is_printed_has_number_error_and_calls(model, images):
    found = dmlik.log_likelihood(model, images, f"{PROMPTS[0]}\n{'x' * 2}", solver=FAST)
    text = str(found).splitlines()
    assert text[0] == (
        "p(x|y) of VAE latents times 0.7, 256 dimensions; 9 calls of the network, 9 derivatives of it per sample"
    )
    assert text[1].split("  ")[-1].strip().endswith("+- bits/dim +- nats (probes) (grid) (rounding)")
    assert f"{float(found.bpd[1]):.5f}" in text[3] and f"{float(found.error[1]):.2g}" in text[3]
    assert "a photo of a dog xx" in text[2] and text[2].endswith("-")
    assert len(text) == 4


def test_pictures_files_and_tensors_are_one(model, images, pictures, tmp_path):
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for file, picture in zip(files, pictures, strict=True):
        picture.save(file)
    ids = ["a", "b"]
    wanted = dmlik.log_likelihood(model, images, PROMPTS, sample_ids=ids, solver=FAST)
    for given in (pictures, files, [files[0], pictures[1]]):
        found = dmlik.log_likelihood(model, given, PROMPTS, sample_ids=ids, solver=FAST)
        torch.testing.assert_close(found.log_p, wanted.log_p, rtol=0, atol=1e-3)
    alone = dmlik.log_likelihood(model, str(files[0]), PROMPTS[0], solver=FAST)
    assert alone.sample_ids == [str(files[0])]


def test_grey_models_read_pictures_as_grey(tmp_path, pictures):
    model = dmlik.load(make_tiny_ddpm(tmp_path, scheduler={"prediction_type": "v_prediction"}))
    grey = [picture.resize((8, 8)) for picture in pictures]
    found = dmlik.log_likelihood(model, grey, solver=FAST)
    assert found.result.dims.tolist() == [64, 64] and found.result.density == "p(x)"
    assert "prompt" not in found.to_pandas()


@pytest.mark.parametrize(
    ("given", "prompts", "message"),
    [
        (lambda p, i: i, None, "a StableDiffusionXL is conditioned on prompts: give them, or guidance=0"),
        (lambda p, i: i, PROMPTS[:1] * 3, "3 prompts were given for 2 images: give one for all, or one per image"),
        (lambda p, i: i[:, :, :15], PROMPTS, "images of size 3x15x16 do not fit the model"),
        (lambda p, i: [], PROMPTS, "names of image files, got none"),
        (lambda p, i: [3], PROMPTS, "names of image files, got a int"),
        (lambda p, i: [p[0], p[1].resize((8, 16))], PROMPTS, r"of several sizes \(8x16, 16x16\)"),
        (lambda p, i: __file__, PROMPTS[0], "is no image that can be read"),
        (lambda p, i: (i + 1) / 2, PROMPTS, "looks like"),
    ],
)
def test_what_does_not_fit_is_told(model, pictures, images, given, prompts, message):
    with pytest.raises(ValueError, match=message):
        dmlik.log_likelihood(model, given(pictures, images), prompts, solver=FAST)


def test_without_prompts_the_null_condition_is_left(model, images):
    found = dmlik.log_likelihood(model, images, guidance=0, solver=FAST)
    wanted = dmlik.log_likelihood(model, images, PROMPTS, guidance=0, solver=FAST)
    torch.testing.assert_close(found.log_p, wanted.log_p)
    with pytest.raises(FileNotFoundError, match=r"no image file nothing\.png"):
        dmlik.log_likelihood(model, ["nothing.png"], PROMPTS[0])


def test_half_precision_on_a_cpu_is_refused(folder, images):
    half = dmlik.load(folder, dtype="float16")
    with pytest.raises(ValueError, match=r"float16 and on a CPU.*set dtype to float32, or to bfloat16"):
        dmlik.log_likelihood(half, images, PROMPTS)


def test_half_downloaded_folders_are_told(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "half")
    (weights,) = (copy / "unet").glob("*.safetensors")
    name = "diffusion_pytorch_model-0000{}-of-00002.safetensors"
    weights.rename(weights.with_name(name.format(1)))
    index = {"weight_map": {"a": name.format(1), "b": name.format(2)}}
    (copy / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    message = r"cannot read unet .*names 2 files of weights, of which 1 are not there: .*00002-of.*not complete"
    with pytest.raises(FileNotFoundError, match=message):
        dmlik.load(copy)


def evaluate(folder, root, *options):
    from evaluate import cli_main

    (root / "prompts.csv").write_text(f"image,prompt,confounder 1\n0.png,{PROMPTS[0]},{PROMPTS[1]}\n")
    data = [f"--data.init_args.root={root}", f"--data.init_args.prompts={root / 'prompts.csv'}"]
    study = ["clip=shapes-clip", "screening=null", "elimination=null", "pmi=false", "elbo_draws=2"]
    fast = [f"--model.studies.prompt_accuracy.init_args.{setting}" for setting in study]
    return cli_main(
        [
            *("--config=image_prompts.yaml", f"--model.diffusion.init_args.path={folder}", *data, *fast),
            *("--data.init_args.size=16", f"--runs={root / 'runs'}", "--model.solver.init_args.nodes=9", *options),
        ]
    )


def test_the_command_line_needs_no_class(folder, pictures, tmp_path):
    pictures[0].save(tmp_path / "0.png")
    assert evaluate(folder, tmp_path) == 0
    (report,) = (tmp_path / "runs").glob("*/report.md")
    assert "VAE latents" in report.read_text()
    with pytest.raises(ValueError, match="float16 and on a CPU"):
        evaluate(folder, tmp_path, "--model.diffusion.init_args.dtype=float16", "--trainer.accelerator=cpu")
    with pytest.raises(FileNotFoundError, match="no model at '/nowhere'"):
        evaluate("/nowhere", tmp_path)
