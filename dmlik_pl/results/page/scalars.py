"""The numbers by which runs are compared, as a logger takes them: those that each kind of study declares."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.store import FAILURES, studies
from dmlik_pl.results.attempts import Attempts
from dmlik_pl.results.coverage import coverage, coverage_of_study
from dmlik_pl.results.kinds import kind_of

__all__ = ["scalars"]

_LONGEST_NAME = 120


def scalars(records: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """The numbers of a run, few enough to compare runs by.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.

    Returns:
        Finite numbers as "study/name"; where a number's error is known, "study/name_standard_error", the probes' part
        of it ("_probe_error"), and its 95 % interval ("_low", "_high"); "failures", how many units failed; and where
        the records say it, of how many samples the run is ("samples_expected"), how many all studies have measured
        ("samples") and each has ("study/samples").
    """
    numbers = {"failures": float(len(records.get(FAILURES, ())))}
    covered, attempts = coverage(records), Attempts()
    if covered.expected is not None:
        numbers |= {"samples": float(covered.measured), "samples_expected": float(covered.expected)}
    for study, frame in studies(records).items():
        if covered.expected is not None:
            numbers[f"{study}/samples"] = float(coverage_of_study(records, study).measured)
        with attempts.making("Numbers", study):
            for name, value in kind_of(study, frame).scalars(frame):
                if math.isfinite(value):
                    numbers[f"{study}/{one_line(name, _LONGEST_NAME)}"] = float(value)
    return numbers
