"""Outline drawings of the rendered solids: the same scenes in another domain, for fine-tuning."""

from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter
from torch.utils.data import DataLoader

from dmlik_pl.data.base import EvaluationData, Sample, in_order
from dmlik_pl.data.ray_casting import Scene, surface
from dmlik_pl.data.resumable import ResumableLoader
from dmlik_pl.data.shapes import ShapeImages, Split, draw_scene
from dmlik_pl.ranges import at_least, seeds

__all__ = ["CAPTION", "DrawingImages", "Drawings"]

CAPTION = "a photo of a {colour} {shape}"
PAPER = 0.97
SUPERSAMPLING = 4  # rays along each side of a pixel
PENCIL = 7  # width of a line in rays: close to two pixels, which the autoencoder of 32 pixels can just hold
CREASE = 0.8  # cosine of the angle between neighbouring normals below which a line is drawn
GRAIN = 0.02  # standard deviation of the paper's grain, of a full scale of 1


class DrawingImages(ShapeImages):
    """The scenes of :class:`ShapeImages`, drawn: outline and creases in a pencil of the solid's colour, on white paper.

    A drawing has the scene, the name and the attributes of the picture at the same position of the same split.

    Args:
        split: ``train``, ``val`` or ``test``; no two splits share a scene.
        size: Number of drawings.
        resolution: Pixels along each side, 32 or 64.
        seed: Another seed gives other scenes.
        keep: Keep drawings in memory once they are made.
        caption: What a drawing is called, with {colour} and {shape}.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        resolution: int = 32,
        seed: int = 0,
        keep: bool = False,
        caption: str = CAPTION,
    ) -> None:
        super().__init__(split, size, resolution, seed, keep)
        self.caption = caption
        self.source = f"the draughtsman of shapes ({size} drawings)"

    def __getitem__(self, index: int) -> Sample:
        """Return the drawing at a position, [3, resolution, resolution], with its caption, colour and shape."""
        sample = super().__getitem__(index)
        sample.prompt = self.caption.format_map(sample.attributes)
        return sample

    def _picture(self, random: np.random.Generator, colour: str, shape: str) -> np.ndarray:
        """Draw a scene on paper with a grain."""
        drawing = draw(draw_scene(random, colour, shape), self.resolution)
        return drawing + GRAIN * random.standard_normal(drawing.shape, dtype=np.float32)


def draw(scene: Scene, resolution: int) -> np.ndarray:
    """Draw the lines of a scene's solid: where it ends, and where its surface has a crease.

    Args:
        scene: What to draw.
        resolution: Pixels along each side.

    Returns:
        The drawing in [0, 1], [resolution, resolution, 3].
    """
    distance, normal = surface(scene, resolution * SUPERSAMPLING)
    solid = np.isfinite(distance)
    lines = np.zeros_like(solid)
    for axis in (0, 1):
        before, after = (np.delete(np.arange(len(solid)), end) for end in (-1, 0))
        outline = solid.take(before, axis) != solid.take(after, axis)
        flat = (normal.take(before, axis) * normal.take(after, axis)).sum(-1) > CREASE
        crease = solid.take(before, axis) & solid.take(after, axis) & ~flat
        lines[(before,) if axis == 0 else (slice(None), before)] |= outline | crease
    thick = maximum_filter(lines, PENCIL).astype(np.float32)
    share = thick.reshape(resolution, SUPERSAMPLING, resolution, SUPERSAMPLING).mean(axis=(1, 3))[..., None]
    return PAPER * (1 - share) + share * np.array(scene.albedo, np.float32)


class Drawings(EvaluationData):
    """Drawings to train on and to test with; validation looks at drawings and, beside them, at the pictures.

    Args:
        batch_size: Drawings per batch.
        num_workers: Processes that draw; with 0 the training drawings are made once and kept in memory.
        limit: Evaluate at most this many test drawings, taken evenly from the 24 combinations.
        resolution: Pixels along each side, 32 or 64.
        seed: Another seed gives other scenes, and another order of training.
        train_size: Training drawings.
        val_size: Validation drawings, and as many pictures.
        test_size: Test drawings; a multiple of 24 is balanced exactly.
        caption: What a drawing is called, with {colour} and {shape}; pictures keep their captions.

    Attributes:
        validation_names: What the validation loaders show, in their order.
    """

    validation_names = ("drawings", "photos")

    def __init__(
        self,
        batch_size: int = 16,
        num_workers: int = 0,
        limit: int | None = None,
        resolution: int = 32,
        seed: int = 0,
        train_size: int = 4800,
        val_size: int = 96,
        test_size: int = 240,
        caption: str = CAPTION,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, train_size=train_size, val_size=val_size, test_size=test_size)
        seeds(seed=seed)
        keep = num_workers == 0
        self.seed = seed
        self._train = DrawingImages("train", train_size, resolution, seed, keep, caption)
        self._val = (
            DrawingImages("val", val_size, resolution, seed, keep, caption),
            ShapeImages("val", val_size, resolution, seed, keep),
        )
        self._test = DrawingImages("test", test_size, resolution, seed, caption=caption)

    def test_set(self) -> DrawingImages:
        """Return the test drawings."""
        return self._test

    def train_dataloader(self) -> ResumableLoader:
        """Return shuffled, full batches of training drawings."""
        return ResumableLoader(self._train, self.batch_size, self.seed, self.num_workers, self.trainer)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return the loaders of drawings and of pictures, in the same order."""
        return [in_order(data, self.batch_size, self.num_workers) for data in self._val]
