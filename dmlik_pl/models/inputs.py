"""What a model of images is given, looked at before it is scored: a wrong range gives a number like any other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["as_prompts", "check_images", "read_images", "shown"]

_ROUNDING = 1e-3  # beyond -1 and 1, as resizing or half precision leave it
_MIDDLE = 0.1  # of the range: how near to it the darkest value of a picture in [0, 1] is
_LEVELS = (255, 65535)  # of files of 8 and 16 bits
_LONGEST = 60  # characters of a prompt in a message


def as_prompts(prompts: str | Sequence[str]) -> list[str]:
    """Prompts as a list; a text by itself is one prompt.

    Raises:
        ValueError: If there is none, or one is not a text.
    """
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if not listed:
        raise ValueError("there is no prompt: give one for each image, or one for all")
    if others := [prompt for prompt in listed if not isinstance(prompt, str)]:
        raise ValueError(f"a prompt must be a text, got {others[0]!r}, a {type(others[0]).__name__}")
    return listed


def shown(prompt: str) -> str:
    """A prompt as messages quote it: too long a one is cut."""
    return repr(prompt if len(prompt) <= _LONGEST else f"{prompt[: _LONGEST - 3]}...")


def check_images(images: Tensor, sample_ids: Sequence[str], *, bright: bool = False) -> None:
    """Refuse what is not a batch of images in [-1, 1].

    Values outside tell themselves. Images in [0, 1] do not, for they could be bright ones: in [-1, 1], where 0 is the
    middle grey, they would hold nothing darker than it. An image without a value below 0 is taken for one in [0, 1] if

    - all its values are among the 256 or 65536 levels of a file in [0, 1], but not all among those of one in [-1, 1]
      (the two sets interlace), or
    - its values are not levels of files, as after interpolation, and its darkest value is in [0, 0.1).

    White sketches and bright photographs that were read from files and scaled to [-1, 1] are therefore never refused.

    Args:
        images: The images.
        sample_ids: Their names.
        bright: Whether images without a value below 0 are known to be bright ones in [-1, 1].

    Raises:
        ValueError: If they are not [B, C, H, W] in floating point, as many as names, finite and in [-1, 1]; the message
            names the sample, what was found and what is wanted.
    """
    if images.dim() != 4 or 0 in images.shape:
        raise ValueError(f"images must be [B, C, H, W], got {list(images.shape)}: one alone is image[None]")
    if isinstance(sample_ids, str) or len(sample_ids) != len(images):
        raise ValueError(f"{len(images)} images need a list of as many names, got {sample_ids!r}")
    if not images.is_floating_point():
        raise ValueError(
            f"images must be floating point in [-1, 1], got {images.dtype}: 8-bit images are scaled by "
            "images.float() / 127.5 - 1"
        )
    for name, image in zip(sample_ids, images, strict=True):
        if not bool(image.isfinite().all()):
            raise ValueError(f"the image {name} holds NaN or infinity")
        low, high = float(image.min()), float(image.max())
        if low < -1 - _ROUNDING or high > 1 + _ROUNDING:
            raise ValueError(f"images must lie in [-1, 1], and {name} reaches from {low:.4g} to {high:.4g}")
        if not bright and low >= 0 and _in_unit_range(image, low, high):
            raise ValueError(
                f"images must lie in [-1, 1], and {name} reaches from {low:.4g} to {high:.4g}, which looks like "
                "[0, 1]: scale it by 2 * image - 1, or, where it is a bright image in [-1, 1], pass bright=True"
            )


def read_images(images: Any, sample_ids: Sequence[str] | None, channels: int) -> tuple[Tensor, list[str]]:
    """Images as a batch of tensors, with their names.

    Args:
        images: A tensor, which is handed back as it is; one or several images of PIL, or names of files.
        sample_ids: Their names; file names, or numbers, by default.
        channels: Those that the model takes: 1 makes pictures grey, any other number colours.

    Returns:
        Images [B, C, H, W] in [-1, 1], float32 unless given as a tensor, and B names.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If one is no image, or they are of several sizes, or names are of another number.
    """
    from diffusers.image_processor import VaeImageProcessor
    from PIL import Image

    if isinstance(images, Tensor):
        names, batch = [str(b) for b in range(len(images))] if images.dim() else [], images
    else:
        listed = [images] if isinstance(images, str | Path | Image.Image) else list(images)
        if not listed or (others := [each for each in listed if not isinstance(each, str | Path | Image.Image)]):
            found = f"a {type(others[0]).__name__}" if listed else "none"
            raise ValueError(f"images must be a tensor, or images of PIL, or names of image files, got {found}")
        pictures = [each if isinstance(each, Image.Image) else _opened(Path(each)) for each in listed]
        names = [str(b if isinstance(each, Image.Image) else each) for b, each in enumerate(listed)]
        if len(sizes := {picture.size for picture in pictures}) > 1:
            shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
            raise ValueError(f"the images are of several sizes ({shown}): score those of one size together")
        # Never resized here: what is scored is what was given, and a size that does not fit is refused by the model.
        grey = channels == 1
        processor = VaeImageProcessor(do_resize=False, do_convert_rgb=not grey, do_convert_grayscale=grey)
        batch = torch.cat([processor.preprocess(picture) for picture in pictures])
    if sample_ids is not None and (isinstance(sample_ids, str) or len(sample_ids) != len(batch)):
        raise ValueError(f"{len(batch)} images need a list of as many names, got {sample_ids!r}")
    return batch, names if sample_ids is None else [str(name) for name in sample_ids]


def _opened(file: Path) -> Any:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not file.is_file():
        raise FileNotFoundError(f"no image file {file}")
    try:
        with Image.open(file) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file} is no image that can be read: {error}") from error


def _in_unit_range(image: Tensor, low: float, high: float) -> bool:
    """Whether an image without a value below 0 is one in [0, 1]; one of a single value could be either."""
    values = image.cpu().double()
    if low == high or any(_all_whole((values + 1) / 2 * levels) for levels in _LEVELS):
        return False
    return low < _MIDDLE or any(_all_whole(values * levels) for levels in _LEVELS)


def _all_whole(values: Tensor) -> bool:
    return bool(((values - values.round()).abs() < 0.02).all())
