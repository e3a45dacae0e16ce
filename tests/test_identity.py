"""A result is kept as long as it is of what it says: the sample as it is now, the model, the weights, the code."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import evaluate
from dmlik_pl.callbacks import RecordWriter
from dmlik_pl.modules.evaluation_cli import EvaluationCLI
from dmlik_pl.records.store import SAMPLES, read
from dmlik_pl.results.page.report import main as render

TOY = str(Path(__file__).parent / "toy.yaml")
ROWS: list[dict[str, Any]] = [
    {"name": "a", "image": [-0.7, -1.0, -0.9, -0.6], "tone": "dark", "size": "small"},
    {"name": "b", "image": [0.4, 0.1, 0.2, 0.3], "tone": "light", "size": "small"},
    {"name": "c", "image": [1.0, 0.6, 0.9, 0.7], "tone": "light", "size": "large"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows))


def run(tmp_path: Path, *arguments: object, listed: Path | None = None) -> dict[str, pd.DataFrame]:
    """Run the toy on a list of images; its records."""
    data = ["--data", "toy.ListedData", "--data.path", str(listed or tmp_path / "list.json")]
    runs = tmp_path / "runs"
    assert evaluate.cli_main(["--config", TOY, "--runs", str(runs), *data, *map(str, arguments)]) == 0
    return read(max(runs.iterdir(), key=lambda folder: (folder / "config.yaml").stat().st_mtime_ns))


def bits(records: dict[str, pd.DataFrame]) -> dict[str, float]:
    data = records["time_sweep"].query("stage == 'data'")
    return dict(zip(data["sample_id"], data["bpd"], strict=True))


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are looked at here, not what is drawn of them, which takes longer than to make them."""
    monkeypatch.setattr("dmlik_pl.callbacks.records.write_report", lambda folder: None)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    write(folder / "list.json", ROWS)
    run(folder)
    return folder


@pytest.fixture
def again(first: Path, tmp_path: Path) -> Path:
    """A copy of a finished run and its data, at their own paths in another folder."""
    shutil.copytree(first, tmp_path / "again")
    (copied,) = tmp_path.glob("again/runs/*")
    run(tmp_path / "again")  # takes all over
    shutil.rmtree(copied)
    return tmp_path / "again"


def changed(name: str, **values: object) -> list[dict[str, Any]]:
    return [row | values if row["name"] == name else row for row in ROWS]


def units(folder: Path) -> list[tuple[str, str]]:
    """What was measured, run folder by run folder."""
    lines = [line for path in sorted(folder.glob("runs/*/records/rank0.jsonl")) for line in path.open()]
    return [(unit["study"].partition("/")[0], unit["sample_id"]) for unit in map(json.loads, lines)]


class TestSamples:
    def test_an_image_that_was_replaced_is_measured_anew(self, again: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = bits(run(again))
        assert "measured again" not in capsys.readouterr().err
        write(again / "list.json", changed("b", image=[0.9, 0.8, 0.7, 0.6]))
        after = bits(run(again))
        told = capsys.readouterr().err
        assert "Changed, and measured again: 1 of 3 samples (b)." in told
        assert after["b"] > before["b"] + 0.3 and after["a"] == before["a"] and after["c"] == before["c"]
        (again / "fresh").mkdir()
        write(again / "fresh" / "list.json", changed("b", image=[0.9, 0.8, 0.7, 0.6]))
        assert after["b"] == bits(run(again / "fresh"))["b"]

    def test_so_is_one_whose_label_was_corrected(self, again: Path) -> None:
        write(again / "list.json", changed("a", tone="light"))
        records = run(again)
        assert set(records["prompt_accuracy"].query("sample_id == 'a' and attribute == 'tone'")["truth"]) == {"light"}
        assert records["prompt_accuracy"]["sample_id"].value_counts().to_dict() == {"a": 2, "b": 2, "c": 2}

    def test_a_removed_one_is_in_no_number(self, again: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write(again / "list.json", ROWS[:2])
        records = run(again)
        assert "No longer in the data, and left out: 1 measured samples (c)." in capsys.readouterr().err
        assert records[SAMPLES]["sample_id"].tolist() == ["a", "b"] == sorted(bits(records))
        (folder,) = again.glob("runs/*")
        assert render([str(folder)]) == 0, "nor when the records are shown again"
        assert sorted(bits(read(folder))) == ["a", "b"]

    def test_it_is_back_without_work_when_it_is_listed_again(self, again: Path) -> None:
        write(again / "list.json", ROWS[:2])
        run(again)
        count = len(units(again))
        write(again / "list.json", ROWS)
        assert sorted(bits(run(again))) == ["a", "b", "c"] and len(units(again)) == count

    def test_data_of_another_folder_have_numbers_of_their_own(self, again: Path, monkeypatch: Any) -> None:
        monkeypatch.chdir(again)
        one = bits(run(again, listed=Path("list.json")))
        (again / "elsewhere").mkdir()
        write(again / "elsewhere" / "list.json", changed("b", image=[0.9, 0.8, 0.7, 0.6]))
        monkeypatch.chdir(again / "elsewhere")
        other = bits(run(again, listed=Path("list.json")))
        assert other["b"] > one["b"] + 0.3 and other["a"] == one["a"]

    def test_what_another_run_has_of_a_changed_sample_is_not_taken_over(
        self, again: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(again / "list.json", changed("b", image=[0.9, 0.8, 0.7, 0.6]))
        records = run(again, "--name", "other")
        assert ": 4 results of the same settings" in capsys.readouterr().err
        assert len(units(again)) == 12
        (again / "fresh").mkdir()
        write(again / "fresh" / "list.json", changed("b", image=[0.9, 0.8, 0.7, 0.6]))
        assert bits(records) == bits(run(again / "fresh"))

    def test_every_record_tells_what_it_is_of(self, first: Path) -> None:
        (folder,) = first.glob("runs/*")
        records = read(folder)
        for study in ("time_sweep", "prompt_accuracy"):
            frame = records[study]
            assert frame.groupby("sample_id")["fingerprint"].nunique().eq(1).all()
            assert frame["fingerprint"].nunique() == 3 and frame["fingerprint"].str.len().eq(32).all()
            assert set(frame["packages"].str.extract(r"(torch \d+\.\d+)", expand=False)) == {
                f"torch {'.'.join(__import__('torch').__version__.split('.')[:2])}"
            }


class TestCode:
    MODEL = "from mine_helper import SHIFT\nimport toy\n\nclass Model(toy.ToyModel):\n    def shift(self, prompts):\n"
    MODEL += "        return super().shift(prompts) + SHIFT\n"

    @pytest.fixture
    def mine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A model of the user's own, which imports something of its own."""
        (tmp_path / "mine.py").write_text(self.MODEL)
        (tmp_path / "mine_helper.py").write_text("SHIFT = 0.0\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        write(tmp_path / "list.json", ROWS)
        yield tmp_path
        for name in ("mine", "mine_helper"):
            sys.modules.pop(name, None)

    def run(self, folder: Path) -> dict[str, pd.DataFrame]:
        for name in ("mine", "mine_helper"):  # as a new process does
            sys.modules.pop(name, None)
        return run(folder, "--model.diffusion", "mine.Model")

    def test_a_model_of_ones_own_counts_by_its_source(self, mine: Path) -> None:
        before = bits(self.run(mine))
        assert self.run(mine) and len(list(mine.glob("runs/*"))) == 1
        (mine / "mine_helper.py").write_text("SHIFT = 0.25  # another\n")
        after = bits(self.run(mine))
        assert all(abs(after[name] - before[name]) > 1e-3 for name in "abc")

    def test_but_not_by_the_time_it_was_written(self, mine: Path) -> None:
        self.run(mine)
        os.utime(mine / "mine.py", (1, 1))
        self.run(mine)
        assert len(units(mine)) == 6


def test_numbers_of_another_data_setting_called_like_one_of_the_trainer(tmp_path: Path) -> None:
    """Settings are left out of a run's identity by their place, not by their name."""
    write(tmp_path / "list.json", ROWS)
    for note in ("A", "B"):
        run(tmp_path, "--data.note", json.dumps({"name": note, "runs": 1, "trainer": 2, "config": note}))
    assert len(list((tmp_path / "runs").iterdir())) == 2
    assert len(units(tmp_path)) == 12 and len(set(units(tmp_path))) == 6, "the second took all over from the first"


def test_a_record_of_no_known_origin_is_made_anew(again: Path) -> None:
    """As those are that were written before records said what they are of."""
    (path,) = again.glob("runs/*/records/rank0.jsonl")
    lines = [json.loads(line) for line in path.open()]
    for line in lines:
        line.pop("origin")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert sorted(bits(run(again))) == ["a", "b", "c"] and len(units(again)) == 12


class Processes:
    """What a process that is not the first hears from the first, and what the others agree on."""

    def __init__(self, folder: str, parts: dict[str, str], same: bool) -> None:
        self.told, self.same = (folder, parts), same
        self.strategy, self.global_rank = self, 1

    def broadcast(self, own: object) -> object:
        return self.told

    def reduce_boolean_decision(self, own: bool, all: bool) -> bool:
        return own and self.same


class TestProcesses:
    def test_the_first_tells_the_others_the_folder(self, tmp_path: Path) -> None:
        writer = RecordWriter(tmp_path / "mine", {"sweep": "1"})
        writer._agree(Processes(str(tmp_path / "theirs"), {"sweep": "1"}, True))  # type: ignore[arg-type]
        assert writer.folder == tmp_path / "theirs"

    @pytest.mark.parametrize(("theirs", "same", "who"), [("2", True, "process 1 has"), ("1", False, "another process")])
    def test_different_weights_are_refused_by_all(self, tmp_path: Path, theirs: str, same: bool, who: str) -> None:
        writer = RecordWriter(tmp_path, {"sweep": "1"})
        with pytest.raises(ValueError, match=f"{who}.* other weights, code or settings than the first"):
            writer._agree(Processes(str(tmp_path), {"sweep": theirs}, same))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "\0\0"])
def test_a_damaged_neighbour_is_skipped_by_name(again: Path, content: str) -> None:
    neighbour = again / "runs" / "damaged"
    (neighbour / "records").mkdir(parents=True)
    (neighbour / "records" / "rank0.jsonl").write_text("no record\n")
    (neighbour / "parts.json").write_text(content)
    (neighbour / "config.yaml").touch()
    os.utime(neighbour / "config.yaml", (1, 1))
    with pytest.warns(UserWarning, match=r"damaged.parts.json is damaged"):
        assert len(bits(run(again, "--name", "other"))) == 3


def test_what_is_left_of_a_shortened_run_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "list.json", ROWS)
    data = ["--data", "toy.ListedData", "--data.path", str(tmp_path / "list.json"), "--data.batch_size", "1"]
    cli = EvaluationCLI(["--config", TOY, "--runs", str(tmp_path / "runs"), *data, "--trainer.limit_test_batches=2"])
    writer = RecordWriter(cli.folder, cli.parts)
    cli.trainer.callbacks.append(writer)
    cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
    assert (writer.expected, writer.missing, writer.failed) == (3, 1, 0)
