"""Image folders as published: PACS, and single objects of CLEVR."""

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dmlik_pl.data.base import EvaluationData, EvaluationSet, Failure, Sample
from dmlik_pl.ranges import at_least

__all__ = ["CLEVR", "PACS", "ImageEntry", "ImageFiles", "Resize", "load_image", "require_size"]

Resize = Literal["square", "crop"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

PACS_DOMAINS = {"art_painting": "painting", "cartoon": "cartoon", "photo": "photo", "sketch": "sketch"}
PACS_CLASSES = ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
PACS_HELP = """PACS is expected as <root>/<domain>/<class>/*.jpg with the domains art_painting, cartoon, photo, sketch
and the classes dog, elephant, giraffe, guitar, horse, house, person; or as <root>/manifest.csv with the columns path
(relative to <root>), domain and class. It is by Li et al. 2017, "Deeper, Broader and Artier Domain Generalization"; the
Hugging Face hub mirrors it as the data set flwrlabs/pacs, and DomainBed's download script fetches it too."""
MANIFEST = "manifest.csv"
MANIFEST_COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image"),
    "domain": ("domain",),
    "class": ("class", "label", "category", "class_name"),
}

CLEVR_COLOURS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
CLEVR_SHAPES = ("cube", "sphere", "cylinder")
CLEVR_PATTERN = re.compile(r"CLEVR_new_large_(?P<colour>[a-z]+)_metal_(?P<shape>[a-z]+?)_?(?P<number>\d+)")
CLEVR_HELP = """Single CLEVR objects are expected as <root>/CLEVR_new_large_<colour>_metal_<shape><number>.png (such as
CLEVR_new_large_red_metal_sphere000001.png), with 8 colours and the shapes cube, sphere, cylinder. They are published
with Lewis et al., "Does CLIP Bind Concepts? Probing Compositionality in Large Image Models"; or render them with the
CLEVR generator (Johnson et al. 2017), one large metal object a scene."""


@dataclass(frozen=True)
class ImageEntry:
    """One image file and what is true of it.

    Attributes:
        sample_id: Path relative to the root, with forward slashes.
        path: The file.
        prompt: The true prompt.
        attributes: True values by attribute name.
        candidates: Prompts that compete for the image, the true one among them; empty where there are none.
    """

    sample_id: str
    path: Path
    prompt: str
    attributes: dict[str, str] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=list)

    @property
    def cell(self) -> str:
        """All attribute values together: the cell of the experiment that the image counts in."""
        return "/".join(self.attributes.values())


def load_image(path: Path, size: int, resize: Resize | None = "square") -> Tensor:
    """Read an image file as the paper's code does: turned upright, RGB, resampled by Lanczos to a square.

    Args:
        path: The file.
        size: Height and width in pixels.
        resize: "square" changes the aspect ratio, "crop" keeps it and cuts the middle out, None leaves the image alone;
            see `require_size`.

    Returns:
        The image in [-1, 1], [3, size, size].
    """
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    if resize == "crop":
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    elif resize == "square":
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32))
    return pixels.permute(2, 0, 1) / 127.5 - 1


def require_size(path: Path, size: int) -> None:
    """Raise a ValueError if an image file has not the size given; a file that cannot be read is left for later."""
    try:
        with Image.open(path) as file:
            found = file.size
    except Exception:  # its error is recorded when the sample's turn comes
        return
    if found != (size, size):
        raise ValueError(
            f"{path} is {found[0]} x {found[1]} pixels, but the model is to see {size} x {size}: "
            'set resize to "square" or "crop", or give images of the right size'
        )


class ImageFiles(EvaluationSet):
    """Image files with prompts; a file that cannot be read as an image becomes a `Failure`.

    Args:
        entries: The files.
        size: Height and width in pixels.
        resize: See `load_image`; with None, all files that can be read must have the right size.
        source: Where they were looked for.
    """

    def __init__(self, entries: Sequence[ImageEntry], size: int, resize: Resize | None, source: str) -> None:
        self.entries = list(entries)
        self.sample_ids = [entry.sample_id for entry in self.entries]
        self.groups = [entry.cell for entry in self.entries]
        self.source = source
        self.size = size
        self.resize = resize
        if resize is None:
            # A setting that does not fit the data should not come to light after hours.
            for entry in self.entries:
                require_size(entry.path, size)

    def __getitem__(self, index: int) -> Sample | Failure:
        """Read one image."""
        entry = self.entries[index]
        try:
            image = load_image(entry.path, self.size, self.resize)
        except Exception as error:  # decoders of damaged files raise almost anything
            return Failure(entry.sample_id, f"{entry.path} cannot be read as an image: {error}")
        return Sample(entry.sample_id, image, entry.prompt, entry.attributes, entry.candidates)


class ImageFolderData(EvaluationData):
    """Evaluation images of one folder.

    Args:
        root: The folder.
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "square" (the paper's, the aspect ratio changes), "crop", or null to accept
            only images that have it already.
        per_cell: Take the first so many images of every combination of attributes; null takes all.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all cells; null evaluates all.
    """

    def __init__(
        self,
        root: Path,
        size: int,
        resize: Resize | None,
        per_cell: int | None,
        batch_size: int,
        num_workers: int,
        limit: int | None,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, size=size, per_cell=per_cell)
        self.root = Path(root)
        self.size = size
        self.resize: Resize | None = resize
        self.per_cell = per_cell

    @abstractmethod
    def entries(self) -> list[ImageEntry]:
        """Return all images of the folder, in the order from which the first of each cell are taken."""

    @property
    @abstractmethod
    def layout(self) -> str:
        """Say which files are expected and how to get them."""

    def test_set(self) -> ImageFiles:
        """Return the first `per_cell` images of every cell."""
        if not self.root.is_dir():
            raise FileNotFoundError(f"there is no folder {self.root.absolute()}.\n{self.layout}")
        entries = self.entries()
        if not entries:
            raise ValueError(f"no images found in {self.root.absolute()}.\n{self.layout}")
        chosen: list[ImageEntry] = []
        taken: Counter[str] = Counter()
        for entry in entries:
            if self.per_cell is None or taken[entry.cell] < self.per_cell:
                chosen.append(entry)
                taken[entry.cell] += 1
        return ImageFiles(chosen, self.size, self.resize, str(self.root))


class PACS(ImageFolderData):
    """PACS: photos, art paintings, cartoons and sketches of seven classes; "a {domain} of a {class}".

    The folder "art_painting" reads "painting" in prompts and attributes. Images come in the order of the manifest where
    there is one, in the order of their names otherwise.

    Args:
        root: Folder with <domain>/<class>/*.jpg or *.png, or with a manifest.csv that has the columns path, domain and
            class (also known as file, filename, image; label, category; upper or lower case).
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "square" (the paper's, the aspect ratio changes), "crop", or null to accept
            only images that have it already.
        per_cell: Take the first so many images of every domain and class; null takes all.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all domains and classes; null evaluates all.
    """

    layout = PACS_HELP

    def __init__(
        self,
        root: Path,
        size: int = 1024,
        resize: Resize | None = "square",
        per_cell: int | None = 20,
        batch_size: int = 1,
        num_workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(root, size, resize, per_cell, batch_size, num_workers, limit)

    def entries(self) -> list[ImageEntry]:
        """Return all images."""
        if (self.root / MANIFEST).is_file():
            return self._from_manifest(self.root / MANIFEST)
        files = [path for path in sorted(self.root.glob("[!._]*/*/[!.]*")) if path.suffix.lower() in IMAGE_SUFFIXES]
        return [self._entry(path, path.parent.parent.name, path.parent.name) for path in files]

    def _from_manifest(self, manifest: Path) -> list[ImageEntry]:
        """Read the manifest, whatever its columns are called."""
        table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
        table.columns = [str(column).strip().lower() for column in table.columns]
        column: dict[str, str] = {}
        for wanted, names in MANIFEST_COLUMNS.items():
            found = [name for name in names if name in table.columns]
            if not found:
                raise ValueError(f"{manifest} needs a column called {' or '.join(names)}; it has {list(table.columns)}")
            column[wanted] = found[0]
        rows = zip(table[column["path"]], table[column["domain"]], table[column["class"]], strict=True)
        return [self._entry(self.root / path, domain, label) for path, domain, label in rows]

    def _entry(self, path: Path, domain: str, label: str) -> ImageEntry:
        """Make the prompt of one image; a domain or class outside PACS is an error of the folder."""
        if domain not in PACS_DOMAINS and domain not in PACS_DOMAINS.values():
            raise ValueError(f"{path} lies in the domain {domain!r}, which PACS does not have.\n{PACS_HELP}")
        if label not in PACS_CLASSES:
            raise ValueError(f"{path} lies in the class {label!r}, which PACS does not have.\n{PACS_HELP}")
        word = PACS_DOMAINS.get(domain, domain)
        sample_id = path.relative_to(self.root).as_posix()
        return ImageEntry(sample_id, path, f"a {word} of a {label}", {"domain": word, "class": label})


class CLEVR(ImageFolderData):
    """Single large metal objects of CLEVR in 8 colours and 3 shapes; "a photo of a {colour} {shape}".

    Args:
        root: Folder with CLEVR_new_large_<colour>_metal_<shape><number>.png, in subfolders or not.
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "square" (the paper's, the aspect ratio changes), "crop", or null to accept
            only images that have it already.
        per_cell: Take the first so many images of every colour and shape; null takes all.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all colours and shapes; null evaluates all.
    """

    layout = CLEVR_HELP

    def __init__(
        self,
        root: Path,
        size: int = 1024,
        resize: Resize | None = "square",
        per_cell: int | None = 20,
        batch_size: int = 1,
        num_workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(root, size, resize, per_cell, batch_size, num_workers, limit)

    def entries(self) -> list[ImageEntry]:
        """Return all single-object images; files with other names are not part of the experiment."""
        found: list[ImageEntry] = []
        for path in sorted(self.root.rglob("CLEVR_new_*")):
            name = CLEVR_PATTERN.fullmatch(path.stem)
            if name is None or path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            colour, shape = name["colour"], name["shape"]
            if colour not in CLEVR_COLOURS or shape not in CLEVR_SHAPES:
                raise ValueError(f"{path} names the colour {colour!r} and the shape {shape!r}.\n{CLEVR_HELP}")
            sample_id = path.relative_to(self.root).as_posix()
            prompt = f"a photo of a {colour} {shape}"
            found.append(ImageEntry(sample_id, path, prompt, {"colour": colour, "shape": shape}))
        return found
