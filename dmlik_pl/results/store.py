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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["FAILURES", "SAMPLES", "RecordStore", "Value", "read", "studies"]

Value = str | int | float | bool | None | list[float]

FAILURES = "failures"
SAMPLES = "samples"
"""Frames beside those of the studies: what failed, and every sample that the run is of (column sample_id)."""
_UNIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.=,-]+)?")
_FAILURE_SCHEMA = pa.schema([("study", pa.string()), ("sample_id", pa.string()), ("error", pa.string())])


class RecordStore:
    """Writes the records of one process, and reads, merges and finalises those of all of them.

    Args:
        folder: The run folder; the files are kept in its sub-folder `records`.
        rank: The number of this process; it decides which file `append` writes.
    """

    def __init__(self, folder: str | Path, rank: int = 0) -> None:
        self.folder = Path(folder) / "records"
        self.path = self.folder / f"rank{rank}.jsonl"
        self._descriptor: int | None = None

    def append(self, study: str, sample_id: str, rows: Sequence[Mapping[str, Value]]) -> None:
        """Store all rows of one study on one sample; they are on the disk when this returns.

        Args:
            study: Name of the study, which becomes the name of a file, or "study/part".
            sample_id: The stable name of the sample.
            rows: One mapping of column name to value per row. NaN and infinities are kept as they are.

        Raises:
            ValueError: If a row names another sample than `sample_id`, or the study's name cannot name a file.
            TypeError: If a value is neither text, number, truth value, None nor a list of numbers.
        """
        for row in rows:
            if row.get("sample_id", sample_id) != sample_id:
                raise ValueError(f"a row of sample {sample_id!r} calls itself {row['sample_id']!r}")
        self._write({"study": _checked(study), "sample_id": sample_id, "rows": [dict(row) for row in rows]})

    def append_failure(self, study: str, sample_id: str, error: str) -> None:
        """Store that a study failed on a sample; the unit is tried again by the next run.

        Args:
            study: Name of the study, or "study/part".
            sample_id: The stable name of the sample.
            error: What went wrong, in words.
        """
        self._write({"study": _checked(study), "sample_id": sample_id, "error": error})

    def done(self) -> dict[str, set[str]]:
        """What needs no computation any more.

        Returns:
            The finished sample ids of each study or "study/part", over the files of all processes. Failed ones and a
            line that a crash has cut are not among them.
        """
        finished: dict[str, set[str]] = {}
        for study, sample_id, _ in self.finished():
            finished.setdefault(study, set()).add(sample_id)
        return finished

    def finished(self) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        """Yield study or "study/part", sample id and rows of all that is finished, in the order of its computation."""
        for unit in self._units():
            if "rows" in unit:
                yield unit["study"], unit["sample_id"], unit["rows"]

    def finalise(self) -> dict[str, pd.DataFrame]:
        """Merge the files of all processes into one Parquet file a study, replaced atomically.

        What was computed twice is kept once, a failure that was repaired later is dropped. The parts of a study form
        one frame. Rows are sorted by sample id, then by part, and keep their order within it, so the result does not
        depend on the number of processes.

        Returns:
            The same as `read` afterwards: one frame a study, and the frame `failures`.
        """
        rows: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {}
        errors: dict[tuple[str, str, str], str] = {}
        for unit in self._units():
            study, _, part = unit["study"].partition("/")
            if "rows" in unit:
                rows.setdefault(study, {}).setdefault((unit["sample_id"], part), unit["rows"])
            else:
                errors[study, unit["sample_id"], part] = unit["error"]
        for study, units in rows.items():
            ordered = [{"sample_id": unit[0]} | row for unit in sorted(units) for row in units[unit]]
            _write_parquet(_columnar(study, ordered), self.folder / f"{study}.parquet")
        repaired = {(study, sample) for study, units in rows.items() for sample, _ in units}
        failures = [
            {"study": f"{study}/{part}" if part else study, "sample_id": sample_id, "error": error}
            for (study, sample_id, part), error in sorted(errors.items())
            # A sample that could not be read failed for all parts together.
            if (sample_id, part) not in rows.get(study, {}) and (part or (study, sample_id) not in repaired)
        ]
        _write_parquet(pa.Table.from_pylist(failures, _FAILURE_SCHEMA), self.folder / f"{FAILURES}.parquet")
        return read(self.folder.parent)

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
        line = (json.dumps(unit, ensure_ascii=False) + "\n").encode()
        if self._descriptor is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            _cut_partial_line(self.path)
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        remaining = memoryview(line)
        while remaining:  # a nearly full disk may take a line in parts
            remaining = remaining[os.write(self._descriptor, remaining) :]
        os.fsync(self._descriptor)

    def _units(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self.folder.glob("rank*.jsonl")):
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        break  # cut by a crash: its unit was never reported as stored
                    try:
                        yield json.loads(line)
                    except ValueError:
                        warnings.warn(
                            f"{path}, line {number} is damaged and left out; its unit will be computed again",
                            stacklevel=2,
                        )


def read(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read the finalised records of a run.

    Args:
        folder: The run folder, the one that holds `records`.

    Returns:
        One frame a study, and the frame `failures` (columns study, sample_id, error), which may be empty.

    Raises:
        FileNotFoundError: If the folder holds no finalised records.
    """
    paths = sorted((Path(folder) / "records").glob("*.parquet"))
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


def _columnar(study: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows to columns: the union of all rows' columns in order of appearance, lists as float32."""
    names = dict.fromkeys(name for row in rows for name in row) or {"sample_id": None}
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        is_list = any(isinstance(value, list) for value in values)
        try:
            columns[name] = pa.array(values, pa.list_(pa.float32()) if is_list else None)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"column {name!r} of study {study!r} mixes kinds of values: {error}") from error
    return pa.table(columns)


def _write_parquet(table: pa.Table, path: Path) -> None:
    """Write beside the target, then rename: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".draft{os.getpid()}")
    pq.write_table(table, draft)
    os.replace(draft, path)
