"""One sample never ends a run; what every sample meets does, and a run ends alike however often it is started."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import evaluate
from dmlik_pl.callbacks.resume import Patience
from dmlik_pl.records.origin import Origin
from dmlik_pl.records.sharing import file_name, picture_path, sound_path, sound_paths
from dmlik_pl.records.store import FAILURES, RecordStore, read

HERE = Path(__file__).parent
TOY = str(HERE / "toy.yaml")
SWEEP = '{"sweep": {"class_path": "dmlik_pl.studies.TimeSweep", "init_args": {"times": [1.0, 0.0]}}}'


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are looked at here, not what is drawn of them, which takes longer than to make them."""
    monkeypatch.setattr("dmlik_pl.callbacks.records.write_report", lambda folder: None)


def rows(*names: str, **images: Any) -> list[dict[str, Any]]:
    common = {"tone": "dark", "size": "small"}
    return [common | {"name": name, "image": images.get(name, [-0.7, -1.0, -0.9, -0.6])} for name in names]


def arguments(tmp_path: Path, listed: list[dict[str, Any]], *more: str) -> list[str]:
    (tmp_path / "list.json").write_text(json.dumps(listed))
    data = ["--data", "toy.ListedData", "--data.path", str(tmp_path / "list.json")]
    return ["--config", TOY, "--runs", str(tmp_path / "runs"), "--model.studies", SWEEP, *data, *more]


def found(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of what was measured, and the reasons of what failed."""
    (folder,) = (tmp_path / "runs").iterdir()
    records = read(folder)
    measured = [sorted(set(frame["sample_id"])) for name, frame in records.items() if name in ("sweep", "odd")]
    failures: pd.DataFrame = records[FAILURES]
    reasons = dict(zip(failures["sample_id"], failures["error"], strict=True))
    return [name for names in measured for name in names], reasons


def faults(**kinds: str) -> list[str]:
    return ["--model.diffusion", "toy.FaultyModel", "--model.diffusion.init_args.faults", json.dumps(kinds)]


@pytest.mark.parametrize("kind", ["RuntimeError", "KeyError", "ZeroDivisionError", "MemoryError", "OSError"])
def test_whatever_a_sample_raises_is_its_failure(tmp_path: Path, kind: str) -> None:
    options = arguments(tmp_path, rows("a", "b", "c"), *faults(b=kind))
    assert evaluate.cli_main(options) == 0
    measured, failed = found(tmp_path)
    assert measured == ["a", "c"] and list(failed) == ["b"] and "the fault of b" in failed["b"]
    assert kind == "OSError" or failed["b"].startswith(f"{kind}: ")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("size", [1, 4])
def test_so_is_what_reading_it_raises(tmp_path: Path, size: int, workers: int) -> None:
    images: dict[str, Any] = {"b": None, "d": [1.0, 2.0, 3.0], "e": [0.1] * 6}  # no list, no pairs, another width
    options = arguments(
        tmp_path, rows(*"abcdef", **images), f"--data.batch_size={size}", f"--data.num_workers={workers}"
    )
    assert evaluate.cli_main(options) == 0
    measured, failed = found(tmp_path)
    assert measured == ["a", "c", "f"] and sorted(failed) == ["b", "d", "e"]
    assert failed["b"].startswith("TypeError: ") and failed["d"].startswith("RuntimeError: ")


def test_so_is_what_cannot_be_stored_or_drawn(tmp_path: Path) -> None:
    names = ["a", "number", "nothing", "b", "tensor", "text", "empty", "picture", "c"]
    study = json.dumps({"odd": {"class_path": "toy.OddStudy", "init_args": {"odd": names[1:-1]}}})
    options = arguments(tmp_path, rows(*names), "--model.studies", study)
    for _ in range(2):  # the second start meets the same
        assert evaluate.cli_main(options) == 0
        measured, failed = found(tmp_path)
        assert measured == ["a", "b", "c"] and sorted(failed) == sorted(set(names) - {"a", "b", "c"})
    assert "120 bits" in failed["number"] and "is a text" in failed["text"] and "no record" in failed["empty"]


def test_a_restart_ends_as_the_run_without_it_did(tmp_path: Path) -> None:
    """Three of four samples are bad: the one that was measured counts for the second start too."""
    options = arguments(tmp_path, rows("a", "b", "c", "d"), *faults(a="ValueError", c="ValueError", d="ValueError"))
    for _ in range(3):
        assert evaluate.cli_main(options) == 0
        measured, failed = found(tmp_path)
        assert measured == ["b"] and sorted(failed) == ["a", "c", "d"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_what_the_first_samples_meet_stops_a_run(tmp_path: Path, size: int) -> None:
    options = arguments(tmp_path, rows(*"abcde"), *faults(a="KeyError", b="ValueError", c="OSError"))
    for _ in range(2):
        with pytest.raises(ValueError, match="sweep could not measure the first 3 samples: the fault of c"):
            evaluate.cli_main([*options, f"--data.batch_size={size}"])


def test_a_process_whose_share_is_bad_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = dict.fromkeys("bdfhj", "ValueError")
    options = arguments(tmp_path, rows(*"abcdefghij"), *faults(**bad), "--data.batch_size=1")
    options += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(
        [sys.executable, str(HERE.parent / "evaluate.py"), *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert found(tmp_path) == (list("acegi"), {name: f"the fault of {name}" for name in "bdfhj"})


class TestPatience:
    def test_it_ends_when_all_of_the_first_have_failed_in_this_start(self, tmp_path: Path) -> None:
        with RecordStore(tmp_path) as before:
            for name in "abc":
                before.append_failure("sweep", name, "of an earlier start")
        patience = Patience(tmp_path, list("abcd"), {})
        with RecordStore(tmp_path, 0) as one, RecordStore(tmp_path, 1) as other:
            for store, name in ((one, "a"), (other, "d"), (other, "b")):
                store.append_failure("sweep/guidance=1", name, "NaN")
                patience.check("sweep/guidance=1", "NaN")
            one.append_failure("prompts", "c", "NaN")
            patience.check("prompts", "NaN")
            one.append_failure("sweep", "c", "unreadable")
            with pytest.raises(ValueError, match="sweep could not measure the first 3 samples: unreadable"):
                patience.check("sweep", "unreadable")

    def test_it_does_not_end_once_anything_was_measured(self, tmp_path: Path) -> None:
        patience = Patience(tmp_path, list("abcd"), {})
        with RecordStore(tmp_path, 0) as one, RecordStore(tmp_path, 1) as other:
            other.append("sweep/guidance=3", "d", [{"x": 1.0}], Origin("now", "1"))
            for name in "abc":
                one.append_failure("sweep/guidance=1", name, "NaN")
                assert patience.check("sweep/guidance=1", "NaN") is None


class TestFileNames:
    def test_no_two_samples_share_one(self) -> None:
        names = ["a/b.png", "a_b.png", "a b.png", "a*b.png", "A/b.png", "a/b", "a-b", "a--b", "", "..", "/", "a" * 300]
        names += ["a" * 299 + "b", "\N{SNOWMAN}", "\N{UMBRELLA}", "\udce9", "$x$", "[red]"]
        files = [file_name(name) for name in names]
        assert len({file.lower() for file in files}) == len(names)
        assert all(len(file) < 100 and not set(file) & set("/\\*?[]$ ") and file[0] not in ".-" for file in files)

    def test_a_picture_of_a_very_long_name_can_be_kept(self, tmp_path: Path) -> None:
        path = picture_path(tmp_path, "sweep", "x" * 250 + ".png")
        path.parent.mkdir(parents=True)
        Image.new("L", (1, 1)).save(path)
        assert path.is_file()

    def test_sounds_are_those_of_their_own_sample(self, tmp_path: Path) -> None:
        for sample in ("x", "x-source", "x-*", "x[1]"):
            for sound in ("source", "RK45-Euler"):
                path = sound_path(tmp_path, "speech", sample, sound)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"RIFF")
        assert len(list((tmp_path / "sound" / "speech").iterdir())) == 8
        kept = sound_paths(tmp_path, "speech", "x")
        assert sorted(kept) == ["RK45-Euler", "source"] and kept["source"] == sound_path(
            tmp_path, "speech", "x", "source"
        )
