"""From the records of a sweep over time to numbers: likelihoods, CLIP scores and distances with their errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats

from dmlik_pl.metrics.frechet import frechet_distance
from dmlik_pl.metrics.kernel import kernel_distance, kernel_distance_standard_error
from dmlik_pl.records.frames import column, features_of, pooled_errors
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.likelihoods import nats_per_bpd, too_dense
from dmlik_pl.results.parts import Part, labels, parts_of
from dmlik_pl.stats.significance import holm, interval_reach, mean_with_error

__all__ = ["difference_summary", "stages_of", "sweep_summary"]

_JACKKNIFE_GROUPS = 10
_LIKELIHOODS = ("bpd", "bpd_pixels", "bpd_marginal")
_OTHERS = ("clip", "round_trip", "round_trip_pixels")
_COMPARED = ("bpd", "clip")
_ROUNDING = 1e-5


class _Distances(NamedTuple):
    """Distances of a set of images to the data with jackknife errors and intervals, from n features of each."""

    fid: float = float("nan")
    fid_standard_error: float = float("nan")
    fid_low: float = float("nan")
    fid_high: float = float("nan")
    kid: float = float("nan")
    kid_standard_error: float = float("nan")
    kid_low: float = float("nan")
    kid_high: float = float("nan")
    fid_n: int = 0
    fid_features: int = 0


@once_per_frame
def sweep_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers of a time sweep, one row per part and noise level, the data first and then from noise to data.

    FID and KID are taken once over all samples, against the data of the same size, not reconstructed; where a sweep has
    nothing but reconstructions, against the reconstructed data.

    Args:
        frame: The records of the study.

    Returns:
        Columns part (in words), size, reconstructed, guidance, stage, time, sigma, n, non_finite, too_dense (more
        likely than data smoothed by noise of size r_min can be), grid_error (the solver's estimate of its error of the
        mean log-density, bits per dimension of the density's space), and of bpd, bpd_pixels, bpd_marginal, clip,
        round_trip, round_trip_pixels, fid and kid the value, its standard error and 95 % interval (_low, _high), of
        likelihoods also the probes' part of the error; the number of samples behind each (_n), fid_n with fid_features
        features being that of kid too.
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
            row["grid_error"] = abs(np.mean(column(level, "discretisation") / nats_per_bpd(level)))
            row["too_dense"] = int(too_dense(level).sum())
            for name in (*_LIKELIHOODS, *_OTHERS):
                values, errors = column(level, name), pooled_errors(level, name)
                usable = np.isfinite(values)
                mean = mean_with_error(values[usable], errors[usable])
                row |= {name: mean.value, f"{name}_standard_error": mean.standard_error, f"{name}_n": mean.n}
                row |= {f"{name}_low": mean.interval.low, f"{name}_high": mean.interval.high}
                if name in _LIKELIHOODS:
                    row[f"{name}_probe_error"] = mean.probe_error
            row |= _distances(reference, level)._asdict()
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
        time, sigma, n, and of bpd and clip the mean difference part minus baseline, its paired standard error, the
        p-value of a paired t-test and, in `_p_holm`, that value Holm-corrected over all comparisons of the same
        setting.
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
        both = np.isfinite(ours) & np.isfinite(theirs)
        change = (ours - theirs)[both]
        if change.size and np.abs(change).max() <= _ROUNDING * np.abs(theirs[both]).max():
            change = np.zeros_like(change)
        mean = mean_with_error(change)
        p_value = float("nan")
        if mean.n > 1 and mean.standard_error > 0:
            p_value = float(2 * stats.t.sf(abs(mean.value / mean.standard_error), mean.n - 1))
        row |= {name: mean.value, f"{name}_standard_error": mean.standard_error, f"{name}_p": p_value}
        row[f"{name}_p_holm"] = float("nan")
    return row


def _reference(parts: Mapping[Part, pd.DataFrame], part: Part) -> pd.DataFrame:
    """The data of a part's size, not reconstructed, one row per sample."""
    plain = [own for other, own in parts.items() if other.size == part.size and not other.reconstructed]
    every = pd.concat(plain or [parts[part]])
    return every[every["stage"] == "data"].drop_duplicates("sample_id")


def _distances(data: pd.DataFrame, level: pd.DataFrame) -> _Distances:
    features = [features_of(part) for part in (data, level)]
    names = sorted(set(features[0]) & set(features[1]))
    if len(names) < 2:
        return _Distances()
    reference, other = (np.stack([own[name] for name in names]) for own in features)
    behind = {"fid_n": len(names), "fid_features": reference.shape[1]}
    if np.abs(reference - other).max() <= _ROUNDING * np.abs(reference).max():
        return _Distances(*_with_interval(0.0, 0.0, 2), *_with_interval(0.0, 0.0, 2), **behind)
    both = torch.from_numpy(reference), torch.from_numpy(other)
    fid, fid_error = max(0.0, float(frechet_distance(*both))), _frechet_error(*both)
    kid = float(kernel_distance(*both, paired=True))
    kid_error = float(kernel_distance_standard_error(*both)) if len(names) > 2 else float("nan")
    return _Distances(
        *_with_interval(fid, fid_error, min(_JACKKNIFE_GROUPS, len(names))),
        *_with_interval(kid, kid_error, len(names)),
        **behind,
    )


def _with_interval(value: float, error: float, n: int) -> tuple[float, float, float, float]:
    reach = float(interval_reach(error, n))
    return value, error, value - reach, value + reach


def _frechet_error(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Grouped-jackknife standard error of the Frechet distance of features [N, F] to others of the same samples."""
    n = len(reference)
    groups = min(_JACKKNIFE_GROUPS, n)
    if n - -(-n // groups) < 2:
        return float("nan")
    # A sample and its data image share a prompt, so both are left out together.
    group = torch.arange(n) % groups
    left_out = [float(frechet_distance(reference[group != g], other[group != g])) for g in range(groups)]
    return float(np.sqrt((groups - 1) * np.var(left_out)))
