"""Likelihoods among the records of a study: of the data themselves, and every one that was taken."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import column, grid_errors

__all__ = [
    "Data",
    "by_stage",
    "every_likelihood",
    "left_out",
    "nats_per_bpd",
    "of_data",
    "stage_name",
    "too_dense",
    "total_errors",
]


class Data(NamedTuple):
    """The likelihoods of the data themselves under their own conditions.

    Attributes:
        rows: One record per sample, with sample_id, log_p, standard_error (nats) and dims at least.
        part: The part of the study that all of them are of, in words; empty where the study has one.
        attribute: The column by whose values they are classes; None for all columns that are attributes.
    """

    rows: pd.DataFrame
    part: str = ""
    attribute: str | None = None


def nats_per_bpd(frame: pd.DataFrame) -> np.ndarray:
    """What one bit per dimension of each record's likelihood is in nats, D ln 2, [N]."""
    return column(frame, "dims") * np.log(2)


def of_data(rows: pd.DataFrame, part: str = "") -> Data | None:
    """Records with a likelihood as those of the data.

    Args:
        rows: Records of one part, one per sample.
        part: The part, in words.

    Returns:
        The likelihoods, or None where the records have none.

    Raises:
        ValueError: If a sample has two: the declaration of the kind does not name one part.
    """
    if not {"log_p", "dims"} <= set(rows.columns):
        return None
    if (repeated := rows["sample_id"].duplicated()).any():
        name = rows.loc[repeated, "sample_id"].iloc[0]
        raise ValueError(f"the sample {name!r} has several likelihoods of the data: `Kind.data` has to choose one part")
    return Data(rows.assign(standard_error=column(rows, "standard_error")).reset_index(drop=True), part)


def every_likelihood(frame: pd.DataFrame) -> pd.DataFrame:
    """The records that are likelihoods: those with dimensions."""
    return frame[frame["dims"].notna()] if {"log_p", "dims"} <= set(frame.columns) else frame.iloc[:0]


def total_errors(frame: pd.DataFrame, name: str = "bpd") -> np.ndarray:
    """Total error of each single value, [N]: that over probes and the time grid's, as independent ones; NaN: neither.

    Args:
        frame: Records.
        name: The column of the values.
    """
    single = column(frame, "standard_error" if name == "log_p" else f"{name}_standard_error")
    parts = np.stack([single, grid_errors(frame, name)])
    return np.where(np.isnan(parts).all(0), np.nan, np.linalg.norm(np.nan_to_num(parts), axis=0))


def too_dense(frame: pd.DataFrame) -> np.ndarray:
    """Which likelihoods are higher than any of data seen through noise of size r_min, [N] booleans.

    No such density is above that of the noise at its peak: a higher one is not converged, or not of a noised density.
    """
    densest = -0.5 * column(frame, "dims") * np.log(2 * np.pi * column(frame, "r_min") ** 2)
    return column(frame, "log_p") > densest


def left_out(raw: pd.DataFrame) -> str:
    """A sentence on the likelihoods that were not finite; empty where all were.

    Args:
        raw: Numbers with the column non_finite, a count.
    """
    count = int(raw["non_finite"].sum())
    return f"{count} likelihoods were not finite and are left out." if count else ""


def stage_name(row: Any) -> str:
    """What a record of a sweep is of, in a word or two: "data", or "t = 0.5"."""
    time = row.get("time")
    return f"t = {time:g}" if isinstance(time, float) and not np.isnan(time) else str(row.get("stage", ""))


def by_stage(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Bits per dimension and their total errors of each stage of a sweep that has a likelihood.

    Args:
        rows: The records of one sample in one part.
    """
    values = zip(column(rows, "bpd"), total_errors(rows), strict=True)
    stages = map(stage_name, rows.to_dict("records"))
    return {stage: value for stage, value in zip(stages, values, strict=True) if np.isfinite(value[0])}
