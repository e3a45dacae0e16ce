"""What a run kept to be looked at and listened to, each with the likelihoods that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.results.frames import column, data_likelihoods
from dmlik_pl.results.plain_text import one_line
from dmlik_pl.results.sharing import picture_path, sound_paths

__all__ = ["Exhibit", "exhibits", "stage_name"]


@dataclass(frozen=True)
class Exhibit:
    """A sample of which there is a picture or a sound.

    Attributes:
        sample_id: Name of the sample.
        part: Label of the part of the study, empty where it has but one.
        picture: Its picture, if one was kept.
        sounds: Its sounds by name.
        records: What the study recorded of the sample in this part.
    """

    sample_id: str
    part: str
    picture: Path | None
    sounds: dict[str, Path]
    records: pd.DataFrame

    @property
    def text(self) -> str:
        """The sample's prompt or text as a line that is not endless, empty if the records have neither."""
        known = [one_line(self.records[name].iloc[0]) for name in ("prompt", "text") if name in self.records]
        return known[0] if known else ""

    def bits_per_dim(self) -> dict[str, tuple[float, float]]:
        """Bits per dimension and their standard errors over probes, by stage, where a stage has a likelihood."""
        rows = self.records
        if "bpd" not in rows:
            likelihoods = data_likelihoods(rows)
            if likelihoods is None:
                return {}
            unit = column(likelihoods, "dims") * np.log(2)
            bits, errors = -column(likelihoods, "log_p") / unit, column(likelihoods, "standard_error") / unit
            return {"data": (bits[0], errors[0])} if np.isfinite(bits[0]) else {}
        if "mean" in rows:  # of several blurs the first is seen and heard
            rows = rows[rows["mean"] == rows["mean"].iloc[0]]
        values = zip(column(rows, "bpd"), column(rows, "bpd_standard_error"), strict=True)
        stages = map(stage_name, rows.to_dict("records"))
        return {stage: value for stage, value in zip(stages, values, strict=True) if np.isfinite(value[0])}


def exhibits(folder: str | Path, study: str, frame: pd.DataFrame) -> Iterator[Exhibit]:
    """The exhibits of a study, part by part, in the order of its records.

    Args:
        folder: The run folder.
        study: Name of the study.
        frame: Its records.
    """
    folder = Path(folder)
    rooms = [path for kind in ("pictures", "sound") for path in (folder / kind / study).glob("*/")]
    for part in ["", *sorted({room.name for room in rooms})]:
        unit = f"{study}/{part}" if part else study
        for sample_id, records in _of_part(frame, part).groupby("sample_id", sort=False):
            picture, sounds = picture_path(folder, unit, str(sample_id)), sound_paths(folder, unit, str(sample_id))
            if picture.is_file() or sounds:
                yield Exhibit(str(sample_id), part, picture if picture.is_file() else None, sounds, records)


def stage_name(row: Mapping[Any, Any]) -> str:
    """What a record is of, in a word or two: "data", "t = 0.5", a way there and back."""
    if row.get("stage") == "adapted":
        return f"{row['forward']}-{row['reverse']}"
    time = row.get("time")
    return f"t = {time:g}" if isinstance(time, float) and not np.isnan(time) else str(row.get("stage", ""))


def _of_part(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    """The records of one part, whose label names values of columns and flags that are set."""
    settings = dict(piece.partition("=")[::2] for piece in part.split(",")) if part else {}
    for name, value in settings.items():
        if name in frame and value:
            frame = frame[frame[name].map(lambda found, value=value: _same(found, value))]
    if part and "reconstructed" in frame:
        frame = frame[frame["reconstructed"].fillna(False).astype(bool) == ("reconstructed" in settings)]
    return frame


def _same(found: object, text: str) -> bool:
    """Whether a value is the one of a label; "data" stands for whatever the data have."""
    return text in ("data", f"{found:g}" if isinstance(found, int | float) else str(found))
