"""Any images with any prompts that compete for them, named in a CSV file."""

import csv
from pathlib import Path

from dmlik_pl.data.base import EvaluationData
from dmlik_pl.data.folders import ImageEntry, ImageFiles, Resize
from dmlik_pl.ranges import at_least

__all__ = ["ImagePrompts"]

CSV_HELP = """A list of prompts is a CSV file, UTF-8, with a row an image: its file, relative to the folder; its true
prompt; and in any number of columns that begin with "confounder" the prompts that compete with it. Images need not have
equally many, cells may stay empty; a prompt with a comma stands in quotes. For instance

image,prompt,confounder 1,confounder 2
cat.jpg,a cat on a mat,a mat on a cat,a dog on a mat
park/day.png,"a park, by day","a park, by night","""


class ImagePrompts(EvaluationData):
    """Images of any folder, each with its true prompt and others that compete with it, from a CSV file.

    The file has the columns image (relative to the folder), prompt (the true one), and any number that begin with
    "confounder", whose cells may stay empty. Images come in its order.

    Args:
        root: The folder of the images.
        prompts: The CSV file.
        size: Height and width in pixels of the images handed over.
        resize: How an image gets that size: "square" (the aspect ratio changes), "crop", or null to accept only images
            that have it already.
        batch_size: Samples per batch.
        num_workers: Processes that load samples; 0 loads in the main process.
        limit: Evaluate at most this many samples, the first of the file; null evaluates all.
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
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, size=size)
        self.root = Path(root)
        self.prompts = Path(prompts)
        self.size = size
        self.resize: Resize | None = resize

    def test_set(self) -> ImageFiles:
        """Return the images of the list.

        Raises:
            FileNotFoundError: If the folder, the list, or an image of the list is missing.
            ValueError: If the list has another form, with the line.
        """
        if not self.root.is_dir():
            raise FileNotFoundError(f"there is no folder of images {self.root.absolute()}.\n{CSV_HELP}")
        if not self.prompts.is_file():
            raise FileNotFoundError(f"there is no list of prompts {self.prompts.absolute()}.\n{CSV_HELP}")
        return ImageFiles(self._entries(), self.size, self.resize, str(self.prompts))

    def _entries(self) -> list[ImageEntry]:
        """Read the list; what is wrong with it is told before anything runs."""
        with self.prompts.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            columns = [column.strip().lower() for column in next(lines, [])]
            others = [place for place, column in enumerate(columns) if column.startswith("confounder")]
            missing = [column for column in ("image", "prompt") if columns.count(column) != 1]
            unknown = [
                column
                for column in columns
                if column not in ("image", "prompt") and not column.startswith("confounder")
            ]
            if missing or unknown or not others:
                wrong = (
                    f"needs one {missing[0]!r}"
                    if missing
                    else f"has {unknown[0]!r}"
                    if unknown
                    else "has no 'confounder'"
                )
                raise ValueError(f"{self.prompts} {wrong} among its columns.\n{CSV_HELP}")
            entries = []
            for cells in lines:
                where = f"{self.prompts}, line {lines.line_num}"
                if len(cells) > len(columns):
                    raise ValueError(f"{where} has {len(cells)} cells in {len(columns)} columns.\n{CSV_HELP}")
                cells = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
                image, true = cells[columns.index("image")], cells[columns.index("prompt")]
                if any(cells):
                    entries.append(self._entry(where, image, true, [cells[place] for place in others if cells[place]]))
        return entries

    def _entry(self, where: str, image: str, true: str, others: list[str]) -> ImageEntry:
        candidates = [true, *others]
        if not image or not true:
            raise ValueError(f"{where}: there is no {'true prompt' if image else 'image'}.\n{CSV_HELP}")
        if not others:
            raise ValueError(f"{where}: nothing competes with {true!r}; give at least one confounder.\n{CSV_HELP}")
        if repeated := [prompt for prompt in candidates if candidates.count(prompt) > 1]:
            raise ValueError(f"{where}: {repeated[0]!r} stands there more than once.\n{CSV_HELP}")
        if unfit := [prompt for prompt in candidates if "|" in prompt]:
            raise ValueError(f"{where}: {unfit[0]!r} holds '|', which separates prompts in records.\n{CSV_HELP}")
        if not (self.root / image).is_file():
            raise FileNotFoundError(f"{where}: there is no image {(self.root / image).absolute()}.\n{CSV_HELP}")
        return ImageEntry(Path(image).as_posix(), self.root / image, true, candidates=candidates)
