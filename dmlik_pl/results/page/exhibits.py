"""What a run kept to be looked at and listened to, each with the likelihoods that belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.frames import column
from dmlik_pl.records.sharing import picture_path, sound_paths
from dmlik_pl.results.kinds import Kind, kind_of
from dmlik_pl.results.likelihoods import nats_per_bpd, total_errors

__all__ = ["Exhibit", "exhibits"]


@dataclass(frozen=True)
class Exhibit:
    """A sample of which there is a picture or a sound.

    Attributes:
        sample_id: Name of the sample.
        part: Label of the part of the study, empty where it has but one.
        picture: Its picture, if one was kept.
        sounds: Its sounds by name.
        records: What the study recorded of the sample in this part.
        kind: The kind of the study.
    """

    sample_id: str
    part: str
    picture: Path | None
    sounds: dict[str, Path]
    records: pd.DataFrame
    kind: Kind

    @property
    def text(self) -> str:
        """The sample's prompt or text as a line that is not endless, empty if the records have neither."""
        known = [one_line(self.records[name].iloc[0]) for name in ("prompt", "text") if name in self.records]
        return known[0] if known else ""

    def bits_per_dim(self) -> dict[str, tuple[float, float]]:
        """Bits per dimension and their total errors, by stage, where a stage has a likelihood."""
        if self.kind.stages is not None:
            return self.kind.stages(self.records)
        data = self.kind.data(self.records)
        if data is None or not len(data.rows):
            return {}
        unit = nats_per_bpd(data.rows)
        bits, errors = -column(data.rows, "log_p") / unit, total_errors(data.rows, "log_p") / unit
        return {"data": (bits[0], errors[0])} if np.isfinite(bits[0]) else {}


def exhibits(folder: str | Path, study: str, frame: pd.DataFrame) -> Iterator[Exhibit]:
    """The exhibits of a study, part by part, in the order of its records.

    Args:
        folder: The run folder.
        study: Name of the study.
        frame: Its records.
    """
    folder, kind = Path(folder), kind_of(study, frame)
    rooms = [path for kind in ("pictures", "sound") for path in (folder / kind / study).glob("*/")]
    for part in ["", *sorted({room.name for room in rooms})]:
        unit = f"{study}/{part}" if part else study
        for sample_id, records in _of_part(frame, part).groupby("sample_id", sort=False):
            picture, sounds = picture_path(folder, unit, str(sample_id)), sound_paths(folder, unit, str(sample_id))
            if picture.is_file() or sounds:
                yield Exhibit(str(sample_id), part, picture if picture.is_file() else None, sounds, records, kind)


def _of_part(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    """The records of one part, by its label."""
    return frame[frame["part"] == part] if part and "part" in frame else frame
