"""Lists of prompts for any images: what is read, and what is told of a list that is wrong."""

import os
from pathlib import Path

import pytest
from PIL import Image
from served import first_batch

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
    batch = first_batch(data)
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
    assert first_batch(data).candidates == [prompts]


def test_data_without_lists_have_empty_ones(images: Path) -> None:
    image = first_batch(listed(images, "image,prompt,confounder\ncat.png,a,b\n")).image[0]
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
        ("image,prompt,confounder,confounder\ncat.png,a,b,b\n", "line 2: 'b' is there more than once"),
        ("image,prompt,confounder\ncat.png,a,b\ndog.jpg,a, a\n", "line 3: 'a' is there more than once"),
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
    with pytest.raises(ValueError, match=r"prompts\.csv, line 2: .* does not lie in"):
        listed(images, "image,prompt,confounder\n../lost.png,a,b\n").sample_ids()
    with pytest.raises(FileNotFoundError, match=r"no list of prompts .*nowhere\.csv"):
        ImagePrompts(images, images / "nowhere.csv").sample_ids()
    with pytest.raises(FileNotFoundError, match="no folder of images"):
        ImagePrompts(images / "nowhere", images / "nowhere.csv").sample_ids()
    with pytest.raises(ValueError, match="no sample to evaluate"):
        listed(images, "image,prompt,confounder\n").sample_ids()
    with pytest.raises(ValueError, match=r"'cat\.png' is given to more than one sample: .*line 2, and .*line 3"):
        listed(images, "image,prompt,confounder\ncat.png,a,b\n./park/../cat.png,b,a\n").sample_ids()


def test_one_row_never_ends_the_others(images: Path) -> None:
    (images / "dog.jpg").write_bytes((images / "dog.jpg").read_bytes()[:-2])
    os.mkfifo(images / "pipe.png")
    long, name = "a" * 140_000, "n" * 300 + ".png"
    rows = f"cat.png,{long},b\nlost.png,a,b\ndog.jpg,a,b\npipe.png,a,b\n{name},a,b\npark/day.png,a,{long}\n"
    batch = first_batch(listed(images, f"image,prompt,confounder\n{rows}", batch_size=9))
    assert batch.sample_id == ["cat.png", "park/day.png"] and batch.prompt == [long, "a"]
    assert [failure.sample_id for failure in batch.failures] == ["lost.png", "dog.jpg", "pipe.png", name]
    for failure, told in zip(
        batch.failures, ("No such file", "end of the image is missing", "not a file", "name too long"), strict=True
    ):
        assert told in failure.error


def test_a_list_in_another_encoding_is_one_message(images: Path) -> None:
    path = images.parent / "prompts.csv"
    for content, told in (
        ("image,prompt,confounder\ncat.png,a,b\n".encode("utf-16"), "line 1: the file is in UTF-16"),
        ("image,prompt,confounder\ncat.png,caf\xe9,b\n".encode("latin-1"), "line 2 is not UTF-8"),
        (b'image,prompt,confounder\ncat.png,"a,b\n', "line 2 is not CSV"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}, {told}[\\s\\S]*For instance"):
            ImagePrompts(images, path).sample_ids()
