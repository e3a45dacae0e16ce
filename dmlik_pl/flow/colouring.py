r"""Which dimensions share a sign in the probes of one set.

The K probes of a set carry the rows of a Hadamard matrix, one sign per colour, on one random field. Averaged over the
set, products of two dimensions of different colours cancel exactly; what is left is

.. math:: 2 \sum_{i \ne j \text{ of one colour}} S_{ij}^2

with S the symmetric part of the Jacobian. A colouring is good if dimensions that act on each other have colours of
their own. It changes the variance of a trace and never its mean.

References:
    | Estimating the diagonal of a matrix by probing (Tang and Saad, 2012)
    | Hierarchical probing for estimating the trace of the matrix inverse (Stathopoulos et al., 2013)
"""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = [
    "FILE",
    "MOST_COLOURS",
    "colour_index",
    "hadamard_rows",
    "lattice",
    "learned",
    "learned_from",
    "nested_index",
]

FILE = "colouring.safetensors"
"""Learned colourings of a model, in its folder: tensors "4 colours", "8 colours", ... of the shape of a sample."""

MOST_COLOURS = 1024
"""Of a nested colouring; samples of no more dimensions may have a few times as many."""

_SHIPPED = Path(__file__).parents[1] / "assets"
_REACH = 8  # pixels beyond which a coupling is nothing
_ACROSS = 0.5  # coupling of two channels at one pixel, in units of that of a channel with itself
_JOINT, _BEAM = 64, 256  # colours up to which nested lattices are judged together, and how many of them are kept
_NOTHING = 1e-12  # added to a coupling before its logarithm is taken


def colour_index(shape: tuple[int, ...], colours: int, colouring: str | None = None) -> Tensor:
    """The colour of each dimension of a sample of this shape, whole numbers from 0 to ``colours`` - 1.

    Args:
        shape: Of a sample: [D], [mel bins, frames] or [channels, height, width].
        colours: Number of colours, a power of two.
        colouring: A file of learned colourings, see :func:`learned`; None for the :func:`lattice`.

    Raises:
        ValueError: If a sample has more than three dimensions, or the file has no colouring of so many colours, or one
            of another shape.
        FileNotFoundError: If there is no such file.
    """
    if colouring is not None:
        index = learned(colouring, colours)
        if tuple(index.shape) != shape:
            raise ValueError(
                f"the colourings of {colouring!r} are of samples of shape {list(index.shape)}, these are "
                f"{list(shape)}: take colouring=null, a lattice, which fits any shape"
            )
        return index
    if len(shape) > 3:
        raise ValueError(
            f"colours={colours} needs samples of one to three dimensions, got {list(shape)}: use colours=1"
        )
    steps = lattice(colours, shape[0] if len(shape) == 3 else 1)
    along = (1,) if len(shape) == 1 else steps[-len(shape) :]
    return torch.from_numpy(np.tensordot(along, np.indices(shape), 1) % colours)


@lru_cache(maxsize=64)
def lattice(colours: int, channels: int) -> tuple[int, int, int]:
    """Steps (a, 1, b): the colour of channel c, row y and column x is (a c + y + b x) mod ``colours``.

    Of all such lattices it is the one with the least coupling within a colour, if couplings fall by e with each pixel
    of distance and channels of a pixel act on each other half as much as on themselves. On the Jacobians of the shipped
    models it comes within a few per cent of the best lattice up to 16 colours (``python -m benchmarks.probes``).
    """
    best, least = (0, 1, 0), np.inf
    for a in range(colours if channels > 1 else 1):
        for b in range(colours):
            within = _within((a, 1, b), colours, channels)
            if within < least * (1 - 1e-9):
                best, least = (a, 1, b), within
    return best


@lru_cache(maxsize=16)
def nested_index(shape: tuple[int, ...]) -> Tensor:
    """Colours of which the remainder by any power of two K is a colouring with K colours.

    The rows of a Hadamard matrix nest alike: the K probes of a set are the first of the 2 K of a finer one, so that
    probes can be added to a set. A sample of at most :data:`MOST_COLOURS` dimensions has a colour for each of them in
    the end, and then its trace is exact.

    Args:
        shape: Of a sample; dimensions before the last two count as channels.
    """
    size = math.prod(shape)
    colours = min(MOST_COLOURS, 1 << (size.bit_length() - 1))
    grid = (math.prod(shape[:-2]), *shape[-2:]) if len(shape) > 2 else shape
    steps = _nested_lattice(colours, grid[0] if len(grid) == 3 else 1)
    along = (1,) if len(grid) == 1 else steps[-len(grid) :]
    index = (np.tensordot(along, np.indices(grid), 1) % colours).reshape(shape)
    if size <= MOST_COLOURS:
        flat = index.ravel()
        order = np.argsort(flat, kind="stable")
        index = (flat + colours * _places_within(flat, order)).reshape(shape)
    return torch.from_numpy(index)


def _places_within(flat: np.ndarray, order: np.ndarray) -> np.ndarray:
    """How many dimensions of the same colour come before each, given their order by colour."""
    places = np.empty_like(flat)
    places[order] = np.arange(len(flat)) - np.searchsorted(flat[order], flat[order])
    return places


def hadamard_rows(rows: range, index: Tensor) -> Tensor:
    """Signs of some rows of a Hadamard matrix at columns ``index`` [...], [rows, ...] in int8."""
    common = np.arange(rows.start, rows.stop).reshape(-1, *[1] * index.dim()) & index.numpy()
    return torch.from_numpy(1 - 2 * (np.bitwise_count(common) % 2).astype(np.int8))


@lru_cache(maxsize=16)
def _nested_lattice(colours: int, channels: int) -> tuple[int, int, int]:
    """Steps of which the remainder by any smaller power of two are those of a good lattice too.

    Judged by the product of the couplings within a colour over 2, 4, ..., 64 colours; beyond, one after another.
    """
    kept, count = [(0.0, (0, 1, 0))], 1
    while count < colours:
        found = [
            (loss + math.log(_within(steps, 2 * count, channels) + _NOTHING), steps)
            for loss, (a, _, b) in kept
            for steps in ((a + i * count, 1, b + j * count) for i in range(min(2, channels)) for j in range(2))
        ]
        count *= 2
        kept = sorted(found)[: _BEAM if count < _JOINT else 1]
    return kept[0][1]


def _within(steps: tuple[int, int, int], colours: int, channels: int) -> float:
    """Coupling within a colour of a lattice."""
    a, _, b = steps
    coupling, (c, y, x) = _coupling(channels)
    return float(coupling[(a * c + y + b * x) % colours == 0].sum())


@lru_cache(maxsize=16)
def _coupling(channels: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """How much dimensions at a distance act on each other, and their distances in channels, rows and columns."""
    c, y, x = np.meshgrid(
        np.arange(1 - channels, channels), *[np.arange(-_REACH, _REACH + 1)] * 2, indexing="ij", sparse=True
    )
    coupling = np.exp(-np.hypot(y, x)) * np.where(c == 0, 1, _ACROSS) * (channels - np.abs(c))
    coupling[channels - 1, _REACH, _REACH] = 0
    return coupling, (c, y, x)


def learned(name: str, colours: int) -> Tensor:
    """A learned colouring, of the shape of a sample.

    Args:
        name: A file of :data:`FILE`'s kind, the folder of a model that has one, or the name of a shipped model.
        colours: Number of colours.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or has no colouring of so many colours.
    """
    known, _ = _read(name)
    if (key := f"{colours} colours") not in known:
        raise ValueError(f"the colourings of {name!r} are of {', '.join(known)}: colours={colours} is none of them")
    return known[key].long()


def learned_from(name: str) -> str | None:
    """Fingerprint of the weights that a file of colourings was learned from; None if it does not say."""
    return _read(name)[1].get("weights")


@lru_cache(maxsize=8)
def _read(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    given = Path(name).expanduser()
    places = (given, given / FILE, _SHIPPED / name / FILE)
    if (file := next((place for place in places if place.is_file()), None)) is None:
        there = ", ".join(sorted(place.parent.name for place in _SHIPPED.glob(f"*/{FILE}")))
        raise FileNotFoundError(
            f"no learned colouring at {name!r}: give a file, a folder with {FILE}, or a shipped model: {there}"
        )
    try:
        with safe_open(file, "pt") as opened:
            keys = sorted(opened.keys(), key=lambda key: (len(key), key))
            return {key: opened.get_tensor(key) for key in keys}, opened.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{file} is no file of colourings: {error}") from error
