"""Pictures and sounds that a run kept, made to be shown on a page beside the bits per dimension of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.store import studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.kinds import kind_of
from dmlik_pl.results.page.embedding import Embedded, data_uri, embedded_image
from dmlik_pl.results.page.exhibits import Exhibit, exhibits
from dmlik_pl.results.table import with_error

__all__ = ["Gallery", "Limits", "Shown", "Sound", "make_galleries", "make_gallery"]

_WIDEST, _SMALL_FILE = 1100, 60_000
_FIRST = {"source": 0, "vocoded": 1}


@dataclass(frozen=True)
class Limits:
    """How much of what was kept is shown; at least one picture and the sounds of one sample of each part are.

    Attributes:
        pictures: Number of pictures.
        picture_bytes: Size of their files together, by which the time to read them goes.
        sound_bytes: Size of the sounds' files together.
    """

    pictures: int = 96
    picture_bytes: int = 64_000_000
    sound_bytes: int = 5_000_000


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


def make_galleries(folder: Path, records: Mapping[str, pd.DataFrame], attempts: Attempts) -> dict[str, Gallery]:
    """Show what a run kept of each study, as much of each as a page can hold together.

    Args:
        folder: The run folder.
        records: One frame per study, as the record store returns them.
        attempts: Keeps what could not be shown.
    """
    known = studies(records)
    sharing = max(1, sum(any((folder / kind / study).is_dir() for kind in ("pictures", "sound")) for study in known))
    whole = Limits()
    limits = Limits(whole.pictures // sharing, whole.picture_bytes // sharing, whole.sound_bytes // sharing)
    galleries = {}
    for study, frame in known.items():
        galleries[study] = Gallery([], "")
        with attempts.making("The gallery of samples", study):
            galleries[study] = make_gallery(folder, study, frame, limits, attempts)
    return galleries


def make_gallery(
    folder: Path, study: str, frame: pd.DataFrame, limits: Limits, attempts: Attempts | None = None
) -> Gallery:
    """Show what a run kept of a study, evenly from all its samples.

    Args:
        folder: The run folder.
        study: Name of the study.
        frame: Its records.
        limits: How much of it.
        attempts: Keeps what could not be shown.
    """
    attempts = attempts or Attempts()
    kept = list(exhibits(folder, study, frame))
    pictures = {_place(exhibit): [exhibit.picture] for exhibit in kept if exhibit.picture is not None}
    sounds = {_place(exhibit): list(exhibit.sounds.values()) for exhibit in kept if exhibit.sounds}
    seen = _evenly(pictures, limits.picture_bytes, limits.pictures)
    heard = _evenly(sounds, limits.sound_bytes, len(kept))
    aligned = kind_of(study, frame).panels
    shown = []
    for exhibit in kept:
        if (place := _place(exhibit)) in seen | heard:
            with attempts.making(f"What was kept of {one_line(exhibit.sample_id)}", study):
                shown.append(_show(exhibit, place in seen, place in heard, aligned))
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


def _place(exhibit: Exhibit) -> tuple[str, str]:
    return exhibit.part, exhibit.sample_id


def _evenly(files: Mapping[tuple[str, str], Sequence[Path]], most_bytes: int, most: int) -> set[tuple[str, str]]:
    """Samples of each part, evenly from all, whose files are together not larger than allowed."""
    size = sum(path.stat().st_size for paths in files.values() for path in paths)
    share = min(1.0, most_bytes / size, most / len(files)) if size else 1.0
    chosen: set[tuple[str, str]] = set()
    for part in {part for part, _ in files}:
        own = [place for place in files if place[0] == part]
        chosen |= {own[k] for k in range(0, len(own), -(-len(own) // max(1, int(share * len(own)))))}
    return chosen


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
