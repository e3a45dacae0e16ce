"""Reads the file that an offline W&B run leaves for `wandb sync`."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

START, BLOCK = 7, 32 * 1024
HEADER = struct.Struct("<IHB")  # checksum, length, kind of piece
WHOLE, LAST = 1, 4
PATIENCE = 300.0  # seconds


@dataclass
class OfflineRun:
    """What one offline run holds.

    Attributes:
        folder: The folder of its files.
        run_id: Its id.
        summary: Last value of every key.
        config: Its configuration.
        artifacts: By type, the names of the files of each artifact.
    """

    folder: Path
    run_id: str
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[str]] = field(default_factory=dict)

    def table(self, key: str) -> list[dict[str, Any]]:
        """The rows of a table that was logged."""
        content = json.loads((self.folder / "files" / self.summary[key]["path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def read_offline(folder: Path) -> OfflineRun:
    """Read the folder `offline-run-*` of a run that has ended.

    Raises:
        TimeoutError: If W&B does not complete its file.
    """
    (file,) = folder.glob("run-*.wandb")
    run = OfflineRun(folder, file.stem.removeprefix("run-"))
    for record in _complete(file):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.run_id = record.run.run_id
            _update(run.config, record.run.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "summary":
            _update(run.summary, record.summary.update)
        elif kind == "history":
            _update(run.summary, record.history.item)
        elif kind == "artifact":
            files = [entry.path for entry in record.artifact.manifest.contents]
            run.artifacts.setdefault(record.artifact.type, []).extend(files)
        elif kind == "request" and record.request.HasField("log_artifact"):
            artifact = record.request.log_artifact.artifact
            run.artifacts.setdefault(artifact.type, []).extend(entry.path for entry in artifact.manifest.contents)
    return run


def _update(values: dict[str, Any], items: Any) -> None:
    for item in items:
        path = list(item.nested_key) or [item.key]
        place = values
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = json.loads(item.value_json)


def _complete(file: Path) -> list[Record]:
    """All records: a process of W&B's own writes the file and may outlive the run's; its last record is the exit."""
    end = time.monotonic() + PATIENCE
    while True:
        records = list(_records(file.read_bytes()))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        if time.monotonic() > end:
            raise TimeoutError(f"{file} has {len(records)} records and no exit after {PATIENCE:g} s")
        time.sleep(0.05)


def _records(content: bytes) -> Iterator[Record]:
    """The whole records in blocks of 32 KiB, in which a long record goes on from block to block."""
    if len(content) < START:
        return
    assert content[:4] == b":W&B"
    position, pieces = START, b""
    while position + HEADER.size <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER.size:
            position += left
            continue
        _, length, kind = HEADER.unpack_from(content, position)
        position += HEADER.size
        if position + length > len(content):
            return
        pieces += content[position : position + length]
        position += length
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""
