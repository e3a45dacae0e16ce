"""Grad-TTS as a model of speech: files, alignment, condition, synthesis, and bad input."""

import json
import math

import pytest
import torch
from grad_tts_goldens import GOLDENS, load, network, state_file
from safetensors.torch import load_file, save_file
from trainers import TRAINERS

from dmlik_pl.models import GradTTS, GriffinLim, TextToSpeech
from dmlik_pl.models.grad_tts import write_network
from dmlik_pl.models.grad_tts.alignment import duration_log_prob


@pytest.fixture(scope="module")
def speech():
    return TextToSpeech(str(state_file("multi")), GriffinLim(iterations=2))


@pytest.fixture
def tokens():
    return load("grad_tts_multi")["in.x"][0]


@pytest.mark.parametrize("name", ["single", "multi"])
def test_official_files_tell_their_sizes(name, tmp_path):
    """From a torch file of weights alone, as the official ones are; the golden estimate comes out."""
    weights, golden = load_file(state_file(name)), load(f"grad_tts_{name}")
    torch.save(weights, tmp_path / "grad-tts.pt")
    model = TextToSpeech(str(tmp_path / "grad-tts.pt"))
    assert not any(value.requires_grad for value in model.parameters())
    inputs = {"mu": golden["in.dec_mu"], "mask": golden["in.dec_mask"]}
    if name == "multi":
        inputs["speaker"] = golden["in.spk"]
    score = model.network(golden["in.dec_x"].double(), golden["in.dec_t"].double(), inputs)
    assert score.dtype == torch.float64
    torch.testing.assert_close(score.float(), golden["out.est"], rtol=1e-4, atol=1e-5)


def test_a_folder_holds_all_that_was_set(tmp_path):
    """Also what no tensor's shape tells."""
    torch.manual_seed(1)
    settings = {"n_vocab": 9, "n_enc_channels": 12, "n_heads": 3, "n_enc_layers": 2, "enc_kernel": 5, "window_size": 2}
    settings |= {"filter_channels": 7, "filter_channels_dp": 6, "dec_dim": 8, "n_spks": 3, "spk_emb_dim": 5}
    settings |= {"beta_min": 0.1, "beta_max": 15.0, "pe_scale": 10, "enc_dropout": 0.3, "n_feats": 80}
    first = GradTTS(**settings)
    write_network(tmp_path / "one", first, duration_deviation=0.31)
    model = TextToSpeech.from_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "two")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert config == {"kind": "grad-tts", "network": settings, "duration_deviation": 0.31}
    second = TextToSpeech(str(tmp_path / "two"))
    assert second.duration_deviation == 0.31
    assert (second.schedule.beta_min, second.schedule.beta_max) == (0.1, 15.0)
    assert second.grad_tts.decoder.estimator.pe_scale == 10
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.grad_tts.state_dict()[name], tensor)
    assert TextToSpeech(str(tmp_path / "two"), pe_scale=1, duration_deviation=0.2).duration_deviation == 0.2


def test_a_network_in_training_can_be_measured():
    """Weights are shared, and go on learning."""
    model = TextToSpeech.wrap(training := network("single"), duration_deviation=0.4)
    assert model.grad_tts is training
    assert all(value.requires_grad for value in training.parameters())


def test_missing_weights_say_where_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Speech-Backbones.*Google Drive(.|\n)*models/grad-tts.pt"):
        TextToSpeech(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"config\.json and model\.safetensors"):
        TextToSpeech(str(tmp_path / "empty"))


def test_weights_of_another_shape_are_named(tmp_path):
    """The first ones, and how many more."""
    weights = load_file(state_file("single"))
    weights["encoder.proj_m.bias"] = torch.zeros(40)
    del weights["decoder.estimator.final_conv.bias"]
    weights |= {f"extra.{i}": torch.zeros(i + 1) for i in range(6)}
    save_file(weights, tmp_path / "wrong.safetensors")
    with pytest.raises(ValueError, match=r"8 tensors of .*wrong\.safetensors do not fit the GradTTS") as error:
        TextToSpeech(str(tmp_path / "wrong.safetensors"))
    assert "decoder.estimator.final_conv.bias (1,) is missing" in str(error.value)
    assert "extra.3 (4,) has no place" in str(error.value)
    assert "and 3 more" in str(error.value)
    one_wrong = load_file(state_file("single"))
    one_wrong["encoder.proj_m.bias"] = torch.zeros(40)
    save_file(one_wrong, tmp_path / "shape.safetensors")
    with pytest.raises(ValueError, match=r"encoder.proj_m.bias is \(40,\), \(80,\) wanted"):
        TextToSpeech(str(tmp_path / "shape.safetensors"))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no Grad-TTS"):
        TextToSpeech(str(GOLDENS / "hifigan.state.safetensors"))
    torch.save({"a": torch.nn.Linear}, tmp_path / "code.pt")
    with pytest.raises(
        ValueError, match=r"holds more than weights: it needs code of torch\.nn\.modules\.linear\.Linear"
    ):
        TextToSpeech(str(tmp_path / "code.pt"))
    for name in ("cut.pt", "cut.safetensors"):
        (tmp_path / name).write_bytes(state_file("single").read_bytes()[:5000])
        with pytest.raises(ValueError, match=f"{name}:? .*is damaged"):
            TextToSpeech(str(tmp_path / name))
    write_network(tmp_path / "other", network("single"))
    (tmp_path / "other" / "config.json").write_text('{"kind": "something"}')
    with pytest.raises(ValueError, match="describes no Grad-TTS"):
        TextToSpeech(str(tmp_path / "other"))
    (tmp_path / "other" / "config.json").write_text('{"kind": "grad-tts", "network": {"width": 3}}')
    with pytest.raises(ValueError, match=r"describes no Grad-TTS: .*unexpected keyword argument 'width'"):
        TextToSpeech(str(tmp_path / "other"))


@pytest.mark.parametrize("form", TRAINERS)
def test_checkpoints_of_trainers_are_read_as_they_are(form, tmp_path):
    weights = load_file(state_file("multi"))
    model = TextToSpeech(str(TRAINERS[form](weights, tmp_path)))
    assert model.grad_tts.n_spks == 4
    for name, tensor in model.grad_tts.state_dict().items():
        assert tensor.equal(weights[name]), name


def test_searched_alignment_is_that_of_training(speech):
    """The golden path of the unpadded utterance, its means, and the probability of its durations."""
    golden = load("grad_tts_multi")
    count, frames = int(golden["in.x_lengths"][0]), int(golden["in.tr_y_lengths"][0])
    mel = golden["in.tr_y"][0, :, :frames]
    alignment = speech.align(golden["in.x"][0, :count], mel, "search")
    path = golden["out.tr_attn"][0, :count, :frames]
    assert torch.equal(alignment.durations, path.sum(1).long())
    torch.testing.assert_close(alignment.mu, golden["out.tr_mu_y"][0, :, :frames], rtol=1e-4, atol=1e-5)
    expected = duration_log_prob(path.sum(1), golden["out.logw"][0, 0, :count], 0.5).sum()
    assert alignment.duration_log_p == pytest.approx(float(expected), rel=1e-5)


def test_predicted_alignment_does_not_look_at_the_spectrogram(speech, tokens, generator):
    one, other = (speech.align(tokens, torch.randn(80, 50, generator=generator) - 5, "durations", 2) for _ in range(2))
    assert torch.equal(one.durations, other.durations)
    assert torch.equal(one.mu, other.mu)
    assert one.duration_log_p == other.duration_log_p
    assert int(one.durations.sum()) == 50
    searched = speech.align(tokens, torch.randn(80, 50, generator=generator) - 5)
    assert not torch.equal(one.durations, searched.durations)


def test_impossible_alignments_are_refused(speech, tokens):
    for policy in ("search", "durations"):
        with pytest.raises(ValueError, match="alignment impossible: 13 tokens, 12 frames"):
            speech.align(tokens, torch.full((80, 12), -5.0), policy)
    with pytest.raises(ValueError, match="'search' and 'durations'"):
        speech.align(tokens, torch.full((80, 20), -5.0), "best")
    with pytest.raises(ValueError, match="knows 0 to 148"):
        speech.align(torch.tensor([1, 149]), torch.full((80, 20), -5.0))
    with pytest.raises(ValueError, match="token ids none"):
        speech.align(torch.tensor([], dtype=torch.long), torch.full((80, 20), -5.0))
    with pytest.raises(ValueError, match="speaker 4 is not among the model's 4"):
        speech.condition([torch.full((80, 20), -5.0)], [4])


def test_an_utterance_is_padded_to_its_own_multiple_of_four(speech):
    mel = torch.ones(80, 9)
    padded = speech.pad(mel)
    assert padded.shape == (1, 80, 12)
    assert torch.equal(padded[0, :, :9], mel)
    assert not padded[..., 9:].any()
    assert torch.equal(speech.pad(torch.ones(80, 8))[0], torch.ones(80, 8))


def test_synthesis_is_the_official_one(speech):
    """With predicted durations, and with the same ones given."""
    golden = load("grad_tts_multi")
    spoken = speech.grad_tts(golden["in.x"], golden["in.x_lengths"], 1, spk=golden["in.spk"])
    b = int(golden["in.x_lengths"].argmax())
    ids, speaker = golden["in.x"][b], int(golden["in.spk"][b])
    frames = int(spoken.attn[b, 0].sum())
    noise = torch.randn(80, -(-frames // 4) * 4)
    predicted = speech.synthesise(ids, speaker, steps=3, noise=noise)
    durations = spoken.attn[b, 0].sum(1).long()
    given = speech.synthesise(ids, speaker, durations, steps=3, noise=noise)
    assert predicted.shape == (80, frames)
    torch.testing.assert_close(predicted, given, rtol=1e-5, atol=1e-5)
    longer = speech.synthesise(ids, speaker, 2 * durations, steps=1)
    assert longer.shape == (80, 2 * frames)
    assert speech.vocode(longer).shape == (512 * frames,)
    assert speech.rate == 22_050
    with pytest.raises(ValueError, match="3 durations of 3 frames"):
        speech.synthesise(ids, speaker, torch.ones(3, dtype=torch.long))


class TestInputs:
    """What is no spectrogram, no token or no speaker is told before it is scored."""

    @pytest.fixture
    def mel(self):
        return torch.linspace(-11, 2, 8000).reshape(80, 100)

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (torch.exp, r"from 1\.67e-05 to 7\.389"),
            (lambda mel: 20 * mel / math.log(10), "from -95"),
            (lambda mel: mel + math.log(32768), r"from -0\.6028 to 12\.4"),
        ],
    )
    def test_other_spectrograms_are_told(self, speech, tokens, mel, change, found):
        speech.align(tokens[:20], mel)
        with pytest.raises(ValueError, match=f"the spectrogram reaches {found}.*which is not the natural logarithm"):
            speech.align(tokens[:20], change(mel))

    def test_what_is_no_spectrogram_is_told(self, speech, tokens, mel):
        mel = mel.clone()
        for wrong in (mel[None], mel.T, mel[:, :0], [1.0]):
            for ask in (lambda wrong=wrong: speech.align(tokens, wrong), lambda wrong=wrong: speech.pad(wrong)):
                with pytest.raises(ValueError, match=r"a spectrogram must be \[80, T\] with a frame at least, got"):
                    ask()
        with pytest.raises(ValueError, match=r"must be in floating point, got torch\.int64"):
            speech.align(tokens, mel.long())
        mel[3, 5] = torch.nan
        with pytest.raises(ValueError, match="the spectrogram holds NaN or infinity"):
            speech.align(tokens, mel)

    @pytest.mark.parametrize(
        ("wrong", "found"),
        [
            ("a text", "a str"),
            ([1, 2], "a list"),
            (torch.zeros(3), r"torch\.float32 \[3\]"),
            (torch.zeros(1, 3, dtype=torch.long), r"torch\.int64 \[1, 3\]"),
        ],
    )
    def test_what_are_no_tokens_is_told(self, speech, mel, wrong, found):
        for ask in (lambda: speech.predict(wrong), lambda: speech.align(wrong, mel)):
            with pytest.raises(ValueError, match=rf"token ids must be whole numbers \[L\].*got {found}"):
                ask()

    def test_one_mean_is_a_batch_of_one_and_speakers_are_counted(self, speech, mel):
        one, many = speech.condition(mel, [2]), speech.condition([mel], [2])
        assert one.inputs["mu"].equal(many.inputs["mu"]) and one.inputs["speaker"].tolist() == [2]
        with pytest.raises(ValueError, match="2 speakers for 1 utterances"):
            speech.condition([mel], [0, 1])
