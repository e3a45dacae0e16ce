"""Likelihoods of diffusers' pipelines equal independent computations on their networks, with guidance too."""

import inspect
import json
import math

import diffusers
import pytest
import tiny_pipelines as tiny
import torch
from peers import SOLVER, cosine, discrete, exploding, straight
from tiny_pipelines import LONG

import dmlik_pl as dmlik
from dmlik_pl.flow import draw, log_likelihood

PROMPT = "a photo of a red cube"
CLOSE = 1e-4  # bits per dimension


@pytest.fixture
def images():
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1


def found(model, x, guidance, prompt=PROMPT):
    """Bits per dimension by the package, and the probe that it took."""
    result = log_likelihood(model.flow(guidance), x, model.condition(prompt), solver=SOLVER, sample_ids=["one"], seed=4)
    return float(result.bpd), draw("rademacher", x, ["one"], seed=4, probes=1)[0]


def guided(network, conditional, null, guidance):
    """The field of a network under Eq. 10, by two calls."""

    def field(x, time):
        given = network(x, time, *conditional)
        return given if guidance == 1 else network(x, time, *null) * (1 - guidance) + guidance * given

    return field


def encoded(pipeline, images):
    """The mode of the autoencoder's posterior."""
    with torch.no_grad():
        return pipeline.vae.encode(images.float()).latent_dist.mode().double()


def assert_likelihood(model, images, x, network, branches, guidance, peer, prompt=PROMPT):
    """Latents and likelihood of a model are those of an independent computation."""
    torch.testing.assert_close(model.to_latent(images, ["one"]), x, rtol=0, atol=1e-5)
    bpd, probe = found(model, x, guidance, prompt)
    wanted = peer(guided(network, *branches, guidance), x, probe)
    assert math.isfinite(wanted)
    assert bpd == pytest.approx(wanted, abs=CLOSE)


BOTH = pytest.mark.parametrize("guidance", [1.0, 2.5])


@BOTH
def test_stable_diffusion_3(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_sd3)
    model = dmlik.load(folder, dtype="float64", max_sequence_length=LONG)
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(folder)
    text, null, pooled, null_pooled = pipeline.encode_prompt(PROMPT, PROMPT, PROMPT, max_sequence_length=LONG)
    transformer = pipeline.transformer.double()

    def velocity(x, t, text, pooled):
        return transformer(x, text.double(), pooled.double(), torch.tensor([1000 * t]), return_dict=False)[0]

    x = (encoded(pipeline, images) - 0.06) * 1.5
    assert_likelihood(model, images, x, velocity, [(text, pooled), (null, null_pooled)], guidance, straight)
    assert (model.space, model.schedule.shift) == ("VAE latents less 0.06, times 1.5", 3.0)


def test_stable_diffusion_3_without_t5(tiny_folders, images):
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(
        tiny_folders(tiny.tiny_sd3), text_encoder_3=None, tokenizer_3=None
    )
    model = dmlik.load(pipeline, max_sequence_length=LONG)
    text = model.condition(PROMPT).inputs["text"]
    assert text.shape[1] == tiny.WINDOW + LONG and text[:, tiny.WINDOW :].count_nonzero() == 0
    assert model.denoiser is pipeline.transformer and not model.denoiser.training
    assert dmlik.log_likelihood(model, images.float(), PROMPT, solver=dmlik.Multistep(7)).bpd.isfinite().all()


@BOTH
def test_flux(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_flux)
    model = dmlik.load(folder, dtype="float64", max_sequence_length=LONG, told_guidance=2.0)
    pipeline = diffusers.FluxPipeline.from_pretrained(folder)
    branches = [pipeline.encode_prompt(text, text, max_sequence_length=LONG)[:2] for text in (PROMPT, "")]
    transformer = pipeline.transformer.double()
    places = torch.tensor([[0, row, column] for row in range(2) for column in range(2)])

    def velocity(x, t, text, pooled):
        squares = x.reshape(1, 4, 2, 2, 2, 2)  # channel, row, row within, column, column within
        packed = torch.einsum("bchpwq->bhwcpq", squares).reshape(1, 4, 16)
        output = transformer(
            packed,
            text.double(),
            pooled.double(),
            torch.tensor([t], dtype=torch.float64),
            places,
            torch.zeros(LONG, 3),
            torch.tensor([2.0]),
            return_dict=False,
        )[0]
        return torch.einsum("bhwcpq->bchpwq", output.reshape(1, 2, 2, 4, 2, 2)).reshape(1, 4, 4, 4)

    x = (encoded(pipeline, images) - 0.1159) * 0.36
    assert_likelihood(model, images, x, velocity, branches, guidance, straight)
    assert model.space.endswith("by a network that is told guidance 2")
    assert model.flow(guidance).density(model.condition(PROMPT)) == (
        "p(x|y)" if guidance == 1 else "guided flow at w=2.5"
    )


def test_times_of_flux_are_exact_in_half_precision(tiny_folders):
    model = dmlik.load(tiny_folders(tiny.tiny_flux), dtype="bfloat16", max_sequence_length=LONG)
    told = []
    model.denoiser.time_text_embed.time_proj.register_forward_hook(lambda module, args, output: told.append(args[0]))
    x = torch.randn(1, 4, 4, 4)
    model.network(x, torch.tensor([743.3]), model.condition(PROMPT).inputs)
    assert float(told[0]) == pytest.approx(743.3, abs=1e-3)  # bfloat16 has 744


@BOTH
@pytest.mark.parametrize("kind", ["alpha", "sigma"])
def test_pixart(tiny_folders, images, guidance, kind):
    folder = tiny_folders(tiny.tiny_pixart if kind == "alpha" else tiny.tiny_pixart_sigma)
    model = dmlik.load(folder, dtype="float64", max_sequence_length=LONG)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    text, mask, null, null_mask = pipeline.encode_prompt(PROMPT, max_sequence_length=LONG)
    transformer = pipeline.transformer.double()
    sizes = {"resolution": torch.tensor([[8.0, 8.0]]).double(), "aspect_ratio": torch.tensor([[1.0]]).double()}
    told = sizes if kind == "alpha" else dict.fromkeys(sizes)
    assert mask.sum() < mask.numel()

    def noise(x, step, text, mask):
        at = torch.tensor([step])
        return transformer(x, text.double(), at, told, encoder_attention_mask=mask, return_dict=False)[0][:, :4]

    def peer(network, x, probe):
        return discrete(network, x, probe, pipeline.scheduler.betas)

    x = encoded(pipeline, images) * 0.2
    assert_likelihood(model, images, x, noise, [(text, mask), (null, null_mask)], guidance, peer)


@BOTH
def test_dit(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_dit)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "id2label": {"4": "tench, Tinca tinca"}}))
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.DiTPipeline.from_pretrained(folder)
    transformer = pipeline.transformer.double()

    def noise(x, step, label):
        return transformer(x, torch.tensor([step]), torch.tensor([label]), return_dict=False)[0][:, :4]

    def peer(network, x, probe):
        return discrete(network, x, probe, pipeline.scheduler.betas)

    assert_likelihood(
        model, images, encoded(pipeline, images) * 0.2, noise, [(4,), (7,)], guidance, peer, prompt="Tinca tinca"
    )
    assert model.condition("4").inputs["label"].tolist() == [4]
    with pytest.raises(ValueError, match=r"knows no class '7'; it has 7, by number or name \(Tinca tinca, tench"):
        model.condition("7")


@BOTH
def test_sana(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_sana)
    model = dmlik.load(folder, dtype="float64", max_sequence_length=2 * LONG)
    pipeline = diffusers.SanaPipeline.from_pretrained(folder)
    instruction = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
    text, mask, null, null_mask = pipeline.encode_prompt(
        PROMPT, max_sequence_length=2 * LONG, complex_human_instruction=instruction
    )
    transformer = pipeline.transformer.double()

    def velocity(x, t, text, mask):
        at = torch.tensor([1000 * t])
        return transformer(x, text.double(), at, encoder_attention_mask=mask, return_dict=False)[0]

    with torch.no_grad():
        x = pipeline.vae.encode(images.float()).latent.double() * 0.4
    assert x.shape[1] == 32
    assert_likelihood(model, images, x, velocity, [(text, mask), (null, null_mask)], guidance, straight)


@BOTH
def test_lumina_2(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_lumina2)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.Lumina2Pipeline.from_pretrained(folder)
    text, mask, null, null_mask = pipeline.encode_prompt(PROMPT)
    transformer = pipeline.transformer.double()

    def velocity(x, t, text, mask):
        return -transformer(x, torch.tensor([1 - t]), text.double(), mask, return_dict=False)[0]

    x = (encoded(pipeline, images) - 0.1159) * 0.36
    assert_likelihood(model, images, x, velocity, [(text, mask), (null, null_mask)], guidance, straight)


@BOTH
def test_aura_flow(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_aura_flow)
    model = dmlik.load(folder, dtype="float64", max_sequence_length=LONG)
    pipeline = diffusers.AuraFlowPipeline.from_pretrained(folder)
    text, _, null, _ = pipeline.encode_prompt(PROMPT, max_sequence_length=LONG)
    transformer = pipeline.transformer.double()

    def velocity(x, t, text):
        return transformer(x, text.double(), torch.tensor([t]), return_dict=False)[0]

    x = encoded(pipeline, images) * 0.13
    assert_likelihood(model, images, x, velocity, [(text,), (null,)], guidance, straight)


@BOTH
def test_hunyuan_dit(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_hunyuan_dit)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.HunyuanDiTPipeline.from_pretrained(folder, safety_checker=None)
    bert = pipeline.encode_prompt(PROMPT, max_sequence_length=tiny.WINDOW)
    t5 = pipeline.encode_prompt(PROMPT, max_sequence_length=LONG, text_encoder_index=1)
    transformer = pipeline.transformer.double()
    rotary = model._positions(torch.zeros(1, 4, 4, 4))  # the pipeline makes it within its own call

    def prediction(x, step, text, mask, text_t5, mask_t5):
        at = torch.tensor([step], dtype=torch.float64)
        sizes = torch.tensor([[8.0, 8.0, 8.0, 8.0, 0.0, 0.0]]).double()
        style = torch.zeros(1, dtype=torch.int64)
        both = (text.double(), mask, text_t5.double(), mask_t5)
        return transformer(x, at, *both, sizes, style, rotary, return_dict=False)[0][:, :4]

    def peer(network, x, probe):
        return discrete(network, x, probe, pipeline.scheduler.betas, "v")

    branches = [(bert[i], bert[i + 2], t5[i], t5[i + 2]) for i in (0, 1)]
    assert_likelihood(model, images, encoded(pipeline, images) * 0.13, prediction, branches, guidance, peer)


@BOTH
def test_sdxl_refiner(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_refiner)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(folder)
    text, null, pooled, null_pooled = pipeline.encode_prompt(PROMPT)
    ids, null_ids = pipeline._get_add_time_ids(
        (8, 8), (0, 0), (8, 8), 6.0, 2.5, (8, 8), (0, 0), (8, 8), torch.float64, text_encoder_projection_dim=16
    )
    unet = pipeline.unet.double()

    def prediction(x, step, text, pooled, ids):
        told = {"text_embeds": pooled.double(), "time_ids": ids}
        return unet(x, step, encoder_hidden_states=text.double(), added_cond_kwargs=told).sample

    def peer(network, x, probe):
        return discrete(network, x, probe, pipeline.scheduler.betas, "v")

    branches = [(text, pooled, ids), (null, null_pooled, null_ids)]
    assert_likelihood(model, images, encoded(pipeline, images) * 0.13, prediction, branches, guidance, peer)


def test_a_refiner_is_written_as_it_was_read(tiny_folders, tmp_path):
    model = dmlik.load(tiny_folders(tiny.tiny_refiner))
    model.save(tmp_path)
    again = dmlik.load(tmp_path)
    torch.testing.assert_close(again.condition(PROMPT).inputs, model.condition(PROMPT).inputs)
    assert not (tmp_path / "text_encoder").exists()


def test_edm_is_not_fine_tuned(tiny_folders):
    from dmlik_pl.modules.training.fine_tuning import FineTuning

    with pytest.raises(ValueError, match=r"told the steps of a schedule, and this one is told sigma \(EDM\)"):
        FineTuning(dmlik.load(tiny_folders(tiny.tiny_playground)), "nowhere")


@BOTH
def test_edm_in_the_layout_of_sdxl(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_playground)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    text, null, pooled, null_pooled = pipeline.encode_prompt(PROMPT)
    sizes = torch.tensor([[8.0, 8.0, 0.0, 0.0, 8.0, 8.0]]).double()
    unet = pipeline.unet.double()

    def noise(x, sigma, text, pooled):
        spread, told = math.sqrt(sigma**2 + 0.25), {"text_embeds": pooled.double(), "time_ids": sizes}
        inner = unet(x / spread, math.log(sigma) / 4, encoder_hidden_states=text.double(), added_cond_kwargs=told)
        denoised = 0.25 / spread**2 * x + sigma * 0.5 / spread * inner.sample
        return (x - denoised) / sigma

    def peer(network, x, probe):
        return exploding(network, x, probe, (0.002, 80.0))

    mean, deviation = torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor([1.0, 2.0, 1.5, 0.5])
    x = (encoded(pipeline, images) - mean[:, None, None]) * 0.5 / deviation[:, None, None]
    assert_likelihood(model, images, x, noise, [(text, pooled), (null, null_pooled)], guidance, peer)
    assert model.space == "VAE latents standardised by channel, times 0.5"


def test_score_sde(tiny_folders, images):
    folder = tiny_folders(tiny.tiny_score_sde)
    model = dmlik.load(folder, dtype="float64")
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet").double()

    def noise(x, sigma):
        return -sigma * unet(x, torch.tensor([sigma])).sample

    def peer(network, x, probe):
        return exploding(network, x, probe, (0.01, 50.0))

    assert_likelihood(model, images, images / 2 + 0.5, noise, [(), ()], 1.0, peer)
    assert model.space == "pixels in [0, 1]"
    torch.testing.assert_close(model.to_image(model.to_latent(images, ["one"])), images / 2 + 0.5)


def test_unconditional_latent_diffusion(tiny_folders, images):
    folder = tiny_folders(tiny.tiny_ldm)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.LDMPipeline.from_pretrained(folder)
    unet = pipeline.unet.double()

    def prediction(x, step):
        return unet(x, torch.tensor([step])).sample

    def peer(network, x, probe):
        return discrete(network, x, probe, pipeline.scheduler.betas, "v")

    with torch.no_grad():
        x = pipeline.vqvae.encode(images.float()).latents.double() * 1.2
    assert_likelihood(model, images, x, prediction, [(), ()], 1.0, peer)
    assert model.space == "VQ latents before quantisation, times 1.2"
    decoded = pipeline.vqvae.decode(x.float() / 1.2).sample / 2 + 0.5
    torch.testing.assert_close(model.to_image(x), decoded.clamp(0, 1), rtol=0, atol=1e-5)


@BOTH
def test_kandinskys_decoder(tiny_folders, images, guidance):
    folder = tiny_folders(tiny.tiny_kandinsky)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.KandinskyV22Pipeline.from_pretrained(folder)
    unet = pipeline.unet.double()
    embedding, null = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def noise(x, step, embedding):
        told = {"image_embeds": embedding}
        return unet(x, torch.tensor([step]), encoder_hidden_states=None, added_cond_kwargs=told).sample[:, :4]

    with torch.no_grad():
        x = pipeline.movq.encode(images.float()).latents.double()
    torch.testing.assert_close(model.to_latent(images, ["one"]), x, rtol=0, atol=1e-5)
    condition = model.condition(embedding, null)
    result = log_likelihood(model.flow(guidance), x, condition, solver=SOLVER, sample_ids=["one"], seed=4)
    probe = draw("rademacher", x, ["one"], seed=4, probes=1)[0]
    field = guided(noise, (embedding,), (null,), guidance)
    assert float(result.bpd) == pytest.approx(discrete(field, x, probe, pipeline.scheduler.betas), abs=CLOSE)
    assert model.space == "VQ latents given an image embedding (of CLIP, by a prior model)"
    found = dmlik.log_likelihood(model, images.float(), embedding, solver=dmlik.Multistep(7))
    assert found.bpd.isfinite().all() and found.prompts == []
    with pytest.raises(ValueError, match=r"image embeddings \[B, 16\] and not on texts, got 'a photo of a red cube'"):
        model.condition(PROMPT)


@BOTH
def test_stable_cascades_stage_c(tiny_folders, guidance):
    folder = tiny_folders(tiny.tiny_cascade)
    model = dmlik.load(folder, dtype="float64")
    pipeline = diffusers.StableCascadePriorPipeline.from_pretrained(folder)
    text, pooled, null, null_pooled = pipeline.encode_prompt("cpu", 1, 1, True, PROMPT)
    prior = pipeline.prior.double()

    def noise(x, t, text, pooled):
        at, image = torch.tensor([t], dtype=torch.float64), torch.zeros(1, 1, 16).double()
        return prior(x, at, clip_text_pooled=pooled.double(), clip_text=text.double(), clip_img=image).sample

    def peer(network, x, probe):
        return cosine(network, x, probe, (0.9999, 0.0001))

    x = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_likelihood(model, x, x, noise, [(text, pooled), (null, null_pooled)], guidance, peer)
    with pytest.raises(ValueError, match=r"semantic latents \[B, 4, h, w\] of floating point, got \[1, 3, 8, 8\]"):
        model.to_latent(torch.zeros(1, 3, 8, 8), ["one"])


@pytest.mark.parametrize(("make", "side"), [(tiny.tiny_sd3, 32), (tiny.tiny_aura_flow, 16), (tiny.tiny_lumina2, 64)])
def test_images_beyond_a_networks_positions_are_told(tiny_folders, make, side):
    model = dmlik.load(tiny_folders(make))
    assert model.to_latent(torch.zeros(1, 3, 4, side), ["one"]).shape[-1] == side // 2
    with pytest.raises(
        ValueError, match=f"size 3x4x{side + 4} do not fit the model, which has positions .* {side} pix"
    ):
        model.to_latent(torch.zeros(1, 3, 4, side + 4), ["one"])
    with pytest.raises(ValueError, match=r"multiples of 4 \(VAE 2 x patches 2\)"):
        model.to_latent(torch.zeros(1, 3, 6, 8), ["one"])


HALVES = [
    *(tiny.tiny_sd3, tiny.tiny_flux, tiny.tiny_pixart, tiny.tiny_dit, tiny.tiny_sana, tiny.tiny_lumina2),
    *(tiny.tiny_aura_flow, tiny.tiny_hunyuan_dit, tiny.tiny_refiner, tiny.tiny_playground, tiny.tiny_score_sde),
    *(tiny.tiny_ldm, tiny.tiny_cascade, tiny.tiny_kandinsky),
]


@pytest.mark.parametrize("make", HALVES, ids=lambda make: make.__name__)
def test_networks_in_half_precision_are_near_to_those_in_single(tiny_folders, images, make):
    prompt = {tiny.tiny_dit: "4", tiny.tiny_kandinsky: torch.linspace(-1, 1, 16)[None]}.get(make, PROMPT)
    single, half = (dmlik.load(tiny_folders(make), dtype=dtype) for dtype in ("float32", "bfloat16"))
    x = torch.ones(1, 4, 4, 4) / 3 if make is tiny.tiny_cascade else single.to_latent(images.float(), ["one"])
    for fraction in (0.3, 0.7):
        t = single.schedule.t_min + fraction * (single.schedule.t_max - single.schedule.t_min)
        level = single.schedule.at(t)
        fields = [model.flow().velocity(x, level, model.condition(prompt).spread(x)) for model in (single, half)]
        assert (fields[0] - fields[1]).norm() < 0.05 * fields[0].norm()
        assert not fields[0].equal(fields[1])


def test_distilled_models_load_when_asked_and_say_so_in_every_table(tmp_path):
    folder = tiny.write(tiny.tiny_schnell, tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"distilled to sample in few steps \(its times are not shifted.*distilled to true"
    ):
        dmlik.load(folder)
    model = dmlik.load(folder, distilled=True, max_sequence_length=LONG)
    assert model.space.endswith("of a model distilled to few steps, whose field was not trained as a score")
    assert model.flow().space == model.space
    assert not model.asks_guidance


def test_prompts_longer_than_a_window_of_t5(tiny_folders):
    folder = tiny_folders(tiny.tiny_pixart_sigma)
    model = dmlik.load(folder, max_sequence_length=8)
    assert model.condition(PROMPT).inputs["text"].shape[1] == 8
    message = r"'a photo of a red cube of a dog' has 10 tokens for the tokenizer \(T5Tokenizer\), whose window holds 8"
    with pytest.raises(ValueError, match=message):
        model.condition(f"{PROMPT} of a dog")
    cut = dmlik.load(folder, max_sequence_length=8, truncate=True).condition(f"{PROMPT} of a dog")
    assert cut.inputs["text"].shape[1] == 8


def test_text_encoders_can_be_dropped_once_the_prompts_are_encoded(tiny_folders, images):
    model = dmlik.load(tiny_folders(tiny.tiny_pixart_sigma), max_sequence_length=LONG)
    before = model.condition(PROMPT)
    weights = sum(weight.numel() for weight in model.parameters())
    model.drop_text_encoders([PROMPT])
    assert sum(weight.numel() for weight in model.parameters()) < weights
    torch.testing.assert_close(model.condition(PROMPT).inputs, before.inputs)
    torch.testing.assert_close(model.condition(PROMPT).null, before.null)
    with pytest.raises(ValueError, match="the text encoders were dropped, and the 'prompt a dog' was not encoded"):
        model.condition("a dog")


def test_offloaded_parts_give_the_same_likelihood(tiny_folders, images):
    folder, solver = tiny_folders(tiny.tiny_pixart_sigma), dmlik.Multistep(7)
    plain, offloaded = (dmlik.load(folder, max_sequence_length=LONG, **setting) for setting in ({}, {"offload": "cpu"}))
    assert {weight.device.type for weight in offloaded.denoiser.parameters()} == {"meta"}
    offloaded.to("cpu")  # leaves the parts where accelerate keeps them
    found = [dmlik.log_likelihood(model, images.float(), PROMPT, solver=solver).log_p for model in (plain, offloaded)]
    torch.testing.assert_close(found[0], found[1])


def test_unknown_pipelines_are_told_what_to_write(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "BriaPipeline"}))
    with pytest.raises(ValueError) as caught:
        dmlik.load(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path} holds a BriaPipeline, which no class is there for. Supported are AuraFlowPipeline, " in message
    assert "StableDiffusion3Pipeline" in message and "pipelines = ('BriaPipeline',)" in message
    assert "dmlik_pl/models/adapters/sd3.py" in message and "_embed" in message and "network" in message
