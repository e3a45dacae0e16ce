"""Image files with what is true of them, as a data set."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dmlik_pl.data.base import EvaluationSet, Failure, Sample
from dmlik_pl.data.names import readable, require_unique
from dmlik_pl.data.pictures import ImageForm
from dmlik_pl.data.stamps import file_stamp

__all__ = ["ImageEntry", "ImageFiles"]


@dataclass(frozen=True)
class ImageEntry:
    """One image file and what is true of it.

    Attributes:
        sample_id: A stable name, see :func:`dmlik_pl.data.names.sample_name`.
        path: The file.
        prompt: The true prompt.
        attributes: True values by attribute name.
        candidates: Prompts that compete for the image, the true one among them; empty where there are none.
        origin: Where the entry comes from, for messages: the file, or a line of a list.
        group: The class that a limited number of samples is taken evenly from; all attribute values together if empty.
        image: The name of the image where several entries share it, as those of several captions do.
        remark: What was assumed, e.g. that the image has the empty prompt.
        flaw: Why the entry cannot be used; empty if it can.
    """

    sample_id: str
    path: Path
    prompt: str
    attributes: dict[str, str] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=list)
    origin: str = ""
    group: str = ""
    image: str = ""
    remark: str = ""
    flaw: str = ""

    @property
    def cell(self) -> str:
        """The cell of the experiment that the image counts in."""
        return self.group or "/".join(self.attributes.values())


class ImageFiles(EvaluationSet):
    """Image files with prompts; a file that cannot be read as an image becomes a `Failure`.

    Args:
        entries: The files.
        form: What is made of them.
        source: Where they were looked for.

    Raises:
        ValueError: If two entries have one name, or no size is to be made and a file has the wrong one.
    """

    def __init__(self, entries: Sequence[ImageEntry], form: ImageForm, source: str) -> None:
        self.entries = list(entries)
        self.sample_ids = [entry.sample_id for entry in self.entries]
        self.groups = [entry.cell for entry in self.entries]
        self.kept_together = [entry.image or entry.sample_id for entry in self.entries]
        self.source = readable(source)
        self.form = form
        require_unique(self.sample_ids, [entry.origin or str(entry.path) for entry in self.entries])
        for entry in self.entries:
            form.require_size(entry.path)  # a setting that does not fit the data should not come to light after hours

    def __getitem__(self, index: int) -> Sample | Failure:
        """Read one image."""
        entry = self.entries[index]
        if entry.flaw:
            return Failure(entry.sample_id, readable(entry.flaw))
        try:
            image, converted = self.form.load(entry.path)
        except Exception as error:  # decoders of damaged files raise almost anything
            return Failure(entry.sample_id, readable(f"{entry.path} cannot be read as an image: {error}"))
        notes = "; ".join(filter(None, (entry.remark, converted)))
        return Sample(entry.sample_id, image, entry.prompt, entry.attributes, entry.candidates, notes)

    def stamp(self, index: int) -> str:
        """Return what the sample at a position is made of: all that is listed of it, and the state of its file."""
        entry = self.entries[index]
        return json.dumps([asdict(entry), asdict(self.form), file_stamp(entry.path)], default=str, sort_keys=True)
