"""Lists of prompts for any images: what is read, and what is told of a list that is wrong."""

from pathlib import Path

import pytest
from PIL import Image

from dmlik_pl.data.base import Batch, Sample, collate
from dmlik_pl.data.captioned import ImagePrompts


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("cat.png", "park/day.png", "dog.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (255, 0, 0)).save(path)
    return tmp_path / "images"


def listed(images: Path, text: str, **options: object) -> ImagePrompts:
    path = images.parent / "prompts.csv"
    path.write_text(text, encoding="utf-8")
    return ImagePrompts(images, path, size=8, **options)  # type: ignore[arg-type]


def test_images_have_as_many_prompts_as_the_list_gives_them(images: Path) -> None:
    data = listed(
        images,
        "\ufeffimage, Prompt ,confounder 1,confounder 2\n"
        'park/day.png, "a park, by day","a park, by night",\n'
        "\n"
        "cat.png,a cat on a mat,a mat on a cat,a dog on a mat\n",
        batch_size=2,
    )
    batch = next(iter(data.test_dataloader()))
    assert batch.sample_id == ["park/day.png", "cat.png"] and batch.image.shape == (2, 3, 8, 8)
    assert batch.prompt == ["a park, by day", "a cat on a mat"]
    assert batch.candidates == [
        ["a park, by day", "a park, by night"],
        ["a cat on a mat", "a mat on a cat", "a dog on a mat"],
    ]
    assert batch.select([1]).candidates == batch.candidates[1:]
    assert len(listed(images, "image,prompt,confounder\ncat.png,a,b\ndog.jpg,a,b\n", limit=1).sample_ids()) == 1


def test_a_prompt_may_hold_any_sign(images: Path) -> None:
    prompts = ["a|b", "was $20 (50% off), now $10", "[red]x[/red]", '["a"]', "<b>"]
    row = ",".join('"' + prompt.replace('"', '""') + '"' for prompt in prompts)
    data = listed(images, f"image,prompt,confounder 1,confounder 2,confounder 3,confounder 4\ncat.png,{row}\n")
    assert next(iter(data.test_dataloader())).candidates == [prompts]


def test_data_without_lists_have_empty_ones(images: Path) -> None:
    image = next(iter(listed(images, "image,prompt,confounder\ncat.png,a,b\n").test_dataloader())).image[0]
    assert collate([Sample("one", image, "a")]).candidates == [[]]
    assert Batch(["one"], image[None], ["a"]).select([0]).candidates == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,prompt\ncat.png,a\n", "has no 'confounder'"),
        ("image,confounder\ncat.png,a\n", "needs one 'prompt'"),
        ("", "needs one 'image'"),
        ("image,prompt,prompt,confounder\ncat.png,a,b,c\n", "needs one 'prompt'"),
        ("image,prompt,confonder\ncat.png,a,b\n", "has 'confonder'"),
        ("image,prompt,confounder\ncat.png,,b\n", "line 2: there is no true prompt"),
        ("image,prompt,confounder\n,a,b\n", "line 2: there is no image"),
        ("image,prompt,confounder\ncat.png,a,\n", "line 2: nothing competes with 'a'"),
        ("image,prompt,confounder\ncat.png,a\n", "line 2: nothing competes with 'a'"),
        ("image,prompt,confounder,confounder\ncat.png,a,b,b\n", "line 2: 'b' stands there more than once"),
        ("image,prompt,confounder\ncat.png,a,b\ndog.jpg,a, a\n", "line 3: 'a' stands there more than once"),
        ("image,prompt,confounder\ncat.png,a, park,b\n", "line 2 has 4 cells in 3 columns"),
    ],
)
def test_a_list_that_is_wrong_says_where_and_what_is_right(images: Path, text: str, told: str) -> None:
    with pytest.raises(ValueError, match="For instance") as wrong:
        listed(images, text).sample_ids()
    assert told in str(wrong.value) and str(images.parent / "prompts.csv") in str(wrong.value)
    assert "cat.jpg,a cat on a mat,a mat on a cat,a dog on a mat" in str(wrong.value)


def test_what_is_missing_is_named(images: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"line 2: there is no image .*lost\.png"):
        listed(images, "image,prompt,confounder\nlost.png,a,b\n").sample_ids()
    with pytest.raises(FileNotFoundError, match=r"no list of prompts .*nowhere\.csv"):
        ImagePrompts(images, images / "nowhere.csv").sample_ids()
    with pytest.raises(FileNotFoundError, match="no folder of images"):
        ImagePrompts(images / "nowhere", images / "nowhere.csv").sample_ids()
    with pytest.raises(ValueError, match="no sample to evaluate"):
        listed(images, "image,prompt,confounder\n").sample_ids()
    with pytest.raises(ValueError, match=r"'cat\.png' is given to more than one sample"):
        listed(images, "image,prompt,confounder\ncat.png,a,b\ncat.png,b,a\n").sample_ids()
