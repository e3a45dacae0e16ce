"""The paper's own experiments, whole: their configs on a tiny random SDXL and on small folders of images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny_models import make_tiny_clip, make_tiny_sdxl

import evaluate
from dmlik_pl.cli import CONFIGS
from dmlik_pl.results.store import read

EVALUATIONS = ["shapes.yaml", "digits.yaml", "sdxl_pacs.yaml", "sdxl_clevr.yaml"]


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
    """The config with another CLIP model."""
    settings = yaml.safe_load((CONFIGS / config).read_text())
    for study in settings["model"]["studies"].values():
        study["init_args"]["clip"] = str(clip)
        if "features" in study["init_args"]:
            study["init_args"]["features"]["init_args"]["model"] = str(clip)
    path = folder / config
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_clevr_runs_whole(folders: Path, tmp_path: Path) -> None:
    config = with_clip("sdxl_clevr.yaml", folders / "clip", tmp_path)
    records = read(run(config, folders, "clevr", tmp_path / "runs"))["prompt_accuracy"]
    assert records["attribute"].value_counts().to_dict() == {"colour": 4, "shape": 4}
    assert set(records["dims"]) == {4 * 8 * 8} and set(records["density"]) == {"p(x|y)"}
    assert records["r_max"].iloc[0] == pytest.approx(14.615, abs=1e-2)
    for row in records.itertuples():
        scores = json.loads(row.scores)
        assert len(scores) == {"colour": 8, "shape": 3}[row.attribute]
        assert row.predicted == max(scores, key=scores.__getitem__)
        assert row.clip_predicted in scores


def test_pacs_runs_whole(folders: Path, tmp_path: Path) -> None:
    config = with_clip("sdxl_pacs.yaml", folders / "clip", tmp_path)
    folder = run(config, folders, "pacs", tmp_path / "runs")
    records = read(folder)
    sweep = records["time_sweep"]
    assert set(sweep["density"]) == {"guided flow at w=7"} and set(sweep["nfe_forward"]) == {18}
    assert sorted(sweep["time"].dropna().unique()) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert sweep["clip"].between(0, 100).all()
    assert {len(feature) for feature in sweep["feature"]} == {16}
    assert set(records["prompt_accuracy"]["attribute"]) == {"class", "domain"}
    table = (folder / "tables" / "time_sweep.md").read_text()
    assert "FID" in table and "guided" in table
    assert len(list((folder / "pictures" / "time_sweep").glob("*.png"))) == 4


@pytest.mark.parametrize(
    ("config", "data", "told"),
    [("sdxl_pacs.yaml", "pacs", ["PACS", "flwrlabs/pacs"]), ("sdxl_clevr.yaml", "clevr", ["CLEVR_new_large"])],
)
def test_missing_data_say_where_they_go_and_how_to_get_them(
    config: str, data: str, told: list[str], folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = with_clip(config, folders / "clip", tmp_path)
    absent = str(tmp_path / "absent" / data)
    arguments = ["--config", changed, "--model.diffusion.path", str(folders / "sdxl"), "--data.root", absent]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = str(stop.value.code)
    assert message.startswith("error:") and absent in message
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
    assert resolved["model"]["solver"]["init_args"]["nodes"] == given["model"]["solver"]["init_args"]["nodes"]
    assert resolved["data"]["class_path"] == given["data"]["class_path"]
