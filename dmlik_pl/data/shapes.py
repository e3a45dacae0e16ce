"""Pictures of one coloured solid, rendered from a seed: a text-to-image data set that needs no download."""

from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from dmlik_pl.data.base import EvaluationData, EvaluationSet, Failure, Sample, collate, in_order
from dmlik_pl.data.ray_casting import SOLIDS, Scene, render
from dmlik_pl.ranges import at_least, seeds

__all__ = ["COLOURS", "PROMPTS", "SHAPES", "ShapeImages", "Shapes", "prompt_of"]

Split = Literal["train", "val", "test"]

# The reflectances of CLEVR's materials (Johnson et al., 2017), 8 bit.
COLOURS: dict[str, tuple[int, int, int]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
SHAPES = SOLIDS
CLASSES = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
SPLITS: dict[str, int] = {"train": 0, "val": 1, "test": 2}
RESOLUTIONS = (32, 64)
SENSOR_NOISE = 0.008  # standard deviation, of a full scale of 1: no camera gives exactly equal pixels


def prompt_of(colour: str, shape: str) -> str:
    """Return the caption of a picture, such as ``"a photo of a red sphere"``."""
    return f"a photo of a {colour} {shape}"


PROMPTS = tuple(prompt_of(colour, shape) for colour, shape in CLASSES)


class ShapeImages(EvaluationSet):
    """Rendered pictures; the one at a position depends on the seed, the split and the position only.

    The 24 combinations of colour and shape follow each other, so that every 24 neighbours hold each of them once.

    Args:
        split: ``train``, ``val`` or ``test``; no two splits share a picture.
        size: Number of pictures.
        resolution: Pixels along each side, 32 or 64.
        seed: Another seed gives other pictures.
        keep: Keep pictures in memory once they are rendered (3 kB each at 32 pixels).
    """

    def __init__(self, split: Split, size: int, resolution: int = 32, seed: int = 0, keep: bool = False) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
        if resolution not in RESOLUTIONS:
            raise ValueError(f"shapes are rendered at 32 or 64 pixels, not {resolution}")
        self.split = split
        self.resolution = resolution
        self.seed = seed
        self.sample_ids = [f"{split}-{index:05d}" for index in range(size)]
        self.groups = [prompt_of(*CLASSES[index % len(CLASSES)]) for index in range(size)]
        self.source = f"the renderer of shapes ({size} pictures)"
        self._kept: dict[int, np.ndarray] | None = {} if keep else None

    def __getitem__(self, index: int) -> Sample:
        """Return the picture at a position, [3, resolution, resolution], with its caption, colour and shape."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        colour, shape = CLASSES[index % len(CLASSES)]
        pixels = self.pixels(index)
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
        return Sample(self.sample_ids[index], image, prompt_of(colour, shape), {"colour": colour, "shape": shape})

    def pixels(self, index: int) -> np.ndarray:
        """Return the picture at a position as 8-bit values, [resolution, resolution, 3]."""
        if self._kept is None:
            return self._render(index)
        if index not in self._kept:
            self._kept[index] = self._render(index)
        return self._kept[index]

    def _render(self, index: int) -> np.ndarray:
        """Make the picture of a position."""
        random = np.random.default_rng([self.seed, SPLITS[self.split], index])
        picture = self._picture(random, *CLASSES[index % len(CLASSES)])
        return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)

    def _picture(self, random: np.random.Generator, colour: str, shape: str) -> np.ndarray:
        """Draw a scene, with the noise of its camera, nominally in [0, 1]."""
        picture = render(draw_scene(random, colour, shape), self.resolution)
        return picture + SENSOR_NOISE * random.standard_normal(picture.shape, dtype=np.float32)


def draw_scene(random: np.random.Generator, colour: str, shape: str) -> Scene:
    """Draw everything that the caption leaves open."""
    brightness = random.uniform(0.94, 1.06)
    red, green, blue = (brightness * channel / 255 for channel in COLOURS[colour])
    return Scene(
        solid=shape,
        albedo=(red, green, blue),
        position=(random.uniform(-0.34, 0.34), random.uniform(-0.35, 0.35)),
        size=random.uniform(0.62, 0.8),
        rotation=random.uniform(0, np.pi / 2),
        light=(random.uniform(-2.7, -0.45), random.uniform(0.75, 1.1)),
        gloss=random.uniform(0.0, 0.35),
        floor=random.uniform(0.8, 0.98),
    )


class Shapes(EvaluationData):
    """Rendered solids: 8 colours x 3 shapes with captions, split for training, validation and test.

    Args:
        batch_size: Pictures per batch.
        num_workers: Processes that render; with 0 the training pictures are rendered once and kept in memory.
        limit: Evaluate at most this many test pictures, taken evenly from the 24 combinations.
        resolution: Pixels along each side, 32 or 64.
        seed: Another seed gives other pictures.
        train_size: Training pictures.
        val_size: Validation pictures.
        test_size: Test pictures; a multiple of 24 is balanced exactly.
    """

    def __init__(
        self,
        batch_size: int = 16,
        num_workers: int = 0,
        limit: int | None = None,
        resolution: int = 32,
        seed: int = 0,
        train_size: int = 16800,
        val_size: int = 240,
        test_size: int = 240,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, train_size=train_size, val_size=val_size, test_size=test_size)
        seeds(seed=seed)
        keep = num_workers == 0
        self._train = ShapeImages("train", train_size, resolution, seed, keep)
        self._val = ShapeImages("val", val_size, resolution, seed, keep)
        self._test = ShapeImages("test", test_size, resolution, seed)

    def test_set(self) -> ShapeImages:
        """Return the test pictures."""
        return self._test

    def train_dataloader(self) -> DataLoader[Sample | Failure]:
        """Return shuffled, full batches of training pictures."""
        return DataLoader(
            self._train,
            batch_size=min(self.batch_size, len(self._train)),
            shuffle=True,
            drop_last=True,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
        )

    def val_dataloader(self) -> DataLoader[Sample | Failure]:
        """Return the validation pictures in order."""
        return in_order(self._val, self.batch_size, self.num_workers)
