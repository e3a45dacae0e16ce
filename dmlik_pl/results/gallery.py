"""Pictures and sounds that a run kept, made to be shown on a page beside the bits per dimension of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from dmlik_pl.results.embedding import Embedded, data_uri, embedded_image
from dmlik_pl.results.exhibits import Exhibit, exhibits
from dmlik_pl.results.frames import kind_of
from dmlik_pl.results.table import with_error

__all__ = ["Gallery", "Shown", "Sound", "make_gallery"]

_WIDEST, _SMALL_FILE = 1100, 60_000
_FIRST = {"source": 0, "vocoded": 1}

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Sound:
    """A wave, with the value of what is heard where it has a likelihood of its own."""

    name: str
    uri: str
    value: str


@dataclass(frozen=True)
class Shown:
    """One sample, or what one part of a study made of it.

    Attributes:
        sample_id: Its name.
        part: The part of the study, empty if there is one only.
        text: Its prompt or transcript.
        bpd: Bits per dimension of the data, by which samples are sorted; NaN if not known.
        value: The same with its probe error.
        picture: What it looks like, if it is shown.
        stages: Bits per dimension of each stage, with its heading.
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
    """What is shown of a study, and a sentence on what else the folder holds."""

    shown: list[Shown]
    left_out: str


def make_gallery(folder: Path, study: str, frame: pd.DataFrame, pictures: int, sound_bytes: int) -> Gallery:
    """Show what a run kept of a study, evenly from all its samples.

    Args:
        folder: The run folder.
        study: Name of the study.
        frame: Its records.
        pictures: At most so many pictures are shown, but one of each part.
        sound_bytes: Sounds of so many bytes in all, but of one sample of each part.
    """
    kept = list(exhibits(folder, study, frame))
    of_part = Counter(exhibit.part for exhibit in kept)
    size = sum(path.stat().st_size for exhibit in kept for path in exhibit.sounds.values())
    seen, heard = set(), set()
    for part in of_part:
        own = [exhibit for exhibit in kept if exhibit.part == part]
        visible = [exhibit.sample_id for exhibit in own if exhibit.picture is not None]
        audible = [exhibit.sample_id for exhibit in own if exhibit.sounds]
        seen |= {(part, name) for name in _evenly(visible, max(1, pictures // len(of_part)))}
        share = min(1.0, sound_bytes / size) if size else 1.0
        heard |= {(part, name) for name in _evenly(audible, max(1, int(share * len(audible))))}
    aligned = kind_of(study, frame) == "time_sweep"
    shown = [
        _show(exhibit, place in seen, place in heard, aligned)
        for exhibit in kept
        if (place := (exhibit.part, exhibit.sample_id)) in seen | heard
    ]
    return Gallery(shown, _left_out(study, kept, shown))


def _show(exhibit: Exhibit, seen: bool, heard: bool, aligned: bool) -> Shown:
    bits = exhibit.bits_per_dim()
    values = {stage: with_error(*value) for stage, value in bits.items()}
    data = bits.get("data") or bits.get("") or next(iter(bits.values()), (math.nan, math.nan))
    own = {stage.replace(" = ", ""): value for stage, value in values.items()} | {"source": values.get("data", "")}
    names = sorted(exhibit.sounds, key=lambda name: _FIRST.get(name, len(_FIRST))) if heard else []
    picture = None if exhibit.picture is None or not seen else embedded_image(exhibit.picture, _SMALL_FILE, _WIDEST)
    return Shown(
        sample_id=exhibit.sample_id,
        part=exhibit.part,
        text=exhibit.text,
        bpd=data[0],
        value=with_error(*data),
        picture=picture,
        stages=list(values.items()),
        aligned=aligned and len(values) == len(exhibit.records),
        sounds=[
            Sound(name, data_uri(exhibit.sounds[name].read_bytes(), "audio/wav"), own.get(name, "")) for name in names
        ],
    )


def _evenly(items: Sequence[_Item], most: int) -> Sequence[_Item]:
    return items[:: -(-len(items) // most)][:most] if items else []


def _left_out(study: str, kept: Sequence[Exhibit], shown: Sequence[Shown]) -> str:
    counts = {
        "pictures": (sum(one.picture is not None for one in shown), sum(one.picture is not None for one in kept)),
        "sounds": (sum(len(one.sounds) for one in shown), sum(len(one.sounds) for one in kept)),
    }
    places = {"pictures": f"pictures/{study}", "sounds": f"sound/{study}"}
    return " ".join(
        f"{few} of {all_} kept {what} are shown; all are in {places[what]} of the run's folder."
        for what, (few, all_) in counts.items()
        if few < all_
    )
