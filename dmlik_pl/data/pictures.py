"""Image files as tensors: decoded by their mode, upright, on a background, of one size, in colour or grey."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from dmlik_pl.speech.search import require_file

__all__ = ["IMAGE_SUFFIXES", "Channels", "ImageForm", "Resize"]

Resize = Literal["square", "crop"]
Channels = Literal[1, 3]

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".jp2", ".avif"),
)

GREYS_16 = ("I;16", "I;16L", "I;16B", "I;16N")
SCALED_TO_16 = ("PNG", "PPM")  # formats whose mode "I" holds 0 to 65535; that of others has no agreed range
ROUNDING = 1e-6
END_OF_IMAGE, START_OF_SCAN = b"\xd9", b"\xda"
MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
BEHIND_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # a marker that is neither data nor a restart
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


@dataclass(frozen=True)
class ImageForm:
    """The form in which image files are handed over.

    Files are turned upright and decoded by their mode: greys of more than 8 bits are divided by their range, floats
    must lie in [0, 1], and what is transparent shows the background. Images are then resampled by Lanczos.

    Attributes:
        size: Height and width in pixels.
        resize: How an image gets that size: "square" changes its aspect ratio, "crop" keeps it and cuts the middle out,
            None accepts only images that have it already.
        channels: 3 for colour (greys are repeated), 1 for grey (colours are weighed by Rec. 601).
        background: What stands under transparent pixels: a name or "#rrggbb", as CSS has them.

    Raises:
        ValueError: If one of them is out of range or not known.
    """

    size: int
    resize: Resize | None = "square"
    channels: Channels = 3
    background: str = "white"

    def __post_init__(self) -> None:
        """Check all of it."""
        if self.size < 1:
            raise ValueError(f"the size of images must be at least 1 pixel, got {self.size}")
        if self.resize not in ("square", "crop", None):
            raise ValueError(f"resize must be 'square', 'crop' or null, got {self.resize!r}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 3 (colour) or 1 (grey), got {self.channels}")
        ImageColor.getrgb(self.background)

    def load(self, path: Path) -> tuple[Tensor, str]:
        """Read an image file.

        Returns:
            The image in [-1, 1], [channels, size, size], and what was converted in words, e.g. "16-bit grey divided by
            65535"; empty if nothing but its size was.

        Raises:
            OSError: If there is no such file, or it is damaged.
            ValueError: If it is not a file, or has values without an agreed range, or not the size wanted.
        """
        image, converted = _decode(path, self.background)
        if self.channels == 1 and image.mode == "RGB":
            image, coloured = _grey(image)
            converted += ["colour turned to grey by Rec. 601"] if coloured else []
        if self.resize == "crop":
            image = ImageOps.fit(image, (self.size, self.size), Image.Resampling.LANCZOS)
        elif self.resize == "square":
            image = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        elif image.size != (self.size, self.size):
            raise ValueError(self._wrong_size(image.size))
        values = np.asarray(image, dtype=np.float32).clip(0, 255)  # Lanczos overshoots, which 8-bit modes clip
        pixels = torch.from_numpy(values.reshape(self.size, self.size, -1)).permute(2, 0, 1)
        return pixels.expand(self.channels, -1, -1) / 127.5 - 1, "; ".join(converted)

    def require_size(self, path: Path) -> None:
        """Raise a ValueError if no size is made and a file has another; one that cannot be read is left for later."""
        if self.resize is not None:
            return
        try:
            require_file(path)
            with Image.open(path) as file:
                found = file.size
        except Exception:  # its error is recorded when the sample's turn comes
            return
        if found != (self.size, self.size):
            raise ValueError(f"{path} {self._wrong_size(found)}")

    def _wrong_size(self, found: tuple[int, int]) -> str:
        return (
            f"is {found[0]} x {found[1]} pixels, but the model needs {self.size} x {self.size}: "
            'set resize to "square" or "crop", or give images of the right size'
        )


def _decode(path: Path, background: str) -> tuple[Image.Image, list[str]]:
    """Return an upright image, RGB or L, or F with values from 0 to 255, and what was converted."""
    require_file(path)
    with Image.open(path) as file:
        if file.format in ("JPEG", "MPO") and not _has_end(path.read_bytes()):
            raise ValueError("the end of the image is missing")  # which the decoder would show as grey
        file.verify()  # the check sums of PNG, which reading leaves out
    with Image.open(path) as file:
        frames = getattr(file, "n_frames", 1)
        converted = [f"the first of {frames} frames"] if frames > 1 and file.format != "MPO" else []
        image = ImageOps.exif_transpose(file)
        if image.mode in GREYS_16 or image.mode in ("I", "F"):
            return _deep_grey(file, image, background, converted)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            ground = Image.new("RGBA", image.size, ImageColor.getrgb(background)[:3])
            image = Image.alpha_composite(ground, image)
            converted.append(f"composited on {background}")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        converted.append(f"{image.mode} turned to RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB"), converted


def _has_end(jpeg: bytes) -> bool:
    """Whether a JPEG file is one from the first marker to the last, whatever follows."""
    marker = MARKER.match(jpeg, 2)
    while marker and marker[1] != END_OF_IMAGE:
        place = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2])
        if marker[1] == START_OF_SCAN:
            behind = BEHIND_SCAN.search(jpeg, place)
            place = behind.start() if behind else len(jpeg)
        marker = MARKER.match(jpeg, place)
    return marker is not None


def _deep_grey(
    file: Image.Image, image: Image.Image, background: str, converted: list[str]
) -> tuple[Image.Image, list[str]]:
    """Return a grey image of more than 8 bits as F with values from 0 to 255."""
    values = np.asarray(image).astype(np.float64)
    tags = getattr(file, "tag_v2", {})  # of TIFF
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # NaN neither
            raise ValueError(f"its float values go from {low:g} to {high:g}, and [0, 1] is expected")
        largest, words = 1, "float values taken as [0, 1]"
    elif image.mode == "I" and file.format not in SCALED_TO_16:
        raise ValueError("its 32-bit integers have no agreed range: save it with 8 or 16 bits")
    else:
        bits = tags.get(TIFF_BITS, (16,))[0]
        largest = 2**bits - 1
        words = f"{bits}-bit grey divided by {largest}"
    hidden = values == image.info["transparency"] if "transparency" in image.info else None
    if tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
        values = largest - values
    shades = 255 / largest * values
    converted.append(words)
    if hidden is not None and hidden.any():
        shades[hidden] = Image.new("RGB", (1, 1), background).convert("L").getpixel((0, 0))
        converted.append(f"composited on {background}")
    return Image.fromarray(shades.astype(np.float32)), converted


def _grey(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return an RGB image in grey, and whether it had colours to lose."""
    values = np.asarray(image)
    if (values == values[..., :1]).all():
        return image.getchannel(0), False
    return image.convert("L"), True
