"""The record store keeps every unit it has reported as stored, and nothing else."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dmlik_pl.records.origin import Expected, Origin, read_samples, write_parts, write_samples
from dmlik_pl.records.store import SAMPLES, RecordStore, read
from dmlik_pl.results.coverage import coverage_of_study


def test_rows_come_back_typed_sorted_and_once(tmp_path: Path) -> None:
    with RecordStore(tmp_path, rank=0) as first, RecordStore(tmp_path, rank=1) as second:
        first.append("sweep", "b", [{"time": None, "bpd": 1, "ok": True}, {"time": 0.5, "bpd": 2.5, "ok": None}])
        second.append("sweep", "a", [{"sample_id": "a", "time": 1.0, "bpd": math.nan, "feature": [0.1, math.inf]}])
        second.append("sweep", "b", [{"time": None, "bpd": 99, "ok": False}])
    frames = RecordStore(tmp_path).finalise()
    frame = frames["sweep"]
    assert list(frame.columns) == ["sample_id", "time", "bpd", "feature", "ok"]
    assert list(frame["sample_id"]) == ["a", "b", "b"]
    np.testing.assert_array_equal(frame["bpd"], [math.nan, 1.0, 2.5])
    np.testing.assert_array_equal(frame["time"], [1.0, math.nan, 0.5])
    assert frame["ok"].tolist() == [None, True, None]
    assert frame["feature"][0].dtype == np.float32 and frame["feature"][0].tolist() == [np.float32(0.1), math.inf]
    assert frame["feature"][1] is None
    assert len(frames["failures"]) == 0 and list(frames["failures"].columns) == ["study", "sample_id", "error"]
    assert pq.read_schema(tmp_path / "records" / "sweep.parquet").field("feature").type.value_type == "float"


def test_the_result_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    rows = {f"s{i:02d}": [{"x": i * 0.1, "k": k} for k in range(3)] for i in range(10)}
    for world_size in (1, 3):
        stores = [RecordStore(tmp_path / str(world_size), rank) for rank in range(world_size)]
        for i, (name, unit) in enumerate(reversed(rows.items())):
            stores[i % world_size].append("sweep", name, unit)
        stores[0].finalise()
    alone, shared = (read(tmp_path / str(world_size))["sweep"] for world_size in (1, 3))
    assert alone.equals(shared)
    assert alone["k"].tolist() == [0, 1, 2] * 10


def test_failures_are_not_done_and_vanish_when_repaired(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.append_failure("sweep", "a", "NaN from the network")
    store.append_failure("sweep", "b", "corrupt file")
    store.append_failure("sweep", "b", "corrupt file, again")
    store.append("sweep", "a", [{"x": 1.0}])
    assert store.done() == {"sweep": {"a"}}
    frames = store.finalise()
    assert frames["failures"].to_dict("records") == [
        {"study": "sweep", "sample_id": "b", "error": "corrupt file, again"}
    ]


def test_parts_of_a_study_are_done_apart_and_form_one_frame(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.append("sweep/guidance=3", "b", [{"w": 3.0}])
    store.append("sweep/guidance=1", "b", [{"w": 1.0}])
    store.append("sweep/guidance=3", "a", [{"w": 3.0}, {"w": 3.5}])
    store.append_failure("sweep/guidance=1", "a", "diverged")
    store.append_failure("sweep", "a", "unreadable, until it was read")
    store.append_failure("sweep", "c", "unreadable")
    assert store.done() == {"sweep/guidance=3": {"a", "b"}, "sweep/guidance=1": {"b"}}
    frames = store.finalise()
    assert sorted(frames) == ["failures", "sweep"]
    assert frames["sweep"].to_dict("list") == {
        "sample_id": ["a", "a", "b", "b"],
        "w": [3.0, 3.5, 1.0, 3.0],
        "part": ["guidance=3", "guidance=3", "guidance=1", "guidance=3"],
    }
    assert frames["failures"].to_dict("list") == {
        "study": ["sweep/guidance=1", "sweep"],
        "sample_id": ["a", "c"],
        "error": ["diverged", "unreadable"],
    }
    assert coverage_of_study(frames, "sweep").failed == 2
    with pytest.raises(ValueError, match="cannot be called"):
        store.append("sweep/a/b", "a", [{"w": 1.0}])


@pytest.mark.parametrize(
    "rest", [b'{"study": "sweep", "sample_id": "cut", "ro', b'{"study": "s", "rows": []}', b"\0\0"]
)
def test_a_cut_last_line_is_dropped_and_removed_before_appending(tmp_path: Path, rest: bytes) -> None:
    with RecordStore(tmp_path) as store:
        store.append("sweep", "a", [{"x": 1.0}])
    whole = store.path.read_bytes()
    store.path.write_bytes(whole + rest)
    assert RecordStore(tmp_path).done() == {"sweep": {"a"}}
    assert store.path.read_bytes() == whole + rest, "reading must not change the file of another process"
    with RecordStore(tmp_path) as resumed:
        resumed.append("sweep", "b", [{"x": 2.0}])
    assert [json.loads(line)["sample_id"] for line in store.path.read_text().splitlines()] == ["a", "b"]
    assert resumed.finalise()["sweep"]["x"].tolist() == [1.0, 2.0]


def test_a_damaged_line_costs_its_own_unit_only(tmp_path: Path) -> None:
    with RecordStore(tmp_path) as store:
        for name in "abc":
            store.append("sweep", name, [{"x": 1.0}])
    lines = store.path.read_bytes().splitlines(keepends=True)
    store.path.write_bytes(lines[0] + b"\0" * 20 + b"\n" + lines[2])
    with pytest.warns(UserWarning, match=r"rank0.jsonl, line 2 is damaged"):
        assert store.done() == {"sweep": {"a", "c"}}


WRITER = """
import sys
from dmlik_pl.results.coverage import coverage_of_study
from dmlik_pl.records.store import RecordStore
store = RecordStore(sys.argv[1])
for i in range(int(sys.argv[2]), 10**9):
    store.append("sweep", f"s{i:06d}", [{"x": i / 7, "feature": [float(i)] * 2000}])
    print(i, flush=True)
"""


def test_kill_9_loses_no_reported_unit(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    start = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(start)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        reported = int(process.stdout.readline())
        while reported < start + 20:
            reported = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        tail = process.communicate()[0].split("\n")[:-1]  # what was printed between the last look and the kill
        reported = int(tail[-1]) if tail else reported
        assert process.returncode == -signal.SIGKILL
        done = RecordStore(tmp_path).done()["sweep"]
        assert done >= {f"s{i:06d}" for i in range(reported + 1)}
        assert len(done) <= reported + 2, "at most one unit may be stored and not yet reported"
        start = len(done)
    frame = RecordStore(tmp_path).finalise()["sweep"]
    assert frame["sample_id"].tolist() == [f"s{i:06d}" for i in range(start)]
    np.testing.assert_array_equal(frame["x"], np.arange(start) / 7)


def test_a_killed_finalise_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RecordStore(tmp_path)
    store.append("sweep", "a", [{"x": 1.0}])
    store.finalise()
    store.append("sweep", "b", [{"x": 2.0}])

    def full_disk(table: object, path: Path) -> None:
        path.write_bytes(b"PAR1 half")
        raise OSError("no space left on device")

    monkeypatch.setattr(pq, "write_table", full_disk)
    with pytest.raises(OSError, match="no space"):
        store.finalise()
    assert read(tmp_path)["sweep"]["x"].tolist() == [1.0]


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    with pytest.raises(FileNotFoundError, match="no finalised records"):
        read(tmp_path)
    with pytest.raises(ValueError, match="cannot be called"):
        store.append("../escape", "a", [{"x": 1.0}])
    with pytest.raises(ValueError, match="cannot be called"):
        store.append("failures", "a", [{"x": 1.0}])
    with pytest.raises(ValueError, match="no record"):
        store.append("sweep", "a", [])
    with pytest.raises(ValueError, match="'a' calls itself 'b'"):
        store.append("sweep", "a", [{"sample_id": "b"}])
    with pytest.raises(TypeError):
        store.append("sweep", "a", [{"x": object()}])  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="'x' is an integer of 123 bits"):
        store.append("sweep", "a", [{"x": 10**36 * 7}])
    with pytest.raises(TypeError, match="'x' is a list with a str"):
        store.append("sweep", "a", [{"x": [1.0, "2"]}])  # type: ignore[list-item]
    assert not store.path.exists(), "a refused unit must leave nothing behind"


def test_a_value_of_another_kind_fails_its_own_sample(tmp_path: Path) -> None:
    """Of which kind a column is, most samples say; finding it out may not end the run that measured them."""
    store = RecordStore(tmp_path)
    for name, value in {"a": 1.0, "b": "text", "c": 2, "d": None, "e": True}.items():
        store.append("sweep", name, [{"x": value, "y": 0.5}])
    frames = store.finalise()
    assert frames["sweep"]["sample_id"].tolist() == ["a", "c", "d"]
    assert dict(zip(frames["failures"]["sample_id"], frames["failures"]["error"], strict=True)) == {
        "b": "its column 'x' is a text, that of the other samples a number",
        "e": "its column 'x' is a truth value, that of the other samples a number",
    }


def test_a_name_that_no_encoding_knows_is_kept_as_an_escape(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.append("sweep", os.fsdecode(b"caf\xe9.png"), [{"prompt": "\ud800 \u2028 \0", "x": 1.0}])
    store.append_failure("sweep", "b", "no file \udce9")
    assert store.done() == {"sweep": {"caf\udce9.png"}}, "by its own name a file is found again"
    frames = store.finalise()
    assert frames["sweep"].loc[0, ["sample_id", "prompt"]].tolist() == ["caf\\udce9.png", "\\ud800 \u2028 \0"]
    assert frames["failures"]["error"].tolist() == ["no file \\udce9"]


@pytest.mark.parametrize(
    "line",
    [
        '{"study": "sweep", "sample_id": "b", "rows": []}',
        '{"study": "sweep", "sample_id": "b"}',
        '{"study": "sweep", "sample_id": 7, "rows": [{"x": 1.0}]}',
        '{"study": "sweep", "sample_id": "b", "rows": [1.0]}',
        '{"study": "sweep", "sample_id": "b", "rows": {"x": 1.0}}',
        '{"study": "sweep", "sample_id": "b", "rows": [{"x": {"y": 1}}]}',
        '{"study": "sweep", "sample_id": "b", "error": ["NaN"]}',
        '{"study": "../b", "sample_id": "b", "rows": [{"x": 1.0}]}',
        "[]",
        "7",
        "null",
    ],
)
def test_a_line_that_is_no_unit_is_set_aside_by_its_number(tmp_path: Path, line: str) -> None:
    with RecordStore(tmp_path) as store:
        store.append("sweep", "a", [{"x": 1.0}])
        store.append("sweep", "c", [{"x": 3.0}])
    first, last = store.path.read_text().splitlines()
    store.path.write_text(f"{first}\n{line}\n{last}\n")
    with pytest.warns(UserWarning, match=r"rank0.jsonl, line 2 is damaged"):
        assert store.done() == {"sweep": {"a", "c"}}
    with pytest.warns(UserWarning, match=r"rank0.jsonl, line 2 is damaged"):
        assert store.finalise()["sweep"]["x"].tolist() == [1.0, 3.0]


class TestWhatCounts:
    """What a run folder says it is of, and what is stored there of it and of other things."""

    def store(self, folder: Path, **samples: Expected) -> RecordStore:
        write_parts(folder, {"sweep": "now"})
        write_samples(folder, samples)
        return RecordStore(folder)

    def test_it_is_of_the_present_part_and_sample(self, tmp_path: Path) -> None:
        store = self.store(tmp_path, a=Expected("1"), b=Expected("2"), c=Expected())
        store.append("sweep", "a", [{"x": 1.0}], Origin("now", "0"))
        store.append("sweep", "a", [{"x": 2.0}], Origin("before", "1"))
        store.append("sweep", "a", [{"x": 3.0}], Origin("now", "1", packages="torch 2"))
        store.append("sweep", "b", [{"x": 4.0}], Origin("now", "1"))
        store.append("sweep", "c", [{"x": 5.0}], Origin("now", "9", converted="16-bit grey"))
        store.append("sweep", "gone", [{"x": 6.0}], Origin("now", "1"))
        store.append("other", "a", [{"x": 7.0}], Origin("now", "1"))
        assert store.done() == {"sweep": {"a", "c"}}
        frames = store.finalise()
        assert frames["sweep"].to_dict("list") == {
            "sample_id": ["a", "c"],
            "x": [3.0, 5.0],
            "fingerprint": ["1", "9"],
            "packages": ["torch 2", ""],
            "converted": ["", "16-bit grey"],
        }
        assert sorted(frames) == ["failures", SAMPLES, "sweep"] and frames[SAMPLES]["sample_id"].tolist() == [*"abc"]

    def test_so_are_failures(self, tmp_path: Path) -> None:
        store = self.store(tmp_path, a=Expected("1"), b=Expected())
        store.append_failure("sweep", "a", "as it was", Origin("now", "0"))
        store.append_failure("sweep", "gone", "NaN", Origin("now", "1"))
        store.append_failure("sweep", "b", "unreadable", Origin(""))
        assert store.finalise()["failures"]["sample_id"].tolist() == ["b"]

    def test_frames_of_a_study_that_is_gone_go_too(self, tmp_path: Path) -> None:
        store = self.store(tmp_path, a=Expected("1"))
        store.append("sweep", "a", [{"x": 1.0}], Origin("now", "1"))
        assert "sweep" in store.finalise()
        write_samples(tmp_path, {"b": Expected()})
        assert sorted(store.finalise()) == ["failures", SAMPLES]

    def test_a_folder_that_says_nothing_counts_all(self, tmp_path: Path) -> None:
        store = RecordStore(tmp_path)
        store.append("sweep", "a", [{"x": 1.0}], Origin("before", "0"))
        assert store.done() == {"sweep": {"a"}} and SAMPLES not in store.finalise()

    @pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"size": 1}}', "\0\0\0"])
    def test_what_is_damaged_is_said_by_name(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "samples.json").write_text(content)
        with pytest.warns(UserWarning, match=r"samples.json is damaged and left out"):
            assert read_samples(tmp_path) is None
