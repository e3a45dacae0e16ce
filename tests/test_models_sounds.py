"""A model of sounds: its likelihood equals an independent computation; files and tensors; what is refused."""

import json
import math
import shutil

import diffusers
import numpy as np
import pytest
import soundfile
import tiny_pipelines as tiny
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from peers import SOLVER, cosine, exploding
from test_models_adapters import BOTH, CLOSE, PROMPT, guided

import dmlik_pl as dmlik
from dmlik_pl.flow import draw

LENGTH = 50  # samples of the sounds, at 100 Hz; the window holds 64
ANGULAR = {
    "_class_name": "CosineDPMSolverMultistepScheduler",
    "prediction_type": "v_prediction",
    "sigma_min": 0.3,
    "sigma_max": 50.0,
    "sigma_data": 1.0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write(tiny.tiny_stable_audio, tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def angular(folder, tmp_path_factory):
    """As Stable Audio Open has it, with the scheduler that diffusers has only where torchsde is installed."""
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("angular") / "model")
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps(ANGULAR))
    index = json.loads((copy / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", ANGULAR["_class_name"]]
    (copy / "model_index.json").write_text(json.dumps(index))
    return copy


@pytest.fixture
def sounds():
    return torch.rand(1, 2, LENGTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2 - 1


def denoiser_of(pipeline, told):
    """What the pipeline's network makes of x at sigma, with EDM's scalings for data of size 1."""
    transformer = pipeline.transformer.double()
    rotary = get_1d_rotary_pos_embed(4, 17, use_real=True, repeat_interleave_real=False)

    def denoised(x, sigma, text, length):
        spread = math.sqrt(1 + sigma**2)
        output = transformer(
            x / spread,
            torch.tensor([told(sigma)], dtype=torch.float64),
            encoder_hidden_states=text,
            global_hidden_states=length,
            rotary_embedding=rotary,
        ).sample
        return x / spread**2 - sigma / spread * output

    return denoised


def branches_of(pipeline, negative=None):
    """Text with length, and length alone, for the prompt and for the null condition."""
    text = pipeline.encode_prompt(PROMPT, "cpu", False)
    start, end = pipeline.encode_duration(0.0, LENGTH / 100, "cpu", False, 1)
    words, length = torch.cat([text, start, end], 1).double(), torch.cat([start, end], 2).double()
    if negative is None:
        return (words, length), (torch.zeros_like(words), length)
    null = pipeline.encode_prompt(PROMPT, "cpu", True, negative)[:1]
    return (words, length), (torch.cat([null, start, end], 1).double(), length)


@BOTH
@pytest.mark.parametrize("negative", [None, "a sketch of a dog"])
@pytest.mark.parametrize("kind", ["edm", "angular"])
def test_stable_audio(folder, angular, sounds, guidance, negative, kind):
    pipeline = diffusers.StableAudioPipeline.from_pretrained(folder)
    model = dmlik.load(angular if kind == "angular" else folder, dtype="float64", negative_prompt=negative)
    result = dmlik.log_likelihood(
        model, sounds, PROMPT, guidance=guidance, solver=SOLVER, sample_ids=["one"], seed=4, rounding=False
    )
    with torch.no_grad():
        padded = torch.cat([sounds, torch.zeros(1, 2, 64 - LENGTH)], -1).float()
        x = pipeline.vae.encode(padded).latent_dist.mode().double()
        branches = branches_of(pipeline, negative)
    probe = draw("rademacher", x, ["one"], seed=4, probes=1)[0]
    if kind == "edm":
        denoised = denoiser_of(pipeline, lambda sigma: math.log(sigma) / 4)

        def noise(x, sigma, text, length):
            return (x - denoised(x, sigma, text, length)) / sigma

        wanted = exploding(guided(noise, *branches, guidance), x, probe, (0.3, 50.0))
    else:
        denoised = denoiser_of(pipeline, lambda sigma: 2 / math.pi * math.atan(sigma))

        def noise(x, t, text, length):
            sigma = math.tan(math.pi / 2 * t)
            exploded = x * math.sqrt(1 + sigma**2)
            return (exploded - denoised(exploded, sigma, text, length)) / sigma

        kept = (1 / (1 + 0.3**2), 1 / (1 + 50.0**2))
        wanted = cosine(guided(noise, *branches, guidance), x, probe, kept, s=0.0)
    assert float(result.bpd[0]) == pytest.approx(wanted, abs=CLOSE)
    assert model.space == "latents of a sound that silence fills up to 0.64 s"
    assert result.result.dims.tolist() == [64]


def test_sounds_of_files_and_tensors_are_one(folder, sounds, tmp_path):
    model, file = dmlik.load(folder), tmp_path / "sound.wav"
    soundfile.write(file, sounds[0].float().numpy().T, 100, subtype="FLOAT")
    logs = [
        dmlik.log_likelihood(model, given, PROMPT, sample_ids=["one"], solver=dmlik.Multistep(7)).log_p
        for given in (sounds.float(), file, [str(file)])
    ]
    torch.testing.assert_close(logs[1], logs[0])
    torch.testing.assert_close(logs[2], logs[0])
    assert dmlik.log_likelihood(model, file, PROMPT, solver=dmlik.Multistep(7)).sample_ids == [str(file)]


def test_the_network_is_told_how_long_a_sound_is(folder, sounds):
    model = dmlik.load(folder)
    condition = model.condition_of(sounds, PROMPT)
    torch.testing.assert_close(condition.inputs, model.condition(PROMPT, seconds=0.5).inputs)
    assert not condition.inputs["length"].equal(model.condition(PROMPT).inputs["length"])
    many = model.condition_of(sounds.expand(2, -1, -1), [PROMPT, "a dog"])
    torch.testing.assert_close(many.inputs["text"][:1], condition.inputs["text"])
    assert model.to_sound(model.to_latent(sounds.float(), ["one"])).shape == (1, 2, 64)
    with pytest.raises(ValueError, match="to_sound"):
        model.to_image(torch.zeros(1, 4, 16))


def test_times_are_exact_in_half_precision(folder, sounds):
    single, half = (dmlik.load(folder, dtype=dtype) for dtype in ("float32", "bfloat16"))
    x, level = single.to_latent(sounds.float(), ["one"]), single.schedule.at(0.5)
    fields = [model.flow().velocity(x, level, model.condition(PROMPT).spread(x)) for model in (single, half)]
    assert (fields[0] - fields[1]).norm() < 0.05 * fields[0].norm() and not fields[0].equal(fields[1])
    told = []
    half.denoiser.timestep_proj.register_forward_pre_hook(lambda module, args: told.append(args[0]))
    half.network(x, torch.tensor([1.2345]), half.condition(PROMPT).inputs)  # of log(1.2345) / 4 bfloat16 has 3 digits
    angle = 2 * np.pi * np.log(1.2345) / 4 * half.denoiser.time_proj.weight.double()
    torch.testing.assert_close(told[0][0, :8].double(), angle.cos(), rtol=0, atol=4e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(1, 2, 65), r"sounds of 0\.65 s do not fit the model, whose window is 0\.64 s"),
        (torch.zeros(1, 1, 10), r"must be \[B, 2, N\] of floating point at 100 Hz, got \[1, 1, 10\]"),
        (torch.zeros(1, 3, 8, 8), r"must be \[B, 2, N\] .* got \[1, 3, 8, 8\]"),
        (torch.full((1, 2, 10), 1.5), r"finite and lie in \[-1, 1\], and 0 reaches 1\.5"),
        (torch.full((1, 2, 10), torch.nan), "finite and lie in .* and 0 reaches nan"),
        ([], "names of sound files, got none"),
        ([3], "names of sound files, got a int"),
    ],
)
def test_what_is_no_sound_is_told(folder, given, message):
    with pytest.raises(ValueError, match=message):
        dmlik.log_likelihood(dmlik.load(folder), given, PROMPT)


def test_files_that_do_not_fit_are_told(folder, tmp_path):
    rng, model = np.random.default_rng(0), dmlik.load(folder)
    for name, (length, channels, rate) in {
        "a": (50, 2, 100),
        "b": (40, 2, 100),
        "c": (50, 1, 100),
        "d": (50, 2, 200),
    }.items():
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, (length, channels)), rate)
    for names, message in {
        "ab": r"of several lengths \(0\.4 s, 0\.5 s\): score those of one length together",
        "c": r"c\.wav has 1 channels, 2 expected",
        "d": r"d\.wav has 200 Hz, 100 Hz expected",
    }.items():
        with pytest.raises(ValueError, match=message):
            dmlik.log_likelihood(model, [tmp_path / f"{name}.wav" for name in names], PROMPT)
    with pytest.raises(FileNotFoundError, match=r"no audio file nothing\.wav"):
        dmlik.log_likelihood(model, "nothing.wav", PROMPT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma_data": 0.5}, r"sigma_data 0\.5 and 'v_prediction'"),
        ({"prediction_type": "epsilon"}, "1.0 and 'epsilon'"),
    ],
)
def test_other_scalings_by_angles_are_refused(change, message):
    from dmlik_pl.models.schedules import read_process

    with pytest.raises(ValueError, match=message):
        read_process(ANGULAR | change)
