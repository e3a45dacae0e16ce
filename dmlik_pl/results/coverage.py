"""How much of a run is there: of how many samples every table, caption and report speaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from dmlik_pl.records.store import FAILURES, SAMPLES, studies

__all__ = ["GO_ON", "Coverage", "coverage", "coverage_of_study", "failures_of", "named_studies"]

GO_ON = "Start the same command again to measure the rest."

_NO_FAILURES = pd.DataFrame(columns=["study", "sample_id", "error"])


@dataclass(frozen=True)
class Coverage:
    """Samples of a study, or of all studies of a run.

    Attributes:
        measured: Samples with a record of every part.
        failed: Samples that failed, in any part.
        missing: Names of the samples that are neither.
        expected: How many samples the run is of; None where the records do not say.
    """

    measured: int
    failed: int
    missing: frozenset[str]
    expected: int | None

    @property
    def partial(self) -> bool:
        """Whether samples are missing."""
        return bool(self.missing)

    @property
    def words(self) -> str:
        """For instance "96 of 96 samples, 0 failed"; of a partial run "Partial: 40 of 96 samples, 2 failed"."""
        of = "" if self.expected is None else f" of {self.expected}"
        return f"{'Partial: ' if self.partial else ''}{self.measured}{of} samples, {self.failed} failed"

    def caption(self, text: str) -> str:
        """A caption that also says of how many samples it is; first of all where some are missing."""
        return f"{self.words}. {text}" if self.partial else f"{text} {self.words}."


def coverage(records: Mapping[str, pd.DataFrame]) -> Coverage:
    """What all studies of a run have measured.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
    """
    expected = _expected(records)
    names = named_studies(records)
    whole = [_whole(records.get(name), expected) for name in names]
    failed = _ids(records.get(FAILURES, _NO_FAILURES))
    if expected is None:
        return Coverage(len(set().union(*whole)), len(failed), frozenset(), None)
    measured = expected.intersection(*whole) if whole else set()
    done = [found | _failed(records, name) for name, found in zip(names, whole, strict=True)]
    missing = expected - expected.intersection(*done) if done else expected
    return Coverage(len(measured), len(failed), frozenset(missing), len(expected))


def coverage_of_study(records: Mapping[str, pd.DataFrame], study: str) -> Coverage:
    """What one study of a run has measured.

    Args:
        records: One frame per study, `failures` and `samples`, as the record store returns them.
        study: Its name.
    """
    expected, failed = _expected(records), _failed(records, study)
    measured = _whole(records.get(study), expected)
    missing = frozenset() if expected is None else frozenset(expected - measured - failed)
    return Coverage(len(measured), len(failed), missing, None if expected is None else len(expected))


def failures_of(records: Mapping[str, pd.DataFrame], study: str) -> pd.DataFrame:
    """The failures of one study, in any of its parts.

    Args:
        records: One frame per study and `failures`, as the record store returns them.
        study: Its name.
    """
    failures = records.get(FAILURES, _NO_FAILURES)
    return failures[failures["study"].astype(str).str.partition("/")[0] == study] if len(failures) else failures


def named_studies(records: Mapping[str, pd.DataFrame]) -> list[str]:
    """The studies that have a record or a failure."""
    failures = records.get(FAILURES, _NO_FAILURES)
    failed = failures["study"].astype(str).str.partition("/")[0] if len(failures) else ()
    return list(dict.fromkeys([*studies(records), *failed]))


def _expected(records: Mapping[str, pd.DataFrame]) -> set[str] | None:
    return _ids(records[SAMPLES]) if SAMPLES in records else None


def _failed(records: Mapping[str, pd.DataFrame], study: str) -> set[str]:
    return _ids(failures_of(records, study))


def _ids(frame: pd.DataFrame) -> set[str]:
    return set(map(str, frame["sample_id"])) if "sample_id" in frame else set()


def _whole(frame: pd.DataFrame | None, expected: Iterable[str] | None) -> set[str]:
    """Samples that have as many parts as any has; all that have a record where it is not known how many there are."""
    if frame is None or expected is None:
        return set() if frame is None else _ids(frame)
    if "part" not in frame:
        return _ids(frame) & set(expected)
    parts = frame.groupby("sample_id")["part"].nunique()
    return set(map(str, parts.index[parts == parts.max()])) & set(expected)
