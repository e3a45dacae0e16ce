"""Handwritten digits: 1797 real 8x8 images of 17 grey levels, which come with scikit-learn.

A density is continuous and the grey levels are not, so each level v of 0..16 is spread uniformly over its own cell:

    x = 2 (v + u) / 17 - 1,    u uniform in (0, 1)

The expected log-density of x bounds the log-probability of the levels from below once the cell's width is counted:

    bits/dim of the levels <= bits/dim of x + log2(17 / 2)

`Digits.dequantisation_bits` is that last term, by name; no number of this package contains it unless it says so.

References:
    Kaynak, Alpaydin 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository
    Theis et al. 2016, A note on the evaluation of generative models (uniform dequantisation)
"""

import math
from hashlib import blake2b
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dmlik_pl.data.base import EvaluationData, EvaluationSet, Failure, Sample, collate, in_order
from dmlik_pl.ranges import at_least, seeds

__all__ = ["CLASSES", "LEVELS", "DigitSet", "Digits", "Split", "dequantise", "split_positions"]

LEVELS = 17
CLASSES = tuple(str(digit) for digit in range(10))
NOISE_BITS = 16

Split = Literal["train", "validation", "test"]
SPLIT_SEED = 1797
TEST_SIZE = 400
VALIDATION_SIZE = 197


def split_positions(labels: np.ndarray) -> dict[Split, list[int]]:
    """Split the data set once and for all: 1200 to train, 197 to validate, 400 to test, every class in proportion.

    Args:
        labels: The digit of each of the 1797 images.

    Returns:
        Positions in the original data set, ascending.
    """
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(len(labels)), test_size=TEST_SIZE, stratify=labels, random_state=SPLIT_SEED)
    train, validation = train_test_split(
        rest, test_size=VALIDATION_SIZE, stratify=labels[rest], random_state=SPLIT_SEED
    )
    return {"train": sorted(train.tolist()), "validation": sorted(validation.tolist()), "test": sorted(test.tolist())}


def dequantise(levels: np.ndarray, sample_id: str, seed: int) -> Tensor:
    """Spread grey levels over their cells with noise that depends on the seed and the sample's name alone.

    The noise has 16 bits and keeps off the edges of its cell, so that rounding to float32 cannot move it to the next.

    Args:
        levels: Grey levels 0..16, any shape.
        sample_id: The name of the sample.
        seed: Another seed gives other noise.

    Returns:
        The image in (-1, 1), float32, of the same shape.
    """
    key = int.from_bytes(blake2b(f"{seed}|{sample_id}".encode(), digest_size=16).digest(), "big")
    generator = np.random.Generator(np.random.Philox(key=key))
    noise = (generator.integers(0, 2**NOISE_BITS, size=levels.shape) + 0.5) / 2**NOISE_BITS
    return torch.from_numpy((levels + noise) * 2 / LEVELS - 1).float()


class DigitSet(EvaluationSet):
    """One split of the digits.

    Args:
        split: Which part of the data.
        seed: Seed of the dequantisation noise; None draws fresh noise each time, for training.
    """

    def __init__(self, split: Split, seed: int | None) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        positions = split_positions(data.target)[split]
        self.seed = seed
        self.sample_ids = [f"digit-{position:04d}" for position in positions]
        self.groups = [CLASSES[label] for label in data.target[positions]]
        self.source = f"the {split} split of scikit-learn's digits"
        self.levels = data.images[positions]

    def __getitem__(self, index: int) -> Sample:
        """Return a digit with its class name as the prompt."""
        name, digit = self.sample_ids[index], self.groups[index]
        if self.seed is None:
            levels = torch.from_numpy(self.levels[index]).float()
            image = (levels + torch.rand_like(levels)) * 2 / LEVELS - 1
        else:
            image = dequantise(self.levels[index], name, self.seed)
        return Sample(name, image[None], digit, {"digit": digit})


class Digits(EvaluationData):
    """Handwritten digits, 8x8 pixels, one channel; the prompt of a digit is its class name, e.g. "7".

    Args:
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all classes; None evaluates all.
        split: The part that is evaluated; the shipped model never saw "test".
        seed: Seed of the dequantisation noise of evaluated samples.
        train_batch_size: Samples per training batch.
    """

    def __init__(
        self,
        batch_size: int = 32,
        num_workers: int = 0,
        limit: int | None = None,
        split: Split = "test",
        seed: int = 0,
        train_batch_size: int = 64,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, train_batch_size=train_batch_size)
        seeds(seed=seed)
        self.split: Split = split
        self.seed = seed
        self.train_batch_size = train_batch_size
        self.levels = LEVELS
        self.dequantisation_bits = math.log2(LEVELS / 2)

    def test_set(self) -> DigitSet:
        """Return the split that is evaluated."""
        return DigitSet(self.split, self.seed)

    def train_dataloader(self) -> DataLoader[Sample | Failure]:
        """Return the training split with fresh dequantisation noise in every epoch."""
        return DataLoader(
            DigitSet("train", seed=None),
            batch_size=self.train_batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self.num_workers,
            collate_fn=collate,
        )

    def val_dataloader(self) -> DataLoader[Sample | Failure]:
        """Return the validation split with fixed noise."""
        return in_order(DigitSet("validation", self.seed), self.batch_size, self.num_workers)
