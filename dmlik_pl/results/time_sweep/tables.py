"""Tables of a sweep over time and settings: Tables 4, 5 and 7 of Cross and Ragni, and its paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import describe
from dmlik_pl.records.protocol import is_published, protocol_caption
from dmlik_pl.results.table import MISSING, Table, probability, with_error
from dmlik_pl.results.time_sweep.summaries import difference_summary, sweep_summary

__all__ = ["time_sweep_tables"]

_ROWS = (
    ("BPD", "bpd"),
    ("BPD pixels", "bpd_pixels"),
    ("BPD marginal", "bpd_marginal"),
    ("FID", "fid"),
    ("KID", "kid"),
    ("CLIP", "clip"),
    ("round trip", "round_trip"),
    ("round trip, levels", "round_trip_pixels"),
)
_DATA = (("BPD", "bpd"), ("CLIP", "clip"))
_LAST = (("BPD", "bpd"), ("FID", "fid"), ("KID", "kid"), ("CLIP", "clip"), ("round trip", "round_trip"))
_FIRST = (("BPD", "bpd"), ("FID", "fid"), ("CLIP", "clip"))


def time_sweep_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """Table 4 for a single part; for several Table 7, Table 5 at both ends of time, and paired differences."""
    raw = sweep_summary(frame)
    if raw["part"].nunique() == 1:
        return [_one_part(study, frame, raw)]
    tables = [_every_part(study, frame, raw), _settings(f"{study}_settings", frame, raw)]
    differences = difference_summary(frame)
    return [*tables, _differences(f"{study}_differences", frame, differences)] if len(differences) else tables


def _one_part(study: str, frame: pd.DataFrame, raw: pd.DataFrame) -> Table:
    lines = {"σ": _sigmas(raw), **dict(_lines(raw, raw))}
    shown = pd.DataFrame(list(lines.values()), index=pd.Index(lines, name="t"), columns=_headings(raw))
    return Table(study, _caption(frame, raw, list(lines)), shown, raw)


def _every_part(study: str, frame: pd.DataFrame, raw: pd.DataFrame) -> Table:
    """Rows part by measure, with the noise level in the first row."""
    stages = _stages(raw)
    headings = _headings(stages)
    rows = [["all", "", "σ", *_sigmas(stages)]]
    for name, part in raw.groupby("part", sort=False):
        # A stage that every unit of a part has failed on leaves a gap.
        whole = stages[["stage", "time"]].merge(part, on=["stage", "time"], how="left")
        rows += [[name, f"{part['n'].min()}", heading, *values] for heading, values in _lines(raw, whole)]
    index = pd.Index([row[0] for row in rows], name="setting")
    shown = pd.DataFrame([row[1:] for row in rows], index=index, columns=["N", "t", *headings])
    caption = _caption(frame, raw, [row[2] for row in rows])
    return Table(study, f"{caption} {_SETTINGS} N: samples of a setting.", shown, raw)


def _settings(name: str, frame: pd.DataFrame, raw: pd.DataFrame) -> Table:
    """A row a part: what it makes in the end, the noise that it starts from, and the data."""
    last, first = raw["time"].min(), raw["time"].max()
    ends = [("data", raw["stage"] == "data", _DATA), (f"t = {last:g}", raw["time"] == last, _LAST)]
    ends += [(f"t = {first:g}", raw["time"] == first, _FIRST)] if first > last else []
    lines: dict[str, dict[str, str]] = {
        name: {"N": f"{part['n'].min()}"} for name, part in raw.groupby("part", sort=False)
    }
    for end, chosen, measures in ends:
        for heading, measure in measures:
            if raw.loc[chosen, measure].notna().any():
                for row in raw[chosen].to_dict("records"):
                    shown = with_error(row[measure], row[f"{measure}_standard_error"])
                    lines[row["part"]][f"{heading}, {end}"] = shown
    sigmas = ", ".join(
        f"{raw.loc[raw['time'] == time, 'sigma'].mean():.3g} at t = {time:g}" for time in dict.fromkeys((last, first))
    )
    caption = (
        f"What the settings do, at both ends of time: σ is {sigmas}. {_unit(frame)} {_SETTINGS} Values are means over "
        "samples ± standard error, FID and KID with their jackknife error. "
        f"{_INDEPENDENT} The paper's Table 5 shows its rows of guidance at t = 0 and those of size and reconstruction "
        "at t = 1, under one heading."
    )
    index = pd.Index(list(lines), name="setting")
    return Table(
        name,
        _join(caption, protocol_caption(frame)),
        pd.DataFrame(list(lines.values()), index=index).fillna(MISSING),
        raw,
    )


def _differences(name: str, frame: pd.DataFrame, raw: pd.DataFrame) -> Table:
    """Rows comparison by measure, a column a noise level."""
    stages = _stages(raw)
    lines: dict[tuple[str, str, str], dict[tuple[str, float], str]] = {}
    for row in raw.to_dict("records"):
        for heading, measure in (("BPD", "bpd"), ("CLIP", "clip")):
            if raw[measure].notna().any():
                shown = with_error(row[measure], row[f"{measure}_standard_error"])
                if np.isfinite(row[f"{measure}_p_holm"]):
                    shown += f" ({probability(row[f'{measure}_p_holm'])})"
                place = (row["stage"], np.nan_to_num(row["time"]))
                lines.setdefault((row["part"], row["baseline"], heading), {})[place] = shown
    places = [(row.stage, np.nan_to_num(row.time)) for row in stages.itertuples()]
    shown = pd.DataFrame(
        [
            [baseline, heading, *(line.get(place, MISSING) for place in places)]
            for (_, baseline, heading), line in lines.items()
        ],
        index=pd.Index([part for part, _, _ in lines], name="setting"),
        columns=["minus", "t", *_headings(stages)],
    )
    several = raw["n"].nunique() > 1
    samples = f"{raw['n'].min()} to {raw['n'].max()}" if several else f"{raw['n'].min()}"
    caption = (
        f"Differences between settings, paired over N = {samples} samples: guidance against conditional, reconstructed "
        "against as it was, a size against the smallest. Means ± paired standard error, in which what the settings "
        "share (image, noise, probes) cancels. In brackets: p of a paired t-test of no difference, Holm-corrected "
        "(BPD and CLIP apart) over all that compare the same setting; none where nothing can differ. Neither ± nor p "
        f"knows the error of the time grid. {_unit(frame)} A lower BPD is a higher "
        "likelihood. In the data's column both settings score one image (but for its size or reconstruction), in the "
        "others each scores its own. A difference between two w is one between two densities, that of w > 1 being of "
        "the guided flow, which no noised p(x|y) has."
    )
    return Table(name, _join(caption, protocol_caption(frame)), shown, raw)


def _stages(raw: pd.DataFrame) -> pd.DataFrame:
    """One row for each noise level of all parts, the data first and then from noise to data."""
    return raw.drop_duplicates(["stage", "time"]).sort_values("time", ascending=False, na_position="first")


def _lines(raw: pd.DataFrame, part: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Heading and parts of each measure that is known of this part and anywhere in the study."""
    for heading, name in _ROWS:
        if raw[name].notna().any() and part[name].notna().any():
            errors = part[f"{name}_standard_error"]
            yield heading, [with_error(value, error) for value, error in zip(part[name], errors, strict=True)]


def _headings(stages: pd.DataFrame) -> list[str]:
    headings = [_heading(row.stage, row.time, "{:.2f}") for row in stages.itertuples()]
    if len(set(headings)) < len(headings):
        return [_heading(row.stage, row.time, "{:.6g}") for row in stages.itertuples()]
    return headings


def _heading(stage: object, time: object, form: str) -> str:
    return "Data" if stage == "data" else form.format(time)


def _sigmas(stages: pd.DataFrame) -> list[str]:
    return [_sigma(sigma) for sigma in stages["sigma"]]


def _sigma(sigma: float) -> str:
    return f"{sigma:.3g}" if np.isfinite(sigma) else MISSING


_SETTINGS = "w is the weight of guidance: 1 is conditional."
_INDEPENDENT = "FID and KID are against the data of the same size; sizes are not comparable by them."


def _unit(frame: pd.DataFrame) -> str:
    if is_published(frame):
        return "BPD are bits per pixel value, although the density is one of latents."
    return "BPD are bits per dimension of what the density is of, not per pixel value."


def _caption(frame: pd.DataFrame, raw: pd.DataFrame, lines: Sequence[str]) -> str:
    parts = [
        f"Time sweep, noise (t = 1) to data (t = 0). {describe(frame)} BPD reads x_t as data at t = 0. {_unit(frame)}"
    ]
    if "BPD pixels" in lines:
        parts.append("BPD pixels does so after x_t was decoded to an 8-bit image and encoded again.")
    if "BPD marginal" in lines:
        parts.append(
            "BPD marginal is its density at its own time t; at t = 0 that is the same density taken on another path, "
            "so that a difference beyond their probe errors is the solver's."
        )
    parts.append(
        "σ is the noise-to-signal ratio. Values are means over samples ± standard error (sampling and probes)."
    )
    if frame.get("reconstructed") is not None and frame["reconstructed"].fillna(False).any():
        parts.append(
            "Reconstructed: what is measured went through the flow to noise and back first. Round trip: root mean "
            "square of the change over that of x_t; levels: of the decoded images, in steps of 255."
        )
    parts.append(protocol_caption(frame))
    if raw["non_finite"].any():
        parts.append(f"{raw['non_finite'].sum()} likelihoods were not finite and are left out.")
    if raw["grid_error"].notna().any():
        parts.append(
            f"In no ± is the error of the time grid, up to {raw['grid_error'].max():.2g} bits per dimension of a mean "
            "by the solver's own estimate."
        )
    if raw["too_dense"].any():
        parts.append(
            f"{raw['too_dense'].sum()} likelihoods are higher than data smoothed by noise of size r_min can have: the "
            "solver has not converged, or the flow (guidance above 1) is not that of a noised density."
        )
    if "FID" in lines:
        n, most = int(raw["fid_n"][raw["fid"].notna()].min()), int(raw["fid_n"].max())
        parts.append(
            f"FID of N = {n if n == most else f'{n} to {most}'} samples a column against the data, "
            f"{int(raw['fid_features'].max())} features, ± jackknife standard error; it is biased upwards by about "
            "features / N, so compare it only within this table. KID, of the same features, is unbiased at any N, can "
            "be negative, and has a jackknife standard error too."
        )
    return _join(*parts)


def _join(*parts: str) -> str:
    return " ".join(filter(None, parts))
