"""Your own images: a folder with captions, in the layouts that trainers use, or without."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dmlik_pl.data.base import EvaluationData
from dmlik_pl.data.image_files import ImageEntry, ImageFiles
from dmlik_pl.data.names import readable, sample_name
from dmlik_pl.data.pictures import IMAGE_SUFFIXES, Channels, ImageForm, Resize
from dmlik_pl.speech.lists import read_csv, read_json_lines, read_lines
from dmlik_pl.speech.search import find_files

__all__ = ["ImageFolder"]

METADATA = ("metadata.csv", "metadata.jsonl")
FILE_NAME = "file_name"
NO_CAPTION = "no caption: taken with the empty prompt"
LAYOUT = """A folder of images is expected, with sub-folders or not. Captions are in metadata.csv or metadata.jsonl
beside the images, with the columns file_name (relative to that file) and text, or in NAME.txt beside NAME.png, one
per line. Images without any get the empty prompt."""


@dataclass(frozen=True)
class Caption:
    """What an image is called.

    Attributes:
        text: The caption; empty if there is none.
        origin: Where it stands, for messages.
        flaw: Why it cannot be read; empty if it can.
    """

    text: str
    origin: str
    flaw: str = ""


class ImageFolder(EvaluationData):
    """Images of a folder and its sub-folders, with captions or without, for every study that needs no other prompts.

    Captions come from ``metadata.csv`` or ``metadata.jsonl``, as the image folders of the library `datasets` have them,
    with the columns file_name (relative to that file) and `caption`; in JSON, a caption may be a list of several. Such
    a list stands for its folder and those in it: images that it leaves out are left out, with a warning. Elsewhere they
    come from ``NAME.txt`` beside ``NAME.png``, one caption per line. An image without a caption has the empty prompt,
    which a warning and its records say.

    An image is named by its path. Of several captions, each makes a sample: the first has the name of the image, each
    further one that name with a digest of its text. Sub-folders are the groups that `limit` takes samples evenly from
    and that domains of :class:`dmlik_pl.data.held_out.HeldOut` name.

    Args:
        root: The folder.
        caption: The column of ``metadata.csv`` or ``metadata.jsonl`` with the captions; null ignores all captions.
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "crop" (its middle), "square" (the aspect ratio changes), or null to accept
            only images that have it already.
        channels: 3 for colour; 1 turns images to grey, for models of one channel.
        background: The colour under transparent pixels, e.g. "white" or "#rrggbb".
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, taken evenly from all sub-folders; null evaluates all.
    """

    def __init__(
        self,
        root: Path,
        caption: str | None = "text",
        size: int = 1024,
        resize: Resize | None = "crop",
        channels: Channels = 3,
        background: str = "white",
        batch_size: int = 1,
        num_workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        self.root = Path(root)
        self.caption = caption
        self.form = ImageForm(size, resize, channels, background)

    def test_set(self) -> ImageFiles:
        """Return all images of the folder, sorted by their names.

        Raises:
            FileNotFoundError: If the folder is missing, or every image of its lists.
            ValueError: If there is no image, or a list has another form, with the line.
        """
        if not os.path.isdir(self.root):
            raise FileNotFoundError(f"there is no folder of images {self.root.absolute()}.\n{LAYOUT}")
        captions, left_out = self._captions()
        if not captions:
            raise ValueError(f"no images found in {self.root.absolute()}.\n{LAYOUT}")
        entries = [entry for path in sorted(captions, key=os.fsencode) for entry in self._entries(path, captions[path])]
        if not any(os.path.lexists(path) for path in captions):
            first = entries[0]
            raise FileNotFoundError(f"{first.origin}: there is no image {first.path.absolute()}.\n{LAYOUT}")
        without = sum(entry.remark == NO_CAPTION for entry in entries)
        told = {
            f"{left_out} images of {self.root} are left out: the list of their folder does not name them": left_out,
            f"{without} of {len(entries)} samples in {self.root} have no caption: taken with the empty prompt": without,
        }
        for message in (message for message, count in told.items() if count):
            warnings.warn(readable(message), stacklevel=2)
        return ImageFiles(entries, self.form, str(self.root))

    def _captions(self) -> tuple[dict[Path, list[Caption]], int]:
        """Return the captions of every image, and how many images are left out by lists."""
        images = find_files(self.root, IMAGE_SUFFIXES)
        if self.caption is None:
            return {path: [Caption("", str(path))] for path in images}, 0
        lists = self._lists()
        captions: dict[Path, list[Caption]] = {}
        for path in lists.values():
            for image, found in _listed(path, self.caption, self.root):
                captions.setdefault(image, []).extend(found)
        left_out = 0
        for path in images:
            if path in captions:
                continue
            if any(folder in lists for folder in path.parents):
                left_out += 1
            else:
                captions[path] = _beside(path)
        return captions, left_out

    def _lists(self) -> dict[Path, Path]:
        """Return the list of each folder that has one."""
        lists: dict[Path, Path] = {}
        for path in find_files(self.root, METADATA):
            if path.name.lower() not in METADATA:
                continue
            if path.parent in lists:
                raise ValueError(f"{path.parent} has {lists[path.parent].name} and {path.name}: keep one of them")
            lists[path.parent] = path
        return lists

    def _entries(self, path: Path, captions: Sequence[Caption]) -> list[ImageEntry]:
        """Return a sample for each caption of an image."""
        name = sample_name(path, self.root, captions[0].origin)
        group = name.rpartition("/")[0]
        first: dict[str, str] = {}
        entries = []
        for caption in captions:
            if caption.text in first:
                told = f"{caption.origin}: {name} has the caption {caption.text!r} already, in {first[caption.text]}"
                raise ValueError(readable(told))
            digest = f"#{blake2b(caption.text.encode(), digest_size=4).hexdigest()}" if first else ""
            first[caption.text] = caption.origin
            entries.append(
                ImageEntry(
                    name + digest,
                    path,
                    caption.text,
                    origin=caption.origin,
                    group=group,
                    image=name,
                    remark="" if caption.text or caption.flaw else NO_CAPTION,
                    flaw=caption.flaw,
                )
            )
        return entries


def _listed(path: Path, column: str, root: Path) -> list[tuple[Path, list[Caption]]]:
    """Read a list: the file of each row, as a search of the root finds it, and its captions."""
    found = []
    top = os.path.abspath(root)
    for line, row in _rows(path, column):
        origin = f"{path}, line {line}"
        name, texts = row.get(FILE_NAME), row.get(column)
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{origin}: there is no {FILE_NAME}")
        texts = texts if isinstance(texts, list) else [texts]
        if any(isinstance(text, dict | list) for text in texts):
            raise ValueError(f"{origin}: {column!r} is neither a text nor a list of texts")
        spoken = [str(text).strip() for text in texts if text is not None]
        place = os.path.relpath(os.path.join(os.path.abspath(path.parent), name.strip()), top)
        found.append((root / place, [Caption(text, origin) for text in spoken or [""]]))
    return found


def _rows(path: Path, column: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the rows of a list as mappings, with their lines."""
    if path.suffix.lower() == ".csv":
        table = read_csv(path)
        known: Sequence[str] = table.columns
        rows: list[tuple[int, Mapping[str, Any]]] = [
            (line, dict(zip(known, cells, strict=True))) for line, cells in table.rows if any(cells)
        ]
    else:
        rows = list(read_json_lines(path))
        known = list(dict.fromkeys(name for _, row in rows for name in row))
    for wanted, advice in ((FILE_NAME, ""), (column, "; name the column of captions with `caption`, null for none")):
        if known.count(wanted) != 1:
            fault = "two columns" if wanted in known else "no column"
            raise ValueError(f"{path}, line 1 has {fault} {wanted!r}, it has {', '.join(map(repr, known))}{advice}")
    return rows


def _beside(image: Path) -> list[Caption]:
    """Return the captions of the text file beside an image, one without text if there is none."""
    path = image.with_suffix(".txt")
    if not os.path.isfile(path):
        return [Caption("", str(image))]
    try:
        lines = [(number, line.strip()) for number, line in enumerate(read_lines(path), start=1)]
    except ValueError as error:
        return [Caption("", str(path), flaw=str(error))]
    found = [Caption(text, f"{path}, line {number}") for number, text in lines if text]
    return found or [Caption("", str(path))]
