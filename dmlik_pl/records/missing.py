"""What could not be measured beside a likelihood: the column `missing` of records, written, read and put in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.frames import column

__all__ = ["HEARD", "VOCODED", "Missing", "missing_columns", "missing_measures", "undefined"]

HEARD = {"log_f0_rmse": "F0 error", "cepstral_distortion": "MCD", "speaker_similarity": "ASV"}
"""What is measured of a wave and averaged over utterances: the column, and what tables and `missing` call it."""
VOCODED = "vocoded speech"
"""What `missing` calls a wave that could not be made, of which nothing is heard."""

_LONGEST_REASON = 160


class Missing(NamedTuple):
    """A measure that some samples lack.

    Attributes:
        measure: What it is, in words, such as "CLIP score".
        samples: How many samples lack it, all or some of their values.
        of: How many samples there are.
        reasons: How many samples lack it for each reason, the most frequent first.
    """

    measure: str
    samples: int
    of: int
    reasons: dict[str, int]

    @property
    def words(self) -> str:
        """For instance "CLIP score missing for 2 of 40 samples"."""
        return f"{self.measure} missing for {self.samples} of {self.of} samples"


def missing_columns(reasons: Mapping[str, str]) -> dict[str, str]:
    """What a record says of measures that could not be taken; nothing where all were.

    Args:
        reasons: Why, by measure.
    """
    if not reasons:
        return {}
    return {"missing": json.dumps({name: one_line(why, _LONGEST_REASON) for name, why in reasons.items()})}


def missing_measures(frame: pd.DataFrame) -> list[Missing]:
    """The measures that some samples lack because they could not be taken.

    Args:
        frame: The records of a study.
    """
    if "missing" not in frame:
        return []
    found: dict[str, dict[str, str]] = {}
    for sample_id, text in frame.loc[frame["missing"].notna(), ["sample_id", "missing"]].itertuples(index=False):
        for measure, reason in json.loads(text).items():
            found.setdefault(measure, {}).setdefault(str(sample_id), reason)
    count = frame["sample_id"].nunique()
    return [
        Missing(measure, len(reasons), count, dict(Counter(reasons.values()).most_common()))
        for measure, reasons in found.items()
    ]


def undefined(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Which waves have no value of something heard although it could be measured, [N] booleans: it is not defined.

    Args:
        frame: The records of a study.
        name: A column of `HEARD`.
    """
    known = frame["missing"] if "missing" in frame else [None] * len(frame)
    lacking = [isinstance(text, str) and not {HEARD[name], VOCODED}.isdisjoint(json.loads(text)) for text in known]
    return np.isnan(column(frame, name)) & ~np.array(lacking, dtype=bool)
