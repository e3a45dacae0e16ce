"""SDXL and Stable Diffusion: conditioning, network and VAE are the pipelines' own."""

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from tiny_models import make_tiny_sd, make_tiny_sdxl

from dmlik_pl.flow import Exact, Hutchinson, Multistep, Purpose, log_likelihood, noise
from dmlik_pl.models import StableDiffusion, StableDiffusionXL

PROMPTS = ["a photo of a dog", "a sketch of a horse", "a photo of a red sphere"]
IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def sdxl_folder(tmp_path_factory):
    return make_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def sdxl(sdxl_folder):
    return StableDiffusionXL(str(sdxl_folder))


@pytest.fixture(scope="module")
def calm_folder(tmp_path_factory):
    """A random v-prediction is a gentle flow; random noise predictions magnify rounding where noise rules."""
    return make_tiny_sdxl(tmp_path_factory.mktemp("calm"), scheduler={"prediction_type": "v_prediction"})


@pytest.fixture(scope="module")
def calm(calm_folder):
    return StableDiffusionXL(str(calm_folder))


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1


def assert_same(found, wanted):
    """Equal up to what rounding makes of batches of another size."""
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-6)


def test_sdxl_is_conditioned_as_its_pipeline_does(sdxl, sdxl_folder):
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl_folder)
    text, null_text, pooled, null_pooled = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=True)
    condition = sdxl.condition(PROMPTS)
    assert_same(condition.inputs["text"], text)
    assert_same(condition.inputs["pooled"], pooled)
    assert not condition.inputs["text"][0].equal(condition.inputs["text"][1])
    assert null_text.count_nonzero() == 0
    assert condition.null["text"].equal(null_text)
    assert condition.null["pooled"].equal(null_pooled)
    ids = pipeline._get_add_time_ids((32, 16), (0, 0), (32, 16), torch.float32, text_encoder_projection_dim=16)
    assert sdxl.time_ids(torch.zeros(3, 4, 16, 8)).equal(ids.expand(3, -1))


@pytest.mark.parametrize("negative_prompt", [None, "a sketch"])
def test_null_branch_without_forced_zeros_or_with_a_negative_prompt(tmp_path, negative_prompt):
    folder = make_tiny_sdxl(tmp_path, force_zeros_for_empty_prompt=negative_prompt is not None)
    model = StableDiffusionXL(str(folder), negative_prompt=negative_prompt)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    _, null_text, _, null_pooled = pipeline.encode_prompt(
        PROMPTS, do_classifier_free_guidance=True, negative_prompt=negative_prompt
    )
    assert null_text.count_nonzero() > 0
    assert_same(model.condition(PROMPTS).null["text"], null_text)
    assert_same(model.condition(PROMPTS).null["pooled"], null_pooled)


def test_sd_is_conditioned_as_its_pipeline_does(sd_folder):
    pipeline = StableDiffusionPipeline.from_pretrained(sd_folder, safety_checker=None)
    text, null = pipeline.encode_prompt(PROMPTS, "cpu", 1, True)
    condition = StableDiffusion(str(sd_folder)).condition(PROMPTS)
    assert_same(condition.inputs["text"], text)
    assert_same(condition.null["text"], null)


def test_network_is_the_pipelines_unet(sdxl, sdxl_folder, images):
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl_folder)
    text, _, pooled, _ = pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
    x, step = sdxl.to_latent(images, IDS), torch.tensor([0.0, 377.25, 999.0])
    sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]]).expand(3, -1)
    with torch.no_grad():
        added = {"text_embeds": pooled, "time_ids": sizes}
        wanted = pipeline.unet(x, step, encoder_hidden_states=text, added_cond_kwargs=added).sample
        found = sdxl.network(x, step, sdxl.condition(PROMPTS).inputs)
    assert_same(found, wanted)
    assert wanted.std() > 0.1


def test_size_condition_follows_the_image(sdxl):
    torch.manual_seed(0)
    inputs = sdxl.condition(PROMPTS[:1]).inputs
    told = []
    hook = sdxl.unet.add_time_proj.register_forward_hook(lambda module, args, output: told.append(args[0]))
    sdxl.network(torch.randn(1, 4, 8, 12), torch.tensor([5.0]), inputs)
    hook.remove()
    assert told[0].tolist() == [16, 24, 0, 0, 16, 24]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_times_reach_the_network_between_steps(sdxl_folder, dtype):
    model = StableDiffusionXL(str(sdxl_folder), dtype=dtype)
    times = []
    model.unet.time_proj.register_forward_hook(lambda module, args, output: times.append(args[0]))
    log_likelihood(model.flow(), torch.randn(1, 4, 4, 4), model.condition(PROMPTS[:1]), solver=Multistep(nodes=9))
    told = torch.cat(times).double()
    grid = model.schedule.network_time(model.schedule.time(torch.linspace(*model_ends(model), 7).double()))
    assert told[[0, *range(3, 9)]].tolist() == pytest.approx(grid.tolist(), abs=1e-3)
    assert (told - told.round()).abs().max() > 0.1  # bfloat16 would have rounded 743.3 to 744


def model_ends(model):
    return [float(model.schedule.log_snr(t)) for t in (0.0, 1.0)]


def test_output_moves_smoothly_between_steps(sdxl):
    torch.manual_seed(0)
    inputs, x = sdxl.condition(PROMPTS[:1]).inputs, torch.randn(1, 4, 8, 8)
    low, half, high = (sdxl.network(x, torch.tensor([t]), inputs) for t in (100.0, 100.5, 101.0))
    assert (half - low).norm() > 0.3 * (high - low).norm() > 0
    assert (half - (low + high) / 2).norm() < 0.2 * (high - low).norm()


def test_vae_mode_is_the_default_and_scaled(sdxl, images):
    latents = sdxl.to_latent(images, IDS)
    with torch.no_grad():
        wanted = sdxl.vae.encode(images).latent_dist.mode() * 0.7
    assert_same(latents, wanted)
    assert latents.equal(sdxl.to_latent(images, ["x", "y", "z"]))
    assert latents.shape == (3, 4, 8, 8)
    assert sdxl.space == "VAE latents times 0.7"


def test_vae_samples_belong_to_the_sample(sdxl_folder, images):
    model = StableDiffusionXL(str(sdxl_folder), vae_sample=True, seed=3)
    latents = model.to_latent(images, IDS)
    assert latents[1:2].equal(model.to_latent(images[1:2], ["b"]))
    assert not latents[1:2].equal(model.to_latent(images[1:2], ["other"]))
    with torch.no_grad():
        posterior = model.vae.encode(images).latent_dist
    random = noise(posterior.mean, IDS, seed=3, purpose=Purpose.ENCODER)
    assert_same(latents, (posterior.mean + posterior.std * random) * 0.7)


def test_images_come_back_through_the_vae(sdxl, images):
    decoded = sdxl.to_image(sdxl.to_latent(images, IDS))
    with torch.no_grad():
        wanted = sdxl.vae.decode(sdxl.vae.encode(images).latent_dist.mode()).sample
    assert decoded.shape == images.shape
    assert_same(decoded, ((wanted + 1) / 2).clamp(0, 1))
    assert 0.2 < decoded.mean() < 0.8


@pytest.mark.parametrize(
    ("settings", "shift", "scale"),
    [
        ({"shift_factor": 0.3}, [0.3] * 4, [0.7] * 4),
        (
            {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 4.0, 5.0]},
            [0.1, 0.2, 0.3, 0.4],
            [0.7, 0.35, 0.175, 0.14],
        ),
    ],
)
def test_shifted_latents(sdxl_folder, images, settings, shift, scale):
    plain, model = StableDiffusionXL(str(sdxl_folder)), StableDiffusionXL(str(sdxl_folder))
    model.vae.register_to_config(**settings)
    raw = plain.to_latent(images, IDS) / 0.7
    shift, scale = (torch.tensor(value)[:, None, None] for value in (shift, scale))
    assert_same(model.to_latent(images, IDS), (raw - shift) * scale)
    assert_same(model.to_image(model.to_latent(images, IDS)), plain.to_image(plain.to_latent(images, IDS)))


def test_derivatives_forward_backward_and_by_differences_agree(sdxl_folder, images):
    model = StableDiffusionXL(str(sdxl_folder), dtype="float64")
    x, condition = model.to_latent(images, IDS).double(), model.condition(PROMPTS)
    results = {
        method: log_likelihood(
            model.flow(guidance=2.0), x, condition, divergence=Hutchinson(probes=2, method=method), solver=Multistep(9)
        )
        for method in ("vjp", "jvp", "fd")
    }
    torch.testing.assert_close(results["jvp"].bpd, results["vjp"].bpd, rtol=0, atol=1e-10)
    torch.testing.assert_close(results["fd"].bpd, results["vjp"].bpd, rtol=0, atol=1e-5)


def test_probes_estimate_the_networks_trace(sdxl):
    torch.manual_seed(1)
    x, condition = torch.randn(2, 4, 4, 4), sdxl.condition(PROMPTS[:2])
    exact = log_likelihood(sdxl.flow(), x, condition, divergence=Exact(), solver=Multistep(9))
    estimate = log_likelihood(sdxl.flow(), x, condition, divergence=Hutchinson(probes=64), solver=Multistep(9))
    assert (exact.divergence - exact.scale).abs().min() > 0
    assert ((estimate.log_p - exact.log_p).abs() < 3 * estimate.standard_error).all()


def test_results_do_not_depend_on_the_batch(calm):
    count = 16
    pictures = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    names = [f"sample-{i}" for i in range(count)]
    prompts = [PROMPTS[i % 3] for i in range(count)]

    def bpd(order, size):
        calm._embeddings.clear()
        out = torch.zeros(count, dtype=torch.float64)
        for start in range(0, count, size):
            chosen = order[start : start + size]
            ids = [names[i] for i in chosen]
            x = calm.to_latent(pictures[chosen], ids)
            condition = calm.condition([prompts[i] for i in chosen])
            out[chosen] = log_likelihood(calm.flow(), x, condition, sample_ids=ids, solver=Multistep(17)).bpd
        return out

    whole = bpd(list(range(count)), 16)
    assert whole.std() > 0.01
    for order, size in ((list(range(count)), 1), (list(range(count)), 7), (list(range(count))[::-1], 7)):
        torch.testing.assert_close(bpd(order, size), whole, rtol=0, atol=1e-6)


def test_half_precision_network_under_a_full_precision_state(calm, calm_folder, images):
    half = StableDiffusionXL(str(calm_folder), dtype="bfloat16")
    assert half.unet.dtype == torch.bfloat16
    assert half.vae.dtype == torch.float32
    x = half.to_latent(images, IDS)
    found = log_likelihood(half.flow(), x, half.condition(PROMPTS))
    wanted = log_likelihood(calm.flow(), x, calm.condition(PROMPTS))
    assert found.latent.dtype == torch.float32
    torch.testing.assert_close(found.bpd, wanted.bpd, rtol=0, atol=0.01)
    assert not found.bpd.equal(wanted.bpd)


def test_double_precision_states_pass_through_a_single_precision_network(calm, images):
    x = calm.to_latent(images.double(), IDS)
    assert x.dtype == torch.float64
    found = log_likelihood(calm.flow(), x, calm.condition(PROMPTS))
    wanted = log_likelihood(calm.flow(), x.float(), calm.condition(PROMPTS))
    assert found.latent.dtype == torch.float64
    torch.testing.assert_close(found.bpd, wanted.bpd, rtol=0, atol=1e-5)


def test_guidance_weights_join_both_branches(calm, images):
    x, condition = calm.to_latent(images, IDS), calm.condition(PROMPTS)
    bpd = {w: log_likelihood(calm.flow(w), x, condition, solver=Multistep(9)) for w in (0.0, 1.0, 1.0 + 1e-6, 3.0)}
    torch.testing.assert_close(bpd[1.0 + 1e-6].bpd, bpd[1.0].bpd, rtol=0, atol=1e-5)
    assert bpd[0.0].density == "p(x)"
    assert bpd[3.0].nfe.forward == 2 * bpd[1.0].nfe.forward
    assert (bpd[0.0].bpd - bpd[1.0].bpd).abs().min() > 1e-4


def test_v_prediction_pipelines_work(tmp_path, images):
    scheduler = {"prediction_type": "v_prediction"}
    model = StableDiffusion(str(make_tiny_sd(tmp_path, scheduler=scheduler)), prior="noise")
    assert model.prediction == "v"
    result = log_likelihood(model.flow(3.0), model.to_latent(images, IDS), model.condition(PROMPTS))
    assert result.bpd.isfinite().all()


def test_embeddings_are_remembered_within_bounds(sdxl, monkeypatch):
    monkeypatch.setattr("dmlik_pl.models.latents._REMEMBERED", 2)
    calls = []
    hook = sdxl.text_encoders[0].encoder.register_forward_hook(lambda *_: calls.append(1))
    sdxl._embeddings.clear()
    first = sdxl.condition(PROMPTS)
    again = sdxl.condition(PROMPTS)
    hook.remove()
    assert len(sdxl._embeddings) <= 2
    assert first.inputs["text"].equal(again.inputs["text"])
    sdxl._embeddings.clear()
    monkeypatch.undo()
    calls.clear()
    sdxl.condition(PROMPTS * 2)
    hook = sdxl.text_encoders[0].encoder.register_forward_hook(lambda *_: calls.append(1))
    sdxl.condition(PROMPTS)
    hook.remove()
    assert calls == []
