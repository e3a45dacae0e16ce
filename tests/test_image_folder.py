"""Your own images, from the folder to the numbers."""

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from served import first_batch
from tiny_models import make_tiny_ddpm, make_tiny_sdxl

import evaluate
from dmlik_pl.cli import CONFIGS
from dmlik_pl.data.base import Failure
from dmlik_pl.data.held_out import HeldOut, held_out_rank
from dmlik_pl.data.image_folder import NO_CAPTION, ImageFolder
from dmlik_pl.records.store import read

CAPTIONS = {
    "dog.png": ["a photo of a dog", "a sketch of a dog"],
    "farm/horse.png": ["a painting of a horse"],
    "farm/old/house.png": ["a photo of a house"],
}


def pictures(root: Path, names: list[str]) -> Path:
    """Images that depend on their names alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(name.encode())).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    return root


def csv_list(root: Path) -> None:
    rows = [f'{name},"{text}"' for name, texts in CAPTIONS.items() for text in texts]
    (root / "metadata.csv").write_bytes("\r\n".join(["\ufefffile_name,text", *rows, ""]).encode())


def json_lists(root: Path) -> None:
    """A list of the folder and one of a folder in it, with all captions of an image in one row."""
    for folder, names in (("", ["dog.png"]), ("farm", ["farm/horse.png", "farm/old/house.png"])):
        rows = [{"file_name": os.path.relpath(name, folder or "."), "text": CAPTIONS[name]} for name in names]
        (root / folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def text_files(root: Path) -> None:
    for name, texts in CAPTIONS.items():
        (root / name).with_suffix(".txt").write_text("\n".join(texts) + "\n\n")


LAYOUTS = {"csv": csv_list, "json": json_lists, "text": text_files}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images with the same captions in every layout, without any, and a tiny SDXL."""
    root = tmp_path_factory.mktemp("own")
    for layout, write in LAYOUTS.items():
        write(pictures(root / layout, list(CAPTIONS)))
    pictures(root / "bare", list(CAPTIONS))
    make_tiny_sdxl(root / "sdxl")
    return root


def listed(root: Path, **options: object) -> list[tuple[str, str]]:
    data = ImageFolder(root, size=16, **options).test_set()  # type: ignore[arg-type]
    return [(entry.sample_id, entry.prompt) for entry in data.entries]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_samples(layout: str, folders: Path) -> None:
    data = ImageFolder(folders / layout, size=16, batch_size=4)
    batch = first_batch(data)
    assert batch.prompt == [text for texts in CAPTIONS.values() for text in texts]
    assert batch.sample_id == ["dog.png", "dog.png#ada0e288", "farm/horse.png", "farm/old/house.png"]
    assert batch.converted == [""] * 4 and batch.attributes == {} and batch.image.shape == (4, 3, 16, 16)
    assert (batch.image[0] == batch.image[1]).all() and not (batch.image[0] == batch.image[2]).all()
    assert data.test_set().groups == ["", "", "farm", "farm/old"]


def test_a_further_caption_moves_no_other_sample(folders: Path, tmp_path: Path) -> None:
    root = pictures(tmp_path, ["dog.png"])
    lines = ["a photo of a dog", "a dog", "a sketch of a dog"]
    (root / "dog.txt").write_text("\n".join(lines))
    three = listed(root)
    (root / "dog.txt").write_text("\n".join([lines[0], lines[2]]))
    assert set(listed(root)) < set(three)
    (root / "dog.txt").write_text("\n".join([lines[0], lines[2], lines[1]]))
    assert set(listed(root)) == set(three) and len(three) == 3


def test_images_without_captions_have_the_empty_prompt_and_say_so(folders: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="3 of 3 samples in .*bare have no caption: taken with the empty prompt"):
        data = ImageFolder(folders / "bare", size=16, batch_size=3)
        batch = first_batch(data)
    assert batch.prompt == [""] * 3 and batch.converted == [NO_CAPTION] * 3
    with pytest.warns(UserWarning, match="3 of 3 samples"):
        assert {text for _, text in listed(folders / "csv", caption=None)} == {""}
    root = pictures(tmp_path, ["a.png", "b.png"])
    (root / "metadata.csv").write_text("file_name,text\na.png,a dog\nb.png,\n")
    with pytest.warns(UserWarning, match="1 of 2 samples"):
        assert listed(root) == [("a.png", "a dog"), ("b.png", "")]


def test_what_a_list_leaves_out_is_left_out_and_told(tmp_path: Path) -> None:
    root = pictures(tmp_path, ["a.png", "b.png", "c/d.png", "c/.ipynb_checkpoints/d.png", "__MACOSX/a.png"])
    (root / "metadata.csv").write_text("file_name,text\na.png,a dog\n")
    (root / "c" / "metadata.csv").write_text("file_name,text\n./d.png,a cat\n")
    with pytest.warns(UserWarning, match="1 images of .* are left out: the list of their folder does not name them"):
        assert listed(root) == [("a.png", "a dog"), ("c/d.png", "a cat")]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("metadata.csv", "file_name,words\na.png,a\n", "line 1 has no column 'text', it has 'file_name', 'words'; "),
        ("metadata.csv", "image,text\na.png,a\n", "line 1 has no column 'file_name', it has 'image', 'text'"),
        ("metadata.csv", "file_name,text\n,a\n", "line 2: there is no file_name"),
        ("metadata.csv", "file_name,text\n../a.png,a\n", "line 2: .* does not lie in"),
        ("metadata.csv", "file_name,text\na.png,a\na.png,a\n", "line 3: a.png has the caption 'a' already, .*line 2"),
        ("metadata.csv", "file_name,text\na.png,a,b\n", "line 2 has 3 cells in 2 columns"),
        ("metadata.jsonl", '{"file_name": "a.png"}\n', "line 1 has no column 'text', it has 'file_name'"),
        ("metadata.jsonl", '{"file_name": 1, "text": "a"}\n', "line 1: there is no file_name"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": {"en": "a"}}\n', "line 1: 'text' is neither a text nor"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a"\n', "line 1 is not JSON"),
    ],
)
def test_a_list_that_is_wrong_is_told_with_its_line(name: str, text: str, told: str, tmp_path: Path) -> None:
    root = pictures(tmp_path, ["a.png"])
    (root / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}, {told}"):
        listed(root)


def test_what_is_missing_is_told_once_or_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder of images .*nowhere[\s\S]*metadata.csv or metadata.jsonl"):
        listed(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no images found in"):
        listed(tmp_path)
    root = pictures(tmp_path / "images", ["b.png"])
    (root / "metadata.csv").write_text(f"file_name,text\nlost.png,a\n{'x' * 140_000},a\n")
    with pytest.raises(FileNotFoundError, match=r"line 2: there is no image .*lost\.png"):
        listed(root)
    (root / "metadata.csv").write_text(f"file_name,text\nlost.png,a\n{'x' * 140_000},a\nb.png,{'word ' * 30_000}\n")
    data = ImageFolder(root, size=16).test_set()
    assert [name[:8] for name in data.sample_ids] == ["b.png", "lost.png", "xxxxxxxx"]
    assert [isinstance(data[index], Failure) for index in range(3)] == [False, True, True]
    (root / "metadata.jsonl").write_text('{"file_name": "b.png", "text": "b"}\n')
    with pytest.raises(ValueError, match=r"has metadata\.csv and metadata\.jsonl: keep one of them"):
        listed(root)


def test_a_caption_that_cannot_be_read_is_a_failure_of_its_image(tmp_path: Path) -> None:
    root = pictures(tmp_path, ["a.png", "b.png"])
    (root / "a.txt").write_bytes("a dog".encode("utf-16"))
    (root / "b.txt").write_bytes(b"\xef\xbb\xbfa horse\r\n")
    bad, good = (ImageFolder(root, size=16).test_set()[index] for index in (0, 1))
    assert isinstance(bad, Failure) and "a.txt, line 1: the file is in UTF-16" in bad.error
    assert good.prompt == "a horse"


def test_names_of_files_may_be_odd(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9.png"), "n" * 246 + ".png", "50% $x_1 & <b>.png"]
    pictures(tmp_path, ["plain.png"])
    for name in names:
        (tmp_path / name).write_bytes((tmp_path / "plain.png").read_bytes())
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("a dog")
    with pytest.warns(UserWarning, match="3 of 4"):
        data = ImageFolder(tmp_path, size=16, batch_size=4)
        batch = first_batch(data)
    assert len(batch) == 4 and batch.prompt[batch.sample_id.index(r"caf\xe9.png")] == "a dog"
    assert "\n".join(batch.sample_id).encode()


def test_captions_of_one_image_stay_on_one_side_of_a_split(tmp_path: Path) -> None:
    names = [f"{number:02d}.png" for number in range(40)]
    root = pictures(tmp_path, names)
    for name in names:
        (root / name).with_suffix(".txt").write_text("a photo of a dog\na sketch of a dog\n")
    data = HeldOut(ImageFolder(root, size=16), held_out=0.3, batch_size=2)
    trained = [name for batch in data.train_dataloader() for name in batch.sample_id]
    held = data.sample_ids()
    assert {name.partition("#")[0] for name in held} == {name for name in names if held_out_rank(name) < 0.3}
    assert len(held) + len(trained) == 80 and len(held) % 2 == 0
    assert not {name.partition("#")[0] for name in held} & {name.partition("#")[0] for name in trained}
    assert data.test_set().stamp(0) is not None


def run(folders: Path, images: str, runs: Path, *more: str, config: str = "images.yaml") -> Path:
    arguments = [
        *("--config", config, "--runs", str(runs), "--model.diffusion.path", str(folders / "sdxl")),
        *("--data.root", str(folders / images), "--data.size", "16", "--data.batch_size", "2"),
        *("--model.solver.nodes", "9", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    ]
    assert evaluate.cli_main([*arguments, *more]) == 0
    (folder,) = runs.iterdir()
    return folder


def test_every_layout_gives_the_same_records(folders: Path, tmp_path: Path) -> None:
    sweep, other = (read(run(folders, layout, tmp_path / layout))["time_sweep"] for layout in ("csv", "text"))
    pd.testing.assert_frame_equal(sweep, other, rtol=0, atol=0)
    data = sweep[sweep["stage"] == "data"].set_index("sample_id")
    assert len(sweep) == 8 and set(sweep["density"]) == {"p(x|y)"} and set(sweep["dims"]) == {4 * 8 * 8}
    assert data.loc["dog.png#ada0e288", "prompt"] == "a sketch of a dog"
    assert data.loc["dog.png", "bpd"] != data.loc["dog.png#ada0e288", "bpd"]
    assert data["bpd"].between(4, 7).all() and set(sweep["nfe_forward"]) == {9}


def test_images_without_captions_are_measured_under_the_empty_prompt(folders: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="3 of 3 samples in .* have no caption"):
        sweep = read(run(folders, "bare", tmp_path / "bare"))["time_sweep"]
    assert set(sweep["prompt"]) == {""} and sweep["sample_id"].nunique() == 3
    assert sweep["bpd"].between(4, 7).all()


def test_a_study_of_competing_prompts_says_what_it_wants(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((CONFIGS / "images.yaml").read_text())
    config["model"]["studies"] = {"prompts": {"class_path": "dmlik_pl.studies.PromptAccuracy"}}
    (tmp_path / "prompts.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--config", str(tmp_path / "prompts.yaml"), "--model.diffusion.path", str(folders / "sdxl")]
    arguments += ["--data.root", str(folders / "csv"), "--data.size", "16", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "--trainer.accelerator", "cpu"])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    assert stop.value.code == 1 and "dmlik_pl.data.captioned.ImagePrompts" in capsys.readouterr().err


def test_a_grey_model_reads_a_folder_in_grey(folders: Path, tmp_path: Path) -> None:
    path = str(make_tiny_ddpm(tmp_path / "ddpm"))
    grey = ["--model.diffusion.path", path, "--data.size", "8", "--data.channels", "1"]
    sweep = read(run(folders, "csv", tmp_path / "runs", *grey))["time_sweep"]
    assert set(sweep["density"]) == {"p(x)"}
    assert set(sweep["dims"]) == {64} and len(sweep) == 8
    with pytest.raises(ValueError, match=r"3x8x8 do not fit the model, which takes 1 channels.*channels of the data"):
        run(folders, "csv", tmp_path / "colour", *grey[:-2])


def test_nothing_is_said_where_nothing_is_assumed(folders: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(listed(folders / "json")) == 4
