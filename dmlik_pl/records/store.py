"""The record store: append-only, crash-safe, columnar at the end.

One study, or one part of a study, on one sample is a line of JSON, flushed to the disk before `append` returns, so a
run that is killed at any moment leaves whole lines and at most one cut one. Every process writes its own file, so none
ever waits for another one.

    records/rank0.jsonl      {"study": "time_sweep/guidance=3", "sample_id": "test-00012", "rows": [{...}, ...]}
    records/rank1.jsonl      {"study": "time_sweep/guidance=3", "sample_id": "test-00013", "error": "NaN from network"}
    records/time_sweep.parquet, records/failures.parquet      made by `RecordStore.finalise`
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dmlik_pl.records.columnar import Value, check_value, columnar, misfits
from dmlik_pl.records.files import draft_of
from dmlik_pl.records.origin import Expected, Origin, read_parts, read_samples

__all__ = ["FAILURES", "SAMPLES", "RecordStore", "Unit", "read", "studies"]

FAILURES = "failures"
SAMPLES = "samples"
"""Frames beside those of the studies: what failed, and every sample that the run is of (column sample_id)."""
_UNIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.=,-]+)?")
_SHOWN = ("fingerprint", "converted", "packages")  # of an origin, as columns
_SAMPLE_SCHEMA = pa.schema([("sample_id", pa.string())])
_FAILURE_SCHEMA = pa.schema([("study", pa.string()), ("sample_id", pa.string()), ("error", pa.string())])


class Unit(NamedTuple):
    """One part of a study on one sample, as stored.

    Attributes:
        study: Name of the study, or "study/part".
        sample_id: The stable name of the sample.
        rows: Its records; empty if it failed.
        error: Why it failed; None if it did not.
        origin: What it is of, and what made it.
    """

    study: str
    sample_id: str
    rows: list[dict[str, Any]]
    error: str | None
    origin: Origin


class RecordStore:
    """Writes the records of one process, and reads, merges and finalises those of all of them.

    What the run folder says that the run is of (`parts.json`, `samples.json`) decides what counts: records of other
    settings, code or weights, of samples that are gone or have changed since, stay in the files and are in no frame.
    In a folder that says nothing of samples, all records count.

    Args:
        folder: The run folder; the files are kept in its sub-folder `records`.
        rank: The number of this process; it decides which file `append` writes.
    """

    def __init__(self, folder: str | Path, rank: int = 0) -> None:
        self.run = Path(folder)
        self.folder = self.run / "records"
        self.path = self.folder / f"rank{rank}.jsonl"
        self._descriptor: int | None = None

    def append(
        self, study: str, sample_id: str, rows: Sequence[Mapping[str, Value]], origin: Origin | None = None
    ) -> None:
        """Store all rows of one study on one sample; they are on the disk when this returns.

        Args:
            study: Name of the study, which becomes the name of a file, or "study/part".
            sample_id: The stable name of the sample.
            rows: One mapping of column name to value per row. NaN and infinities are kept as they are.
            origin: What the rows are of, and what made them.

        Raises:
            ValueError: If there is no row, one names another sample than `sample_id`, a number is too large to be
                stored, or the study's name cannot name a file.
            TypeError: If a value is neither text, number, truth value, None nor a list of numbers.
            OSError: If the disk takes no more.
        """
        if not rows:
            raise ValueError("there is no record of it")
        for row in rows:
            if row.get("sample_id", sample_id) != sample_id:
                raise ValueError(f"a row of sample {sample_id!r} calls itself {row['sample_id']!r}")
            for name, value in row.items():
                check_value(name, value)
        content = {"rows": [dict(row) for row in rows]}
        self._write({"study": _checked(study), "sample_id": sample_id} | _stored(origin) | content)

    def append_failure(self, study: str, sample_id: str, error: str, origin: Origin | None = None) -> None:
        """Store that a study failed on a sample; the unit is tried again by the next run.

        Args:
            study: Name of the study, or "study/part".
            sample_id: The stable name of the sample.
            error: What went wrong, in words.
            origin: What failed.
        """
        self._write({"study": _checked(study), "sample_id": sample_id} | _stored(origin) | {"error": error})

    def lines(self) -> dict[Path, int]:
        """How many whole lines each process has stored."""
        return {path: path.read_bytes().count(b"\n") for path in sorted(self.folder.glob("rank*.jsonl"))}

    def units(self, after: Mapping[Path, int] | None = None) -> Iterator[Unit]:
        """Yield all that is stored, in the order of its computation, whether or not it counts.

        A line that a crash has cut is not among it. One that is damaged, or that is no unit, is set aside with a
        warning that names it; its unit is computed again.

        Args:
            after: How many lines of each file are left out, as :meth:`lines` counts them; none by default.
        """
        for path in sorted(self.folder.glob("rank*.jsonl")):
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        break  # cut by a crash: its unit was never reported as stored
                    if number <= (after or {}).get(path, 0):
                        continue
                    unit = _unit(line)
                    if unit is None:
                        warnings.warn(
                            f"{path}, line {number} is damaged and left out; its unit will be computed again",
                            stacklevel=2,
                        )
                    else:
                        yield unit

    def current(self) -> Iterator[Unit]:
        """Yield what counts: the present samples as they are now, by the present settings, code and weights."""
        return filter(self.counting(), self.units())

    def counting(self) -> Callable[[Unit], bool]:
        """What tells whether a unit is of what the run is of: a present sample as it is now, by the present part."""
        parts, samples = read_parts(self.run) or {}, read_samples(self.run)
        return lambda unit: samples is None or _counts(unit, parts, samples)

    def done(self) -> dict[str, set[str]]:
        """What needs no computation any more.

        Returns:
            The finished sample ids of each study or "study/part", over the files of all processes, without failed ones.
        """
        finished: dict[str, set[str]] = {}
        for unit in self.current():
            if unit.error is None:
                finished.setdefault(unit.study, set()).add(unit.sample_id)
        return finished

    def finalise(self) -> dict[str, pd.DataFrame]:
        """Merge the files of all processes into one Parquet file per study, replaced atomically.

        What was computed twice is kept once, a failure that was repaired later is dropped. The parts of a study form
        one frame. Rows are sorted by sample id, then by part, and keep their order within it, so the result does not
        depend on the number of processes. A unit of which a column holds another kind of value than in most others
        becomes a failure.

        Returns:
            The same as `read` afterwards: one frame per study, the frame `failures`, and the frame `samples` of all
            samples that the run is of, where the folder says which.
        """
        kept: dict[str, dict[tuple[str, str], Unit]] = {}
        errors: dict[tuple[str, str, str], str] = {}
        for unit in self.current():
            study, _, part = unit.study.partition("/")
            if unit.error is None:
                kept.setdefault(study, {}).setdefault((unit.sample_id, part), unit)
            else:
                errors[study, unit.sample_id, part] = unit.error
        for study, units in kept.items():
            for place, error in misfits({place: unit.rows for place, unit in units.items()}).items():
                del units[place]
                errors[study, *place] = error
        repaired = {(study, sample) for study, units in kept.items() for sample, _ in units}
        failures = [
            {"study": f"{study}/{part}" if part else study, "sample_id": sample_id, "error": error}
            for (study, sample_id, part), error in sorted(errors.items())
            # A sample that could not be read failed for all parts together.
            if (sample_id, part) not in kept.get(study, {}) and (part or (study, sample_id) not in repaired)
        ]
        tables = {
            study: columnar([row for place in sorted(units) for row in _rows(units[place])])
            for study, units in kept.items()
            if units
        }
        tables[FAILURES] = columnar(failures, _FAILURE_SCHEMA)
        if (samples := read_samples(self.run)) is not None:
            tables[SAMPLES] = columnar([{"sample_id": name} for name in samples], _SAMPLE_SCHEMA)
        for name, table in tables.items():
            with draft_of(self.folder / f"{name}.parquet") as draft:
                pq.write_table(table, draft)
        for path in self.folder.glob("*.parquet"):
            if path.stem not in tables:
                path.unlink()
        return read(self.run)

    def close(self) -> None:
        """Close the file; a later `append` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, unit: dict[str, Any]) -> None:
        line = (json.dumps(unit) + "\n").encode()
        if self._descriptor is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            _cut_partial_line(self.path)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        remaining = memoryview(line)
        while remaining:  # a nearly full disk may take a line in parts
            remaining = remaining[os.write(self._descriptor, remaining) :]
        os.fsync(self._descriptor)


def read(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read the finalised records of a run.

    Args:
        folder: The run folder, the one that holds `records`.

    Returns:
        One frame per study, and the frame `failures` (columns study, sample_id, error), which may be empty.

    Raises:
        FileNotFoundError: If the folder holds no finalised records.
    """
    paths = sorted((Path(folder) / "records").glob("[!.]*.parquet"))  # drafts are hidden
    if not paths:
        raise FileNotFoundError(
            f"no finalised records in {Path(folder) / 'records'}: expected <study>.parquet files. Give the folder of a "
            "run (the one with config.yaml), as made by evaluate.py."
        )
    return {path.stem: pq.read_table(path).to_pandas() for path in paths}


def studies(records: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The frames of studies alone, by name, without those that have no record.

    Args:
        records: What :func:`read` returns.
    """
    return {name: frame for name, frame in records.items() if name not in (FAILURES, SAMPLES) and len(frame)}


def _checked(study: str) -> str:
    if study in (FAILURES, SAMPLES) or not _UNIT_NAME.fullmatch(study):
        raise ValueError(f"a study cannot be called {study!r}: use letters, digits, '_', '.' and '-', not '{study}'")
    return study


def _cut_partial_line(path: Path) -> None:
    """Remove what follows the last line break, the remains of a write that a crash cut."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def _counts(unit: Unit, parts: Mapping[str, str], samples: Mapping[str, Expected]) -> bool:
    expected = samples.get(unit.sample_id)
    if expected is None:
        return False
    if unit.error is not None and not unit.origin.fingerprint:  # it could not be read: for no part, or for all
        return True
    of_part = unit.study in parts and parts[unit.study] == unit.origin.part
    return of_part and expected.fingerprint in (None, unit.origin.fingerprint)


def _stored(origin: Origin | None) -> dict[str, Any]:
    content = {} if origin is None else origin.stored()
    return {"origin": content} if content else {}


def _unit(line: bytes) -> Unit | None:
    """The unit of a line; None if it is damaged."""
    try:
        content = json.loads(line)
        study, sample_id = content["study"], content["sample_id"]
        rows, error = content.get("rows", []), content.get("error")
        whole = isinstance(sample_id, str) and _UNIT_NAME.fullmatch(study) is not None
        if error is None:
            whole = whole and isinstance(rows, list) and len(rows) > 0 and all(isinstance(row, dict) for row in rows)
            for row in rows if whole else ():
                for name, value in row.items():
                    check_value(name, value)
        else:
            whole, rows = whole and isinstance(error, str), []
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Unit(study, sample_id, rows, error, Origin.of_stored(content.get("origin"))) if whole else None


def _rows(unit: Unit) -> list[dict[str, Any]]:
    """The rows of a unit, with the label of its part and what is known of its origin."""
    about = {name: getattr(unit.origin, name) for name in _SHOWN} if unit.origin != Origin() else {}
    if part := unit.study.partition("/")[2]:
        about["part"] = part
    return [{"sample_id": unit.sample_id} | row | about for row in unit.rows]
