"""Image files of every mode become the image that they show, or a failure that says why not."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dmlik_pl.data.base import Failure
from dmlik_pl.data.image_files import ImageEntry, ImageFiles
from dmlik_pl.data.pictures import ImageForm

RAMP = np.linspace(0, 1, 16 * 16).reshape(16, 16)  # of a full scale of 1
SHOWN = torch.from_numpy(2 * RAMP - 1)
WHITE, GREY = 1.0, 2 * 128 / 255 - 1


def seen(path: Path, **form: object) -> tuple[torch.Tensor, str]:
    return ImageForm(**{"size": 16, "resize": None} | form).load(path)  # type: ignore[arg-type]


def grey_16(name: str) -> Image.Image:
    values = (65535 * RAMP).round().astype(np.uint16)
    image = Image.fromarray(values)
    return image if name != "I;16B" else Image.frombytes("I;16B", (16, 16), values.astype(">u2").tobytes())


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("deep.png", grey_16("I;16")),
        ("little.tif", grey_16("I;16")),
        ("big.tif", grey_16("I;16B")),
        ("deep.pgm", Image.fromarray((65535 * RAMP).round().astype(np.int32))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_greys_of_16_bits_keep_their_values(name: str, image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / name)
    shown, converted = seen(tmp_path / name)
    assert shown.shape == (3, 16, 16) and shown.dtype == torch.float32
    assert (shown - SHOWN).abs().max() < 3e-5  # a 16-bit step is 3.05e-5, an 8-bit one 7.8e-3
    assert converted == "16-bit grey divided by 65535"
    smaller, _ = seen(tmp_path / name, size=8, resize="square", channels=1)
    assert smaller.shape == (1, 8, 8) and smaller.mean() == pytest.approx(0, abs=1e-3)


def tagged(path: Path, tag: int, value: int) -> None:
    """Change a number among the tags of a TIFF file."""
    content = path.read_bytes()
    (entry,) = re.finditer(re.escape(tag.to_bytes(2, "little")) + rb"[\x03\x04]\x00\x01\x00\x00\x00", content)
    path.write_bytes(content[: entry.end()] + value.to_bytes(4, "little") + content[entry.end() + 4 :])


def test_a_16_bit_tiff_may_count_from_white_and_may_have_fewer_bits(tmp_path: Path) -> None:
    grey_16("I;16").save(tmp_path / "inverse.tif")
    tagged(tmp_path / "inverse.tif", 262, 0)  # white is zero
    assert (seen(tmp_path / "inverse.tif")[0] + SHOWN).abs().max() < 3e-5
    # Two values of 12 bits, 4095 and 0, in three bytes.
    Image.frombytes("L", (16, 24), bytes([0xFF, 0xF0, 0x00]) * 128).save(tmp_path / "twelve.tif")
    for tag, value in ((256, 16), (257, 16), (258, 12)):
        tagged(tmp_path / "twelve.tif", tag, value)
    shown, converted = seen(tmp_path / "twelve.tif")
    assert shown[0, 0, :4].tolist() == [1, -1, 1, -1] and converted == "12-bit grey divided by 4095"


def test_floats_are_taken_in_the_unit_interval_and_refused_beyond(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "unit.tif")
    shown, converted = seen(tmp_path / "unit.tif")
    assert (shown - SHOWN).abs().max() < 1e-6 and converted == "float values taken as [0, 1]"
    for name, values, told in (
        ("bytes.tif", 255 * RAMP, "go from 0 to 255, and"),
        ("signed.tif", RAMP - 0.5, "go from -0.5 to 0.5, and"),
        ("nan.tif", np.where(RAMP > 0.5, np.nan, RAMP), "go from nan to nan, and"),
    ):
        Image.fromarray(values.astype(np.float32)).save(tmp_path / name)
        with pytest.raises(ValueError, match=told):
            seen(tmp_path / name)
    Image.fromarray((1e6 * RAMP).astype(np.int32)).save(tmp_path / "int.tif")
    with pytest.raises(ValueError, match="32-bit integers have no agreed range"):
        seen(tmp_path / "int.tif")


def half_transparent(mode: str) -> Image.Image:
    """Red, of which the left half is hidden; grey 100 in modes of grey."""
    colour = Image.new("RGBA", (16, 16), (200, 0, 0, 255))
    colour.paste((0, 255, 0, 0), (0, 0, 8, 16))
    if mode == "LA":
        image = Image.new("LA", (16, 16), (100, 255))
        image.paste((7, 0), (0, 0, 8, 16))
        return image
    if mode == "P":
        image = Image.new("P", (16, 16), 1)
        image.putpalette([0, 255, 0, 200, 0, 0])
        image.paste(0, (0, 0, 8, 16))
        image.info["transparency"] = 0
        return image
    return colour


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_the_background_shows_through_and_no_hidden_colour(mode: str, tmp_path: Path) -> None:
    image = half_transparent(mode)
    image.save(tmp_path / "a.png", **({"transparency": 0} if mode == "P" else {}))
    shown, converted = seen(tmp_path / "a.png")
    colour = torch.tensor([100, 100, 100] if mode == "LA" else [200, 0, 0]) / 127.5 - 1
    assert (shown[:, :, :8] == WHITE).all() and converted == "composited on white"
    assert torch.allclose(shown[:, 3, 12], colour)
    other, converted = seen(tmp_path / "a.png", background="#808080")
    assert (other[:, :, :8] - GREY).abs().max() < 1e-6 and converted == "composited on #808080"
    assert torch.equal(other[:, :, 8:], shown[:, :, 8:])


def test_half_transparent_pixels_are_mixed_and_opaque_ones_are_no_conversion(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (0, 0, 0, 51)).save(tmp_path / "a.webp", lossless=True)
    assert seen(tmp_path / "a.webp")[0].mean() == pytest.approx(0.6)  # a fifth of black over white
    Image.new("RGBA", (16, 16), (0, 0, 0, 255)).save(tmp_path / "b.png")
    assert seen(tmp_path / "b.png")[1] == ""


def test_a_colour_key_is_transparent_in_8_and_in_16_bits(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (10, 20, 30)).save(tmp_path / "a.png", transparency=(10, 20, 30))
    assert (seen(tmp_path / "a.png")[0] == WHITE).all()
    grey_16("I;16").save(tmp_path / "b.png", transparency=65535)
    shown, converted = seen(tmp_path / "b.png", background="black")
    assert "composited on black" in converted and shown[0, -1, -1] == -1
    assert shown[0, -1, -2] == pytest.approx(float(SHOWN[-1, -2]), abs=3e-5)


@pytest.mark.parametrize(
    ("mode", "name", "words"),
    [
        ("1", "a.png", ""),
        ("L", "a.png", ""),
        ("P", "a.gif", ""),
        ("CMYK", "a.jpg", "CMYK turned to RGB"),
        ("CMYK", "a.tif", "CMYK turned to RGB"),
        ("LAB", "a.tif", "LAB turned to RGB"),
        ("YCbCr", "a.tif", None),
    ],
)
def test_every_mode_shows_its_colours(mode: str, name: str, words: str | None, tmp_path: Path) -> None:
    if mode == "1":
        plain, colour = Image.fromarray(RAMP > 0.5).convert("1"), None
        expected = torch.from_numpy(2.0 * (RAMP > 0.5) - 1).expand(3, -1, -1)
    elif mode == "LAB":  # L 54.3 %, a 80.8, b 69.9 is the red of sRGB
        plain = Image.frombytes("LAB", (16, 16), bytes([138, 81, 70]) * 256)
        expected = torch.tensor([255, 0, 0]).float()[:, None, None] / 127.5 - 1
    else:
        colour = (90, 90, 90) if mode == "L" else (200, 40, 90)
        plain = Image.new("RGB", (16, 16), colour).convert(mode, palette=Image.Palette.ADAPTIVE)
        expected = torch.tensor(colour)[:, None, None] / 127.5 - 1
    plain.save(tmp_path / name)
    shown, converted = seen(tmp_path / name)
    assert (shown - expected).abs().max() < 6 / 127.5  # JPEG and LAB round
    assert words is None or converted == words


def test_grey_models_see_grey(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (255, 0, 0)).save(tmp_path / "red.png")
    shown, converted = seen(tmp_path / "red.png", channels=1)
    assert shown.shape == (1, 16, 16) and converted == "colour turned to grey by Rec. 601"
    assert shown.mean() == pytest.approx(2 * round(0.299 * 255) / 255 - 1)
    Image.new("RGB", (16, 16), (77, 77, 77)).save(tmp_path / "grey.png")
    shown, converted = seen(tmp_path / "grey.png", channels=1)
    assert shown.mean() == pytest.approx(77 / 127.5 - 1) and converted == ""


def test_of_an_animation_the_first_frame_is_taken_and_told(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), (value, 0, 0)) for value in (250, 10, 20)]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        lossless = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **lossless)
        shown, converted = seen(tmp_path / name)
        assert shown[0].mean() == pytest.approx(250 / 127.5 - 1) and converted == "the first of 3 frames"


def test_deep_greys_turn_upright_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    grey_16("I;16").save(tmp_path / "a.png", exif=exif)
    assert (seen(tmp_path / "a.png")[0] - SHOWN.rot90(-1)).abs().max() < 3e-5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.png", {}),
        ("a.gif", {}),
        ("a.webp", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.ppm", {}),
    ],
)
def test_a_file_that_was_cut_is_a_failure_at_every_length(name: str, options: dict, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, Image.registered_extensions()[Path(name).suffix], **options)
    whole = content.getvalue()
    data = ImageFiles([ImageEntry(name, tmp_path / name, "")], ImageForm(64), "a folder")
    for share in (0.0, 0.02, 0.3, 0.5, 0.8, 0.97):
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
        item = data[0]
        assert isinstance(item, Failure), f"{name} cut to {share:.0%} was read"
        assert item.error.startswith(f"{tmp_path / name} cannot be read as an image: ")
    (tmp_path / name).write_bytes(whole)
    assert not isinstance(data[0], Failure)


def test_a_jpeg_whose_end_is_zeros_is_a_failure(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    with pytest.raises(ValueError, match="the end of the image is missing"):
        seen(tmp_path / "a.jpg", size=64)
    (tmp_path / "a.jpg").write_bytes(content + b"\xff\xda and what else a camera appends")
    assert seen(tmp_path / "a.jpg", size=64)[0].shape == (3, 64, 64)


def test_a_png_with_a_byte_that_changed_is_a_failure(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", compress_level=0)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises((OSError, SyntaxError), match="broken PNG"):
        seen(tmp_path / "a.png", size=64)


def test_what_is_no_file_is_a_failure_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    os.symlink("/dev/zero", tmp_path / "device.png")
    os.symlink(tmp_path / "gone.png", tmp_path / "link.png")
    names = ["pipe.png", "folder.png", "device.png", "link.png", "a" * 300 + ".png", "zero\0.png"]
    for resize in ("square", None):  # with None, sizes are looked at first
        entries = [ImageEntry(name, tmp_path / name, "") for name in names]
        data = ImageFiles(entries, ImageForm(16, resize), "a folder")  # type: ignore[arg-type]
        errors = [data[index].error for index in range(len(names))]  # type: ignore[union-attr]
        assert ["not a file" in error for error in errors] == [True, True, True, False, False, False]
        assert "No such file" in errors[3] and "name too long" in errors[4] and "null byte" in errors[5]


def test_the_size_is_checked_again_when_a_file_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    data = ImageFiles([ImageEntry("a.png", tmp_path / "a.png", "")], ImageForm(16, None), "a folder")
    Image.new("RGB", (12, 16)).save(tmp_path / "a.png")
    assert "is 12 x 16 pixels, but the model needs 16 x 16" in data[0].error  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"size": 0}, "at least 1 pixel, got 0"),
        ({"resize": "stretch"}, "'square', 'crop' or null, got 'stretch'"),
        ({"channels": 4}, "3 .colour. or 1 .grey., got 4"),
        ({"background": "whitish"}, "unknown color specifier: 'whitish'"),
    ],
)
def test_settings_that_cannot_be_are_refused(form: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ImageForm(**{"size": 16} | form)


def test_a_stamp_changes_with_all_that_a_sample_is_made_of(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (16, 16)).save(path)
    plain = ImageEntry("a.png", path, "a dog", {"class": "dog"}, ["a dog", "a cat"])

    def stamp(entry: ImageEntry = plain, **form: object) -> str:
        return ImageFiles([entry], ImageForm(**{"size": 16} | form), "a folder").stamp(0)  # type: ignore[arg-type]

    first = stamp()
    assert first == stamp() and str(path) in first
    others = [
        stamp(ImageEntry("b.png", path, "a dog", {"class": "dog"}, ["a dog", "a cat"])),
        stamp(ImageEntry("a.png", path, "a cat", {"class": "dog"}, ["a dog", "a cat"])),
        stamp(ImageEntry("a.png", path, "a dog", {"class": "cat"}, ["a dog", "a cat"])),
        stamp(ImageEntry("a.png", path, "a dog", {"class": "dog"}, ["a dog", "a cow"])),
        stamp(size=8),
        stamp(background="black"),
    ]
    status = os.stat(path)
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # only the time of the change tells
    others.append(stamp())
    path.unlink()
    others.append(stamp())
    assert len({first, *others}) == 9
