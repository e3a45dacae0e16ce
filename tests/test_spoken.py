"""The spoken corpus: made from a seed, the same everywhere, and heard by the recogniser that comes with a package."""

from itertools import islice

import numpy as np
import pytest
import torch
from served import first_batch

from dmlik_pl.data.base import Failure
from dmlik_pl.data.spoken import SPOKEN_VOCABULARY, Channel, Spoken, sentences
from dmlik_pl.metrics.recognition import WordLoop
from dmlik_pl.metrics.word_error import word_errors
from dmlik_pl.speech.mel import FLOOR
from dmlik_pl.speech.text.dictionary import pronunciations

RATE = 22_050


def spoken(**options) -> Spoken:
    return Spoken(**{"train_size": 24, "validation_size": 6, "test_size": 8, **options})


def test_sentences_of_the_splits_are_disjoint_and_do_not_depend_on_their_number():
    drawn = {split: list(islice(sentences(split), 300)) for split in ("train", "validation", "test")}
    assert [len(set(found)) for found in drawn.values()] == [300, 300, 300]
    assert len(set().union(*drawn.values())) == 900
    assert list(islice(sentences("test"), 5)) == drawn["test"][:5]
    assert list(islice(sentences("test", seed=1), 5)) != drawn["test"][:5]
    words = [sentence.split() for found in drawn.values() for sentence in found]
    assert {len(sentence) for sentence in words} == {3, 4}
    assert all(len(set(sentence)) == len(sentence) for sentence in words)
    assert {word for sentence in words for word in sentence} == set(SPOKEN_VOCABULARY)


def test_every_word_is_in_the_dictionary():
    assert all(word.upper() in pronunciations() for word in SPOKEN_VOCABULARY)


def test_names_voices_and_speakers():
    data = spoken(voices=["en-us", "en-us+f2", "en-gb-x-rp"]).test_set()
    assert data.sample_ids[:4] == [
        "test-00000-en-us",
        "test-00001-en-us+f2",
        "test-00002-en-gb-x-rp",
        "test-00003-en-us",
    ]
    assert [data[index].speaker for index in range(4)] == [0, 1, 2, 0]
    assert data[1].attributes == {"voice": "en-us+f2", "domain": "clean"}
    assert spoken(limit=4).sample_ids() == [f"test-0000{n}-{'en-us+f2' if n % 2 else 'en-us'}" for n in range(4)]


def test_the_same_seed_gives_the_same_samples_in_any_order():
    first, second = spoken().test_set(), spoken(test_size=4).test_set()
    forwards = [first[index] for index in range(4)]
    backwards = [second[index] for index in reversed(range(4))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert one.text == other.text
        assert torch.equal(one.audio, other.audio) and torch.equal(one.mel, other.mel)
    assert spoken(seed=1).test_set()[0].text != forwards[0].text


def test_utterances_have_the_length_level_and_silence_that_they_should():
    data = spoken(test_size=20).test_set()
    items = [data[index] for index in range(20)]
    seconds = [len(item.audio) / RATE for item in items]
    assert min(seconds) > 1.3 and max(seconds) < 2.7 and 1.8 < np.mean(seconds) < 2.2
    for item in items:
        assert len(item.audio) == 256 * item.mel.shape[-1]
        assert item.audio.abs().max() == pytest.approx(0.8, abs=0.01)
        margins = torch.cat([item.audio[:1600], item.audio[-1600:]])  # of the 1654 at each end
        assert margins.std() == pytest.approx(1e-3, rel=0.1)
        assert margins.abs().max() < 6e-3
        assert item.mel.min() > np.log(FLOOR) + 1  # no frame is at the floor, where the log-mel is constant
        assert item.mel[:, :4].std(dim=1).mean() > 0.15
        assert item.mel.shape[-1] > 2 * len(item.tokens)


def test_an_utterance_is_made_once():
    data = spoken().test_set()
    assert data[0] is data[0]


def test_training_batches_hold_all_voices():
    torch.manual_seed(0)
    batches = list(spoken(train_batch_size=8).train_dataloader())
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert len({name for batch in batches for name in batch.sample_id}) == 24
    assert torch.cat([batch.speaker for batch in batches]).bincount().tolist() == [12, 12]
    assert all(batch.mel.shape[-1] % 4 == 0 for batch in batches)
    assert all(bool((batch.mel_lengths > batch.token_lengths).all()) for batch in batches)


def test_worker_processes_make_the_same_utterances():
    alone = first_batch(spoken(test_size=2, batch_size=2))
    shared = first_batch(spoken(test_size=2, batch_size=2, num_workers=1))
    assert shared.sample_id == alone.sample_id
    assert all(torch.equal(one, other) for one, other in zip(shared.audio, alone.audio, strict=True))


def test_the_embedded_recogniser_hears_the_words():
    data = spoken(voices=["en-us", "en-us+f2", "en-us+m3"], test_size=15).test_set()
    items = [data[index] for index in range(15)]
    heard = WordLoop(SPOKEN_VOCABULARY).transcribe([item.audio for item in items], RATE)
    counts = [word_errors(item.text, text) for item, text in zip(items, heard, strict=True)]
    errors, words = (sum(column) for column in zip(*counts, strict=True))
    assert words == sum(len(item.text.split()) for item in items) and words > 45
    assert errors / words <= 0.02


def test_a_channel_limits_the_band_and_adds_noise():
    clean = spoken().test_set()[0]
    telephone = spoken(channel=Channel("telephone", low=300, high=3400)).test_set()[0]
    assert (telephone.sample_id, telephone.text) == (clean.sample_id, clean.text)
    assert telephone.attributes["domain"] == "telephone"
    before, after = (np.abs(np.fft.rfft(item.audio.numpy())) ** 2 for item in (clean, telephone))
    hertz = np.fft.rfftfreq(len(clean.audio), 1 / RATE)
    inside, outside = (hertz > 500) & (hertz < 3000), (hertz > 5000) & (hertz < 8000)
    assert after[inside].sum() / before[inside].sum() == pytest.approx(1, abs=0.05)
    assert after[outside].sum() / before[outside].sum() < 0.05

    noisy = spoken(channel=Channel("noisy", snr=10.0)).test_set()[0]
    noise = noisy.audio - clean.audio
    assert 10 * torch.log10(clean.audio.square().mean() / noise.square().mean()) == pytest.approx(10, abs=0.1)
    assert torch.equal(noisy.audio, spoken(channel=Channel("noisy", snr=10.0)).test_set()[0].audio)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voices": []}, "voices must be distinct"),
        ({"voices": ["en-us", "en-us"]}, "voices must be distinct"),
        ({"test_size": 0}, "test_size must be from 1 to 4000, got 0"),
        ({"train_batch_size": 0}, "train_batch_size must be at least 1"),
    ],
    ids=["none", "twice", "size", "batch"],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        spoken(**options)


@pytest.mark.parametrize("band", [(3000, 300), (None, 12_000), (-1, None)], ids=["order", "high", "low"])
def test_an_impossible_band_is_refused(band):
    with pytest.raises(ValueError, match="must lie in 0 to 11025 Hz"):
        Channel("x", *band)


def test_an_unknown_voice_or_split_is_named():
    item = spoken(voices=["nobody"]).test_set()[0]
    assert isinstance(item, Failure) and "knows no voice 'nobody'" in item.error
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        spoken(split="dev").test_set()
