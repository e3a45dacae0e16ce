"""Tables of a sweep over time and settings: Tables 4, 5 and 7 of Cross and Ragni, and its paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.records.protocol import is_published, protocol_caption
from dmlik_pl.results.columns import Row, Shown, across, count, error_parts, estimate, table_of
from dmlik_pl.results.likelihoods import left_out
from dmlik_pl.results.numbers import span
from dmlik_pl.results.over_time import SIGMA, time_headings
from dmlik_pl.results.table import MISSING, Table, probability, with_error
from dmlik_pl.results.time_sweep.summaries import difference_summary, sweep_summary

__all__ = ["time_sweep_tables"]

_DATA = ("bpd", "clip")
_LAST = ("bpd", "bpd_marginal", "fid", "kid", "clip", "round_trip")
_FIRST = ("bpd", "fid", "clip")
_COMPARED = ("bpd", "bpd_marginal", "clip")
_SETTING = "w is the weight of guidance, 1 being conditional"
_SAMPLES = "samples per setting"
_ENDS = (
    "FID and KID are against the data of the same size; sizes are not comparable by them.",
    "The paper's Table 5 shows its rows of guidance at t = 0 and those of size and reconstruction at t = 1, under one "
    "heading.",
)
_PAIRS = (
    "What the settings share (image, noise, probes) cancels in the paired error.",
    "p is Holm-corrected (BPD and CLIP apart) over all comparisons of the same setting; there is none where nothing "
    "can differ.",
    "± of BPD has the time grid's error, as that of two independent ones, since what cancels is not known; p has not.",
    "In the data's column both settings score one image (but for its size or reconstruction), in the others each "
    "scores its own.",
    "A difference between two w is one between two densities, that of w > 1 being of the guided flow, which no noised "
    "p(x|y) has.",
)


def time_sweep_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """Table 4 for a single part; for several Table 7, Table 5 at both ends of time, and paired differences."""
    raw = sweep_summary(frame)
    measures = _measures(frame, raw)
    if raw["part"].nunique() == 1:
        columns, notes = (SIGMA, *measures.values()), _notes(frame, raw)
        return [across(table_of(study, _caption(raw), raw, columns, time_headings(raw), "t", notes))]
    tables = [
        _every_part(study, frame, raw, list(measures.values())),
        _settings(f"{study}_settings", frame, raw, measures),
    ]
    differences = difference_summary(frame)
    return [*tables, _differences(f"{study}_differences", frame, differences, measures)] if len(differences) else tables


def _measures(frame: pd.DataFrame, raw: pd.DataFrame) -> dict[str, Shown]:
    """Every measure of a noise level, by its name in the summary."""
    unit = "bits per dimension of the density, not per pixel value"
    if is_published(frame):
        unit = "bits per pixel value, although the density is one of latents"
    behind = raw.loc[raw["fid"].notna(), "fid_n"]
    samples = f"{span(behind)} samples per column and {raw['fid_features'].max()} features" if len(behind) else ""
    shown = (
        ("BPD", "bpd", f"x_t read as data at t = 0, in {unit}"),
        ("BPD pixels", "bpd_pixels", "the same after x_t was decoded to an 8-bit image and encoded again"),
        (
            "BPD marginal",
            "bpd_marginal",
            "x_t at its own time t; at t = 0 it is the same density along another path, and a difference beyond the "
            "probe errors is the solver's",
        ),
        (
            "FID",
            "fid",
            f"Frechet distance to the data, of N = {samples}, ± by jackknife; biased upwards by about features / N, so "
            "compare it only within this table",
        ),
        (
            "KID",
            "kid",
            "kernel distance of the same features, ± by jackknife; unbiased at any N, so it can be negative",
        ),
        ("CLIP", "clip", "CLIP score of the image and its prompt, 100 × cosine"),
        ("round trip", "round_trip", "root mean square change by the reconstruction, over that of x_t"),
        ("round trip, levels", "round_trip_pixels", "the same of the decoded image, in levels of 255"),
    )
    return {name: estimate(heading, name, text, wanted=raw[name].notna().any()) for heading, name, text in shown}


def _every_part(study: str, frame: pd.DataFrame, raw: pd.DataFrame, measures: Sequence[Shown]) -> Table:
    """Rows part by measure, with the noise level in the first row."""
    stages = _stages(raw)
    lines = [["all", "", SIGMA.heading, *map(SIGMA.cell, stages.to_dict("records"))]]
    for name, part in raw.groupby("part", sort=False):
        lines += [[str(name), f"{part['n'].min()}", *line] for line in _lines(measures, part, stages)]
    legend = {"setting": _SETTING, "N": _SAMPLES} | {column.heading: column.meaning for column in (SIGMA, *measures)}
    return Table(study, _caption(raw), _grid(lines, "N", stages), raw, legend, _notes(frame, raw))


def _settings(name: str, frame: pd.DataFrame, raw: pd.DataFrame, measures: dict[str, Shown]) -> Table:
    """A row per part: what it makes in the end, the noise that it starts from, and the data."""
    last, first = raw["time"].min(), raw["time"].max()
    ends = [("data", raw["stage"] == "data", _DATA), (f"t = {last:g}", raw["time"] == last, _LAST)]
    ends += [(f"t = {first:g}", raw["time"] == first, _FIRST)] if first > last else []
    wide = raw.groupby("part", sort=False)["n"].min().to_frame("N")
    columns, explained = [count("N", meaning=_SAMPLES)], set()
    for end, chosen, names in ends:
        own = raw[chosen].set_index("part")
        for measure in names:
            if own[measure].notna().any():
                heading, meaning = f"{measures[measure].heading}, {end}", measures[measure].meaning
                wide[heading], wide[f"{heading}_standard_error"] = own[measure], own[f"{measure}_standard_error"]
                columns.append(estimate(heading, heading, "" if measure in explained else meaning))
                explained.add(measure)
    sigmas = ", ".join(
        f"{raw.loc[raw['time'] == time, 'sigma'].mean():.3g} at t = {time:g}" for time in dict.fromkeys((last, first))
    )
    caption = f"What the settings do at both ends of time: σ is {sigmas}. Means over samples ± total error."
    notes = (_reconstructed(frame), *_ENDS, protocol_caption(frame))
    table = table_of(name, caption, wide, columns, wide.index, "setting", notes, {"setting": _SETTING})
    return replace(table, raw=raw)


def _differences(name: str, frame: pd.DataFrame, raw: pd.DataFrame, measures: dict[str, Shown]) -> Table:
    """Rows comparison by measure, a column per noise level."""
    stages = _stages(raw)
    compared = [measure for measure in _COMPARED if raw[measure].notna().any()]
    columns = [_difference(measures[measure].heading, measure) for measure in compared]
    lines = [
        [str(part), str(baseline), *line]
        for (part, baseline), rows in raw.groupby(["part", "baseline"], sort=False)
        for line in _lines(columns, rows, stages)
    ]
    caption = (
        f"Differences between settings, paired over N = {span(raw['n'])} samples: guidance against conditional, "
        "reconstructed against not, a size against the smallest. Means ± paired error (p of a paired t-test "
        "of no difference); a lower BPD is a higher likelihood."
    )
    legend = {"setting": _SETTING, "minus": "what it is compared with"}
    legend |= {measures[measure].heading: measures[measure].meaning for measure in compared}
    notes = (_reconstructed(frame), *_PAIRS, protocol_caption(frame))
    return Table(name, caption, _grid(lines, "minus", stages), raw, legend, notes)


def _difference(heading: str, name: str) -> Shown:
    def cell(row: Row) -> str:
        p_value = row[f"{name}_p_holm"]
        shown = with_error(row[name], row[f"{name}_standard_error"])
        return f"{shown} ({probability(p_value)})" if np.isfinite(p_value) else shown

    return Shown(heading, cell)


def _stages(raw: pd.DataFrame) -> pd.DataFrame:
    """One row for each noise level of all parts, the data first and then from noise to data."""
    return raw.drop_duplicates(["stage", "time"]).sort_values("time", ascending=False, na_position="first")


def _lines(measures: Iterable[Shown], part: pd.DataFrame, stages: pd.DataFrame) -> Iterator[list[str]]:
    """Heading and cells of each measure that is known anywhere in this part."""
    # A stage that every unit of a part has failed on leaves a gap.
    rows = stages[["stage", "time"]].merge(part, on=["stage", "time"], how="left").to_dict("records")
    for measure in measures:
        cells = [measure.cell(row) for row in rows]
        if set(cells) != {MISSING}:
            yield [measure.heading, *cells]


def _grid(lines: Sequence[Sequence[str]], second: str, stages: pd.DataFrame) -> pd.DataFrame:
    index = pd.Index([line[0] for line in lines], name="setting")
    return pd.DataFrame([line[1:] for line in lines], index=index, columns=[second, "t", *time_headings(stages)])


def _caption(raw: pd.DataFrame) -> str:
    caption = (
        "Time sweep from noise (t = 1) to data (t = 0). Means over samples ± total error (sampling, probes, grid)."
    )
    return f"{caption} {left_out(raw)}".rstrip()


def _notes(frame: pd.DataFrame, raw: pd.DataFrame) -> list[str]:
    notes = [describe(frame), _reconstructed(frame), protocol_caption(frame)]
    notes.append(error_parts(raw, "bpd", "bpd_pixels", "bpd_marginal"))
    if raw["too_dense"].any():
        notes.append(
            f"{raw['too_dense'].sum()} likelihoods are higher than data smoothed by noise of size r_min can have: the "
            "solver has not converged, or the flow (guidance above 1) is not that of a noised density."
        )
    return notes


def _reconstructed(frame: pd.DataFrame) -> str:
    if frame.get("reconstructed") is None or not frame["reconstructed"].fillna(False).any():
        return ""
    return "Reconstructed: what is measured went through the flow to noise and back first."
