"""Speech data sets on disk, in tiny: what they read, what they refuse, and how they batch."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from served import batches, first_batch

from dmlik_pl.data.base import Failure
from dmlik_pl.data.libritts import LibriTTS
from dmlik_pl.data.ljspeech import LJSpeech
from dmlik_pl.data.speech import (
    AudioFiles,
    Recording,
    SpeechSet,
    Utterance,
    collate_training,
    collate_utterances,
)
from dmlik_pl.data.tedlium import TEDLIUM, plain_text
from dmlik_pl.speech.mel import LogMel
from dmlik_pl.speech.text import EnglishFrontEnd

RATE = 22_050


def sound(path: Path, seconds: float = 1.0, rate: int = RATE, kind: str | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(sum(path.name.encode())).normal(size=round(seconds * rate)) * 0.1
    soundfile.write(path, samples, rate, format=kind)
    return samples


def utterance(name: str, tokens: int, frames: int, speaker: int = 0) -> Utterance:
    mel = torch.full((80, frames), float(frames))
    return Utterance(name, name, torch.arange(1, tokens + 1), torch.zeros(256 * frames), mel, speaker, {"voice": name})


@pytest.fixture
def ljspeech(tmp_path):
    root = tmp_path / "LJSpeech-1.1"
    names = [f"LJ001-{number:04d}" for number in range(1, 11)]
    for name in names:
        sound(root / "wavs" / f"{name}.wav")
    (root / "metadata.csv").write_text("".join(f"{name}|Raw 1|dolphin one\n" for name in names))
    return root


def test_an_utterance_has_its_tokens_wave_and_spectrogram(ljspeech):
    data = LJSpeech(str(ljspeech), validation_size=2, test_size=3).test_set()
    item = data[0]
    assert item.sample_id == data.sample_ids[0]
    assert item.text == "dolphin one"
    assert torch.equal(item.tokens, EnglishFrontEnd()("dolphin one"))
    assert torch.equal(item.mel, LogMel()(item.audio))
    assert item.mel.shape == (80, RATE // 256)
    expected = soundfile.read(ljspeech / "wavs" / f"{item.sample_id}.wav", dtype="float32")[0]
    assert np.array_equal(item.audio.numpy(), expected)


def test_ljspeech_without_lists_is_split_by_name(ljspeech):
    data = LJSpeech(str(ljspeech), validation_size=2, test_size=3)
    parts = {split: data.speech_set(split).sample_ids for split in ("train", "validation", "test")}
    assert {split: len(names) for split, names in parts.items()} == {"train": 5, "validation": 2, "test": 3}
    assert len(set().union(*parts.values())) == 10
    lines = (ljspeech / "metadata.csv").read_text().splitlines()
    (ljspeech / "metadata.csv").write_text("\n".join(reversed(lines)))
    assert data.speech_set("test").sample_ids == parts["test"]
    with pytest.raises(ValueError, match="10 utterances, too few to hold out 600"):
        LJSpeech(str(ljspeech)).test_set()


def test_ljspeech_takes_the_official_filelists(ljspeech, tmp_path):
    lists = {}
    for split, number in (("train", 1), ("validation", 2), ("test", 3)):
        lists[f"{split}_list"] = str(tmp_path / f"{split}.txt")
        Path(lists[f"{split}_list"]).write_text(f"DUMMY/LJ001-000{number}.wav|a penguin, {split}.\n\n")
    data = LJSpeech(str(ljspeech), **lists)
    assert [data.speech_set(split).sample_ids for split in ("train", "test")] == [["LJ001-0001"], ["LJ001-0003"]]
    assert data.speech_set("validation")[0].text == "a penguin, validation."
    with pytest.raises(ValueError, match="all three splits or none, got test only"):
        LJSpeech(str(ljspeech), test_list=lists["test_list"])
    Path(lists["test_list"]).write_text("DUMMY/LJ001-0003.wav\n")
    with pytest.raises(ValueError, match=r"test\.txt, line 1: expected path\|text"):
        data.test_set()
    Path(lists["test_list"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"no filelist .*test\.txt"):
        data.test_set()


def test_recordings_in_different_folders_have_different_names(ljspeech, tmp_path):
    for place in ("wavs/a/X.wav", "wavs/b/X.wav", "more/X.wav"):
        sound(ljspeech / place, seconds=1.0)
    sound(tmp_path / "elsewhere" / "LJ001-0009.wav")
    lines = ["a/X.wav", "DUMMY/b/X.wav", "more/X.wav", f"{ljspeech}/wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav"]
    lines += ["LJ001-0003.wav", "/home/somebody/LJSpeech/wavs/LJ001-0004.wav", f"{tmp_path}/elsewhere/LJ001-0009.wav"]
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{line}|dolphin {number}\n" for number, line in enumerate(lines)))
    data = LJSpeech(str(ljspeech), *[str(path)] * 3).test_set()
    names = ["a/X", "b/X", "more/X", "LJ001-0001", "LJ001-0002", "LJ001-0003", "LJ001-0004", "LJ001-0009"]
    assert data.sample_ids == names and [recording.text[-1] for recording in data.recordings] == list("01234567")
    assert data.recordings[7].path == ljspeech / "wavs" / "LJ001-0009.wav"  # the list's other copy is not of this root
    assert not any(isinstance(data[index], Failure) for index in range(8))


def test_two_lines_of_one_recording_are_an_error_with_both(ljspeech, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a/LJ001-0001.wav|dolphin\nLJ001-0002.wav|dolphin\nb/LJ001-0001.wav|penguin\n")
    told = r"'LJ001-0001' is given to more than one sample: .*list\.txt, line 1, and .*list\.txt, line 3"
    with pytest.raises(ValueError, match=told):
        LJSpeech(str(ljspeech), *[str(path)] * 3).test_set()
    with pytest.raises(ValueError, match=told):
        LJSpeech(str(ljspeech), *[str(path)] * 3).train_dataloader()
    with (ljspeech / "metadata.csv").open("a") as file:
        file.write("\nLJ001-0003|penguin\n")
    with pytest.raises(ValueError, match=r"'LJ001-0003.wav' .*metadata\.csv, line 3, and .*metadata\.csv, line 12"):
        LJSpeech(str(ljspeech), validation_size=2, test_size=3).test_set()
    root = tmp_path / "LibriTTS"
    for folder in ("a", "b"):
        sound(root / folder / "X.wav")
    path.write_text("a/X.wav|Dolphin|1\nDUMMY/b/X.wav|Dolphin|2\n")
    assert LibriTTS(str(root), *[str(path)] * 2).test_set().sample_ids == ["a/X", "b/X"]
    path.write_text("a/X.wav|Dolphin|1\nDUMMY/./a/X.wav|Dolphin|2\n")
    with pytest.raises(ValueError, match=r"'a/X' .*line 1, and .*line 2"):
        LibriTTS(str(root), *[str(path)] * 2).test_set()
    path.write_text("../X.wav|Dolphin|1\n")
    with pytest.raises(ValueError, match=r"list\.txt, line 1: .* does not lie in"):
        LibriTTS(str(root), *[str(path)] * 2).test_set()


def test_one_recording_never_ends_the_others(tmp_path):
    root = tmp_path / "LibriTTS"
    sound(root / "a.wav", seconds=2.0)
    digits = "1234567890123456789012345678901234567"
    texts = [(f"room {digits}", 1), ("dolphin", digits), ("dolphin", 2), ("9" * 5000, 1), ("d" * 140_000, 1)]
    texts += [("dolphin", 1)]
    for number in range(len(texts)):
        (root / f"{number}.wav").write_bytes((root / "a.wav").read_bytes())
    whole = (root / "2.wav").read_bytes()
    (root / "2.wav").write_bytes(whole[: len(whole) // 2])
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{number}.wav|{text}|{speaker}\n" for number, (text, speaker) in enumerate(texts)))
    data = LibriTTS(str(root), str(path), str(path), batch_size=8, train_batch_size=4)
    batch = first_batch(data)
    assert batch.sample_id == ["5"] and batch.converted == [""]
    errors = {failure.sample_id: failure.error for failure in batch.failures}
    assert list(errors) == ["0", "1", "2", "3", "4"]
    assert f"{digits} is not the number of a speaker" in errors["1"]
    assert "is cut: its header promises 2.00 s, it holds 1.00 s" in errors["2"]
    assert "alignment impossible: 280001 tokens" in errors["4"]
    with pytest.warns(UserWarning, match="5 of 6 utterances in .* are left out: 0: "):
        assert [batch.sample_id for batch in data.train_dataloader()] == [["5"]]


def test_a_stamp_changes_with_the_recording_its_text_and_how_it_is_read(ljspeech, tmp_path):
    def stamp(text: str = "dolphin", path: str = "LJ001-0001.wav", **options) -> str | None:
        recording = Recording("one", text, path=ljspeech / "wavs" / path)
        return SpeechSet([recording], AudioFiles(**options), "a folder").stamp(0)

    first = stamp()
    assert first == stamp() and str(ljspeech) in first
    others = [stamp("penguin"), stamp(path="LJ001-0002.wav"), stamp(resample=True)]
    sound(ljspeech / "wavs" / "LJ001-0001.wav", seconds=1.5)
    others.append(stamp())
    assert len({first, *others}) == 5
    assert SpeechSet([Recording("one", "dolphin")], AudioFiles(), "nothing").stamp(0) is None
    assert stamp("***") is None  # no tokens: the cause may be corrected outside the file


def test_a_missing_data_set_is_told_where_to_get(tmp_path):
    root = str(tmp_path / "nothing")
    for data, words in (
        (LJSpeech(root), "keithito.com/LJ-Speech-Dataset.*metadata.csv and wavs/ as root"),
        (LibriTTS(root, "train.txt", "valid.txt"), r"openslr.org/60.*as root"),
        (TEDLIUM(root), "no TED-LIUM dev split.*openslr.org.*as root"),
    ):
        with pytest.raises(FileNotFoundError, match=words):
            data.test_set()


def test_bad_recordings_become_failures_with_their_reasons(tmp_path):
    sound(tmp_path / "good.wav")
    sound(tmp_path / "rate.wav", rate=16_000)
    sound(tmp_path / "short.wav", seconds=0.1)
    sound(tmp_path / "tiny.wav", seconds=0.01)
    sound(tmp_path / "long.wav", seconds=3)
    (tmp_path / "damaged.wav").write_bytes(b"RIFF" + bytes(100))
    cases = {
        "good": ("dolphin", None),
        "gone": ("dolphin", "no audio file .*gone.wav"),
        "rate": ("dolphin", "16000 Hz, 22050 Hz expected.*resample: true"),
        "short": ("dolphin", "alignment impossible: 13 tokens of text, 8 frames of speech"),
        "tiny": ("I", "alignment impossible: 3 tokens of text, 0 frames"),
        "long": ("dolphin", r"3\.0 s of speech are longer than max_seconds, 2"),
        "damaged": ("dolphin", "cannot be read as audio"),
        "empty": (" ", "the text is empty"),
        "unknown": ("***", "no character of the text is known"),
    }
    recordings = [
        Recording(name, text, path=tmp_path / f"{'good' if name in ('empty', 'unknown') else name}.wav")
        for name, (text, _) in cases.items()
    ]
    data = SpeechSet(recordings, AudioFiles(), "a folder", max_seconds=2.0)
    for index, (name, (_, words)) in enumerate(cases.items()):
        item, flaw = data[index], data.flaw(index)
        if words is None:
            assert isinstance(item, Utterance) and flaw is None
            continue
        assert isinstance(item, Failure) and item.sample_id == name
        assert re.search(words, item.error), item.error
        assert flaw == item
    with pytest.warns(UserWarning, match="8 of 9 utterances in a folder are left out: gone: no audio file"):
        assert data.usable() == [0]
    with pytest.raises(ValueError, match="no utterance in a folder can be used: gone"):
        SpeechSet(recordings[1:2], AudioFiles(), "a folder").usable()


def test_the_test_loader_serves_every_utterance_once_and_failures_apart(ljspeech):
    (ljspeech / "wavs" / "LJ001-0004.wav").unlink()
    data = LJSpeech(str(ljspeech), validation_size=0, test_size=9, batch_size=4)
    delivered = list(batches(data))
    assert [len(batch) + len(batch.failures) for batch in delivered] == [4, 4, 1]
    served = [name for batch in delivered for name in batch.sample_id]
    failed = [failure.sample_id for batch in delivered for failure in batch.failures]
    assert sorted(served + failed) == sorted(data.sample_ids())
    assert failed == ["LJ001-0004"]


def test_an_evaluated_batch_is_not_padded_and_can_be_selected_from():
    failure = Failure("bad", "reason")
    batch = collate_utterances([utterance("a", 3, 10), failure, utterance("b", 5, 7, speaker=2), None])
    assert (len(batch), batch.sample_id, batch.speaker) == (2, ["a", "b"], [0, 2])
    assert [mel.shape for mel in batch.mel] == [(80, 10), (80, 7)]
    assert [len(tokens) for tokens in batch.tokens] == [3, 5]
    assert batch.failures == [failure] and batch.attributes == {"voice": ["a", "b"]}
    chosen = batch.select([1])
    assert (chosen.sample_id, chosen.text, chosen.speaker, chosen.failures) == (["b"], ["b"], [2], [])
    assert chosen.mel[0] is batch.mel[1] and chosen.attributes == {"voice": ["b"]}
    assert batch.to("cpu", dtype=torch.float64).mel[0].dtype == torch.float64
    assert len(collate_utterances([failure])) == 0


def test_a_training_batch_is_padded_to_a_multiple_of_four():
    batch = collate_training([utterance("a", 3, 9), utterance("b", 5, 6, speaker=1)])
    assert batch.tokens.tolist() == [[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]]
    assert batch.mel.shape == (2, 80, 12)
    assert batch.mel[0, 0].tolist() == [9.0] * 9 + [0.0] * 3
    assert batch.mel[1, 79].tolist() == [6.0] * 6 + [0.0] * 6
    assert (batch.token_lengths.tolist(), batch.mel_lengths.tolist(), batch.speaker.tolist()) == (
        [3, 5],
        [9, 6],
        [0, 1],
    )
    assert collate_training([utterance("a", 3, 8)]).mel.shape[-1] == 8


def test_a_training_batch_leaves_out_what_cannot_be_read():
    with pytest.warns(UserWarning, match="left out of a training batch: bad: reason"):
        batch = collate_training([utterance("a", 3, 9), Failure("bad", "reason")])
    assert batch.sample_id == ["a"]
    with pytest.warns(UserWarning, match="left out of a training batch: bad: reason"):
        assert len(collate_training([Failure("bad", "reason")])) == 0


def test_training_follows_the_official_order(ljspeech):
    names = [f"LJ001-{number:04d}" for number in range(1, 11)]
    lists = {}
    for split in ("train", "validation", "test"):
        lists[f"{split}_list"] = str(ljspeech / f"{split}.txt")
        Path(lists[f"{split}_list"]).write_text("".join(f"DUMMY/{name}.wav|dolphin\n" for name in names))
    data = LJSpeech(str(ljspeech), train_batch_size=4, **lists)
    random.Random(37).shuffle(names)
    for _ in range(2):  # the same order in every epoch, and the last two left out
        assert [batch.sample_id for batch in data.train_dataloader()] == [names[:4], names[4:8]]
    every = LJSpeech(str(ljspeech), train_batch_size=4, drop_last=False, reshuffle=True, **lists).train_dataloader()
    torch.manual_seed(0)
    first, second = ([name for batch in every for name in batch.sample_id] for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(names) and first != second
    assert [len(batch) for batch in data.val_dataloader()] == [4, 4, 2]
    few = LJSpeech(str(ljspeech), train_batch_size=16, **lists)
    assert [len(batch) for batch in few.train_dataloader()] == [10]


def test_libritts_reads_speakers_and_changes_the_rate_only_if_asked(tmp_path):
    root = tmp_path / "LibriTTS"
    sound(root / "train-clean-100" / "103" / "1241" / "103_1241_000000_000001.wav", rate=24_000)
    (tmp_path / "list.txt").write_text(
        "DUMMY/train-clean-100/103/1241/103_1241_000000_000001.wav|Matthew is surprised|46\n"
        "train-clean-100/103/1241/gone.wav|Gone|7\n"
    )
    lists = (str(tmp_path / "list.txt"), str(tmp_path / "list.txt"))
    item = LibriTTS(str(root), *lists).test_set()[0]
    assert isinstance(item, Failure) and "24000 Hz, 22050 Hz expected" in item.error
    data = LibriTTS(str(root), *lists, resample=True)
    item = data.test_set()[0]
    name = "train-clean-100/103/1241/103_1241_000000_000001"
    assert (item.sample_id, item.speaker, item.attributes) == (name, 46, {"speaker": "46"})
    assert len(item.audio) == RATE
    assert "gone.wav" in data.test_set()[1].error
    assert data.test_set().groups == ["46", "7"]
    with pytest.raises(ValueError, match="no test split: give its filelist as test_list"):
        data.speech_set("test")
    (tmp_path / "list.txt").write_text("a.wav|text|one\n")
    with pytest.raises(ValueError, match=r"line 1: expected path\|text\|speaker"):
        data.test_set()


STM = """;; a comment
AaronHuey_2010X 1 inter_segment_gap 0 0.5 <o,,unknown> ignore_time_segment_in_scoring
AaronHuey_2010X 1 AaronHuey_2010X 0.50 1.50 <o,f0,male> i 'm here today to show
AaronHuey_2010X 1 AaronHuey_2010X 1.50 2.25 <o,f0,male> the <unk> people

"""


@pytest.mark.parametrize(
    ("layout", "kind"), [("dev", "sph"), ("legacy/dev", "sph"), ("dev", "wav")], ids=["release-2", "release-3", "wav"]
)
def test_tedlium_cuts_segments_from_talks(tmp_path, layout, kind):
    folder = tmp_path / layout
    format_ = "NIST" if kind == "sph" else None
    samples = sound(folder / kind / f"AaronHuey_2010X.{kind}", seconds=3, rate=16_000, kind=format_)
    (folder / "stm").mkdir()
    (folder / "stm" / "AaronHuey_2010X.stm").write_text(STM)
    data = TEDLIUM(str(tmp_path), resample=True).test_set()
    assert data.sample_ids == ["AaronHuey_2010X-0000050-0000150", "AaronHuey_2010X-0000150-0000225"]
    assert [recording.text for recording in data.recordings] == ["i'm here today to show", "the people"]
    assert data.left_out == {"marked ignore_time_segment_in_scoring": 1}
    item = data[0]
    assert item.attributes == {"speaker": "AaronHuey_2010X", "talk": "AaronHuey_2010X"}
    assert len(item.audio) == RATE
    spectrum = np.abs(np.fft.rfft(item.audio.numpy())[1000:7000]) / RATE
    expected = np.abs(np.fft.rfft(samples[8000:24_000])[1000:7000]) / 16_000
    assert np.abs(spectrum - expected).max() < 0.02 * expected.max()
    item = TEDLIUM(str(tmp_path)).test_set()[0]
    assert isinstance(item, Failure) and "16000 Hz, 22050 Hz expected" in item.error
    dropped = TEDLIUM(str(tmp_path), unknown="drop", resample=True).test_set()
    assert len(dropped) == 1 and dropped.left_out["with an unknown word"] == 1


def test_tedlium_release_3_keeps_training_talks_elsewhere(tmp_path):
    sound(tmp_path / "data" / "sph" / "A_2010.sph", seconds=2, rate=16_000, kind="NIST")
    (tmp_path / "data" / "stm").mkdir()
    line = "A_2010 1 A 0.0 1.0 <NA> {NOISE} dolphins(2) <sil> swim\nB_2011 1 B 0.0 1.0 <NA> gone\n"
    (tmp_path / "data" / "stm" / "A_2010.stm").write_text(line)
    data = TEDLIUM(str(tmp_path), resample=True).speech_set("train")
    assert data[0].text == "dolphins swim"
    assert "no audio file sph/B_2011.sph" in data[1].error
    (tmp_path / "data" / "stm" / "A_2010.stm").write_text("A_2010 1 A zero 1.0 <NA> swim\n")
    for start in ("zero", "nan", "1e999"):
        (tmp_path / "data" / "stm" / "A_2010.stm").write_text(f"A_2010 1 A {start} 1.0 <NA> swim\n")
        with pytest.raises(ValueError, match=r"A_2010\.stm, line 1: expected 'talk channel"):
            TEDLIUM(str(tmp_path)).speech_set("train")
    line = "A_2010 1 A 0.0 1.0 <NA> swim\n"
    (tmp_path / "data" / "stm" / "A_2010.stm").write_text(line + line.replace("A 0.0", "A 0.001"))
    with pytest.raises(ValueError, match=r"'A_2010-0000000-0000100' .*line 1, and .*line 2"):
        TEDLIUM(str(tmp_path)).speech_set("train")
    (tmp_path / "data" / "stm" / "A_2010.stm").write_text("A_2010 1 A 1.0 3.5 <NA> swim\nA_2010 1 A 9e30 1e37 <NA> a\n")
    short, far = (TEDLIUM(str(tmp_path), resample=True).speech_set("train")[index] for index in (0, 1))
    assert "ends at 2.00 s, and 1 s to 3.5 s are wanted" in short.error and "has no samples" in far.error


@pytest.mark.parametrize(
    ("transcript", "text"),
    [
        ("we 've got {UH} it", "we've got it"),
        ("THE(2) DOG 'S <sil> TAIL", "THE DOG'S TAIL"),
        ("just 'cause", "just 'cause"),
        ("<s> <unk> said </s>", "said"),
    ],
    ids=["noise", "variant", "word", "marks"],
)
def test_transcripts_become_plain_text(transcript, text):
    assert plain_text(transcript) == text
