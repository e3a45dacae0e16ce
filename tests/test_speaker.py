"""Speaker encoders on synthesised voices, and their similarity."""

import math
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_speech import make_tiny_xvector
from torch import Tensor
from transformers import AutoModelForAudioXVector

from dmlik_pl.metrics import Resemblyzer, SpeakerSimilarity, TitaNet, XVector, speaker_similarity
from dmlik_pl.metrics.voice_encoder import mel_windows, shorten_pauses
from dmlik_pl.speech.audio import resample
from dmlik_pl.speech.espeak import Espeak


def noise(samples: int, seed: int) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


class TestSimilarity:
    def test_is_the_cosine_from_minus_one_to_one(self) -> None:
        first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0], [1.0, 1.0]])
        second = torch.tensor([[0.0, 2.0], [-5.0, 0.0], [0.1, 0.0], [1.0, 0.0]])
        assert speaker_similarity(first, second).tolist() == pytest.approx([0, -1, 1, math.sqrt(0.5)])

    def test_never_leaves_its_range(self) -> None:
        vectors = torch.randn(1000, 192, generator=torch.Generator().manual_seed(0))
        assert speaker_similarity(vectors, vectors).max() <= 1
        assert speaker_similarity(vectors, -vectors).min() >= -1

    def test_of_no_voice_is_undefined(self) -> None:
        vectors = torch.tensor([[0.0, 0.0], [math.nan, math.nan]])
        assert speaker_similarity(vectors, torch.ones(2, 2)).isnan().all()


def buzz(pitch: float, seconds: float = 2.0) -> NDArray[np.float32]:
    """A tone of many harmonics, loud and soft by turns, that the detector of voices takes for one."""
    t = np.arange(int(16000 * seconds)) / 16000
    phase = 2 * np.pi * pitch * t + 3 * np.sin(2 * np.pi * 3 * t)
    wave = sum(np.sin(k * phase) / k for k in range(1, 20)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))
    return (0.2 * wave).astype(np.float32)


PAUSED = np.concatenate([buzz(120), np.zeros(24000, np.float32), buzz(120, 1.3)])


class TestResemblyzer:
    @pytest.mark.parametrize(
        ("wave", "values"),  # by the package resemblyzer 0.1.4
        [
            (PAUSED, {36: 0.26191, 239: 0.22202, 246: 0.22070, 243: 0.20965}),
            (buzz(210), {218: 0.22116, 244: 0.21891, 11: 0.20515, 150: 0.19635}),
            (0.01 * buzz(120), {246: 0.31813, 36: 0.20328, 168: 0.18641, 111: 0.17900}),
        ],
    )
    def test_vectors_are_those_of_the_package(self, encoder, wave, values) -> None:
        vector = encoder.embed([torch.from_numpy(wave)], 16000)[0]
        assert vector.topk(4).indices.tolist() == list(values)
        assert vector.topk(4).values.tolist() == pytest.approx(list(values.values()), abs=2e-5)

    def test_pauses_are_shortened_as_by_the_package(self) -> None:
        assert (len(PAUSED), len(shorten_pauses(PAUSED))) == (76800, 57120)
        assert len(shorten_pauses(buzz(210))) == 31680

    @pytest.mark.parametrize(("samples", "windows"), [(300, 1), (25600, 1), (31519, 1), (31520, 2), (60000, 4)])
    def test_the_last_window_is_left_out_if_little_of_it_is_heard(self, samples, windows) -> None:
        assert mel_windows(noise(samples, 0).numpy()).shape == (windows, 160, 40)

    @pytest.fixture(scope="class")
    def encoder(self) -> Resemblyzer:
        return Resemblyzer()

    @pytest.fixture(scope="class")
    def speech(self) -> list[Tensor]:
        speaker = Espeak()
        sentences = ("elephant guitar dolphin", "horse person kangaroo", "crocodile butterfly house")
        return [speaker.speak(sentence, voice) for voice in ("en-us", "en-us+f2") for sentence in sentences]

    def test_tells_voices_apart(self, encoder, speech) -> None:
        vectors = encoder.embed(speech, Espeak.rate)
        assert (vectors.shape, vectors.dtype) == ((6, 256), torch.float32)
        assert torch.allclose(vectors.norm(dim=1), torch.ones(6), atol=1e-6)
        cosines = vectors @ vectors.T
        same = torch.tensor([voice == other for voice in (0, 0, 0, 1, 1, 1) for other in (0, 0, 0, 1, 1, 1)]).view(6, 6)
        assert cosines[same & ~torch.eye(6, dtype=torch.bool)].mean() > 0.77
        assert cosines[~same].mean() < 0.70

    def test_order_does_not_matter_and_the_rate_does(self, encoder, speech) -> None:
        vectors = encoder.embed(speech[:2], Espeak.rate)
        assert torch.equal(encoder.embed(speech[1::-1], Espeak.rate).flip(0), vectors)
        assert torch.equal(encoder.embed([resample(speech[0], 22050, 16000)], 16000)[0], vectors[0])
        mistaken = encoder.embed([resample(speech[0], 22050, 16000)], 22050)[0]
        assert mistaken @ vectors[0] < 0.9

    def test_loudness_beyond_full_scale_does_not_wrap_around(self, encoder, speech) -> None:
        loud, full = (encoder.embed([factor * speech[0] / speech[0].abs().max()], Espeak.rate)[0] for factor in (30, 1))
        assert loud @ full > 0.999

    def test_noise_has_a_vector_and_silence_has_none(self, encoder) -> None:
        vectors = encoder.embed([noise(24000, 0), torch.zeros(24000)], 16000)
        assert float(vectors[0].norm()) == pytest.approx(1, abs=1e-5)
        assert vectors[1].isnan().all()

    def test_metric_is_the_mean_over_pairs(self, encoder, speech) -> None:
        metric = SpeakerSimilarity(encoder)
        metric.update(speech[:1], speech[1:2], Espeak.rate)
        metric.update([*speech[:1], speech[0]], [speech[3], torch.zeros(9000)], Espeak.rate)
        vectors = encoder.embed(speech, Espeak.rate).double()
        cosines = torch.stack([vectors[0] @ vectors[1], vectors[0] @ vectors[3]])
        result = metric.compute()
        assert float(result["mean"]) == pytest.approx(float(cosines.mean()), abs=1e-6)
        assert float(result["standard_error"]) == pytest.approx(float(cosines.std() / math.sqrt(2)), abs=1e-6)
        assert (float(result["count"]), float(result["undefined"])) == (2, 1)

    def test_counts_must_match(self, encoder, speech) -> None:
        with pytest.raises(ValueError, match="2 recordings need as many others, got 1"):
            SpeakerSimilarity(encoder).update(speech[:2], speech[:1], Espeak.rate)

    def test_missing_package_names_the_extra(self, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "webrtcvad", None)
        with pytest.raises(ModuleNotFoundError, match=r"webrtcvad.*dmlik-pl\[speech\]"):
            Resemblyzer()


class TestXVector:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        """A WavLM of random weights with an x-vector head."""
        folder = tmp_path_factory.mktemp("xvector")
        make_tiny_xvector(folder)
        return folder

    def test_is_the_model_s_embedding_of_each_resampled_wave(self, folder) -> None:
        encoder = XVector(folder)
        waves = [noise(4000, 0), noise(7000, 1)]
        vectors = encoder.embed(waves, 8000)
        assert (vectors.shape, encoder.rate) == ((2, 12), 16000)
        model = AutoModelForAudioXVector.from_pretrained(folder).eval()
        for vector, wave in zip(vectors, waves, strict=True):
            expected = model(resample(wave, 8000, 16000)[None]).embeddings[0].detach()
            assert torch.allclose(vector, expected / expected.norm(), atol=1e-6)
        assert torch.equal(encoder.embed(waves[::-1], 8000).flip(0), vectors)
        assert vectors[0] @ vectors[1] < 0.9999

    def test_missing_model_says_where_to_get_one(self, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no x-vector model at .*absent.*hf download microsoft/wavlm"):
            XVector(tmp_path / "absent")


class TestTitaNet:
    def test_missing_file_says_where_to_get_it(self, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no TitaNet at .*absent\.nemo.*hf download nvidia"):
            TitaNet(tmp_path / "absent.nemo")

    def test_missing_nemo_is_explained(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "nemo", None)
        (tmp_path / "titanet.nemo").write_bytes(b"")
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'nemo_toolkit\[asr\]'.*lightning"):
            TitaNet(tmp_path / "titanet.nemo")
