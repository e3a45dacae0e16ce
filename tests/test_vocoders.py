"""From log-mel spectrograms to waves."""

import json

import pytest
import torch
from grad_tts_goldens import GOLDENS, INDEX, load
from safetensors.torch import load_file, save_file
from trainers import TRAINERS

from dmlik_pl.models import GriffinLim, HiFiGAN
from dmlik_pl.models.hifigan import HiFiGANGenerator
from dmlik_pl.speech.mel import LogMel

WEIGHTS = GOLDENS / "hifigan.state.safetensors"


@pytest.fixture(scope="module")
def speech():
    """Two seconds of speech as a spectrogram, [1, 80, 172]."""
    return load_file(GOLDENS / "mel.safetensors")["out.sample_0_0s_2s"][None]


def folded(weights):
    """Weights without weight norm, multiplied out by torch."""
    result = {name: value for name, value in weights.items() if not name.endswith(("_g", "_v"))}
    for name, direction in weights.items():
        if name.endswith("_v"):
            stem = name.removesuffix("_v")
            result[stem] = torch._weight_norm(direction, weights[f"{stem}_g"], 0)
    return result


def test_hifigan_is_the_official_one():
    golden = load("hifigan")
    model = HiFiGAN(str(WEIGHTS))
    wave = model(golden["in.mel"])
    assert model.rate == 22_050
    assert wave.shape == (2, 256 * 12)
    torch.testing.assert_close(wave, golden["out.wav"][:, 0], rtol=1e-4, atol=1e-6)


def test_hifigan_loads_every_official_form(tmp_path):
    """With and without weight norm, in a torch file under its key and in a folder, each strictly."""
    golden, weights = load("hifigan"), load_file(WEIGHTS)
    expected = golden["out.wav_no_weight_norm"][:, 0]
    torch.save({"generator": weights}, tmp_path / "hifigan.pt")
    (tmp_path / "folder").mkdir()
    save_file(folded(weights), tmp_path / "folder" / "generator.safetensors")
    (tmp_path / "folder" / "config.json").write_text(json.dumps(INDEX["hifigan"]))
    for path in (tmp_path / "hifigan.pt", tmp_path / "folder"):
        torch.testing.assert_close(HiFiGAN(str(path))(golden["in.mel"]), expected, rtol=1e-4, atol=1e-6)
    generator = HiFiGANGenerator(INDEX["hifigan"])
    for state in (weights, folded(weights)):
        result = generator.load_state_dict(state, strict=True)
        assert not result.missing_keys
        assert not result.unexpected_keys
        with torch.no_grad():
            torch.testing.assert_close(generator(golden["in.mel"])[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_hifigan_has_the_published_tensors():
    published = INDEX["hifigan_v1"]
    with torch.device("meta"):
        state = HiFiGANGenerator(published["config"]).state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == published["folded"]


def test_hifigan_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Speech-Backbones.*Google Drive"):
        HiFiGAN(str(tmp_path))
    with pytest.raises(ValueError, match=r"holds no HiFi-GAN generator: none of its tensors is called conv_pre\.bias"):
        HiFiGAN(str(GOLDENS / "mas.safetensors"))
    weights = folded(load_file(WEIGHTS))
    weights["conv_post.bias"] = torch.zeros(2)
    save_file(weights, tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match=r"1 tensors of .* conv_post\.bias is \(2,\), \(1,\) wanted"):
        HiFiGAN(str(tmp_path / "wrong.safetensors"))
    (tmp_path / "config.json").write_text(json.dumps(INDEX["hifigan"] | {"upsample_rates": [8, 8, 4, 2]}))
    with pytest.raises(ValueError, match="512 samples per frame"):
        HiFiGAN(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(INDEX["hifigan"] | {"fmax": 11025, "sampling_rate": 44100}))
    with pytest.raises(
        ValueError, match="for other spectrograms: sampling_rate 44100, fmax 11025, and Grad-TTS's have"
    ):
        HiFiGAN(str(tmp_path))
    (tmp_path / "config.json").write_text('{"upsample_rates": [8, ')
    with pytest.raises(ValueError, match=r"config\.json is not JSON, or cut short"):
        HiFiGAN(str(tmp_path))


@pytest.mark.parametrize("form", TRAINERS)
@pytest.mark.parametrize("norm", ["old", "new", "none"])
def test_hifigan_is_read_as_trainers_write_it(norm, form, tmp_path):
    """Under every prefix, with either weight norm and without."""
    golden, weights = load("hifigan"), load_file(WEIGHTS)
    if norm == "new":
        new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
        for name in list(weights):
            stem, _, kind = name.rpartition(".")
            if kind in new:
                weights[f"{stem}.{new[kind]}"] = weights.pop(name)
        assert "ups.0.parametrizations.weight.original1" in weights
    weights = folded(weights) if norm == "none" else weights
    wave = HiFiGAN(str(TRAINERS[form](weights, tmp_path)))(golden["in.mel"])
    torch.testing.assert_close(wave, golden["out.wav"][:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_of_torch_is_multiplied_out(dim):
    """Whatever the dimension that has magnitudes of its own."""
    generator = HiFiGANGenerator(INDEX["hifigan"])
    expected = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    normed = HiFiGANGenerator(INDEX["hifigan"])
    normed.load_state_dict(expected)
    torch.nn.utils.parametrizations.weight_norm(normed.ups[0], dim=dim)
    generator.load_state_dict(normed.state_dict())
    for name, tensor in generator.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-7)


def test_several_generators_in_one_file_are_told(tmp_path):
    weights = load_file(WEIGHTS)
    torch.save({"generator": weights, "generator_ema": weights}, tmp_path / "both.pt")
    with pytest.raises(ValueError, match=r"under each of 'generator\.', 'generator_ema\.': keep one"):
        HiFiGAN(str(tmp_path / "both.pt"))


def test_griffin_lim_gives_back_the_spectrogram(speech):
    """Its mean error in log-magnitude, and the relative one in magnitude, which takes many rounds."""
    wave = GriffinLim()(speech)
    assert wave.shape == (1, 256 * 172)
    again = LogMel()(wave)
    assert float((again - speech).abs().mean()) < 0.13
    assert float((again.exp() - speech.exp()).norm() / speech.exp().norm()) < 0.1
    rough = LogMel()(GriffinLim(iterations=2)(speech))
    assert float((rough.exp() - speech.exp()).norm() / speech.exp().norm()) > 0.1


def test_griffin_lim_finds_non_negative_magnitudes(speech):
    vocoder = GriffinLim()
    magnitude = vocoder._magnitude(speech.exp())
    assert float(magnitude.min()) >= 0
    bands = vocoder.analysis.filters @ magnitude
    assert float((bands - speech.exp()).norm() / speech.exp().norm()) < 5e-3


def test_griffin_lim_is_deterministic_and_knows_no_batch(speech):
    vocoder = GriffinLim(iterations=4)
    torch.manual_seed(1)
    alone = vocoder(speech)
    torch.manual_seed(2)
    together = vocoder(torch.cat([0 * speech - 5, speech]))
    torch.testing.assert_close(together[1], alone[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(GriffinLim(iterations=4, seed=1)(speech), alone, atol=1e-2)
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        GriffinLim(iterations=0)


def test_silence_stays_silent():
    wave = GriffinLim(iterations=4)(torch.full((1, 80, 9), -11.5129))
    assert wave.isfinite().all()
    assert float(wave.abs().max()) < 1e-2
