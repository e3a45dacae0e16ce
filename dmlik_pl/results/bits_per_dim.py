"""Bits per dimension of the data, whatever the study: numbers and table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of, column, grid_errors, pooled_errors
from dmlik_pl.records.store import studies
from dmlik_pl.results.coverage import coverage_of_study
from dmlik_pl.results.kinds import kind_of
from dmlik_pl.results.likelihoods import Data, nats_per_bpd, too_dense
from dmlik_pl.results.table import Table, short, with_error
from dmlik_pl.stats.significance import mean_with_error

__all__ = ["bits_per_dim_rows", "bits_per_dim_summary", "bits_per_dim_table"]


def bits_per_dim_summary(data: Data) -> dict[str, Any]:
    """Bits per dimension of the data under their own conditions.

    Args:
        data: Their likelihoods, at least one.

    Returns:
        The dimension-weighted mean with its total error (standard_error), the parts of it (sampling_error, probe_error,
        grid_error), its 95 % interval (low, high) and the dequantisation offset, all in bits per dimension; the part
        that they are of, counts (clusters among them, of which the samples are) and settings.
    """
    finite = np.isfinite(column(data.rows, "log_p"))
    skipped, rows = int((~finite).sum()), data.rows[finite]
    unit, dims = nats_per_bpd(rows), column(rows, "dims")
    bits = -column(rows, "log_p") / unit
    mean = mean_with_error(bits, pooled_errors(rows) / unit, grid_errors(rows) / unit, dims, clusters_of(rows))
    calls = sum(np.nan_to_num(column(rows, f"nfe_{kind}")) for kind in ("forward", "vjp", "jvp"))
    return {
        "bpd": mean.value,
        "standard_error": mean.standard_error,
        "sampling_error": mean.sampling_error,
        "probe_error": mean.probe_error,
        "grid_error": mean.grid_error,
        "low": mean.interval.low,
        "high": mean.interval.high,
        "part": data.part,
        "n": len(rows),
        "clusters": mean.clusters,
        "non_finite": skipped,
        "too_dense": int(too_dense(rows).sum()),
        "dims": float(dims.mean()),
        "dequantisation": float(np.nan_to_num(column(rows, "dequantisation_bits")).mean()),
        "network_calls": float(np.mean(calls)),
        **{
            name: " / ".join(sorted(rows[name].dropna().unique())) if name in rows else ""
            for name in ("density", "space")
        },
    }


def bits_per_dim_rows(records: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The summary of every study that has likelihoods of data.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.

    Returns:
        One row per study: its name, how many samples failed and how many it should have (as far as is known, those with
        any record), and the columns of :func:`bits_per_dim_summary`.
    """
    rows = []
    for study, frame in studies(records).items():
        data = kind_of(study, frame).data(frame)
        if data is not None and len(data.rows):
            covered = coverage_of_study(records, study)
            expected = frame["sample_id"].nunique() if covered.expected is None else covered.expected
            rows.append(
                {"study": study, "failed": covered.failed, "samples_expected": expected} | bits_per_dim_summary(data)
            )
    return pd.DataFrame(rows)


def bits_per_dim_table(records: Mapping[str, pd.DataFrame]) -> list[Table]:
    """The table of :func:`bits_per_dim_rows`; none without rows."""
    raw = bits_per_dim_rows(records)
    if raw.empty:
        return []
    lines = [
        {
            **({"part": row["part"] or "all"} if raw["part"].any() else {}),
            "n": f"{row['n']} of {row['samples_expected']:g}" if row["n"] < row["samples_expected"] else str(row["n"]),
            "failed": str(row["failed"]),
            "BPD": with_error(row["bpd"], row["standard_error"]),
            **({"levels ≤": f"{row['bpd'] + row['dequantisation']:.3f}"} if raw["dequantisation"].any() else {}),
            **{f"{part} error": short(row[f"{part}_error"]) for part in ("sampling", "probe", "grid")},
            "D": f"{row['dims']:.6g}",
            "calls": f"{row['network_calls']:.4g}",
        }
        for row in raw.to_dict("records")
    ]
    shown = pd.DataFrame(lines, index=pd.Index(raw["study"], name="study"))
    numbers = raw if raw["part"].any() else raw.drop(columns="part")
    return [Table("bits_per_dim", _caption(raw), shown, numbers, _legend(raw))]


def _caption(raw: pd.DataFrame) -> str:
    caption = "Bits per dimension of the data under their own conditions, mean ± total error."
    if raw["part"].any():
        caption += " Of a study of several parts: the plainest one, named; samples without it are left out."
    if raw["non_finite"].any():
        caption += f" {raw['non_finite'].sum()} likelihoods were not finite and are left out."
    if raw["too_dense"].any():
        caption += (
            f" {raw['too_dense'].sum()} likelihoods are higher than data smoothed by noise of size r_min can have."
        )
    return caption


def _legend(raw: pd.DataFrame) -> dict[str, str]:
    densities = "; ".join(dict.fromkeys(f"{row.density} of {row.space}" for row in raw.itertuples() if row.density))
    return {
        "part": "the part of the study that the numbers are of: as given, at the largest size, guidance nearest to 1",
        "n": "samples behind the mean, of those that the run is of",
        "BPD": f"-log p / (D ln 2){f', {densities}' if densities else ''}, weighted by dimensions; negative where the "
        "density exceeds 1",
        "levels ≤": f"bits per dimension of the discrete data, at most BPD + {raw['dequantisation'].max():.4f} for "
        "uniform dequantisation",
        "sampling error": "part of ± by the choice of samples; the probes' noise is in it",
        "probe error": "part of ± that more probes would remove",
        "grid error": "part of ± by the solver: mean of its estimates of its own error",
        "D": "dimensions of what the density is of",
        "calls": "network evaluations and Jacobian products per likelihood",
    }
