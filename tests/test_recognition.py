"""Recognisers: the word loop on synthesised speech, Whisper and CTC models of random weights."""

import json
import sys

import pytest
import torch
from tiny_speech import make_tiny_whisper
from torch import Tensor
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from dmlik_pl.metrics import Wav2Vec2, Whisper, WordErrorRate, WordLoop
from dmlik_pl.speech.audio import resample
from dmlik_pl.speech.espeak import Espeak

NOUNS = ["elephant", "giraffe", "guitar", "horse", "house", "person", "dolphin", "butterfly", "kangaroo", "crocodile"]
SENTENCES = [
    "elephant guitar dolphin",
    "horse person kangaroo giraffe",
    "crocodile butterfly house",
    "guitar guitar elephant person",
    "dolphin horse crocodile kangaroo",
]


def noise(samples: int, seed: int) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


class TestWordLoop:
    @pytest.fixture(scope="class")
    def loop(self) -> WordLoop:
        return WordLoop(NOUNS)

    @pytest.fixture(scope="class")
    def speech(self) -> list[Tensor]:
        speaker = Espeak()
        return [speaker.speak(sentence, voice) for voice in ("en-us+f2", "en-us+klatt2") for sentence in SENTENCES]

    def test_recognises_words_in_any_order(self, loop, speech) -> None:
        metric = WordErrorRate()
        metric.update(SENTENCES * 2, loop.transcribe(speech, Espeak.rate))
        result = metric.compute()
        assert result["words"] == 36
        assert result["errors"] <= 1

    def test_neither_neighbours_nor_order_nor_loudness_matter(self, loop, speech) -> None:
        # noisy enough for a decoder that remembers the last utterance to give other words
        noisy = [wave + noise(len(wave), seed) for seed, wave in enumerate(speech)]
        forwards = loop.transcribe(noisy, Espeak.rate)
        backwards = loop.transcribe(noisy[::-1], Espeak.rate)
        assert forwards == backwards[::-1] == [loop.transcribe([0.5 * wave], Espeak.rate)[0] for wave in noisy]

    def test_rate_is_heeded(self, loop, speech) -> None:
        slower = resample(speech[1], 22050, 16000)
        assert loop.transcribe([speech[1]], 22050) == loop.transcribe([slower], 16000) == [SENTENCES[1]]
        assert loop.transcribe([slower], 22050) != [SENTENCES[1]]  # taken for what it is not

    def test_says_only_words_of_its_vocabulary(self, speech) -> None:
        few = WordLoop(["horse", "dolphin"])
        heard = set(" ".join(few.transcribe(speech[:3], Espeak.rate)).split())
        assert heard
        assert heard <= {"horse", "dolphin"}

    def test_knows_all_pronunciations_of_a_word(self) -> None:
        assert set(WordLoop(["Either", " either", "horse"]).pronunciations) == {"either", "either(2)", "horse"}

    def test_silence_is_no_error(self, loop) -> None:
        assert isinstance(loop.transcribe([torch.zeros(16000)], 16000)[0], str)

    def test_unknown_words_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"not in the dictionary of pocketsphinx: 'xyzzy', 'grue bird'\."):
            WordLoop(["horse", "xyzzy", "grue bird"])
        with pytest.raises(ValueError, match="needs a vocabulary"):
            WordLoop([])

    def test_missing_package_names_the_extra(self, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "pocketsphinx", None)
        with pytest.raises(ModuleNotFoundError, match=r"pocketsphinx.*dmlik-pl\[speech\]"):
            WordLoop(["horse"])

    @pytest.mark.parametrize(
        ("wave", "message"),
        [
            (torch.zeros(2, 100), r"wave 1 must be one channel \[N\] with samples, got \[2, 100\]"),
            (torch.zeros(0), "wave 1 must be one channel"),
            (torch.tensor([0.0, float("inf")]), "wave 1 holds values that are not finite"),
        ],
        ids=["stereo", "empty", "infinite"],
    )
    def test_bad_waves_are_refused(self, loop, wave, message) -> None:
        with pytest.raises(ValueError, match=message):
            loop.transcribe([torch.ones(100), wave], 16000)


class TestWhisper:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        """A model of random weights that hears two seconds and writes single bytes."""
        folder = tmp_path_factory.mktemp("whisper")
        make_tiny_whisper(folder)
        return folder

    @pytest.fixture
    def whisper(self, folder) -> Whisper:
        return Whisper(folder)

    def test_writes_the_likeliest_tokens_until_the_end(self, whisper) -> None:
        tokenizer = whisper.processor.tokenizer
        said = [*tokenizer(" the dog", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        steps = iter(said)

        def dictate(module: torch.nn.Module, inputs: tuple, logits: Tensor) -> Tensor:
            return torch.zeros_like(logits).index_fill(-1, torch.tensor(next(steps)), 1.0)

        whisper.model.proj_out.register_forward_hook(dictate)
        assert whisper.transcribe([noise(16000, 0)], 16000) == ["the dog"]
        assert next(steps, None) is None

    def test_hears_the_whole_resampled_wave(self, whisper) -> None:
        heard = []
        whisper.model.model.encoder.conv1.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0].clone()))
        wave = noise(12000, 1)
        texts = whisper.transcribe([wave], 8000) + whisper.transcribe([resample(wave, 8000, 16000)], 16000)
        whisper.transcribe([wave], 16000)
        assert torch.equal(heard[0], heard[1])
        assert texts[0] == texts[1]
        assert not torch.allclose(heard[0], heard[2], atol=0.1)

    def test_order_and_neighbours_do_not_matter(self, whisper) -> None:
        waves = [noise(16000, 0), 3 * noise(9000, 1), noise(30000, 2)]
        forwards = whisper.transcribe(waves, 16000)
        assert forwards == whisper.transcribe(waves[::-1], 16000)[::-1]
        assert len(set(forwards)) > 1  # otherwise the test would say nothing

    def test_wave_beyond_the_window_is_refused(self, whisper) -> None:
        with pytest.raises(ValueError, match=r"2\.1 s is longer than Whisper's window of 2 s"):
            whisper.transcribe([noise(33600, 0)], 16000)

    def test_is_frozen_and_stays_in_evaluation_mode(self, whisper) -> None:
        torch.nn.ModuleList([whisper]).train()
        assert not any(module.training for module in whisper.modules())
        assert not any(weight.requires_grad for weight in whisper.parameters())

    def test_missing_model_says_where_to_get_one(self, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no Whisper model at .*absent.*hf download openai/whisper"):
            Whisper(tmp_path / "absent")


class TestWav2Vec2:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        """A model of random weights with one label for every 80 samples."""
        folder = tmp_path_factory.mktemp("wav2vec2")
        labels = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ADEGHLO"]
        (folder / "labels.json").write_text(json.dumps({label: i for i, label in enumerate(labels)}))
        torch.manual_seed(0)
        Wav2Vec2ForCTC(
            Wav2Vec2Config(
                vocab_size=len(labels),
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                conv_dim=(8, 8),
                conv_kernel=(10, 8),
                conv_stride=(10, 8),
                num_conv_pos_embeddings=4,
                num_conv_pos_embedding_groups=2,
                feat_extract_norm="group",
                initializer_range=1.0,
            )
        ).save_pretrained(folder)
        extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
        Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(folder / "labels.json"))).save_pretrained(folder)
        return folder

    @pytest.fixture
    def model(self, folder) -> Wav2Vec2:
        return Wav2Vec2(folder)

    def test_joins_repeated_labels_and_drops_blanks(self, model) -> None:
        labels = ["<pad>", "H", "H", "<pad>", "E", "L", "L", "<pad>", "L", "O", "|", "|", "<pad>", "D", "O", "G", "|"]
        path = torch.tensor(model.processor.tokenizer.convert_tokens_to_ids(labels))
        scores = torch.nn.functional.one_hot(path, model.model.config.vocab_size).float()
        model.model.lm_head.register_forward_hook(lambda *_: scores[None])
        assert model.transcribe([noise(80 * len(labels), 0)], 16000) == ["HELLO DOG"]

    def test_hears_the_whole_resampled_wave_alone(self, model) -> None:
        heard = []
        model.model.wav2vec2.feature_extractor.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
        waves = [noise(4000, 0), noise(6000, 1)]
        texts = model.transcribe(waves, 8000)
        assert [tuple(values.shape) for values in heard] == [(1, 8000), (1, 12000)]  # no padding: it changes the norm
        for values, wave in zip(heard, waves, strict=True):
            expected = resample(wave, 8000, 16000)
            assert torch.allclose(values[0], (expected - expected.mean()) / expected.std(correction=0), atol=1e-3)
        assert texts == model.transcribe(waves[::-1], 8000)[::-1]
        assert texts[0] != texts[1]

    def test_missing_model_says_where_to_get_one(self, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match=r"no CTC model at .*absent.*hf download facebook/wav2vec2"):
            Wav2Vec2(tmp_path / "absent")
