"""The paper's own experiments, whole: their configs on a tiny random SDXL and on small folders of images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_models import make_tiny_clip, make_tiny_sdxl
from tiny_speech import GENTLE, make_official_grad_tts, make_tiny_hifigan, make_tiny_whisper, make_tiny_xvector

import evaluate
from dmlik_pl.cli import CONFIGS
from dmlik_pl.records.frames import listed
from dmlik_pl.records.store import read
from dmlik_pl.speech.audio import resample, write
from dmlik_pl.speech.espeak import Espeak

EVALUATIONS = [
    *("shapes.yaml", "shapes_prompts.yaml", "digits.yaml", "sdxl_pacs.yaml", "sdxl_clevr.yaml", "image_prompts.yaml"),
    "images.yaml",
    *("sdxl_pacs_published.yaml", "sdxl_clevr_published.yaml"),
    *("shapes_sweep.yaml", "sdxl_pacs_sweep.yaml", "sdxl_pacs_sweep_published.yaml"),
    *("spoken_sweep.yaml", "grad_tts_sweep.yaml", "grad_tts_sweep_published.yaml"),
    *("spoken_rescoring.yaml", "grad_tts_rescoring.yaml", "grad_tts_rescoring_published.yaml"),
    *("spoken_adaptation.yaml", "tedlium_adaptation.yaml", "tedlium_adaptation_published.yaml"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL, a tiny CLIP, and both data sets with two images a cell."""
    root = tmp_path_factory.mktemp("folders")
    make_tiny_sdxl(root / "sdxl")
    make_tiny_clip(root / "clip")
    generator = np.random.default_rng(0)

    def picture(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)

    for domain in ("art_painting", "cartoon", "photo", "sketch"):
        for kind in ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person"):
            picture(root / "pacs" / domain / kind / "pic_001.jpg")
    for colour in ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"):
        for shape in ("cube", "sphere", "cylinder"):
            picture(root / "clevr" / f"CLEVR_new_large_{colour}_metal_{shape}000001.png")
    return root


def run(config: str, folders: Path, data: str, runs: Path, *more: str) -> Path:
    arguments = [
        *("--config", config, "--runs", str(runs), "--model.diffusion.path", str(folders / "sdxl")),
        *(
            "--model.solver.nodes",
            "9",
            "--model.max_batch",
            "32",
            "--trainer.accelerator",
            "cpu",
            "--trainer.devices",
            "1",
        ),
        *("--data.root", str(folders / data), "--data.size", "16", "--data.batch_size", "4", "--data.limit", "4"),
    ]
    assert evaluate.cli_main([*arguments, *more]) == 0
    (folder,) = runs.iterdir()
    return folder


def with_clip(config: str, clip: Path, folder: Path) -> str:
    """The config with another CLIP model and small images."""
    settings = yaml.safe_load((CONFIGS / config).read_text())
    for study in settings["model"]["studies"].values():
        study["init_args"]["clip"] = str(clip)
        if "features" in study["init_args"]:
            study["init_args"]["features"]["init_args"]["model"] = str(clip)
        if "sizes" in study["init_args"]:
            study["init_args"]["sizes"] = [size // 64 for size in study["init_args"]["sizes"]]
    path = folder / config
    path.write_text(yaml.safe_dump(settings))
    return str(path)


ONE_PART = ("--model.studies.prompt_accuracy.guidance", "1", "--model.studies.prompt_accuracy.reconstruct", "false")


def test_clevr_runs_whole(folders: Path, tmp_path: Path) -> None:
    config = with_clip("sdxl_clevr.yaml", folders / "clip", tmp_path)
    rows = ("--model.studies.prompt_accuracy.guidance", "[1, 3]", "--model.studies.prompt_accuracy.reconstruct", "true")
    records = read(run(config, folders, "clevr", tmp_path / "runs", *rows))["prompt_accuracy"]
    assert records.groupby(["guidance", "attribute"]).size().to_dict() == {
        (weight, attribute): 4 for weight in (1.0, 3.0) for attribute in ("colour", "shape")
    }
    assert records["reconstructed"].all() and records["null_margin"].notna().all()
    assert set(records["dims"]) == {4 * 8 * 8}
    assert set(records.query("guidance == 1")["density"]) == {"p(x|y)"}
    assert records["r_max"].iloc[0] == pytest.approx(14.615, abs=1e-2)
    for row in records.itertuples():
        scores = json.loads(row.scores)
        assert len(scores) == {"colour": 8, "shape": 3}[row.attribute]
        assert row.predicted == max(scores, key=scores.__getitem__)
        assert row.clip_predicted in scores and row.pmi_predicted in scores
        calls = (1 if row.guidance == 1 else 2) * len(scores)
        assert (row.nfe, row.elbo_nfe, row.pmi_nfe) == (calls * 18, calls * 16, (calls + 1) * 16)


def test_prompts_of_a_list_run_whole(folders: Path, tmp_path: Path) -> None:
    images = sorted(path.name for path in (folders / "clevr").iterdir())[:4]
    lines = [f"{name},a red cube,a blue cube,{'a green cube' if number else ''}" for number, name in enumerate(images)]
    path = tmp_path / "prompts.csv"
    path.write_text("\n".join(["image,prompt,confounder,confounder", *lines]))
    config = with_clip("image_prompts.yaml", folders / "clip", tmp_path)
    records = read(run(config, folders, "clevr", tmp_path / "runs", "--data.prompts", str(path)))["prompt_accuracy"]
    assert records["sample_id"].tolist() == images and set(records["attribute"]) == {"prompt"}
    assert set(records["truth"]) == {"a red cube"} and records["screened_kept"].tolist() == [2, 3, 3, 3]
    assert [len(listed(candidates)) for candidates in records["candidates"]] == [2, 3, 3, 3]
    given = [json.loads(each) for each in records["elbo_eliminated"]]
    assert [sorted(each.values()) for each in given] == [[64, 64], *[[24, 64, 64]] * 3]


def test_the_list_of_prompts_says_what_it_should_be(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, absent = with_clip("image_prompts.yaml", folders / "clip", tmp_path), str(tmp_path / "absent.csv")
    arguments = ["--config", config, "--model.diffusion.path", str(folders / "sdxl"), "--data.prompts", absent]
    more = ["--data.root", str(folders / "clevr"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, *more])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = capsys.readouterr().err
    assert stop.value.code == 1 and "error:" in message and absent in message and "image,prompt,confounder 1" in message


def test_pacs_runs_whole(folders: Path, tmp_path: Path) -> None:
    config = with_clip("sdxl_pacs.yaml", folders / "clip", tmp_path)
    folder = run(config, folders, "pacs", tmp_path / "runs", *ONE_PART)
    records = read(folder)
    sweep = records["time_sweep"]
    assert set(sweep["density"]) == {"guided flow at w=7"} and set(sweep["nfe_forward"]) == {18}
    assert sorted(sweep["time"].dropna().unique()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert sweep["clip"].between(0, 100).all()
    assert {len(feature) for feature in sweep["feature"]} == {16}
    assert set(records["prompt_accuracy"]["attribute"]) == {"class", "domain"}
    table = (folder / "tables" / "time_sweep.md").read_text()
    assert "FID" in table and "guided" in table
    assert len(list((folder / "pictures" / "time_sweep" / "guidance=7,size=16").glob("*.png"))) == 4


def test_the_sweep_of_pacs_shares_work_with_the_main_job(folders: Path, tmp_path: Path) -> None:
    configs = [with_clip(config, folders / "clip", tmp_path) for config in ("sdxl_pacs_sweep.yaml", "sdxl_pacs.yaml")]
    study, few = "--model.studies.time_sweep", ["--data.limit", "1"]
    folder = run(configs[0], folders, "pacs", tmp_path / "sweeps", *few, f"{study}.guidance", "7")
    records = read(folder)
    sweep = records["time_sweep"]
    assert records["failures"].empty and len(sweep) == 2 * 2 * 6
    assert len(sweep[["size", "reconstructed"]].drop_duplicates()) == 4
    assert set(sweep["size"]) == {8, 16} and set(sweep["dims"]) == {4 * 4 * 4, 4 * 8 * 8}
    assert sweep["bpd_pixels"].notna().all() and sweep["clip"].between(0, 100).all()
    assert (sweep["round_trip"].notna() == sweep["reconstructed"]).all()
    assert (sweep["bpd_marginal"].isna() == sweep["reconstructed"]).all()
    main_job = run(configs[1], folders, "pacs", tmp_path / "runs", *few, *ONE_PART)
    parts = [json.loads((each / "parts.json").read_text()) for each in (folder, main_job)]
    shared = set(parts[0].items()) & set(parts[1].items())
    assert {name for name, _ in shared} == {"time_sweep/guidance=7,size=16"}


@pytest.mark.parametrize(
    ("config", "data", "told"),
    [("sdxl_pacs.yaml", "pacs", ["PACS", "flwrlabs/pacs"]), ("sdxl_clevr.yaml", "clevr", ["CLEVR_new_large"])],
)
def test_missing_data_say_where_they_go_and_how_to_get_them(
    config: str,
    data: str,
    told: list[str],
    folders: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = with_clip(config, folders / "clip", tmp_path)
    absent = str(tmp_path / "absent" / data)
    arguments = ["--config", changed, "--model.diffusion.path", str(folders / "sdxl"), "--data.root", absent]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = capsys.readouterr().err
    assert stop.value.code == 1 and "error:" in message and absent in message
    assert all(word in message for word in told)


def test_missing_weights_say_where_they_go_and_how_to_get_them(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments = [
        "--config",
        with_clip("sdxl_pacs.yaml", folders / "clip", tmp_path),
        "--data.root",
        str(folders / "pacs"),
    ]
    local = ["--model.diffusion.local_files_only", "true"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, *local, "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = f"{stop.value.code} {capsys.readouterr().err}"
    assert stop.value.code == 1 or str(stop.value.code).startswith("error:")
    assert "stabilityai/stable-diffusion-xl-base-1.0" in message and "hf download" in message
    assert "Traceback" not in message
    assert not (tmp_path / "runs").exists()  # a run that could not begin leaves no folder


@pytest.mark.parametrize("config", EVALUATIONS)
def test_every_evaluation_config_is_understood(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate.cli_main(["--config", config, "--print_config"])
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    given = yaml.safe_load((CONFIGS / config).read_text())
    solver = given["model"]["solver"]
    assert resolved["model"]["solver"]["class_path"] == solver["class_path"]
    assert solver.get("init_args", {}).items() <= resolved["model"]["solver"]["init_args"].items()
    assert resolved["data"]["class_path"] == given["data"]["class_path"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for Grad-TTS, HiFi-GAN, Whisper and x-vectors, and an LJSpeech of six utterances, four of them bad."""
    root = tmp_path_factory.mktemp("speech")
    make_official_grad_tts(root / "grad-tts" / "grad-tts.pt")
    make_tiny_hifigan(root / "hifigan")
    make_tiny_whisper(root / "whisper", seconds=3)
    make_tiny_xvector(root / "xvector")
    texts = {
        "LJ001-0001": "Printing, in the only sense.",
        "LJ001-0002": "It was ten years old!",
        "LJ001-0003": "This file is missing.",
        "LJ001-0004": "This one has another rate.",
        "LJ001-0005": " ",
        "LJ001-0006": "far too many words for this short file, which is of a quarter of a second only",
    }
    folder = root / "LJSpeech-1.1"
    (folder / "wavs").mkdir(parents=True)
    voice = Espeak()
    for name, text in texts.items():
        wave = voice.speak(text if text.strip() else "no text", "en-us", 320)
        if name == "LJ001-0004":
            write(folder / "wavs" / f"{name}.wav", resample(wave, 22_050, 16_000), 16_000)
        elif name != "LJ001-0003":
            write(folder / "wavs" / f"{name}.wav", wave[: 22_050 // 4] if name == "LJ001-0006" else wave, 22_050)
    lines = "".join(f"DUMMY/{name}.wav|{text}\n" for name, text in texts.items())
    for part in ("train", "valid", "test"):
        (root / f"{part}.txt").write_text(lines)
    return root


def with_stand_ins(speech: Path, folder: Path, config: str = "grad_tts_sweep.yaml", **absent: str) -> str:
    """A config of Table 1 with what stands in for the weights and the data, but for what is said to be elsewhere."""
    settings = yaml.safe_load((CONFIGS / config).read_text())
    model, data = settings["model"], settings["data"]["init_args"]
    model["diffusion"]["init_args"]["path"] = absent.get("model", str(speech / "grad-tts" / "grad-tts.pt"))
    model["diffusion"]["init_args"]["beta_max"] = GENTLE
    model["diffusion"]["init_args"]["vocoder"]["init_args"]["path"] = absent.get("vocoder", str(speech / "hifigan"))
    study = model["studies"]["speech_sweep"]["init_args"]
    study["recogniser"]["init_args"] = {"path": absent.get("recogniser", str(speech / "whisper"))}
    study["speaker_encoder"]["init_args"] = {"path": absent.get("encoder", str(speech / "xvector"))}
    model["solver"] = {"class_path": "dmlik_pl.flow.Multistep", "init_args": {"nodes": 7}}
    data["root"] = absent.get("data", str(speech / "LJSpeech-1.1"))
    data |= {f"{part}_list": str(speech / f"{name}.txt") for part, name in LISTS.items()}
    settings["trainer"] |= {"accelerator": "cpu", "devices": 1}
    path = folder / config
    path.write_text(yaml.safe_dump(settings))
    return str(path)


LISTS = {"train": "train", "validation": "valid", "test": "test"}


def test_grad_tts_runs_whole_and_counts_bad_utterances(speech: Path, tmp_path: Path) -> None:
    config = with_stand_ins(speech, tmp_path)
    assert evaluate.cli_main(["--config", config, "--runs", str(tmp_path / "runs")]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    records = read(folder)
    sweep, gain = records["speech_sweep"], records["text_gain"]
    good = {"LJ001-0001", "LJ001-0002"}
    assert set(sweep["sample_id"]) == set(gain["sample_id"]) == good
    assert set(sweep["vocoder"]) == {"HiFiGAN"} and set(sweep["recogniser"]) == {"Whisper (whisper)"}
    assert set(sweep["speaker_encoder"]) == {"XVector (xvector)"} and sweep["speaker_similarity"].between(-1, 1).all()
    assert sweep["space"].iloc[0].startswith("log-mel") and sweep["time"].nunique() == 9
    failures = records["failures"].drop_duplicates("sample_id").set_index("sample_id")["error"]
    assert len(records["failures"]) == 2 * len(failures) == 8  # in both studies
    told = {"LJ001-0003": "no audio file", "LJ001-0004": "16000 Hz", "LJ001-0005": "empty", "LJ001-0006": "impossible"}
    for name, words in told.items():
        assert words in failures[name], failures[name]
    table = (folder / "tables" / "speech_sweep.md").read_text()
    assert "2 of 6 samples, 4 failed" in table and "Whisper (whisper)" in table and "XVector (xvector)" in table


def test_table_1_as_published_names_its_deviations(speech: Path, tmp_path: Path) -> None:
    config = with_stand_ins(speech, tmp_path, "grad_tts_sweep_published.yaml")
    arguments = ["--config", config, "--runs", str(tmp_path / "runs"), "--data.limit", "1"]
    assert evaluate.cli_main(arguments) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    sweep = read(folder)["speech_sweep"]
    scored = sweep[sweep["bpd"].notna()]
    assert set(scored["protocol"]) == {"published"} and scored["bpd_marginal"].isna().all()
    # From t = 1e-8, where sigma / alpha is the root of 0.05 t.
    assert scored["r_min"].unique() == pytest.approx([(0.05e-8) ** 0.5], rel=1e-3)
    expected = -scored["log_p"] / (80 * scored["frames"] * np.log(2))
    np.testing.assert_allclose(scored["bpd"], expected, rtol=1e-6)
    caption = (folder / "tables" / "speech_sweep.md").read_text()
    assert "Published protocol: every stage is scored with probes of its own; padded frames" in caption
    assert "not reproduced: the paper's script" in caption


@pytest.mark.parametrize(
    ("piece", "told"),
    [
        ("model", ["grad-tts.pt", "github.com/huawei-noah/Speech-Backbones"]),
        ("vocoder", ["HiFi-GAN", "models/hifigan"]),
        ("recogniser", ["Whisper", "hf download"]),
        ("encoder", ["x-vector", "hf download"]),
        ("data", ["LJSpeech-1.1.tar.bz2", "keithito.com"]),
    ],
)
def test_a_missing_piece_of_table_1_is_one_clear_message(
    piece: str,
    told: list[str],
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    absent = str(tmp_path / "absent" / "nothing")
    config = with_stand_ins(speech, tmp_path, **{piece: absent})
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "--config", config, "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = f"{stop.value.code} {capsys.readouterr().err}"
    assert "error:" in message and "Traceback" not in message and absent in message
    assert all(word in message for word in told), message
