"""From the records of a sweep over time to numbers: likelihoods, CLIP scores and distances with their errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dmlik_pl.records.frames import clusters_of, column, grid_errors
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.likelihoods import too_dense
from dmlik_pl.results.numbers import mean_of
from dmlik_pl.results.parts import Part, labels, parts_of
from dmlik_pl.results.time_sweep.distances import ROUNDING, distances
from dmlik_pl.stats.significance import holm, mean_with_error

__all__ = ["difference_summary", "stages_of", "sweep_summary"]

_LIKELIHOODS = ("bpd", "bpd_pixels", "bpd_marginal")
_OTHERS = ("clip", "round_trip", "round_trip_pixels")
_COMPARED = ("bpd", "bpd_marginal", "clip")


@once_per_frame
def sweep_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a time sweep, one row per part and noise level, the data first and then from noise to data.

    FID and KID are taken once over all samples, against the data of the same size, not reconstructed; where a sweep has
    nothing but reconstructions, against the reconstructed data.

    Args:
        frame: The records of the study.

    Returns:
        Columns part (in words), size, reconstructed, guidance, stage, time, sigma, n, non_finite, too_dense (more
        likely than data smoothed by noise of size r_min can be), and of bpd, bpd_pixels, bpd_marginal, clip,
        round_trip, round_trip_pixels, fid and kid the value, its total error (_standard_error) and 95 % interval (_low,
        _high), of likelihoods also the parts of the error (_sampling_error, _probe_error, _grid_error); the number of
        samples behind each (_n), fid_n with fid_features features being that of kid too.
    """
    parts = parts_of(frame)
    words = labels(parts)
    rows = []
    for part, own in parts.items():
        reference = _reference(parts, part)
        settings = {name: float("nan") if value is None else value for name, value in part._asdict().items()}
        for stage, time, level in stages_of(own):
            row: dict[str, Any] = {"part": words[part], **settings, "stage": stage, "time": time}
            row |= {"sigma": column(level, "sigma").mean(), "n": len(level)}
            row["non_finite"] = int((~np.isfinite(column(level, "bpd"))).sum())
            row["too_dense"] = int(too_dense(level).sum())
            for name in (*_LIKELIHOODS, *_OTHERS):
                mean = mean_of(level, name)
                row |= mean.columns(name, parts=name in _LIKELIHOODS) | {f"{name}_n": mean.n}
            row |= distances(reference, level)._asdict()
            rows.append(row)
    return pd.DataFrame(rows)


def stages_of(part: pd.DataFrame) -> Iterator[tuple[str, float, pd.DataFrame]]:
    """Stage, time (NaN for data) and records of each noise level of one part: the data, then from noise to data."""
    times = column(part, "time")
    data, samples = part["stage"] == "data", part["stage"] == "sample"
    if data.any():
        yield "data", float("nan"), part[data]
    for time in sorted(set(times[samples]), reverse=True):
        yield "sample", float(time), part[samples & (times == time)]


@once_per_frame
def difference_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Differences between parts of a sweep that share all settings but one, paired by sample.

    Guidance is compared with w = 1, or the smallest there is; reconstructed with plain; a size with the smallest.
    Values that are equal up to rounding, as those of the same data are, are no test.

    Args:
        frame: The records of the study.

    Returns:
        One row per comparison and noise level: of (the setting that differs), part and baseline (in words), stage,
        time, sigma, n, and of bpd, bpd_marginal and clip the mean difference part minus baseline, its total paired
        error
        (_standard_error; of bpd with the grid's, as that of two independent errors), the p-value of a paired t-test,
        which leaves the grid out, and, in `_p_holm`, that value Holm-corrected over all comparisons of one setting.
    """
    parts = parts_of(frame)
    words = labels(parts)
    levels = {part: dict(_compared_levels(own)) for part, own in parts.items()}
    rows = []
    for setting, part, baseline in _pairs(parts):
        for (stage, time), level in levels[part].items():
            if (stage, time) in levels[baseline]:
                row: dict[str, Any] = {"of": setting, "part": words[part], "baseline": words[baseline], "stage": stage}
                row |= {"time": float("nan") if time is None else time, "sigma": level["sigma"].mean()}
                rows.append(row | _paired(level, levels[baseline][stage, time]))
    raw = pd.DataFrame(rows)
    for name in _COMPARED if rows else ():
        for _, family in raw.groupby("of"):
            tested = family.index[family[f"{name}_p"].notna()]
            raw.loc[tested, f"{name}_p_holm"] = holm(raw.loc[tested, f"{name}_p"].tolist())
    return raw


def _compared_levels(part: pd.DataFrame) -> Iterator[tuple[tuple[str, float | None], pd.DataFrame]]:
    """What is compared of each stage and time (None for data) of a part, by sample."""
    for stage, time, level in stages_of(part):
        values = pd.DataFrame({name: column(level, name) for name in (*_COMPARED, "sigma")}, index=level["sample_id"])
        values = values.assign(**{f"{name}_grid": grid_errors(level, name) for name in _COMPARED})
        values["cluster"] = clusters_of(level)
        yield (stage, None if stage == "data" else time), values[~values.index.duplicated()]


def _pairs(parts: Mapping[Part, pd.DataFrame]) -> Iterator[tuple[str, Part, Part]]:
    """The setting that differs, a part, and the one that it is compared with."""
    weights = sorted({part.guidance for part in parts if part.guidance is not None})
    sizes = sorted({part.size for part in parts if part.size is not None})
    plain = 1.0 if 1.0 in weights else min(weights, default=None)
    for setting in ("guidance", "reconstruction", "size"):
        for part in parts:
            baseline = {
                "guidance": part._replace(guidance=plain),
                "reconstruction": part._replace(reconstructed=False),
                "size": part._replace(size=min(sizes, default=None)),
            }[setting]
            if baseline != part and baseline in parts:
                yield setting, part, baseline


def _paired(level: pd.DataFrame, baseline: pd.DataFrame) -> dict[str, float]:
    both_have = level.join(baseline, how="inner", rsuffix="_baseline")
    row: dict[str, float] = {"n": len(both_have)}
    for name in _COMPARED:
        ours, theirs = both_have[name].to_numpy(), both_have[f"{name}_baseline"].to_numpy()
        change = ours - theirs
        grid = np.hypot(both_have[f"{name}_grid"], both_have[f"{name}_grid_baseline"]).to_numpy()
        both = np.isfinite(change)
        if both.any() and np.abs(change[both]).max() <= ROUNDING * np.abs(theirs[both]).max():
            change, grid = 0 * change, 0 * grid  # nothing can differ
        mean = mean_with_error(change, grid_errors=grid, clusters=both_have["cluster"].to_numpy(dtype=str))
        p_value = float("nan")
        if mean.sampling_error > 0:
            p_value = float(2 * stats.t.sf(abs(mean.value / mean.sampling_error), mean.clusters - 1))
        row |= {name: mean.value, f"{name}_standard_error": mean.standard_error, f"{name}_p": p_value}
        row |= {f"{name}_sampling_error": mean.sampling_error, f"{name}_grid_error": mean.grid_error}
        row[f"{name}_p_holm"] = float("nan")
    return row


def _reference(parts: Mapping[Part, pd.DataFrame], part: Part) -> pd.DataFrame:
    """The data of a part's size, not reconstructed, one row per sample."""
    plain = [own for other, own in parts.items() if other.size == part.size and not other.reconstructed]
    every = pd.concat(plain or [parts[part]])
    return every[every["stage"] == "data"].drop_duplicates("sample_id")
