"""Any images with any prompts that compete for them, named in a CSV file."""

import os
from pathlib import Path

from dmlik_pl.data.base import EvaluationData
from dmlik_pl.data.image_files import ImageEntry, ImageFiles
from dmlik_pl.data.names import sample_name
from dmlik_pl.data.pictures import Channels, ImageForm, Resize
from dmlik_pl.ranges import at_least
from dmlik_pl.speech.lists import read_csv

__all__ = ["ImagePrompts"]

CSV_HELP = """A list of prompts is a CSV file, UTF-8, with one row per image: its file, relative to the folder; its true
prompt; and, in any number of columns that begin with "confounder", the prompts that compete with it. Images may have
different numbers of these, so cells may stay empty; put a prompt with a comma in quotes. For instance

image,prompt,confounder 1,confounder 2
cat.jpg,a cat on a mat,a mat on a cat,a dog on a mat
park/day.png,"a park, by day","a park, by night","""


class ImagePrompts(EvaluationData):
    """Images of any folder, each with its true prompt and others that compete with it, from a CSV file.

    The file has the columns image (relative to the folder), prompt (the true one), and any number that begin with
    "confounder", whose cells may stay empty. Images come in its order. One that is missing is a failure of its own,
    unless all are.

    Args:
        root: The folder of the images.
        prompts: The CSV file.
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "square" (the aspect ratio changes), "crop", or null to accept only images
            that have it already.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, the first of the file; null evaluates all.
        channels: 3 for colour; 1 turns images to grey, for models of one channel.
        background: The colour under transparent pixels, e.g. "white" or "#rrggbb".
    """

    def __init__(
        self,
        root: Path,
        prompts: Path,
        size: int = 1024,
        resize: Resize | None = "square",
        batch_size: int = 1,
        num_workers: int = 0,
        limit: int | None = None,
        channels: Channels = 3,
        background: str = "white",
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, size=size)
        self.root = Path(root)
        self.prompts = Path(prompts)
        self.form = ImageForm(size, resize, channels, background)

    def test_set(self) -> ImageFiles:
        """Return the images of the list.

        Raises:
            FileNotFoundError: If the folder, the list, or every image of the list is missing.
            ValueError: If the list has another form, with the line.
        """
        if not os.path.isdir(self.root):
            raise FileNotFoundError(f"there is no folder of images {self.root.absolute()}.\n{CSV_HELP}")
        if not os.path.isfile(self.prompts):
            raise FileNotFoundError(f"there is no list of prompts {self.prompts.absolute()}.\n{CSV_HELP}")
        try:
            entries = self._entries()
        except ValueError as error:
            raise ValueError(f"{error}.\n{CSV_HELP}") from error
        if entries and not any(os.path.isfile(entry.path) for entry in entries):
            first = entries[0]
            raise FileNotFoundError(f"{first.origin}: there is no image {first.path.absolute()}.\n{CSV_HELP}")
        return ImageFiles(entries, self.form, str(self.prompts))

    def _entries(self) -> list[ImageEntry]:
        """Read the list; its faults are reported before anything runs."""
        table = read_csv(self.prompts)
        columns = [column.lower() for column in table.columns]
        others = [place for place, column in enumerate(columns) if column.startswith("confounder")]
        wrong = [f"needs one {column!r}" for column in ("image", "prompt") if columns.count(column) != 1]
        known = [column in ("image", "prompt") or column.startswith("confounder") for column in columns]
        wrong += [f"has {column!r}" for column, fits in zip(columns, known, strict=True) if not fits]
        wrong += [] if others else ["has no 'confounder'"]
        if wrong:
            raise ValueError(f"{self.prompts}, line 1 {wrong[0]} among its columns")
        image, prompt = columns.index("image"), columns.index("prompt")
        entries = []
        for line, row in table.rows:
            cells = [cell.strip() for cell in row]
            if any(cells):
                competing = [cells[place] for place in others if cells[place]]
                entries.append(self._entry(f"{self.prompts}, line {line}", cells[image], cells[prompt], competing))
        return entries

    def _entry(self, where: str, image: str, true: str, others: list[str]) -> ImageEntry:
        candidates = [true, *others]
        if not image or not true:
            raise ValueError(f"{where}: there is no {'true prompt' if image else 'image'}")
        if not others:
            raise ValueError(f"{where}: nothing competes with {true!r}; give at least one confounder")
        if repeated := [prompt for prompt in candidates if candidates.count(prompt) > 1]:
            raise ValueError(f"{where}: {repeated[0]!r} is there more than once")
        path = self.root / image
        return ImageEntry(sample_name(path, self.root, where), path, true, candidates=candidates, origin=where)
