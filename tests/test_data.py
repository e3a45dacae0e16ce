"""Batches, shares of processes, and the image folders of the paper."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image
from served import batches, first_batch

from dmlik_pl.data.base import Batch, EvaluationData, EvaluationSet, Failure, RankShare, Sample, collate, spread
from dmlik_pl.data.digits import CLASSES, LEVELS, Digits, DigitSet, dequantise
from dmlik_pl.data.folders import CLEVR, PACS
from dmlik_pl.data.pictures import ImageForm


class Numbers(EvaluationSet):
    """Images of one pixel whose value is their position."""

    source = "a list of numbers"

    def __init__(self, size: int, names: list[str] | None = None) -> None:
        self.sample_ids = names or [f"n-{position:03d}" for position in range(size)]
        self.groups = [f"class {position % 5}" for position in range(size)]

    def __getitem__(self, index: int) -> Sample | Failure:
        if index % 7 == 3:
            return Failure(self.sample_ids[index], "unlucky")
        return Sample(self.sample_ids[index], torch.full((1, 1, 1), float(index)), "a number", {"size": str(index)})


class NumberData(EvaluationData):
    def __init__(self, data: Numbers, **options) -> None:
        super().__init__(**options)
        self.data = data

    def test_set(self) -> Numbers:
        return self.data


def served(data: EvaluationData) -> list[str]:
    names = []
    for batch in batches(data):
        names += batch.sample_id + [failure.sample_id for failure in batch.failures]
    return names


# Batches


def test_collate_joins_samples_and_sets_failures_apart():
    batch = collate([Numbers(9)[position] for position in (2, 3, 4)])
    assert batch.sample_id == ["n-002", "n-004"] and batch.prompt == ["a number"] * 2
    assert batch.image.flatten().tolist() == [2.0, 4.0] and batch.image.shape == (2, 1, 1, 1)
    assert batch.attributes == {"size": ["2", "4"]}
    assert batch.failures == [Failure("n-003", "unlucky")] and len(batch) == 2


def test_a_batch_of_failures_only_has_no_image():
    batch = collate([Failure("a", "broken"), Failure("b", "broken too")])
    assert len(batch) == 0 and batch.image.shape[0] == 0
    assert [failure.sample_id for failure in batch.failures] == ["a", "b"]


def test_a_batch_moves_its_images_and_keeps_the_rest():
    batch = Batch(["a"], torch.ones(1, 1, 2, 2), ["p"], {"x": ["1"]}, [Failure("b", "broken")])
    moved = batch.to("meta")
    assert moved.image.device.type == "meta" and batch.image.device.type == "cpu"
    assert (moved.sample_id, moved.prompt, moved.attributes, moved.failures) == (
        batch.sample_id,
        batch.prompt,
        batch.attributes,
        batch.failures,
    )


# Shares, skipping, limits


@pytest.mark.parametrize(("count", "replicas"), [(7, 2), (8, 3), (2, 2), (10, 4), (5, 5)])
def test_shares_of_processes_are_disjoint_and_complete(count, replicas):
    positions = list(range(100, 100 + count))
    shares = [list(RankShare(positions, rank, replicas)) for rank in range(replicas)]
    assert sorted(position for share in shares for position in share) == positions
    assert [len(RankShare(positions, rank, replicas)) for rank in range(replicas)] == [len(share) for share in shares]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


class Visits(LightningModule):
    """Writes down what its process was given, in a file of that process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Linear(1, 1)  # the distributed strategy wants a parameter
        self.visits: list[list[str]] = []

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self.visits.append(batch.sample_id + [failure.sample_id for failure in batch.failures])

    def on_test_epoch_end(self) -> None:
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(self.visits))


def test_two_processes_visit_every_sample_once_and_run_their_hooks_without_work(tmp_path):
    options = {"accelerator": "cpu", "strategy": "ddp_fork", "devices": 2, "logger": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    for size, expected in ((5, [[["n-000", "n-002"], ["n-004"]], [["n-001", "n-003"]]]), (1, [[["n-000"]], [[]]])):
        trainer = Trainer(default_root_dir=tmp_path, **options, **quiet)
        trainer.test(Visits(tmp_path), NumberData(Numbers(size), batch_size=2), verbose=False)
        assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == expected


def test_nothing_left_to_do_is_one_empty_batch():
    data = NumberData(Numbers(4))
    data.skip = set(data.sample_ids())
    (batch,) = batches(data)
    assert len(batch) == 0 and batch.failures == [] and batch.image.shape[0] == 0


def test_every_sample_is_served_once_without_a_trainer():
    data = NumberData(Numbers(11), batch_size=4)
    assert served(data) == Numbers(11).sample_ids == data.sample_ids()


def test_done_samples_are_skipped():
    data = NumberData(Numbers(11), batch_size=4)
    data.skip = {"n-000", "n-003", "n-010", "unknown"}
    assert served(data) == [f"n-{position:03d}" for position in (1, 2, 4, 5, 6, 7, 8, 9)]
    assert len(data.sample_ids()) == 11


def test_the_limit_takes_classes_evenly_and_grows_by_adding():
    chosen = NumberData(Numbers(23), limit=10)
    classes = [int(name[2:]) % 5 for name in chosen.sample_ids()]
    assert sorted(classes) == sorted(list(range(5)) * 2)
    assert set(NumberData(Numbers(23), limit=4).sample_ids()) < set(chosen.sample_ids())
    assert len(NumberData(Numbers(23), limit=99).sample_ids()) == 23


def test_a_limit_below_the_number_of_cells_does_not_fall_in_step_with_their_order():
    cells = [f"{colour}/{shape}" for colour in range(8) for shape in range(3)]
    for limit in (3, 6, 8, 12):
        shapes = [cells[position][-1] for position in spread(cells, limit)]
        assert set(shapes) == {"0", "1", "2"}
        assert max(map(shapes.count, "012")) - min(map(shapes.count, "012")) <= 2


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": -1}, {"batch_size": 0}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        NumberData(Numbers(3), **options)


def test_empty_and_ambiguous_data_sets_are_refused():
    with pytest.raises(ValueError, match="a list of numbers"):
        NumberData(Numbers(0)).test_dataloader()
    with pytest.raises(ValueError, match="'twice'"):
        NumberData(Numbers(3, ["once", "twice", "twice"])).test_dataloader()


# PACS and CLEVR


def save(path: Path, size: tuple[int, int] = (6, 4), colour: tuple[int, int, int] = (255, 0, 0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pacs(tmp_path: Path) -> Path:
    for domain in ("art_painting", "cartoon", "photo", "sketch"):
        for label in ("dog", "house"):
            for number in (3, 1, 2):
                save(tmp_path / domain / label / f"pic_{number:03d}.png")
    return tmp_path


def test_pacs_folders_give_prompts_and_the_first_images_of_every_cell(pacs):
    (pacs / "photo" / "dog" / "notes.txt").write_text("no image")
    data = PACS(pacs, size=8, per_cell=2)
    assert len(data.sample_ids()) == 16 and "photo/dog/pic_003.png" not in data.sample_ids()
    assert data.sample_ids()[1:3] == ["art_painting/dog/pic_002.png", "art_painting/house/pic_001.png"]
    batch = first_batch(data)
    assert batch.prompt == ["a painting of a dog"]
    assert batch.attributes == {"domain": ["painting"], "class": ["dog"]}
    assert torch.equal(batch.image[0, :, 0, 0], torch.tensor([1.0, -1.0, -1.0])) and batch.image.shape == (1, 3, 8, 8)


def test_pacs_manifest_gives_the_order_and_accepts_other_column_names(pacs):
    (pacs / "manifest.csv").write_text(
        "Label, File ,domain\n"
        "dog,photo/dog/pic_003.png,photo\n"
        "dog,photo/dog/pic_001.png,photo\n"
        "house,sketch/house/pic_002.png,sketch\n"
    )
    data = PACS(pacs, size=8, per_cell=1)
    assert data.sample_ids() == ["photo/dog/pic_003.png", "sketch/house/pic_002.png"]
    (pacs / "manifest.csv").write_text("path,style,class\na.png,photo,dog\n")
    with pytest.raises(ValueError, match="column called domain"):
        PACS(pacs).sample_ids()


def test_a_missing_file_and_a_corrupt_file_become_failures(pacs):
    broken = pacs / "photo" / "dog" / "pic_002.png"
    broken.write_bytes((pacs / "photo" / "dog" / "pic_001.png").read_bytes()[:40])
    (pacs / "photo" / "house" / "pic_001.png").write_text("not an image")
    data = PACS(pacs, size=8, batch_size=100)
    batch = first_batch(data)
    assert len(batch) == 22
    assert [failure.sample_id for failure in batch.failures] == ["photo/dog/pic_002.png", "photo/house/pic_001.png"]
    assert "cannot be read as an image" in batch.failures[0].error and str(broken) in batch.failures[0].error
    (pacs / "manifest.csv").write_text("path,domain,class\nphoto/dog/lost.png,photo,dog\n")
    batch = first_batch(PACS(pacs, size=8))
    assert len(batch) == 0 and "No such file" in batch.failures[0].error


@pytest.mark.parametrize("data_class", [PACS, CLEVR])
def test_a_missing_or_empty_folder_says_what_is_expected_and_how_to_get_it(data_class, tmp_path):
    name = {PACS: "flwrlabs/pacs", CLEVR: "CLEVR_new_large_<colour>_metal_<shape><number>.png"}[data_class]
    with pytest.raises(FileNotFoundError, match=name) as missing:
        data_class(tmp_path / "nowhere").test_dataloader()
    assert str(tmp_path / "nowhere") in str(missing.value)
    with pytest.raises(ValueError, match="no images found") as empty:
        data_class(tmp_path).test_dataloader()
    assert name in str(empty.value) and str(tmp_path) in str(empty.value)


@pytest.mark.parametrize("stray", ["clipart/dog/a.png", "photo/cat/a.png"])
def test_pacs_refuses_domains_and_classes_it_does_not_have(pacs, stray):
    save(pacs / stray)
    with pytest.raises(ValueError, match="clipart" if "clipart" in stray else "cat"):
        PACS(pacs).sample_ids()


def test_pacs_skips_what_is_hidden_at_every_depth(pacs):
    hidden = [".Trash/dog/a.png", "__MACOSX/photo/dog/a.png", "photo/.ipynb_checkpoints/a.png", "photo/__MACOSX/a.png"]
    hidden += ["photo/dog/.ipynb_checkpoints/pic_001.png", "photo/dog/._pic_001.png"]
    for name in hidden:
        save(pacs / name)
    os.mkfifo(pacs / "photo" / "dog" / "pipe.png")
    assert len(PACS(pacs, per_cell=None).sample_ids()) == 24
    for name in ("CLEVR_new_large_red_metal_cube000001.png", "__MACOSX/CLEVR_new_large_red_metal_cube000001.png"):
        save(pacs / "clevr" / name)
    assert CLEVR(pacs / "clevr").sample_ids() == ["CLEVR_new_large_red_metal_cube000001.png"]


def test_a_manifest_that_is_wrong_is_told_with_its_line(pacs):
    for text, told in (
        ("path,domain,class\na.png,photo,dog\n./a.png,photo,dog\n", "line 2, and .*line 3"),
        ("path,domain,class\n\na.png,clipart,dog\n", "line 3 lies in the domain 'clipart'"),
        ("path,domain,class\na.png,photo,cat\n", "line 2 lies in the class 'cat'"),
        ("path,domain,class\n/a.png,photo,dog\n", "line 2: /a.png does not lie in"),
        ("path,style,class\na.png,photo,dog\n", "line 1 needs a column called domain"),
    ):
        (pacs / "manifest.csv").write_text(text)
        with pytest.raises(ValueError, match=rf"manifest\.csv, {told}"):
            PACS(pacs).sample_ids()
    (pacs / "manifest.csv").write_bytes("path,domain,class\na.png,photo,dog\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"manifest\.csv, line 1: the file is in UTF-16"):
        PACS(pacs).sample_ids()


@pytest.mark.parametrize("data_class", [PACS, CLEVR])
def test_folders_are_read_on_a_background_and_in_grey_if_asked(data_class, tmp_path):
    path = tmp_path / {PACS: "photo/dog/a.png", CLEVR: "CLEVR_new_large_red_metal_cube000001.png"}[data_class]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(path)
    batch = first_batch(data_class(tmp_path, size=8))
    assert (batch.image == 1).all() and batch.converted == ["composited on white"]
    batch = first_batch(data_class(tmp_path, size=8, channels=1, background="black"))
    assert batch.image.shape == (1, 1, 8, 8) and (batch.image == -1).all()
    assert batch.select([0]).converted == ["composited on black"]


def test_clevr_names_give_prompts(tmp_path):
    for colour in ("red", "gray"):
        for shape in ("cube", "sphere"):
            for number in (1, 2, 3):
                save(tmp_path / f"CLEVR_new_large_{colour}_metal_{shape}{number:06d}.png")
    save(tmp_path / "CLEVR_new_small_red_rubber_cube000001.png")
    data = CLEVR(tmp_path, size=4, per_cell=2, batch_size=8)
    batch = first_batch(data)
    assert len(batch) == 8 and batch.sample_id[0] == "CLEVR_new_large_gray_metal_cube000001.png"
    assert batch.prompt[0] == "a photo of a gray cube" and batch.prompt[-1] == "a photo of a red sphere"
    assert batch.attributes["shape"] == ["cube"] * 2 + ["sphere"] * 2 + ["cube"] * 2 + ["sphere"] * 2
    save(tmp_path / "CLEVR_new_large_pink_metal_cube000001.png")
    with pytest.raises(ValueError, match="'pink'"):
        CLEVR(tmp_path).sample_ids()


def test_images_of_the_wrong_size_are_refused_before_anything_runs(pacs):
    with pytest.raises(ValueError, match=r"6 x 4 pixels, but the model needs 8 x 8"):
        PACS(pacs, size=8, resize=None).test_dataloader()
    for path in pacs.glob("*/*/*.png"):
        save(path, (8, 8))
    (pacs / "photo" / "dog" / "pic_001.png").write_text("not an image")
    batch = first_batch(PACS(pacs, size=8, resize=None, batch_size=64))
    assert len(batch) == 23 and len(batch.failures) == 1


def test_images_turn_upright_and_become_square(tmp_path):
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, :20] = 255  # the left half is white
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    turned, _ = ImageForm(10).load(tmp_path / "turned.png")
    assert turned.shape == (3, 10, 10)
    assert turned[:, 0].mean() == 1 and turned[:, -1].mean() == -1  # white is now on top
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.png")
    cropped, _ = ImageForm(20, "crop").load(tmp_path / "grey.png")
    assert cropped.shape == (3, 20, 20) and cropped[:, :, 0].mean() == 1 and cropped[:, :, -1].mean() == -1


# Handwritten digits


def test_digits_are_split_once_and_for_all():
    splits = {name: DigitSet(name, seed=0) for name in ("train", "validation", "test")}
    assert {name: len(data) for name, data in splits.items()} == {"train": 1200, "validation": 197, "test": 400}
    names = [name for data in splits.values() for name in data.sample_ids]
    assert sorted(names) == [f"digit-{position:04d}" for position in range(1797)]
    assert splits["test"].sample_ids[:3] == ["digit-0002", "digit-0008", "digit-0011"]
    counts = [splits["test"].groups.count(digit) for digit in CLASSES]
    assert min(counts) >= 38 and max(counts) <= 42


def test_dequantisation_stays_in_its_cell_and_depends_on_seed_and_name_alone():
    data = DigitSet("test", seed=3)
    for index in (0, 17, 399):
        image = data[index].image
        assert torch.equal(image, data[index].image) and image.shape == (1, 8, 8) and image.dtype == torch.float32
        level = torch.floor((image[0].double() + 1) * LEVELS / 2)
        assert np.array_equal(level.numpy(), data.levels[index])
    levels = np.full(20000, 16.0)
    noise = (dequantise(levels, "digit-0001", 0).double() + 1) * LEVELS / 2 - 16
    assert noise.min() > 0 and noise.max() < 1
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.var().item() == pytest.approx(1 / 12, abs=0.002)
    assert not torch.equal(dequantise(levels, "digit-0001", 0), dequantise(levels, "digit-0001", 1))
    assert not torch.equal(dequantise(levels, "digit-0001", 0), dequantise(levels, "digit-0002", 0))


def test_training_digits_get_fresh_noise_in_the_same_cells():
    data = DigitSet("train", seed=None)
    first, second = data[5].image[0], data[5].image[0]
    assert not torch.equal(first, second)
    assert torch.equal(torch.floor((first + 1) * LEVELS / 2), torch.floor((second + 1) * LEVELS / 2))


def test_digits_serve_their_class_names_and_the_width_of_their_cells():
    data = Digits(limit=20, batch_size=20)
    batch = first_batch(data)
    assert sorted(batch.prompt) == sorted(CLASSES * 2) and batch.attributes["digit"] == batch.prompt
    assert data.levels == 17 and data.dequantisation_bits == pytest.approx(np.log2(8.5))
    train = next(iter(data.train_dataloader()))
    assert train.image.shape == (64, 1, 8, 8) and train.image.abs().max() <= 1
    assert sum(len(batch) for batch in data.val_dataloader()) == 197
