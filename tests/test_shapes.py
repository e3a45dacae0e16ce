"""Rendered shapes: what the seed decides, and that pictures show what their captions say."""

import colorsys
from collections import Counter

import numpy as np
import pytest
import torch
from served import batches

from dmlik_pl.data.base import Sample
from dmlik_pl.data.ray_casting import SOLIDS, Scene, render
from dmlik_pl.data.shapes import COLOURS, PROMPTS, SHAPES, ShapeImages, Shapes, prompt_of

SCENE = Scene("sphere", (0.9, 0.1, 0.1), (0.0, 0.0), 0.7, 0.0, (-1.2, 0.9), 0.0, 0.9)


def scene(**changes) -> Scene:
    return Scene(**{**SCENE.__dict__, **changes})


def coloured(picture: np.ndarray) -> np.ndarray:
    """Pixels that are not grey; [H, W]."""
    return picture.max(axis=-1) - picture.min(axis=-1) > 0.1


def test_a_picture_depends_on_seed_split_and_position_only():
    longer = ShapeImages("val", 40, keep=True)
    first = longer[7].image
    assert torch.equal(first, longer[7].image)
    assert torch.equal(first, ShapeImages("val", 8)[7].image)
    assert not torch.equal(first, ShapeImages("val", 8, seed=1)[7].image)


def test_no_two_pictures_of_any_split_are_equal():
    pictures = [
        ShapeImages(split, 48).pixels(index).tobytes() for split in ("train", "val", "test") for index in range(48)
    ]
    assert len(set(pictures)) == 3 * 48


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    data = ShapeImages("test", 120)
    return [data[index] for index in range(120)]


def test_all_combinations_come_equally_often_in_the_test_split(samples):
    counts = Counter((sample.attributes["colour"], sample.attributes["shape"]) for sample in samples)
    assert counts == {(colour, shape): 5 for colour in COLOURS for shape in SHAPES}
    assert all(sample.prompt == prompt_of(**sample.attributes) for sample in samples)
    assert samples[12].sample_id == "test-00012"
    assert len({sample.sample_id for sample in samples}) == 120


def test_a_limit_keeps_the_balance():
    shapes = Shapes(limit=48, batch_size=48)
    (batch,) = batches(shapes)
    assert Counter(batch.prompt) == dict.fromkeys(PROMPTS, 2)


@pytest.mark.parametrize("colour", COLOURS)
def test_objects_have_the_colour_of_their_caption(samples, colour):
    found = [
        (sample.image.permute(1, 2, 0).numpy() + 1) / 2 for sample in samples if sample.attributes["colour"] == colour
    ]
    if colour == "gray":
        # The darkest tenth of a picture is object, and as neutral as the floor, which is far brighter.
        darkest = [np.sort(picture.mean(axis=-1).ravel())[:100].mean() for picture in found]
        assert all(coloured(picture).mean() < 0.01 for picture in found)
        assert min(darkest) > 0.1
        assert max(darkest) < 0.4
        return
    pixels = np.concatenate([picture[coloured(picture)] for picture in found])
    hue, saturation, _ = colorsys.rgb_to_hsv(*pixels.mean(axis=0))
    nominal = colorsys.rgb_to_hsv(*(channel / 255 for channel in COLOURS[colour]))
    assert abs((hue - nominal[0] + 0.5) % 1 - 0.5) < 0.02
    assert saturation > 0.75 * nominal[1]


def test_silhouettes_are_those_of_the_solids():
    filled, tall = {}, {}
    for solid in SOLIDS:
        rows, columns = np.nonzero(coloured(render(scene(solid=solid), 128)))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        filled[solid], tall[solid] = len(rows) / (height * width), height / width
    assert filled["sphere"] == pytest.approx(np.pi / 4, abs=0.02)  # a disc in its bounding square
    assert tall["sphere"] == pytest.approx(1, abs=0.03)
    # A cube seen face on; half its edge is 0.82, and the camera looks down at about 24 degrees.
    assert filled["cube"] > 0.9
    assert filled["cylinder"] > 0.85
    assert tall["cylinder"] > tall["cube"] > 1


def test_the_size_of_a_sphere_follows_from_perspective():
    camera, radius = np.array([0.0, -5.6, 3.2]), 0.7
    distance = np.linalg.norm(camera - [0, 0, radius])
    # The half angle of the tangent cone, over the half field of view, whose tangent is 0.215.
    expected = np.tan(np.arcsin(radius / distance)) / 0.215
    _, columns = np.nonzero(coloured(render(scene(), 256)))
    assert (np.ptp(columns) + 1) / 256 == pytest.approx(expected, rel=0.01)


def test_light_comes_from_its_side_and_casts_a_shadow_on_the_other():
    picture = render(scene(light=(np.pi, 0.75), floor=0.9), 64)  # from the left
    solid = coloured(picture)
    rows, columns = np.nonzero(solid)
    row, left, right = int(rows.mean()), columns.min(), columns.max()
    middle = (left + right) // 2
    assert picture[row, left + 3 : middle, 0].mean() > 1.5 * picture[row, middle : right - 2, 0].mean()
    floor = np.where(solid, np.nan, picture.mean(axis=-1))
    ground = floor[rows.max() - 8 : rows.max()]
    assert np.nanmin(ground[:, right + 1 :]) < 0.8 * np.nanmin(ground[:, :left])


@pytest.mark.parametrize("resolution", [32, 64])
def test_batches_hold_pictures_in_range_and_train_in_random_order(resolution):
    shapes = Shapes(batch_size=8, resolution=resolution, train_size=50, val_size=9)
    batches = list(shapes.train_dataloader())
    assert len(batches) == 6
    assert batches[0].image.shape == (8, 3, resolution, resolution)
    seen = [name for batch in batches for name in batch.sample_id]
    assert seen != sorted(seen) and len(set(seen)) == 48
    assert [len(batch) for batch in shapes.val_dataloader()] == [8, 1]
    assert all(-1 <= batch.image.min() < -0.2 and 0.2 < batch.image.max() <= 1 for batch in batches)


def test_other_resolutions_and_splits_are_refused():
    with pytest.raises(ValueError, match="32 or 64 pixels, not 48"):
        ShapeImages("test", 1, resolution=48)
    with pytest.raises(ValueError, match="train, val, test"):
        ShapeImages("dev", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="test_size must be at least 1"):
        Shapes(test_size=0).test_dataloader()
