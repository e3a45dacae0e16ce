"""Files as data URIs, made small enough to travel inside a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

__all__ = ["Embedded", "data_uri", "embedded_image"]

_QUALITY = 85


@dataclass(frozen=True)
class Embedded:
    """An image inside a page.

    Attributes:
        uri: The image itself.
        width: Its width in pixels, as embedded.
        height: Its height.
    """

    uri: str
    width: int
    height: int


def data_uri(content: bytes, kind: str) -> str:
    """A file's content as a URI.

    Args:
        content: The bytes.
        kind: Their media type, such as "audio/wav".
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def embedded_image(path: Path, most_bytes: int, widest: int) -> Embedded:
    """An image unchanged if it is a small PNG file, else scaled to a largest width, as JPEG.

    Args:
        path: A PNG file.
        most_bytes: Size up to which the file itself is taken.
        widest: Width in pixels down to which larger ones are scaled.

    Raises:
        OSError: If the file is no image.
    """
    with Image.open(path) as image:
        image.load()
        size = image.size
        if path.stat().st_size <= most_bytes and image.width <= widest:
            return Embedded(data_uri(path.read_bytes(), "image/png"), *size)
        small = image.convert("RGB")
        small.thumbnail((widest, 16 * widest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "jpeg", quality=_QUALITY)
    return Embedded(data_uri(file.getvalue(), "image/jpeg"), *small.size)
