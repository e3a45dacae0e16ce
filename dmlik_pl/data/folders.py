"""Image folders as published: PACS, and single objects of CLEVR."""

import os
import re
from abc import abstractmethod
from collections import Counter
from pathlib import Path

from dmlik_pl.data.base import EvaluationData
from dmlik_pl.data.image_files import ImageEntry, ImageFiles
from dmlik_pl.data.names import sample_name
from dmlik_pl.data.pictures import IMAGE_SUFFIXES, Channels, ImageForm, Resize
from dmlik_pl.ranges import at_least
from dmlik_pl.speech.lists import read_csv
from dmlik_pl.speech.search import find_files

__all__ = ["CLEVR", "PACS"]

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


class ImageFolderData(EvaluationData):
    """Evaluation images of one folder.

    Args:
        root: The folder.
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "square" (the paper's, the aspect ratio changes), "crop", or null to accept
            only images that have it already.
        per_cell: Take this many images, the first ones, of every combination of attributes; null takes all.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all cells; null evaluates all.
        channels: 3 for colour, 1 for grey.
        background: The colour under transparent pixels.
    """

    def __init__(
        self,
        root: Path,
        size: int = 1024,
        resize: Resize | None = "square",
        per_cell: int | None = 20,
        batch_size: int = 1,
        num_workers: int = 0,
        limit: int | None = None,
        channels: Channels = 3,
        background: str = "white",
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, size=size, per_cell=per_cell)
        self.root = Path(root)
        self.form = ImageForm(size, resize, channels, background)
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
        if not os.path.isdir(self.root):
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
        return ImageFiles(chosen, self.form, str(self.root))


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
        per_cell: Take this many images, the first ones, of every domain and class; null takes all.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all domains and classes; null evaluates all.
        channels: 3 for colour; 1 turns images to grey, for models of one channel.
        background: The colour under transparent pixels, e.g. "white" or "#rrggbb".
    """

    layout = PACS_HELP

    def entries(self) -> list[ImageEntry]:
        """Return all images."""
        if os.path.isfile(self.root / MANIFEST):
            return self._from_manifest(self.root / MANIFEST)
        files = [(path, path.relative_to(self.root).parts) for path in find_files(self.root, IMAGE_SUFFIXES)]
        return [self._entry(path, parts[0], parts[1], str(path)) for path, parts in files if len(parts) == 3]

    def _from_manifest(self, manifest: Path) -> list[ImageEntry]:
        """Read the manifest, whatever its columns are called."""
        table = read_csv(manifest)
        columns = [column.lower() for column in table.columns]
        places = {}
        for wanted, names in MANIFEST_COLUMNS.items():
            found = [name for name in names if name in columns]
            if not found:
                raise ValueError(f"{manifest}, line 1 needs a column called {' or '.join(names)}; it has {columns}")
            places[wanted] = columns.index(found[0])
        entries = []
        for line, cells in table.rows:
            path, domain, label = (cells[places[wanted]].strip() for wanted in ("path", "domain", "class"))
            entries.append(self._entry(self.root / path, domain, label, f"{manifest}, line {line}"))
        return entries

    def _entry(self, path: Path, domain: str, label: str, origin: str) -> ImageEntry:
        """Make the prompt of one image; a domain or class outside PACS is an error of the folder."""
        if domain not in PACS_DOMAINS and domain not in PACS_DOMAINS.values():
            raise ValueError(f"{origin} lies in the domain {domain!r}, which PACS does not have.\n{PACS_HELP}")
        if label not in PACS_CLASSES:
            raise ValueError(f"{origin} lies in the class {label!r}, which PACS does not have.\n{PACS_HELP}")
        word = PACS_DOMAINS.get(domain, domain)
        attributes = {"domain": word, "class": label}
        name = sample_name(path, self.root, origin)
        return ImageEntry(name, path, f"a {word} of a {label}", attributes, origin=origin)


class CLEVR(ImageFolderData):
    """Single large metal objects of CLEVR in 8 colours and 3 shapes; "a photo of a {colour} {shape}".

    Args:
        root: Folder with CLEVR_new_large_<colour>_metal_<shape><number>.png, in subfolders or not.
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "square" (the paper's, the aspect ratio changes), "crop", or null to accept
            only images that have it already.
        per_cell: Take this many images, the first ones, of every colour and shape; null takes all.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all colours and shapes; null evaluates all.
        channels: 3 for colour; 1 turns images to grey, for models of one channel.
        background: The colour under transparent pixels, e.g. "white" or "#rrggbb".
    """

    layout = CLEVR_HELP

    def entries(self) -> list[ImageEntry]:
        """Return all single-object images; files with other names are not part of the experiment."""
        found: list[ImageEntry] = []
        for path in find_files(self.root, IMAGE_SUFFIXES):
            name = CLEVR_PATTERN.fullmatch(path.stem)
            if name is None:
                continue
            colour, shape = name["colour"], name["shape"]
            if colour not in CLEVR_COLOURS or shape not in CLEVR_SHAPES:
                raise ValueError(f"{path} names the colour {colour!r} and the shape {shape!r}.\n{CLEVR_HELP}")
            attributes = {"colour": colour, "shape": shape}
            found.append(ImageEntry(sample_name(path, self.root), path, f"a photo of a {colour} {shape}", attributes))
        return found
