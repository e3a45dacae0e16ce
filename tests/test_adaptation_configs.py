"""Adaptation as its user runs it: both configurations whole, on tiny models, and what is said of a missing piece."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from tiny_speech import make_official_grad_tts, make_tiny_grad_tts, make_tiny_hifigan, make_tiny_xvector
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

import evaluate
from dmlik_pl.cli import CONFIGS
from dmlik_pl.data.spoken import SPOKEN_VOCABULARY
from dmlik_pl.records.sharing import sound_paths
from dmlik_pl.records.store import read
from dmlik_pl.speech.audio import resample, write
from dmlik_pl.speech.espeak import Espeak

QUICK = ["--model.solver.nodes", "7", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
SOLVERS = {
    "Euler": {"class_path": "dmlik_pl.flow.mid_time.MidTimeEuler", "init_args": {"steps": 6}},
    "RK45": {"class_path": "dmlik_pl.flow.TorchDiffEq", "init_args": {"method": "dopri5", "rtol": 0.01, "atol": 0.01}},
}
WAYS = ["none → none"] * 2 + ["stochastic → Euler", "RK45 → Euler", "RK45 → RK45"]
PIECES = ("models/grad-tts/grad-tts.pt", "models/hifigan", "models/wav2vec2-base-960h", "models/wavlm-base-plus-sv")


def make_tiny_wav2vec2(folder: Path) -> None:
    """A CTC model of random weights in the layout of the hub's."""
    folder.mkdir(parents=True)
    labels = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ADEGHLO"]
    (folder / "labels.json").write_text(json.dumps({label: i for i, label in enumerate(labels)}))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (10, 8)}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    config = Wav2Vec2Config(vocab_size=len(labels), initializer_range=1.0, **sizes, **convolutions, **positions)
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(folder / "labels.json"))).save_pretrained(folder)


def quick(config: str, folder: Path) -> str:
    """The configuration with solvers of a few steps and a reference of a few recordings."""
    settings = yaml.safe_load((CONFIGS / config).read_text())
    study = settings["model"]["studies"]["adaptation"]["init_args"]
    study["solvers"] = SOLVERS
    if isinstance(study["reference"], dict):
        study["reference"]["init_args"] |= {"validation_size": 5, "test_size": 1}
    folder.mkdir(exist_ok=True)
    path = folder / config
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def only_run(runs: Path) -> Path:
    (folder,) = runs.iterdir()
    return folder


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Arguments of the embedded configuration on a tiny model, and the folder of its runs."""
    root = tmp_path_factory.mktemp("spoken")
    make_tiny_grad_tts(root / "model")
    arguments = ["--config", quick("spoken_adaptation.yaml", root), "--data.limit", "2", *QUICK]
    arguments += ["--data.words_per_minute", "320"]
    arguments += ["--model.diffusion.path", str(root / "model"), "--runs", str(root / "runs")]
    assert evaluate.cli_main(arguments) == 0
    return arguments, root / "runs"


def test_table_3_comes_from_the_embedded_configuration(spoken: tuple[list[str], Path]) -> None:
    folder = only_run(spoken[1])
    records = read(folder)
    frame = records["adaptation"]
    assert len(records["failures"]) == 0 and frame["sample_id"].nunique() == 2
    assert set(frame["voice"]) == {"en-us+klatt2"} and set(frame["domain"]) == {"telephone"}
    assert (frame["dims"] == 80 * frame["frames"]).all()
    for _, rows in frame.groupby("sample_id"):
        grid = rows[rows["stage"] != "round trip"]
        assert (grid["forward"] + " → " + grid["reverse"]).tolist() == WAYS
        data, vocoded, stochastic, mixed, same = grid.to_dict("records")
        assert data["words"] == len(data["text"].split()) and data["transcript"]  # something is heard
        assert same["change_rms"] < mixed["change_rms"] < 0.5 < stochastic["change_rms"]
        assert (
            abs(same["bpd"] - data["bpd"]) < 0.05
            and abs(same["speaker_similarity"] - vocoded["speaker_similarity"]) < 0.1
        )
        assert same["source_similarity"] > 0.7 > data["speaker_similarity"]  # not the reference's voice
        assert data["reference_size"] == 5 and data["reference_similarity"] > 0.8
    table = (folder / "tables" / "adaptation.md").read_text()
    for words in (
        "WordLoop",
        "Resemblyzer",
        "Spoken",
        "repaired",
        "GriffinLim",
        "blur 5×5, σ 1",
        "stochastic",
        "2 samples",
    ):
        assert words in table, words
    assert {path.stem for path in (folder / "tables").glob("*.csv")} >= {"adaptation_paired", "adaptation_round_trip"}
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {"adaptation", "adaptation_pictures"}
    logged = pd.read_csv(folder / "log" / "metrics.csv").iloc[-1]
    assert logged["adaptation/wer_vocoded"] <= 1 and logged["adaptation/bpd_data"] == pytest.approx(
        frame.loc[frame["stage"] == "data", "bpd"].mean()
    )
    assert "adaptation/speaker_similarity_RK45-Euler" in logged and "adaptation/bpd_vocoded" not in logged
    sounds = sound_paths(folder, "adaptation", "test-00000-en-us+klatt2")
    assert sorted(sounds) == ["RK45-Euler", "RK45-RK45", "source", "stochastic-Euler", "vocoded"]


def test_a_second_start_measures_only_what_is_left(spoken: tuple[list[str], Path]) -> None:
    arguments, runs = spoken
    folder = only_run(runs)
    before, store = read(folder)["adaptation"], folder / "records" / "rank0.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    store.write_text(lines[1])
    assert evaluate.cli_main(arguments) == 0
    assert only_run(runs) == folder and store.read_text().splitlines(keepends=True)[0] == lines[1]
    assert len(store.read_text().splitlines()) == 2
    after = read(folder)["adaptation"]
    pd.testing.assert_frame_equal(
        *(
            frame.sort_values(["sample_id", "stage", "forward", "reverse"], ignore_index=True)
            for frame in (before, after)
        )
    )


def test_the_recogniser_knows_the_corpus_words() -> None:
    config = yaml.safe_load((CONFIGS / "spoken_adaptation.yaml").read_text())
    recogniser = config["model"]["studies"]["adaptation"]["init_args"]["recogniser"]
    assert recogniser["init_args"]["vocabulary"] == list(SPOKEN_VOCABULARY)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the configuration of TED-LIUM names, tiny, where it names it."""
    root = tmp_path_factory.mktemp("pieces")
    make_official_grad_tts(root / PIECES[0])
    make_tiny_hifigan(root / PIECES[1])
    make_tiny_wav2vec2(root / PIECES[2])
    make_tiny_xvector(root / PIECES[3])
    espeak = Espeak()
    dev = root / "data" / "TEDLIUM_release-3" / "legacy" / "dev"
    (dev / "sph").mkdir(parents=True)
    (dev / "stm").mkdir()
    spoken = [espeak.speak(text, "en-us+m3")[:22_050] for text in ("window castle", "dolphin guitar")]
    talk = torch.cat([torch.nn.functional.pad(wave, (0, 22_050 - len(wave))) for wave in spoken])
    write(dev / "sph" / "Speaker_2009.wav", resample(talk, 22_050, 16_000), 16_000)
    (dev / "sph" / "Speaker_2009.wav").rename(dev / "sph" / "Speaker_2009.sph")
    (dev / "stm" / "Speaker_2009.stm").write_text(
        "Speaker_2009 1 inter_segment_gap 0 0.01 <o,,unknown> ignore_time_segment_in_scoring\n"
        "Speaker_2009 1 Speaker 0.00 1.00 <o,f0,male> window castle\n"
        "Speaker_2009 1 Speaker 1.00 2.00 <o,f0,male> dolphin guitar\n"
    )
    wavs = root / "data" / "LJSpeech-1.1" / "wavs"
    wavs.mkdir(parents=True)
    (wavs.parent / "metadata.csv").write_text("".join(f"LJ001-{i:04d}|guitar|guitar\n" for i in range(11)))
    wave = espeak.speak("guitar", "en-us+f2")
    for i in range(11):
        write(wavs / f"LJ001-{i:04d}.wav", wave[: 12_000 + i])
    return root


def test_tedlium_runs_whole_from_where_its_header_says(
    pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pieces)
    assert (
        evaluate.cli_main(
            ["--config", quick("tedlium_adaptation.yaml", tmp_path), *QUICK, "--runs", str(tmp_path / "r")]
        )
        == 0
    )
    folder = only_run(tmp_path / "r")
    frame = read(folder)["adaptation"]
    assert set(frame["sample_id"]) == {"Speaker_2009-0000000-0000100", "Speaker_2009-0000100-0000200"}
    data = frame[frame["stage"] == "data"]
    assert data["recogniser"].str.contains("Wav2Vec2").all() and data["words"].tolist() == [2, 2]
    assert data["reference"].eq("LJSpeech").all() and data["reference_size"].eq(5).all()
    assert data["speaker_similarity"].between(-1, 1).all() and (frame["vocoder"] == "HiFiGAN").all()
    assert (frame["dims"] == 80 * frame["frames"]).all() and frame["dims"].iloc[0] == 80 * 86


def test_the_published_protocol_runs_whole(pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pieces)
    config = quick("tedlium_adaptation_published.yaml", tmp_path)
    arguments = ["--config", config, *QUICK[2:], "--data.limit", "1", "--runs", str(tmp_path / "r")]
    arguments += ["--model.solver.rtol", "0.1", "--model.solver.atol", "0.1"]
    arguments += ["--model.studies.adaptation.paths", "[[RK45, RK45]]"]
    assert evaluate.cli_main(arguments) == 0
    folder = only_run(tmp_path / "r")
    frame = read(folder)["adaptation"]
    assert set(frame["protocol"]) == {"published"} and set(frame["reference_size"]) == {1}
    assert set(frame["reference"]) == {"wavs"} and set(frame["dims"]) == {80 * 88}  # 86 frames, padded
    assert frame["solver"].iloc[0].startswith("dopri5 in t") and frame["standard_error"].isna().all()
    table = (folder / "tables" / "adaptation.md").read_text()
    assert "Protocol: published" in table and "(cosine + 1) / 2" in table and "Unknown: how the printed BPD" in table


def test_both_protocols_take_the_papers_settings() -> None:
    repaired, published = (
        yaml.safe_load((CONFIGS / f"tedlium_adaptation{end}.yaml").read_text())["model"] for end in ("", "_published")
    )
    studies = [model["studies"]["adaptation"]["init_args"] for model in (repaired, published)]
    assert [study.pop("protocol") for study in studies] == ["repaired", "published"]
    assert [type(study.pop("reference")) for study in studies] == [dict, str]
    assert studies[0].pop("reference_limit") == 50 and studies[0] == studies[1]
    assert studies[1]["blurs"] == [{"kernel": 5, "sigma": 1.0}] and studies[1]["paths"] == "paper"
    assert studies[1]["solvers"]["Euler"]["init_args"] == {"steps": 100}
    dopri5 = {"method": "dopri5", "rtol": 1e-5, "atol": 1e-5}
    assert studies[1]["solvers"]["RK45"]["init_args"] == published["solver"]["init_args"] == dopri5


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        (PIECES[0], ["grad-tts.pt"]),
        (PIECES[1], ["hifigan"]),
        (PIECES[2], ["wav2vec2-base-960h", "hf download"]),
        (PIECES[3], ["wavlm-base-plus-sv", "hf download"]),
        ("data/TEDLIUM_release-3", ["TED-LIUM", "openslr.org"]),
        ("data/LJSpeech-1.1", ["LJSpeech-1.1.tar.bz2"]),
    ],
    ids=["grad-tts", "vocoder", "recogniser", "encoder", "talks", "reference"],
)
def test_a_missing_piece_is_one_message(
    missing: str,
    told: list[str],
    pieces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "pieces"
    shutil.copytree(pieces, root, copy_function=lambda a, b: Path(b).symlink_to(a))
    path = root / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments = ["--config", quick("tedlium_adaptation.yaml", tmp_path), *QUICK, "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = f"{stop.value.code} {capsys.readouterr().err}"
    assert "Traceback" not in message
    assert all(word in message for word in told), message
