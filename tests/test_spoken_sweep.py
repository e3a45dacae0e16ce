"""The studies of speech as their user runs them: the embedded configuration whole, resumed, and with bad input."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny_speech import make_tiny_grad_tts

import evaluate
from dmlik_pl.cli import CONFIGS
from dmlik_pl.data.spoken import SPOKEN_VOCABULARY
from dmlik_pl.records.store import read

# Fast speech is short, and the recogniser still knows it.
FEW = ["--data.limit", "2", "--data.words_per_minute", "300", "--model.solver.nodes", "7"]
DEVICES = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"]


def settings(folder: Path, changes: dict[str, object]) -> str:
    """The embedded configuration with other settings of its sweep."""
    config = yaml.safe_load((CONFIGS / "spoken_sweep.yaml").read_text())
    config["model"]["studies"]["speech_sweep"]["init_args"] |= changes
    folder.mkdir(exist_ok=True)
    path = folder / "spoken_sweep.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def run(config: str, model: Path, runs: Path, *more: str) -> int:
    where = ["--runs", str(runs), "--model.diffusion.path", str(model)]
    return evaluate.cli_main(["--config", config, *where, *DEVICES, *FEW, *more])


def only_run(runs: Path) -> Path:
    (folder,) = runs.iterdir()
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "grad-tts"
    make_tiny_grad_tts(folder)
    return folder


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole configuration, on two utterances and a tiny model."""
    runs = tmp_path_factory.mktemp("runs")
    assert run("spoken_sweep.yaml", model, runs) == 0
    return only_run(runs)


def test_table_1_comes_from_the_configuration(finished: Path) -> None:
    records = read(finished)
    sweep = records["speech_sweep"]
    assert len(records["failures"]) == 0 and set(sweep["voice"]) == {"en-us", "en-us+f2"}
    assert (
        sweep.groupby("sample_id")["time"].apply(lambda times: times.dropna().tolist()).tolist()
        == [[1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0.0]] * 2
    )
    assert (sweep["dims"] == 80 * sweep["frames"]).all()
    data, vocoded = (sweep[sweep["stage"] == stage] for stage in ("data", "vocoded"))
    assert (data["transcript"] == data["text"]).all()  # the recogniser knows these voices
    assert (vocoded["word_errors"] <= 1).all() and (vocoded["speaker_similarity"] > 0.75).all()
    assert (data["cepstral_distortion"] == 0).all() and (data["log_f0_rmse"] == 0).all()
    assert (data["speaker_similarity"] > 0.9999).all()
    start = sweep[sweep["time"] == 1.0]
    assert start["bpd_marginal"].between(2.0, 2.1).all()  # the entropy of N(mu, I) is 2.047 bits
    gain = records["text_gain"]
    assert gain.groupby("sample_id").size().tolist() == [4, 4]
    assert gain["gain_standard_error"].gt(0).all() and gain["duration_log_p"].lt(0).all()
    # Both studies score the same mel under the same text, on the same probes.
    both = gain[gain["alignment"] == "search"].merge(data, on="sample_id", suffixes=("", "_sweep"))
    assert (both["log_p"] - both["log_p_sweep"]).abs().max() < 1e-3 * both["dims"].min()


def test_the_run_folder_holds_tables_figures_mels_and_sound(finished: Path) -> None:
    table = (finished / "tables" / "speech_sweep.md").read_text()
    for words in ("Vocoded", "0.62", "BPD marginal", "log-F0 RMSE", "MCD", "WER", "ASV", "WordLoop", "Resemblyzer"):
        assert words in table, words
    raw = pd.read_csv(finished / "tables" / "speech_sweep.csv")
    assert {"wer_low", "wer_high", "bpd_low", "log_f0_rmse_undefined"} <= set(raw.columns) and len(raw) == 11
    figures = {path.stem for path in (finished / "figures").glob("*.png")}
    assert {"speech_sweep", "speech_sweep_pictures", "speech_sweep_bits_per_dim", "text_gain"} <= figures
    assert len(list((finished / "pictures" / "speech_sweep").glob("*.png"))) == 2
    names = sorted(path.stem.rpartition("-")[2] for path in (finished / "sound" / "speech_sweep").glob("*.wav"))
    assert names == ["source", "source", "t0", "t0", "vocoded", "vocoded"]
    logged = pd.read_csv(finished / "log" / "metrics.csv").iloc[-1]
    assert logged["speech_sweep/wer_data"] == 0 and "text_gain/nats_a_frame_search_mean" in logged


def test_a_second_start_measures_only_what_is_left(finished: Path, model: Path) -> None:
    before = read(finished)
    units = [json.loads(line) for line in (finished / "records" / "rank0.jsonl").open()]
    kept = [unit for unit in units if (unit["study"], unit["sample_id"]) != ("text_gain", units[0]["sample_id"])]
    assert len(units) == 4 and len(kept) == 3
    (finished / "records" / "rank0.jsonl").write_text("".join(json.dumps(unit) + "\n" for unit in kept))
    assert run("spoken_sweep.yaml", model, finished.parent) == 0
    assert only_run(finished.parent) == finished
    again = [json.loads(line) for line in (finished / "records" / "rank0.jsonl").open()]
    assert again[:3] == kept and len(again) == 4
    for study, frame in read(finished).items():
        pd.testing.assert_frame_equal(frame, before[study], rtol=0, atol=1e-3)


def test_durations_of_the_model_by_name(model: Path, tmp_path: Path) -> None:
    changes = {"durations": "model", "alignment": "durations", "times": [1.0, 0.0], "log_f0": False}
    config = settings(tmp_path, changes | {"recogniser": None, "speaker_encoder": None})
    assert run(config, model, tmp_path / "runs", "--data.limit", "1") == 0
    sweep = read(only_run(tmp_path / "runs"))["speech_sweep"]
    data, samples = sweep[sweep["stage"] == "data"], sweep[sweep["stage"] == "sample"]
    assert data["dims"].iloc[0] != samples["dims"].iloc[0]
    assert set(sweep["durations"]) == {"model"} and set(sweep["alignment"]) == {"durations"}
    caption = (only_run(tmp_path / "runs") / "tables" / "speech_sweep.md").read_text()
    assert "their length is their own" in caption and "WER" not in caption


def test_the_shipped_model_speaks_and_hears_the_text(tmp_path: Path) -> None:
    config = settings(tmp_path, {"times": [1.0, 0.0], "log_f0": False})
    few = ["--data.limit", "1", "--model.solver.nodes", "13", "--model.studies.text_gain.alignments", "[search]"]
    assert evaluate.cli_main(["--config", config, "--runs", str(tmp_path / "runs"), *DEVICES, *few]) == 0
    records = read(only_run(tmp_path / "runs"))
    data, vocoded, noise, sample = records["speech_sweep"].to_dict("records")
    assert [row["word_errors"] for row in (data, vocoded, sample)] == [0, 0, 0]
    assert vocoded["speaker_similarity"] > sample["speaker_similarity"] > noise["speaker_similarity"]
    assert vocoded["cepstral_distortion"] < sample["cepstral_distortion"] < noise["cepstral_distortion"]
    assert data["bpd"] < 0.6 < 1.9 < noise["bpd"]  # the marginal of noise has 2.05 bits
    gain = records["text_gain"]
    assert gain["alternative"].tolist() == ["mean", "shuffled"]
    assert (gain["gain"] / gain["frames"] > 3).all() and gain["decided"].all()


def test_the_recogniser_knows_the_corpus_words() -> None:
    config = yaml.safe_load((CONFIGS / "spoken_sweep.yaml").read_text())
    recogniser = config["model"]["studies"]["speech_sweep"]["init_args"]["recogniser"]
    assert recogniser["init_args"]["vocabulary"] == list(SPOKEN_VOCABULARY)


def test_an_image_study_is_refused_with_a_reason(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", "spoken_sweep.yaml", "--runs", str(tmp_path), "--model.diffusion.path", str(model)]
    sweep = ["--model.studies.speech_sweep", "dmlik_pl.studies.TimeSweep"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, *sweep, *DEVICES])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    told = f"{stop.value.code} {capsys.readouterr().err}"
    assert "TimeSweep measures a batch of images" in told and "Traceback" not in told
