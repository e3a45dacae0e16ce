"""Pictures of a sweep over time and settings: contact sheets, and Figures 1 and 3 of Cross and Ragni."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dmlik_pl.records.frames import column
from dmlik_pl.records.protocol import is_published
from dmlik_pl.results.drawing import named
from dmlik_pl.results.likelihoods import total_errors
from dmlik_pl.results.parts import Part, labels, parts_of
from dmlik_pl.results.pictures import kept_pictures
from dmlik_pl.results.table import MISSING, with_error
from dmlik_pl.results.time_sweep.summaries import stages_of

__all__ = ["sweep_sheets"]

_ALONE, _AMONG_OTHERS = 12, 6
_MOST_COLUMNS = 9
_EXAMPLES = 4
_INCHES = 1.1
_PIXELS = 320
_LETTERS_AN_INCH = 13


@dataclass(frozen=True)
class _Pictures:
    """The pictures of one part with what was measured of them.

    Attributes:
        part: The part.
        files: Names of samples with their pictures: stages side by side, a reconstruction below its source.
        rows: The records of those samples.
    """

    part: Part
    files: Mapping[str, Path]
    rows: pd.DataFrame

    @cached_property
    def stages(self) -> list[tuple[str, float, float]]:
        """Stage, time and noise level in the order of the panels."""
        return [(stage, time, column(level, "sigma").mean()) for stage, time, level in stages_of(self.rows)]

    @cached_property
    def heights(self) -> int:
        """How many panels stand above each other."""
        width, height = Image.open(next(iter(self.files.values()))).size
        return max(1, round(height * len(self.stages) / width))

    def prompt(self, name: str) -> str:
        """What a sample shows."""
        rows = self.rows[self.rows["sample_id"] == name]
        return named(str(rows["prompt"].iloc[0]).removeprefix("a photo of ") if "prompt" in rows else name)

    def whole(self, name: str) -> np.ndarray:
        """The whole picture of a sample, [H, W, 3], no larger than it can be shown."""
        picture = Image.open(self.files[name]).convert("RGB")
        picture.thumbnail((_PIXELS * len(self.stages), _PIXELS * self.heights))
        return np.asarray(picture)

    def panel(self, name: str, stage: int, below: bool = False) -> np.ndarray:
        """The picture of one stage, [H, W, 3]; the reconstruction if `below`."""
        picture = Image.open(self.files[name]).convert("RGB")
        width, height = picture.width / len(self.stages), picture.height / self.heights
        top = height if below else 0
        panel = picture.crop((round(stage * width), round(top), round((stage + 1) * width), round(top + height)))
        panel.thumbnail((_PIXELS, _PIXELS))
        return np.asarray(panel)

    def bits(self, name: str, stage: int, measure: str = "bpd") -> str:
        """Bits per dimension of a sample at a stage with their total error."""
        level = self._level(name, stage)
        return with_error(column(level, measure)[0], total_errors(level, measure)[0]) if len(level) else MISSING

    def value(self, name: str, stage: int, measure: str) -> float:
        """What was measured of a sample at a stage; NaN if it was not."""
        known = column(self._level(name, stage), measure)
        return float(known[0]) if known.size else float("nan")

    def _level(self, name: str, stage: int) -> pd.DataFrame:
        """The records of a sample at a stage."""
        _, _, level = list(stages_of(self.rows))[stage]
        return level[level["sample_id"] == name]


def sweep_sheets(folder: str | Path, frame: pd.DataFrame) -> dict[str, Figure]:
    """Sheets of the pictures that a sweep kept.

    Args:
        folder: Where the pictures are, those of each part in a folder of its own.
        frame: The records of the sweep.

    Returns:
        Figures by name: "pictures" (one for each of the chosen settings if there are several), "samples" (what each
        setting makes of the same noise), "process" (from noise to data) and "reconstruction"; those of which there are
        pictures.
    """
    parts = parts_of(frame)
    words = labels(parts)
    most = _ALONE if len(parts) == 1 else _AMONG_OTHERS
    kept = {
        part: pictures
        for part, rows in parts.items()
        if (pictures := _find(Path(folder), part, rows, len(parts), most))
    }
    figures = {}
    for part in _ends(kept):
        name = "pictures" if len(parts) == 1 else f"pictures_{_file_name(words[part])}"
        figures[name] = _contact_sheet(kept[part], "" if len(parts) == 1 else words[part])
    plain = [pictures for part, pictures in kept.items() if not part.reconstructed]
    if len(plain) > 1:
        figures["samples"] = _samples(plain[: _MOST_COLUMNS - 1], words)
    if plain:
        figures["process"] = _process([p for p in plain if p.part.size == plain[-1].part.size], words)
    both = [pictures for part, pictures in kept.items() if part.reconstructed and pictures.heights == 2]
    if both:
        chosen = next(p for p in both if p.part.size == both[-1].part.size)
        figures["reconstruction"] = _reconstruction(chosen, parts.get(chosen.part._replace(reconstructed=False)), words)
    return figures


def _find(folder: Path, part: Part, rows: pd.DataFrame, parts: int, most: int) -> _Pictures | None:
    rooms = [room for room in sorted(folder.glob("*/")) if _holds(room.name, part)]
    room = rooms[0] if rooms else folder if parts == 1 else None
    files = {} if room is None else dict(kept_pictures(room, rows["sample_id"], most))
    return _Pictures(part, files, rows[rows["sample_id"].isin(files)]) if files else None


def _holds(label: str, part: Part) -> bool:
    """Whether the label of a part, such as "guidance=7,size=512,reconstructed", is that of a part."""
    settings = dict(piece.partition("=")[::2] for piece in label.split(","))
    size, guidance = settings.get("size", "data"), settings.get("guidance", "")
    return (
        ("reconstructed" in settings) == part.reconstructed
        and (part.size is None or size in ("data", str(part.size)))
        and (part.guidance is None or guidance == f"{part.guidance:g}")
    )


def _ends(parts: Mapping[Part, _Pictures]) -> list[Part]:
    """The lowest and the highest guidance of every size, plain and reconstructed."""
    groups: dict[tuple[int | None, bool], list[Part]] = {}
    for part in parts:
        groups.setdefault((part.size, part.reconstructed), []).append(part)
    return [part for group in groups.values() for part in dict.fromkeys((group[0], group[-1]))]


def _contact_sheet(pictures: _Pictures, title: str) -> Figure:
    """A row per sample: the data, then X_t from noise to data."""
    titles = [_stage_title(*stage) for stage in pictures.stages]
    above = 0.5 + 0.3 * bool(title)
    figure = Figure(
        figsize=(_INCHES * (len(titles) + 1.6), above + _INCHES * pictures.heights * len(pictures.files)),
        layout="constrained",
    )
    for row, (name, axes) in enumerate(
        zip(pictures.files, figure.subplots(len(pictures.files), 1, squeeze=False)[:, 0], strict=True)
    ):
        picture = pictures.whole(name)
        axes.imshow(picture)
        axes.set_ylabel(pictures.prompt(name), rotation=0, ha="right", va="center", fontsize=8)
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=8)
        width = picture.shape[1] / len(titles)
        axes.set_xticks([(k + 0.5) * width for k in range(len(titles))], titles if row == 0 else [])
        axes.xaxis.tick_top()
    if title:
        figure.suptitle(title + (": source above, reconstruction below" if pictures.heights == 2 else ""), fontsize=10)
    return figure


def _samples(settings: Sequence[_Pictures], words: Mapping[Part, str]) -> Figure:
    """A row per sample: its data, and what each setting makes of the same noise and prompt, with bits per dimension."""
    names = list(settings[0].files)
    figure, grid = _grid(len(names), 1 + len(settings))
    for row, name in zip(grid, names, strict=True):
        _show(row[0], settings[0].panel(name, 0), settings[0].bits(name, 0))
        _name(row[0], settings[0].prompt(name))
        for axes, pictures in zip(row[1:], settings, strict=True):
            last = len(pictures.stages) - 1
            if name in pictures.files:
                _show(axes, pictures.panel(name, last), pictures.bits(name, last))
            else:
                axes.axis("off")
    for axes, title in zip(grid[0], ["data", *(words[p.part].replace(", ", "\n") for p in settings)], strict=True):
        axes.set_title(title, fontsize=9)
    last_time = settings[0].stages[-1][1]
    _title(
        figure,
        f"What every setting makes of the same noise, at t = {last_time:g}. Below: bits per dimension ± probe error, "
        f"of the data under {words[settings[0].part]}",
    )
    return figure


def _process(settings: Sequence[_Pictures], words: Mapping[Part, str]) -> Figure:
    """From noise to data, as Fig. 1: one sample under each guidance, or several samples if there is only one."""
    if len(settings) > 1:
        name = next(iter(settings[0].files))
        ways = [
            (pictures, name, words[pictures.part])
            for pictures in _spread(settings, _EXAMPLES)
            if name in pictures.files
        ]
        title = f"{settings[0].prompt(name)}: from noise to data, one noise under every guidance"
    else:
        ways = [(settings[0], name, settings[0].prompt(name)) for name in _spread(list(settings[0].files), _EXAMPLES)]
        title = "From noise to data"
    title += ", each time from its own noise" if is_published(settings[0].rows) else ""
    stages = settings[0].stages
    order = [*range(1, len(stages)), 0] if stages[0][0] == "data" else list(range(len(stages)))
    figure, grid = _grid(len(ways), len(order))
    for row, (pictures, name, heading) in zip(grid, ways, strict=True):
        for axes, stage in zip(row, order, strict=True):
            own = pictures.bits(name, stage, "bpd_marginal") if stages[stage][0] == "sample" else MISSING
            below = pictures.bits(name, stage) + (f"\nat t {own}" if own != MISSING else "")
            _show(axes, pictures.panel(name, stage), below)
        _name(row[0], heading)
    for axes, stage in zip(grid[0], order, strict=True):
        axes.set_title(_stage_title(*stages[stage]), fontsize=8)
    _title(figure, f"{title}. Below: bits per dimension ± probe error, read as data (and at its own time t)")
    return figure


def _reconstruction(pictures: _Pictures, source: pd.DataFrame | None, words: Mapping[Part, str]) -> Figure:
    """Sources beside their reconstructions, as Fig. 3: the data, and samples."""
    names = _spread(list(pictures.files), _EXAMPLES)
    of_source = (
        None if source is None else _Pictures(pictures.part._replace(reconstructed=False), pictures.files, source)
    )
    stages = list(dict.fromkeys((0, len(pictures.stages) - 1)))
    figure, grid = _grid(len(names), 2 * len(stages))
    for row, name in zip(grid, names, strict=True):
        for k, stage in enumerate(stages):
            before = MISSING if of_source is None else of_source.bits(name, stage)
            change = pictures.value(name, stage, "round_trip")
            _show(row[2 * k], pictures.panel(name, stage), before)
            after = pictures.bits(name, stage)
            off = f"\nchanged by {100 * change:.2g} %" if np.isfinite(change) else ""
            _show(row[2 * k + 1], pictures.panel(name, stage, below=True), after + off)
        _name(row[0], pictures.prompt(name))
    for k, stage in enumerate(stages):
        kind, time, _ = pictures.stages[stage]
        grid[0, 2 * k].set_title("data" if kind == "data" else f"sample, t = {time:g}", fontsize=9)
        grid[0, 2 * k + 1].set_title("reconstructed", fontsize=9)
    _title(
        figure,
        f"{words[pictures.part]}: to noise and back. Below: bits per dimension ± probe error, and the root mean square "
        "of the change over that of the latent",
    )
    return figure


def _grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(1.3 + 1.25 * columns, 0.7 + 1.6 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _title(figure: Figure, text: str) -> None:
    """A title in as many lines as it needs."""
    figure.suptitle("\n".join(textwrap.wrap(text, int(_LETTERS_AN_INCH * figure.get_figwidth()))), fontsize=9)


def _show(axes: Axes, picture: np.ndarray, below: str) -> None:
    axes.imshow(picture)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(below, fontsize=7.5)


def _name(axes: Axes, text: str) -> None:
    axes.set_ylabel(text.replace(", ", "\n"), rotation=0, ha="right", va="center", fontsize=8)


def _stage_title(stage: str, time: float, sigma: float) -> str:
    return "data" if stage == "data" else f"t = {time:g}\nσ = {sigma:.3g}"


def _spread(items: Sequence, most: int) -> list:
    """At most `most` items, evenly spread, with the first and the last."""
    places = dict.fromkeys(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[place] for place in places]


def _file_name(words: str) -> str:
    return words.replace(" = ", "").replace(", ", "_").replace(" ", "")
