"""Pictures and sounds that a run kept, each with the bits per dimension of what is seen or heard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.results.embedding import Embedded, data_uri, embedded_image
from dmlik_pl.results.frames import column, data_likelihoods, kind_of
from dmlik_pl.results.pictures import kept_pictures
from dmlik_pl.results.sharing import sound_paths
from dmlik_pl.results.table import with_error

__all__ = ["Exhibit", "Gallery", "Sound", "make_gallery"]

_PICTURES = 96
_WIDEST, _SMALL_FILE = 1100, 60_000
_SOUND_BYTES = 5_000_000


@dataclass(frozen=True)
class Sound:
    """A wave with the value of what is heard; no value where it has no likelihood of its own."""

    name: str
    uri: str
    value: str


@dataclass(frozen=True)
class Exhibit:
    """One sample as it is shown.

    Attributes:
        sample_id: Its name.
        part: The part of the study that it is of, empty if there is one only.
        text: Its prompt or transcript.
        bpd: Bits per dimension of the data, by which exhibits are sorted; NaN if not known.
        value: The same with its probe error.
        picture: What it looks like, if a picture was kept.
        stages: Headings and values of its records; those of the picture's panels if `aligned`.
        aligned: Whether the picture's panels are the stages, from left to right.
        sounds: What it sounds like.
    """

    sample_id: str
    part: str
    text: str
    bpd: float
    value: str
    picture: Embedded | None
    stages: list[tuple[str, str]]
    aligned: bool
    sounds: list[Sound]


@dataclass(frozen=True)
class Gallery:
    """The exhibits of a study, and a sentence on what else the folder holds."""

    exhibits: list[Exhibit]
    left_out: str


def make_gallery(folder: Path, study: str, frame: pd.DataFrame, pictures: int = _PICTURES) -> Gallery:
    """Show what a run kept of a study.

    Args:
        folder: The run folder.
        study: Name of the study.
        frame: Its records.
        pictures: At most so many pictures are shown, evenly from all samples.
    """
    rows = _with_bits_per_dim(frame)
    parts = _parts(folder, study)
    names = list(dict.fromkeys(frame["sample_id"]))
    kept = {part: kept_pictures(folder / "pictures" / study / part, names, len(names)) for part in parts}
    heard = {part: [name for name in names if sound_paths(folder, _unit(study, part), name)] for part in parts}
    sounds = [path for part in parts for name in heard[part] for path in sound_paths(folder, _unit(study, part), name)]
    share = min(1.0, _SOUND_BYTES / max(1, sum(path.stat().st_size for path in sounds)))
    exhibits = []
    for part in parts:
        shown = dict(_evenly(kept[part], max(1, pictures // max(1, len(parts)))))
        playing = set(_evenly(heard[part], max(1, int(share * len(heard[part])))))
        own = _of_part(rows, part)
        for name, records in own[own["sample_id"].isin([*shown, *playing])].groupby("sample_id", sort=False):
            waves = sound_paths(folder, _unit(study, part), str(name)) if name in playing else []
            exhibits.append(_exhibit(str(name), part, kind_of(study, frame), records, shown.get(str(name)), waves))
    return Gallery(exhibits, _left_out(study, sum(map(len, kept.values())), len(sounds), exhibits))


def _exhibit(
    name: str, part: str, kind: str, rows: pd.DataFrame, picture: Path | None, waves: Sequence[Path]
) -> Exhibit:
    records = rows.to_dict("records")
    values = [(_heading(row), with_error(row["bpd"], row["bpd_standard_error"])) for row in records]
    data = next((row for row in records if row.get("stage", "data") == "data"), records[0])
    sounds = []
    for path in waves:
        label = path.stem.removeprefix(f"{name.replace('/', '_')}-")
        of = next((value for row, (_, value) in zip(records, values, strict=True) if label in _sound_names(row)), "")
        sounds.append(Sound(label, data_uri(path.read_bytes(), "audio/wav"), of))
    text = next((str(data[key]) for key in ("prompt", "text", "truth") if isinstance(data.get(key), str)), "")
    return Exhibit(
        sample_id=name,
        part=part,
        text=text,
        bpd=float(data["bpd"]),
        value=with_error(data["bpd"], data["bpd_standard_error"]),
        picture=None if picture is None else embedded_image(picture, _SMALL_FILE, _WIDEST),
        stages=[
            (heading, value) for heading, value in values if kind == "time_sweep" or value != with_error(math.nan, 0)
        ],
        aligned=kind == "time_sweep",
        sounds=sounds,
    )


def _heading(row: dict[Any, Any]) -> str:
    if row.get("stage") == "sample":
        return f"t = {row['time']:g}"
    if row.get("stage") == "adapted":
        return f"{row['forward']} → {row['reverse']}"
    return str(row.get("stage", "data"))


def _sound_names(row: dict[Any, Any]) -> tuple[str, ...]:
    """What the sound of a record is called."""
    if row.get("stage") == "sample":
        return (f"t{row['time']:g}",)
    if row.get("stage") == "adapted":
        return (f"{row['forward']}-{row['reverse']}",)
    return ("source",) if row.get("stage") == "data" else ()


def _with_bits_per_dim(frame: pd.DataFrame) -> pd.DataFrame:
    """Records with columns bpd and bpd_standard_error, those of the data where a study scores prompts."""
    if "bpd" in frame:
        rows = frame.assign(bpd=column(frame, "bpd"), bpd_standard_error=column(frame, "bpd_standard_error"))
        # Several blurs make several records of one way; the pictures and sounds are those of the first.
        return rows[rows["mean"] == rows["mean"].iloc[0]] if "mean" in rows else rows
    data = data_likelihoods(frame)
    rows = frame.drop_duplicates("sample_id").assign(log_p=np.nan, dims=np.nan) if data is None else data
    unit = column(rows, "dims") * np.log(2)
    bits, errors = -column(rows, "log_p") / unit, column(rows, "standard_error") / unit
    return rows.assign(bpd=bits, bpd_standard_error=errors)


def _parts(folder: Path, study: str) -> list[str]:
    """Parts of a study with pictures or sounds of their own, "" for a study of one part."""
    places = [folder / kind / study for kind in ("pictures", "sound")]
    return sorted({"", *(path.name for place in places if place.is_dir() for path in place.iterdir() if path.is_dir())})


def _unit(study: str, part: str) -> str:
    return f"{study}/{part}" if part else study


def _of_part(rows: pd.DataFrame, part: str) -> pd.DataFrame:
    """Records of a part such as "guidance=3,size=512,reconstructed"."""
    settings = dict(word.partition("=")[::2] for word in part.split(",")) if part else {}
    for name, value in settings.items():
        if name in rows:
            rows = rows[rows[name].map(lambda found, value=value: _same(found, value))]
    if part and "reconstructed" in rows:
        rows = rows[rows["reconstructed"].fillna(False).astype(bool) == ("reconstructed" in settings)]
    return rows


def _same(found: object, text: str) -> bool:
    if isinstance(found, bool | np.bool_):
        return bool(found) == (text not in ("False", "no", "0"))
    return f"{found:g}" == text if isinstance(found, int | float) else str(found) == text


def _evenly(items: list[Any], most: int) -> list[Any]:
    return items[:: -(-len(items) // most)][:most] if items else []


def _left_out(study: str, pictures: int, sounds: int, exhibits: Sequence[Exhibit]) -> str:
    shown = {
        ("pictures", "pictures", pictures): sum(exhibit.picture is not None for exhibit in exhibits),
        ("sounds", "sound", sounds): sum(len(exhibit.sounds) for exhibit in exhibits),
    }
    return " ".join(
        f"{count} of {kept} kept {what} are shown; all are in {place}/{study} of the run's folder."
        for (what, place, kept), count in shown.items()
        if count < kept
    )
