"""N-best lists of recognisers: beam search against all alignments, n-grams by hand, beams, rivals of words."""

import gzip
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_recognition import TestWav2Vec2 as TinyWav2Vec2
from test_recognition import TestWhisper as TinyWhisper
from test_recognition import noise

from dmlik_pl.metrics import Hypothesis, Wav2Vec2, Whisper, WordLoop
from dmlik_pl.metrics.beam_search import NGram, beam_search
from dmlik_pl.metrics.recogniser import Recogniser, best_of_each_text
from dmlik_pl.speech.espeak import Espeak

LABELS = ["_", " ", "a", "b"]

ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-0.5 <unk> -0.1
-99 <s> -0.3
-1.0 </s>
-0.7 A -0.2
-0.8 b

\\2-grams:
-0.25 <s> a
-0.4 a b
-0.6 b </s>

\\end\\
"""


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "small.arpa.gz"
    with gzip.open(path, "wt") as file:
        file.write(ARPA)
    return path


def log_probs(frames: int, seed: int = 0) -> np.ndarray:
    scores = torch.randn(frames, len(LABELS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scores.log_softmax(-1).numpy()


def every_alignment(scores: np.ndarray) -> dict[tuple[int, ...], float]:
    """Log-probability of each label sequence: all alignments, one by one."""
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(scores.shape[1]), repeat=len(scores)):
        labels = tuple(label for label, _ in itertools.groupby(path) if label != 0)
        totals[labels] = totals.get(labels, 0.0) + math.exp(sum(scores[t, label] for t, label in enumerate(path)))
    return {labels: math.log(total) for labels, total in totals.items()}


def test_a_wide_beam_sums_all_alignments() -> None:
    scores = log_probs(5)
    expected = every_alignment(scores)
    found = beam_search(scores, LABELS, blank=0, width=10_000)
    assert len(found) == len(expected)
    assert sum(math.exp(path.ctc) for path in found) == pytest.approx(1.0)
    by_text: dict[str, float] = {}
    for labels, value in expected.items():
        text = " ".join("".join(LABELS[label] for label in labels).split())
        by_text[text] = max(by_text.get(text, -math.inf), value)
    best = best_of_each_text((Hypothesis(path.text, path.score) for path in found), 5)
    right = sorted((value, text) for text, value in by_text.items() if text)[::-1][:5]
    assert [(h.text, pytest.approx(h.score)) for h in best] == [(text, value) for value, text in right]


def test_a_narrow_beam_keeps_the_best() -> None:
    scores = 4 * log_probs(12, seed=2)
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    wide, narrow = (beam_search(scores, LABELS, blank=0, width=width) for width in (400, 8))
    assert len(narrow) == 8
    assert narrow[0].text == wide[0].text and narrow[0].ctc <= wide[0].ctc + 1e-9
    without = beam_search(scores, LABELS, blank=0, banned={3}, width=8)
    assert not any("b" in path.text for path in without)


def test_repeated_labels_need_a_blank() -> None:
    certain = np.log(np.eye(4)[[2, 2, 0, 2, 1, 3]] * 0.997 + 0.00075)
    assert beam_search(certain, LABELS, blank=0)[0].text == "aa b"


def test_n_grams_back_off(arpa: Path) -> None:
    model = NGram(arpa)
    ten = math.log(10)
    assert model.log_prob("a") == pytest.approx(-0.25 * ten)  # after the sentence's start
    assert model.log_prob("B", ["A"]) == pytest.approx(-0.4 * ten)
    assert model.log_prob("a", ["b"]) == pytest.approx(-0.7 * ten)  # b has no back-off weight
    assert model.log_prob("a", ["a"]) == pytest.approx((-0.2 - 0.7) * ten)
    assert model.log_prob("zebra", ["a"]) == pytest.approx((-0.2 - 0.5) * ten)
    assert model.log_prob("</s>", ["a", "b"]) == pytest.approx(-0.6 * ten)
    with pytest.raises(FileNotFoundError, match="no language model at"):
        NGram(arpa.parent / "absent.arpa")


def test_files_that_are_no_n_grams_are_named(tmp_path: Path) -> None:
    empty, broken = tmp_path / "empty.arpa", tmp_path / "broken.arpa"
    empty.write_text("\\data\\\n")
    broken.write_text("\\1-grams:\nmany words here\n")
    with pytest.raises(ValueError, match="holds no n-gram"):
        NGram(empty).log_prob("a")
    with pytest.raises(ValueError, match=r"broken.arpa, line 2 is not an n-gram"):
        NGram(broken).log_prob("a")


def test_the_language_model_counts_every_word_and_the_end(arpa: Path) -> None:
    scores, model = log_probs(6, seed=1), NGram(arpa)
    options = {"language_model": model, "language_weight": 0.7, "word_score": -0.3}
    expected = every_alignment(scores)
    found = beam_search(scores, LABELS, blank=0, width=10_000, **options)
    assert len(found) == len(expected)
    for path in found:
        words = path.text.split()
        language = sum(model.log_prob(word, words[:k]) for k, word in enumerate(words)) + model.log_prob("</s>", words)
        assert path.score == pytest.approx(path.ctc + 0.7 * language - 0.3 * len(words))
    assert [path.score for path in found] == sorted((path.score for path in found), reverse=True)


def test_only_the_best_of_each_text_stays() -> None:
    given = [
        Hypothesis("a", 1.0),
        Hypothesis("b", 3.0),
        Hypothesis("a", 2.0),
        Hypothesis("", 9.0),
        Hypothesis("c", 0.0),
    ]
    assert [(h.text, h.score) for h in best_of_each_text(given, 2)] == [("b", 3.0), ("a", 2.0)]


class TestWordLoopLists:
    @pytest.fixture(scope="class")
    def loop(self) -> WordLoop:
        return WordLoop(["elephant", "guitar", "dolphin", "butterfly", "kangaroo"])

    @pytest.fixture(scope="class")
    def wave(self) -> torch.Tensor:
        return Espeak().speak("kangaroo guitar dolphin", "en-us+f2")

    def test_rivals_join_and_the_truth_is_first(self, loop: WordLoop, wave: torch.Tensor) -> None:
        found = loop.hypotheses(wave, Espeak.rate, 6)
        assert 4 <= len(found) <= 6 and found[0].text == "kangaroo guitar dolphin"
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True) and scores[0] - scores[1] > 20  # nats: clean speech
        rivals = [h.text.split() for h in found[1:] if len(h.text.split()) == 3]
        assert len({tuple(words) for words in rivals}) >= 3
        assert all(sum(a != b for a, b in zip(words, found[0].text.split(), strict=True)) == 1 for words in rivals)
        assert [h.text for h in loop.hypotheses(wave, Espeak.rate, 1)] == ["kangaroo guitar dolphin"]

    def test_neither_order_nor_loudness_matters(self, loop: WordLoop, wave: torch.Tensor) -> None:
        first = loop.hypotheses(wave, Espeak.rate, 4)
        loop.hypotheses(Espeak().speak("elephant", "en-us"), Espeak.rate, 4)
        assert loop.hypotheses(0.5 * wave, Espeak.rate, 4) == first

    def test_scores_are_comparable_between_lengths(self, loop: WordLoop, wave: torch.Tensor) -> None:
        sound = loop._embedded(loop.heard([wave], Espeak.rate)[0])
        own = loop._aligned(sound, "kangaroo guitar dolphin")
        shorter = loop._aligned(sound, "kangaroo dolphin")
        assert own is not None and (shorter is None or own > shorter)
        assert loop._aligned(sound, " ".join(["kangaroo"] * 40)) is None  # more words than the sound has room for

    def test_lists_have_an_entry_at_least(self, loop: WordLoop, wave: torch.Tensor) -> None:
        with pytest.raises(ValueError, match="n of at least 1"):
            loop.hypotheses(wave, Espeak.rate, 0)

        class Deaf(Recogniser):
            rate = 16_000

            def transcribe_one(self, wave: torch.Tensor) -> str:
                return ""

        with pytest.raises(ValueError, match="Deaf makes no n-best lists"):
            Deaf().hypotheses(wave, Espeak.rate, 2)


class TestWhisperLists:
    folder = TinyWhisper.__dict__["folder"]

    def test_beams_are_scored_by_their_tokens(self, folder: Path) -> None:
        whisper, wave = Whisper(folder, beams=2), noise(16_000, 0)
        found = whisper.hypotheses(wave, 16_000, 4)
        assert 1 < len(found) <= 4 and len({h.text for h in found}) == len(found)
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        again = whisper.hypotheses(wave, 16_000, 1)
        assert len(again) == 1 and again[0].score <= found[0].score  # a narrower beam
        # The score is the sum of the tokens' log-probabilities, by the model asked again.
        asked: list[torch.Tensor] = []
        tokenizer = whisper.processor.tokenizer
        original = tokenizer.batch_decode

        def listen(sequences, **options):
            asked.append(sequences)
            return original(sequences, **options)

        tokenizer.batch_decode = listen
        whisper.hypotheses(wave, 16_000, 4)
        tokenizer.batch_decode = original
        texts = [text.strip() for text in original(asked[0], skip_special_tokens=True)]
        tokens = asked[0][texts.index(found[0].text)]
        prompt = len(tokenizer.prefix_tokens)
        ends = (tokens[prompt:] == tokenizer.eos_token_id).nonzero()
        end = prompt + int(ends[0]) + 1 if len(ends) else len(tokens)
        logits = whisper.model(whisper._features(wave), decoder_input_ids=tokens[None, :end]).logits[0]
        log_p = logits[prompt - 1 : end - 1].log_softmax(-1).gather(1, tokens[prompt:end, None]).sum()
        assert found[0].score == pytest.approx(float(log_p), abs=1e-3)


class TestWav2Vec2Lists:
    folder = TinyWav2Vec2.__dict__["folder"]

    def test_the_best_of_the_beam_is_what_was_dictated(self, folder: Path) -> None:
        model = Wav2Vec2(folder, beams=20)
        labels = ["H", "H", "<pad>", "E", "L", "<pad>", "L", "O", "|", "D", "O", "G"]
        path = torch.tensor(model.processor.tokenizer.convert_tokens_to_ids(labels))
        scores = 5 * torch.nn.functional.one_hot(path, model.model.config.vocab_size).float()
        model.model.lm_head.register_forward_hook(lambda *_: scores[None])
        found = model.hypotheses(noise(80 * len(labels), 0), 16_000, 5)
        assert len(found) == 5 and found[0].text == "HELLO DOG" and found[0].parts == {}
        assert all("<" not in hypothesis.text for hypothesis in found)

    def test_a_language_model_can_change_the_order(self, folder: Path, tmp_path: Path) -> None:
        path = tmp_path / "dogs.arpa"
        path.write_text("\\1-grams:\n-99 <s>\n-0.3 </s>\n-0.3 hog\n-3 dog\n-4 <unk>\n")
        plain, tuned = Wav2Vec2(folder), Wav2Vec2(folder, language_model=path, language_weight=2.0)
        for model in (plain, tuned):
            ids = model.processor.tokenizer.convert_tokens_to_ids(["D", "O", "G", "H"])
            scores = torch.full((3, model.model.config.vocab_size), -9.0)
            scores[range(3), ids[:3]] = 3.0
            scores[0, ids[3]] = 2.5  # nearly as likely
            model.model.lm_head.register_forward_hook(lambda *_, scores=scores: scores[None])
        wave = noise(240, 0)
        assert [h.text for h in plain.hypotheses(wave, 16_000, 2)] == ["DOG", "HOG"]
        first, second = tuned.hypotheses(wave, 16_000, 2)
        assert (first.text, second.text) == ("HOG", "DOG")
        assert first.parts["ctc"] - second.parts["ctc"] == pytest.approx(-0.5, abs=1e-3)
        assert (first.score - second.score) - (first.parts["ctc"] - second.parts["ctc"]) == pytest.approx(
            2.0 * 2.7 * math.log(10), rel=1e-4
        )
