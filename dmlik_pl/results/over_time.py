"""What the tables of sweeps over time share: a column per noise level, with its time above it."""

from __future__ import annotations

import pandas as pd

from dmlik_pl.results.columns import number

__all__ = ["SIGMA", "time_headings"]

SIGMA = number("σ", "sigma", "noise-to-signal ratio", ".3g")


def time_headings(stages: pd.DataFrame) -> list[str]:
    """The time of each sample and the stage of everything else, with the digits that tell close times apart.

    Args:
        stages: Columns stage and time, one row per noise level.
    """
    rough, exact = (
        [format(row.time, form) if row.stage == "sample" else row.stage.capitalize() for row in stages.itertuples()]
        for form in (".2f", ".6g")
    )
    return rough if len(set(rough)) == len(rough) else exact
