"""Where models are found, and what is said when they are not."""

import re
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants
from tiny_models import WINDOW, make_tiny_ddpm, make_tiny_sd, make_tiny_sdxl

from dmlik_pl.models import PixelDiffusion, StableDiffusion, StableDiffusionXL, load

HUB_ID = "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def test_models_are_imported_without_their_libraries():
    code = "import sys, dmlik_pl.models; print(*{'diffusers', 'transformers'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


@pytest.mark.parametrize("offline", ["local_files_only", "HF_HUB_OFFLINE"])
def test_hub_models_without_a_network(tmp_path, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline == "HF_HUB_OFFLINE")
    with pytest.raises(FileNotFoundError) as caught:
        StableDiffusionXL(HUB_ID, variant="fp16", local_files_only=offline == "local_files_only")
    message = str(caught.value)
    assert f"no model at '{HUB_ID}'" in message
    assert f"hf download {HUB_ID} --local-dir models/stable-diffusion-xl-base-1.0" in message
    assert "--include '*.txt' --include '*/*model.fp16.safetensors'" in message
    assert "--model.diffusion.init_args.path models/stable-diffusion-xl-base-1.0" in message


def test_hub_models_come_from_the_local_cache(tmp_path, monkeypatch, original):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--someone--tiny"
    shutil.copytree(original, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    assert StableDiffusionXL("someone/tiny").space == "VAE latents times 0.7"
    assert StableDiffusionXL("someone/tiny", revision=commit, local_files_only=True).space == "VAE latents times 0.7"
    with pytest.raises(FileNotFoundError, match="someone/tiny"):
        StableDiffusionXL("someone/tiny", revision="other")


def test_an_index_that_names_no_pipeline_and_a_part_that_is_not_there(folder):
    shutil.rmtree(folder / "unet")
    with pytest.raises(FileNotFoundError, match=r"cannot read unet of the model in .*: no config\.json in "):
        load(folder)
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"model_index\.json does not say which pipeline it is of: it has no _class_name"
    ):
        load(folder)


def test_missing_folders_are_not_looked_for_on_the_hub(tmp_path):
    for path in (tmp_path / "nothing", "./nothing"):
        with pytest.raises(FileNotFoundError, match=f"there is no such folder(.|\n)*hf download {HUB_ID}"):
            StableDiffusionXL(str(path))
    with pytest.raises(FileNotFoundError, match=r"named without a folder: (.*, )?digits"):
        PixelDiffusion("no-such-model")


def test_folders_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no diffusers pipeline: it has no model_index\.json"):
        StableDiffusionXL(str(tmp_path))
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"")
    with pytest.raises(ValueError, match=r"is a single file.*from_single_file"):
        StableDiffusionXL(str(checkpoint))


def test_models_of_another_kind(original, tmp_path):
    ddpm, sd = make_tiny_ddpm(tmp_path / "ddpm"), make_tiny_sd(tmp_path / "sd")
    with pytest.raises(ValueError, match=r"holds a DDPMPipeline.*without.*text_encoder"):
        StableDiffusionXL(str(ddpm))
    with pytest.raises(ValueError, match=r"holds a StableDiffusionPipeline.*without.*text_encoder_2"):
        StableDiffusionXL(str(sd))
    message = r"not be given \(addition_embed_type: 'text_time'\).*Use dmlik_pl\.models\.StableDiffusionXL"
    with pytest.raises(ValueError, match=message):
        StableDiffusion(str(original))
    with pytest.raises(ValueError, match="holds a StableDiffusionXLPipeline, which is no diffusion of pixels"):
        PixelDiffusion(str(original))


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder", "text_encoder_2"])
def test_missing_weights(folder, component):
    (weights,) = (folder / component).glob("*.safetensors")
    weights.rename(weights.with_suffix(".bin"))
    message = rf"cannot read {component} of the model in .* no weights in .* it needs \*.safetensors(.|\n)*pickle"
    with pytest.raises(FileNotFoundError, match=message):
        StableDiffusionXL(str(folder))


@pytest.mark.parametrize("component", ["tokenizer_2", "scheduler"])
def test_missing_small_parts(folder, component):
    shutil.rmtree(folder / component)
    with pytest.raises(FileNotFoundError, match=component):
        StableDiffusionXL(str(folder))


def test_variants_are_read_under_their_names(folder):
    for weights in list(folder.glob("*/*.safetensors")):
        weights.rename(weights.with_name(f"{weights.stem}.fp16.safetensors"))
    model = StableDiffusionXL(str(folder), variant="fp16", dtype="float16")
    assert model.unet.dtype == torch.float16
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not any(module.training for module in model.modules())
    with pytest.raises(FileNotFoundError, match=r"holds .*Another precision is there: set variant to fp16"):
        StableDiffusionXL(str(folder))


def test_inpainting_and_refining_networks_are_refused(folder):
    config = folder / "unet" / "config.json"
    plain = config.read_text()
    config.write_text(plain.replace('"addition_time_embed_dim": 4', '"addition_time_embed_dim": 5'))
    with pytest.raises(ValueError, match="not conditioned as that of its pipeline is"):
        StableDiffusionXL(str(folder))
    from diffusers import UNet2DConditionModel

    config.write_text(plain.replace('"in_channels": 4', '"in_channels": 9'))
    UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(config)).save_pretrained(folder / "unet")
    with pytest.raises(ValueError, match="takes 9 channels and the VAE gives 4: inpainting"):
        StableDiffusionXL(str(folder))


def test_prompts_longer_than_the_window(original):
    prompt = "a photo of a red sphere of a photo of a blue cube"
    model = StableDiffusionXL(str(original))
    message = (
        f"the prompt {prompt!r} has 15 tokens with its start and end, and the text encoder's window holds {WINDOW}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        model.condition(["a photo of a dog", prompt])
    cut = StableDiffusionXL(str(original), truncate=True).condition([prompt]).inputs["text"]
    shorter = model.condition(["a photo of a red sphere of a photo"]).inputs["text"]
    assert cut.shape == (1, WINDOW, 32)
    torch.testing.assert_close(cut[:, :10], shorter[:, :10])


def test_images_of_a_wrong_size(original):
    model = StableDiffusionXL(str(original))
    message = "images of size 3x16x18 do not fit.*multiples of 4 (VAE 2 x U-Net 2)"
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        model.to_latent(torch.zeros(1, 3, 16, 18), ["a"])
    with pytest.raises(ValueError, match="it takes 3 channels"):
        model.to_latent(torch.zeros(1, 1, 16, 16), ["a"])
