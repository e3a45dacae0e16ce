"""What is fine-tuned on: drawings of the scenes, images held out by their names, and an order that can be resumed."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binom

from dmlik_pl.data.base import collate
from dmlik_pl.data.drawings import GRAIN, PAPER, DrawingImages, Drawings
from dmlik_pl.data.folders import CLEVR, PACS
from dmlik_pl.data.held_out import HeldOut, held_out_rank
from dmlik_pl.data.ray_casting import Scene, surface
from dmlik_pl.data.resumable import ResumableLoader
from dmlik_pl.data.shapes import COLOURS, ShapeImages, Shapes


def names(loader) -> list[list[str]]:
    return [batch.sample_id for batch in loader]


def all_names(loader) -> list[str]:
    return [name for batch in names(loader) for name in batch]


def test_drawings_are_lines_in_the_solids_colour_on_paper():
    drawings, pictures = DrawingImages("val", 24), ShapeImages("val", 24)
    for index in range(24):
        drawing, picture = drawings[index], pictures[index]
        assert (drawing.sample_id, drawing.attributes) == (picture.sample_id, picture.attributes)
        assert drawing.prompt == picture.prompt
        values = (drawing.image + 1) / 2
        paper = (values - PAPER).abs().amax(0) < 5 * GRAIN
        assert 0.6 < paper.float().mean() < 0.95
        colour = torch.tensor(COLOURS[drawing.attributes["colour"]]) / 255
        drawn = (values - colour[:, None, None]).abs().amax(0) < 0.08 + 5 * GRAIN
        assert drawn.sum() > 20
    assert torch.equal(DrawingImages("val", 5)[3].image, drawings[3].image)
    assert not torch.equal(DrawingImages("train", 5)[3].image, drawings[3].image)


def test_lines_follow_the_outline_and_the_creases():
    from dmlik_pl.data.drawings import SUPERSAMPLING, draw

    scene = Scene("sphere", (0, 0, 0), (0, 0), 0.7, 0, (-1, 1), 0, 0.9)
    seen = np.isfinite(surface(scene, 32 * SUPERSAMPLING)[0]).reshape(32, SUPERSAMPLING, 32, SUPERSAMPLING).mean((1, 3))
    drawing = draw(scene, 32)[..., 0]
    edge = (seen > 0) & (seen < 1)
    assert drawing[edge].max() < 0.9 * PAPER
    row, column = np.argwhere(seen == 1).mean(0).round().astype(int)
    assert drawing[row, column] == pytest.approx(PAPER)  # a sphere has no crease
    cube = draw(Scene("cube", (0, 0, 0), (0, 0), 0.7, 0.6, (-1, 1), 0, 0.9), 32)[..., 0]
    inside = drawing.shape[0] // 2
    assert (cube[8:24, inside - 6 : inside + 6] < 0.5 * PAPER).any(axis=1).sum() > 8  # edges cross its middle


def test_drawings_are_watched_beside_pictures():
    data = Drawings(batch_size=8, train_size=24, val_size=10, test_size=24, caption="a drawing of a {colour} {shape}")
    drawn, photographed = data.val_dataloader()
    assert data.validation_names == ("drawings", "photos")
    assert names(drawn) == names(photographed)
    first = next(iter(drawn)), next(iter(photographed))
    assert first[0].prompt[0] == "a drawing of a gray cube" and first[1].prompt[0] == "a photo of a gray cube"
    assert not torch.equal(first[0].image, first[1].image)
    assert len(data.sample_ids()) == 24 and len(data.train_dataloader()) == 3


def test_the_order_of_training_is_known_and_can_be_gone_on_with():
    def loader():
        return ResumableLoader(DrawingImages("train", 11, keep=True), 3, seed=1)

    first = loader()
    assert len(first) == 3  # full batches only
    epochs = []
    for epoch in range(2):
        first.sampler.set_epoch(epoch)
        epochs.append(names(first))
    assert epochs[0] != epochs[1] and len({name for batch in epochs[0] for name in batch}) == 9
    stopped = loader()
    stopped.sampler.set_epoch(1)
    step = iter(stopped)
    next(step), next(step)
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    resumed.sampler.set_epoch(1)
    assert names(resumed) == epochs[1][2:]
    resumed.sampler.set_epoch(0)
    assert names(resumed) == epochs[0]
    assert resumed.state_dict() == {"done": 0}
    assert len(ResumableLoader(DrawingImages("train", 2), 8, seed=0)) == 1


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pacs")
    for domain in ("sketch", "photo"):
        for label in ("dog", "horse"):
            (root / domain / label).mkdir(parents=True)
            for number in range(30):
                Image.new("RGB", (8, 8), (number * 8, 40, 90)).save(root / domain / label / f"{number:03d}.png")
    return root


def split(root, **options) -> HeldOut:
    images = PACS(root, size=16, per_cell=None)
    return HeldOut(images, **{"domains": {"sketches": "sketch/*", "photos": "photo/*"}, "held_out": 0.25} | options)


def test_images_are_held_out_by_their_names(pacs):
    data = split(pacs, batch_size=1)
    trained = set(all_names(data.train_dataloader()))
    sketches, photos = (all_names(loader) for loader in data.val_dataloader())
    assert data.validation_names == ("sketches", "photos")
    assert {name.split("/")[0] for name in trained} == {"sketch"}
    assert trained | set(sketches) == {f"sketch/{c}/{n:03d}.png" for c in ("dog", "horse") for n in range(30)}
    assert not trained & set(sketches)
    assert {name.split("/")[0] for name in photos} == {"photo"}
    low, high = binom.interval(0.999, 60, 0.25)
    assert low <= len(sketches) <= high
    assert [held_out_rank(name) for name in sketches] == sorted(held_out_rank(name) for name in sketches)
    assert sketches != sorted(sketches) and len({name.split("/")[1] for name in sketches[:6]}) == 2
    assert set(data.sample_ids()) == {*sketches, *photos}
    assert len(data.images.sample_ids()) == 120  # what a test of the images sees is as it was


def test_a_name_decides_alone_and_shares_are_nested(pacs):
    assert held_out_rank("sketch/dog/001.png") == held_out_rank("sketch/dog/001.png")
    ranks = torch.tensor([held_out_rank(f"image-{n}") for n in range(2000)])
    assert abs(ranks.mean() - 0.5) < 0.02 and ranks.min() >= 0 and ranks.max() < 1
    few, many = (set(all_names(split(pacs, domains=None, held_out=share).val_dataloader()[0])) for share in (0.2, 0.5))
    assert few < many and split(pacs, domains=None).validation_names is None


def test_samples_are_those_of_the_images(pacs):
    data = split(pacs, batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert batch.image.shape == (4, 3, 16, 16)
    assert batch.prompt[0] == f"a sketch of a {batch.attributes['class'][0]}"
    shapes = HeldOut(Shapes(test_size=48), {"cubes": "*cube"}, held_out=0.3)
    assert all("cube" in prompt for batch in shapes.train_dataloader() for prompt in batch.prompt)


def test_splits_that_leave_nothing_are_told(pacs, tmp_path):
    with pytest.raises(ValueError, match=r"no image of .* is in 'cartoon/\*'; there are photo/dog"):
        split(pacs, domains={"cartoons": "cartoon/*"}).train_dataloader()
    with pytest.raises(ValueError, match=r"none is held out at a share of 0\.0001: raise `held_out`"):
        split(pacs, held_out=0.0001).val_dataloader()
    with pytest.raises(ValueError, match=r"all 60 images of 'sketch/\*' are held out"):
        split(pacs, held_out=0.9999).train_dataloader()
    with pytest.raises(ValueError, match="between 0 and 1"):
        split(pacs, held_out=1.0)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        HeldOut(CLEVR(tmp_path / "none")).train_dataloader()
    assert collate([]).sample_id == []
