"""Likelihoods of U-Nets equal independent computations, with guidance too."""

import json
import math
import shutil

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from diffusers.pipelines import kolors
from peers import discrete
from test_models_adapters import BOTH, PROMPT, assert_likelihood, encoded, found

import dmlik_pl as dmlik
from dmlik_pl.models import StableDiffusion, StableDiffusionXL
from dmlik_pl.models.adapters import SDXLRefiner


@pytest.fixture
def images():
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1


@pytest.fixture
def sentencepiece(monkeypatch):
    """Kolors as it is where SentencePiece is installed, with words for its pieces."""
    monkeypatch.setattr("diffusers.pipelines.kolors.tokenizer.SPTokenizer", tiny.Pieces)
    monkeypatch.setattr(diffusers, "KolorsPipeline", kolors.KolorsPipeline)


def steps_of_v(scheduler):
    """The independent likelihood of a network that predicts v at the steps of a scheduler."""

    def peer(network, x, probe):
        return discrete(network, x, probe, scheduler.betas, "v")

    return peer


def assert_likelihood_of_sdxl(model, pipeline, images, branches, guidance):
    """Latents and likelihood of a U-Net that is told a pooled text and sizes, against an independent computation."""
    sizes = torch.tensor([[8.0, 8.0, 0.0, 0.0, 8.0, 8.0]]).double()
    unet = pipeline.unet.double()

    def prediction(x, step, text, pooled):
        told = {"text_embeds": pooled.double(), "time_ids": sizes}
        return unet(x, step, encoder_hidden_states=text.double(), added_cond_kwargs=told).sample

    x, peer = encoded(pipeline, images) * 0.13, steps_of_v(pipeline.scheduler)
    assert_likelihood(model, images, x, prediction, branches, guidance, peer)


@BOTH
@pytest.mark.parametrize("make", [tiny.tiny_sd, tiny.tiny_segmind])
def test_stable_diffusion(tiny_folders, images, guidance, make):
    folder = tiny_folders(make)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    text, null = pipeline.encode_prompt(PROMPT, "cpu", 1, True)
    unet = pipeline.unet.double()

    def prediction(x, step, text):
        return unet(x, step, encoder_hidden_states=text.double()).sample

    x, peer = encoded(pipeline, images) * 0.18215, steps_of_v(pipeline.scheduler)
    assert_likelihood(model, images, x, prediction, [(text,), (null,)], guidance, peer)


@BOTH
def test_blocks_left_out_of_sdxl(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_ssd)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    text, null, pooled, null_pooled = pipeline.encode_prompt(PROMPT)
    assert_likelihood_of_sdxl(model, pipeline, images, [(text, pooled), (null, null_pooled)], guidance)


def test_pixels_without_a_condition(tiny_folders, images):
    folder = tiny_folders(tiny.tiny_pixels)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.DDIMPipeline.from_pretrained(folder)
    unet = pipeline.unet.double()

    def prediction(x, step):
        return unet(x, torch.tensor([step])).sample

    assert_likelihood(model, images, images, prediction, [(), ()], 1.0, steps_of_v(pipeline.scheduler))


@pytest.mark.parametrize(
    ("betas", "guidance"), [("linear", 2.5), ("sigmoid", 1.0), ("laplace", 1.0), ("squaredcos_cap_v2", 2.5)]
)
def test_pixels_of_a_class_under_all_schedules(images, betas, guidance, tmp_path):
    names = ["cube", "sphere"]
    folder = tiny.write(lambda: tiny.tiny_pixels(3, beta_schedule="linear"), tmp_path)
    scheduler = diffusers.DDPMScheduler(beta_schedule=betas, prediction_type="v_prediction")
    scheduler.save_pretrained(folder / "scheduler")
    model = dmlik.load(folder, dtype="float64", classes=names)
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet").double()

    def prediction(x, step, label):
        return unet(x, torch.tensor([step]), class_labels=torch.tensor([label])).sample

    peer, branches = steps_of_v(scheduler), [(1,), (2,)]
    assert_likelihood(model, images, images, prediction, branches, guidance, peer, prompt="sphere")


@BOTH
def test_a_consistency_model_is_told_guidance(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_lcm)
    with pytest.raises(ValueError, match=r"distilled to sample in few steps \(its folder names a LatentConsistency"):
        dmlik.load(folder)
    model = dmlik.load(folder, dtype="float64", distilled=True, told_guidance=4.0)
    pipeline = diffusers.LatentConsistencyModelPipeline.from_pretrained(folder, safety_checker=None)
    text, null = pipeline.encode_prompt(PROMPT, "cpu", 1, True)
    unet, weight = pipeline.unet.double(), torch.tensor([3.0])
    frequency = torch.exp(-math.log(10000) * torch.arange(4) / 3)
    told = torch.cat([torch.sin(1000 * weight * frequency), torch.cos(1000 * weight * frequency)])[None].double()

    def prediction(x, step, text):
        return unet(x, step, timestep_cond=told, encoder_hidden_states=text.double()).sample

    x, peer = encoded(pipeline, images) * 0.18215, steps_of_v(pipeline.scheduler)
    assert_likelihood(model, images, x, prediction, [(text,), (null,)], guidance, peer)
    assert model.space == (
        "VAE latents times 0.18215, by a network that is told guidance 4, of a model distilled to few steps, whose "
        "field was not trained as a score"
    )
    other, _ = found(dmlik.load(folder, dtype="float64", distilled=True), x, 1.0)
    assert dmlik.load(folder, distilled=True).told_guidance == 8.5  # of the pipeline's own call
    assert abs(other - found(model, x, 1.0)[0]) > 1e-3


def test_guidance_is_told_only_to_networks_that_ask(tiny_folders):
    with pytest.raises(ValueError, match="is told no guidance: leave out told_guidance=4"):
        dmlik.load(tiny_folders(tiny.tiny_sd), told_guidance=4.0)


@BOTH
def test_kolors(tiny_folders, sentencepiece, images, guidance):
    folder = tiny_folders(tiny.tiny_kolors)
    model = dmlik.load(folder, dtype="float64", max_sequence_length=tiny.LONG)
    pipeline = kolors.KolorsPipeline.from_pretrained(folder)
    text, null, pooled, null_pooled = pipeline.encode_prompt(PROMPT, max_sequence_length=tiny.LONG)
    assert_likelihood_of_sdxl(model, pipeline, images, [(text, pooled), (null, null_pooled)], guidance)
    with pytest.raises(ValueError, match=r"ChatGLMTokenizer\), whose window holds 8"):
        dmlik.load(folder, max_sequence_length=8).condition(f"{PROMPT} of a dog")


def test_packages_that_a_pipeline_needs_are_named(tiny_folders, sentencepiece, monkeypatch, tmp_path):
    from diffusers.utils import dummy_torch_and_transformers_and_sentencepiece_objects as dummies

    folder = tiny_folders(tiny.tiny_kolors)
    for place in ("dmlik_pl.models.assembly", "dmlik_pl.pretrained.processors"):
        monkeypatch.setattr(f"{place}.find_spec", lambda name: None if name == "sentencepiece" else name)
    monkeypatch.setattr(diffusers, "KolorsPipeline", dummies.KolorsPipeline)
    with pytest.raises(
        ValueError, match=r"KolorsPipeline needs sentencepiece, not installed: pip install sentencepiece$"
    ):
        dmlik.load(folder)
    pixart = shutil.copytree(tiny_folders(tiny.tiny_pixart_sigma), tmp_path / "model")
    (pixart / "tokenizer" / "tokenizer.json").rename(pixart / "tokenizer" / "spiece.model")
    message = (
        "cannot read a T5Tokenizer from .*tokenizer: its vocabulary is a model of SentencePiece, which is not inst"
    )
    with pytest.raises(ValueError, match=message):
        dmlik.load(pixart)


@pytest.mark.parametrize(
    ("make", "pipeline", "kind"),
    [
        (tiny.tiny_ssd, "StableDiffusionXLImg2ImgPipeline", StableDiffusionXL),
        (tiny.tiny_ssd, "StableDiffusionXLInpaintPipeline", StableDiffusionXL),
        (tiny.tiny_refiner, "StableDiffusionXLInpaintPipeline", SDXLRefiner),
        (tiny.tiny_sd, "StableDiffusionImg2ImgPipeline", StableDiffusion),
        (tiny.tiny_sd, "StableDiffusionInpaintPipeline", StableDiffusion),
    ],
)
def test_pipelines_that_start_from_an_image_are_read_as_what_they_are_made_of(
    tiny_folders, images, tmp_path, make, pipeline, kind
):
    folder = shutil.copytree(tiny_folders(make), tmp_path / "model")
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": pipeline}))
    assert type(dmlik.load(folder)) is kind
    logs = [
        dmlik.log_likelihood(dmlik.load(each), images.float(), PROMPT, solver=dmlik.Multistep(7)).log_p
        for each in (tiny_folders(make), folder)
    ]
    torch.testing.assert_close(*logs)


@pytest.mark.parametrize(("make", "takes"), [(tiny.tiny_sd3, 16), (tiny.tiny_flux, 4)])
def test_autoencoders_of_another_model_are_refused(tiny_folders, tmp_path, make, takes):
    folder = shutil.copytree(tiny_folders(make), tmp_path / "model")
    shutil.rmtree(folder / "vae")
    tiny.vae(8).save_pretrained(folder / "vae")
    message = (
        f"the transformer in .* takes latents of {takes} channels and the vae gives 8: they do not belong to one model"
    )
    with pytest.raises(ValueError, match=message):
        dmlik.load(folder)


def test_parts_are_found_where_they_are_now(tiny_folders, tmp_path):
    folder = shutil.copytree(tiny_folders(tiny.tiny_cascade), tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text()) | {"prior": ["stable_cascade", "StableCascadeUNet"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert isinstance(dmlik.load(folder).denoiser, diffusers.StableCascadeUNet)


def test_inpainting_networks_are_refused(tmp_path):
    folder = tiny.write(lambda: tiny.tiny_sd({"in_channels": 9}), tmp_path)
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": "StableDiffusionInpaintPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="takes 9 channels and the VAE gives 4: inpainting"):
        dmlik.load(folder)
