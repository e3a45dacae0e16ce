"""A report is there whatever its records say, whatever of it fails, and whenever it is stopped."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import fake_records
import pandas as pd
import pytest
from fake_records import prompt_units, sweep_units
from hostile import WHOLE
from matplotlib.figure import Figure
from PIL import Image

from dmlik_pl.records.sharing import file_name
from dmlik_pl.records.store import SAMPLES, RecordStore, read
from dmlik_pl.results.coverage import coverage
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.page import caveats, scalars
from dmlik_pl.results.page import report as report_module
from dmlik_pl.results.page.report import Report, main, write_report
from dmlik_pl.results.table import Table

NAMES = ("a/b $c$", "[red]s|h[/red] _d_")


def hostile_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts, values and names of attributes, names of samples, and errors, none of which is harmless."""
    monkeypatch.setattr(fake_records, "COLOURS", WHOLE[:8])
    monkeypatch.setattr(fake_records, "SHAPES", (*WHOLE[8:10], WHOLE[-1]))
    (folder / "pictures" / "time_sweep").mkdir(parents=True)
    with RecordStore(folder) as store:
        for i, (name, rows) in enumerate(sweep_units(len(WHOLE)).items()):
            own = [row | {"prompt": WHOLE[i], NAMES[0]: row["colour"]} for row in rows]
            store.append("time_sweep", name, own)
            Image.new("RGB", (36, 6)).save(folder / "pictures" / "time_sweep" / f"{file_name(name)}.png")
        for name, rows in prompt_units(12, ((1.0, False),)).items():
            own = [row | {"attribute": NAMES[row["attribute"] == "shape"]} for row in rows]
            store.append("prompt_accuracy", name, own)
        for i, text in enumerate(WHOLE):
            store.append_failure("prompt_accuracy", f"bad {i} {text[:40]}", text)


def _small_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    return [Table(f"{study}_{kind}", "Values.", frame[["value"]].astype(str), frame) for kind in ("one", "two")]


def _small_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    figures = {f"{study}_{kind}": Figure(figsize=(1, 1)) for kind in ("one", "two")}
    for figure in figures.values():
        figure.subplots().plot(frame["value"])
    return figures


def _small_numbers(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    yield "mean", frame["value"].mean()


SMALL = Kind("small", tables=_small_tables, figures=_small_figures, scalars=_small_numbers)


@pytest.fixture
def folder(tmp_path: Path, declared: Callable[..., None]) -> Path:
    """A run of twelve samples and two studies."""
    declared(SMALL)
    folder = tmp_path / "run-0123"
    with RecordStore(folder) as store:
        for study in ("first", "second"):
            for i in range(12):
                store.append(study, f"test-{i:05d}", [{"kind": "small", "value": float(i)}])
    store.finalise()
    return folder


def of_report(report: Report) -> list[tuple[str, str]]:
    """Study and text of the caveats on what could not be made; they are serious."""
    lost = [caveat for caveat in report.caveats if caveat.topic == "report"]
    assert all(caveat.severity == "serious" for caveat in lost)
    return [(caveat.study, caveat.text) for caveat in lost]


def test_texts_of_any_kind_spoil_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run[red]$x$-0123"
    hostile_run(folder, monkeypatch)
    monkeypatch.setattr(report_module, "_DOTS_PER_INCH", 30)
    assert not of_report(write_report(folder))
    figures = {path.stem for path in (folder / "figures").iterdir()}
    assert {"prompt_accuracy", "prompt_accuracy_margins", "prompt_accuracy_confusion", "time_sweep"} <= figures
    assert {"prompt_accuracy_empty_prompt", "prompt_accuracy_levels", "time_sweep_bits_per_dim"} <= figures
    assert {"time_sweep_pictures", "time_sweep_process"} <= figures
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "<script>alert" not in text and "\x1b" not in text and "x" * 1000 not in text
    assert all(set(path.name) & set("$[]|<> ") == set() for path in (folder / "tables").iterdir())
    failures = pd.read_csv(folder / "tables" / "failures.csv", keep_default_na=False)
    assert WHOLE[-1] in failures["error"].tolist(), "whole in the CSV"


def test_what_cannot_be_made_is_a_line_and_all_else_is_there(folder: Path, declared: Callable[..., None]) -> None:
    def fail(study: str, frame: pd.DataFrame) -> NoReturn:
        raise ZeroDivisionError("by <b>zero</b> $")

    declared(Kind("broken", tables=fail, figures=fail))
    with RecordStore(folder) as store:
        store.append("second", "test-00012", [{"kind": "small", "value": 1.0}])
        store.append("broken", "test-00012", [{"kind": "broken", "value": 1.0}])
    report = write_report(folder)
    why = "could not be made: ZeroDivisionError: by <b>zero</b> $."
    assert of_report(report) == [("broken", f"Tables {why}"), ("broken", f"Figures {why}")]
    assert [table.name for table in report.tables] == ["first_one", "first_two", "second_one", "second_two"]
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert drawn == {"first_one", "first_two", "second_one", "second_two"}
    markdown, page = ((folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert r"Tables could not be made: ZeroDivisionError: by \<b\>zero\</b\> \$." in markdown
    assert page.count("Tables could not be made: ZeroDivisionError: by &lt;b&gt;zero&lt;/b&gt; $.") == 2


def test_numbers_and_caveats_fail_alone_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, declared: Callable[..., None]
) -> None:
    def fail(*given: object) -> NoReturn:
        raise RuntimeError("no number")

    declared(Kind("broken", scalars=fail))
    monkeypatch.setattr(caveats, "RULES", (fail, *caveats.RULES))
    records = read(folder)
    records["third"] = records["second"].assign(kind="broken")
    assert scalars.scalars(records)["second/mean"] == 5.5
    found = caveats.find_caveats(records)
    assert [one.text for one in found if one.study == "third" and one.topic == "report"] == [
        "A caveat could not be made: RuntimeError: no number."
    ]
    assert [one.topic for one in found if one.study == "first"] == ["report", "few samples"]


def test_a_figure_that_cannot_be_drawn_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Figure.savefig

    def fail_once(figure: Figure, path: Path, **options: object) -> None:
        if path.name.endswith("second_one.png"):
            raise ValueError("no ink")
        draw(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", fail_once)
    assert of_report(write_report(folder)) == [("run", "The figure second_one could not be made: ValueError: no ink.")]
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [
        *("first_one.png", "first_two.png", "second_two.png")
    ]
    assert "second_one.png" not in (folder / "report.md").read_text()


def test_a_figure_without_end_is_drawn_with_fewer_dots(folder: Path, declared: Callable[..., None]) -> None:
    declared(Kind("long", figures=lambda study, frame: {study: Figure(figsize=(1, 2000))}))
    with RecordStore(folder) as store:
        store.append("long", "test-00000", [{"kind": "long"}])
    assert not of_report(write_report(folder))
    with Image.open(folder / "figures" / "long.png") as picture:
        assert picture.height == 60_000


def test_a_damaged_picture_takes_nothing_along(folder: Path) -> None:
    pictures = folder / "pictures" / "time_sweep"
    pictures.mkdir(parents=True)
    with RecordStore(folder) as store:
        for name, rows in sweep_units(2).items():
            store.append("time_sweep", name, rows)
            Image.new("RGB", (60, 10)).save(pictures / f"{file_name(name)}.png")
    whole = (pictures / f"{file_name('test-00001')}.png").read_bytes()
    (pictures / f"{file_name('test-00001')}.png").write_bytes(whole[: len(whole) // 2])
    texts = [text.split(" could not")[0] for _, text in of_report(write_report(folder))]
    assert texts == ["Sheets of the kept pictures", "What was kept of test-00001"]
    page = (folder / "report.html").read_text()
    assert page.count("data-bpd=") == 1 and 'aria-label="Enlarge the picture of test-00000"' in page


def test_a_page_that_fails_leaves_the_rest_in_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise KeyError("template")

    monkeypatch.setattr(report_module, "render_page", fail)
    assert of_report(write_report(folder)) == [
        ("run", "The page with everything could not be made: KeyError: 'template'.")
    ]
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "could not be made: KeyError" in page and "first one" in page
    assert "could not be made: KeyError" in (folder / "report.md").read_text()


def test_a_full_disk_is_no_caveat(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys, caplog) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordStore, "finalise", lambda self: read(folder))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(folder)
    assert not caplog.records, "it stops at the first file"
    assert main([str(folder)]) == 1
    assert "No space left on device" in capsys.readouterr().err


class Stop(BaseException):
    """Stands for a kill."""


FILES = 4 * 3 + 4 + 2  # tables as Markdown, CSV and LaTeX; figures; two reports


@pytest.mark.parametrize("writes", [0, 1, 5, 13, FILES - 2, FILES - 1])
def test_stopped_anywhere_an_earlier_report_stays_readable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    write_report(folder)
    before = {path: path.read_bytes() for room in (".", "tables", "figures") for path in (folder / room).glob("*.*")}
    assert len(before) == FILES
    with RecordStore(folder) as store:
        store.append("first", "test-99999", [{"kind": "small", "value": 99.0}])
    replaced, replace = [], os.replace

    def stop(source: str, target: str) -> None:
        if Path(target).suffix != ".parquet":
            if len(replaced) == writes:
                raise Stop
            replaced.append(Path(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(Stop):
        write_report(folder)
    monkeypatch.undo()
    assert len(replaced) == writes
    for path, content in before.items():
        assert path in replaced or path.read_bytes() == content
    assert "</html>" in (folder / "report.html").read_text()[-10:]
    for figure in (folder / "figures").iterdir():
        with Image.open(figure) as picture:
            picture.load()
    write_report(folder)
    assert "13 samples" in (folder / "report.md").read_text()


def test_what_only_an_earlier_call_wrote_goes_when_all_is_there(folder: Path) -> None:
    for path in (folder / "tables" / "old.csv", folder / "figures" / "old.png", folder / "figures" / "own.svg"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    write_report(folder)
    assert not (folder / "tables" / "old.csv").exists() and not (folder / "figures" / "old.png").exists()
    assert (folder / "figures" / "own.svg").exists(), "what no report writes is not a report's to remove"


class TestPartial:
    """A run of 16 samples, of which 12 are measured and 1 failed in one study."""

    @pytest.fixture
    def partial(self, folder: Path) -> Path:
        with RecordStore(folder) as store:
            for name, rows in sweep_units(12).items():
                store.append("third", name, [row | {"kind": "small", "value": 1.0} for row in rows[:1]])
            store.append_failure("third", "test-00012", "no file")
        store.finalise()
        names = [f"test-{i:05d}" for i in range(16)]
        pd.DataFrame({"sample_id": names}).to_parquet(folder / "records" / f"{SAMPLES}.parquet")
        return folder

    @staticmethod
    def report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Report, dict[str, pd.DataFrame]]:
        """Merging is the store's own matter: here its records are as they are."""
        records = read(folder)
        monkeypatch.setattr(RecordStore, "finalise", lambda self: records)
        return write_report(folder), records

    def test_every_caption_says_so(self, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        report, _ = self.report(partial, monkeypatch)
        captions = {table.name: table.caption for table in report.tables}
        assert captions["first_one"] == "Partial: 12 of 16 samples, 0 failed. Values."
        assert captions["third_two"] == "Partial: 12 of 16 samples, 1 failed. Values."
        assert captions["bits_per_dim"].startswith("Partial: 12 of 16 samples, 1 failed. Bits")
        assert captions["failures"].startswith("Partial: 12 of 16 samples, 1 failed. Failed units: 1.")
        row = next(table for table in report.tables if table.name == "bits_per_dim").shown.loc["third"]
        assert (row["n"], row["failed"]) == ("12 of 16", "1")
        unfinished = {c.study: c.text for c in report.caveats if c.topic == "unfinished"}
        assert unfinished == {
            "first": "4 of the run's 16 samples are missing: the run was not finished.",
            "second": "4 of the run's 16 samples are missing: the run was not finished.",
            "third": "3 of the run's 16 samples are missing: the run was not finished.",
        }

    def test_reports_open_with_it(self, partial: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
        self.report(partial, monkeypatch)
        line = "Partial: 12 of 16 samples, 1 failed. Start the same command again to measure the rest."
        assert (partial / "report.md").read_text().splitlines()[2] == f"**{line}**"
        page = (partial / "report.html").read_text()
        assert f"<strong>{line}</strong>" in page and "12 of 16 measured, 1 failed" in page
        assert main([str(partial)]) == 0
        assert line in " ".join(capsys.readouterr().out.split())

    def test_scalars_have_it(self, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _, records = self.report(partial, monkeypatch)
        numbers = scalars.scalars(records)
        assert (numbers["samples"], numbers["samples_expected"]) == (12, 16)
        assert numbers["first/samples"] == numbers["third/samples"] == 12

    def test_a_whole_run_is_short_about_it(self, partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"test-{i:05d}" for i in range(12)]
        pd.DataFrame({"sample_id": names}).to_parquet(partial / "records" / f"{SAMPLES}.parquet")
        report, _ = self.report(partial, monkeypatch)
        captions = {table.name: table.caption for table in report.tables}
        assert captions["first_one"] == "Values. 12 of 12 samples, 0 failed."
        assert not any("Partial" in caption for caption in captions.values())
        assert (partial / "report.md").read_text().splitlines()[2] == "12 of 12 samples, 1 failed."


def test_a_part_that_is_not_finished_makes_its_samples_missing() -> None:
    rows = [
        {"sample_id": f"s{i}", "guidance": weight} for weight in (1.0, 3.0) for i in range(10 if weight == 1 else 4)
    ]
    records = {"sweep": pd.DataFrame(rows), SAMPLES: pd.DataFrame({"sample_id": [f"s{i}" for i in range(12)]})}
    failures = pd.DataFrame({"study": ["sweep/guidance=3"], "sample_id": ["s5"], "error": ["NaN"]})
    covered = coverage(records | {"failures": failures})
    assert (covered.measured, covered.failed, covered.expected, len(covered.missing)) == (4, 1, 12, 7)
    assert covered.words == "Partial: 4 of 12 samples, 1 failed" and "s0" not in covered.missing


def test_samples_that_the_run_is_not_of_any_more_do_not_count() -> None:
    records = {"sweep": pd.DataFrame({"sample_id": ["a", "gone"]}), SAMPLES: pd.DataFrame({"sample_id": ["a"]})}
    assert coverage(records).words == "1 of 1 samples, 0 failed"
    assert coverage({SAMPLES: records[SAMPLES]}).words == "Partial: 0 of 1 samples, 0 failed"


def test_numbers_have_names_of_one_line(declared: Callable[..., None]) -> None:
    declared(Kind("counted", scalars=lambda frame: iter([("na\nme $", 1.0)])))
    frame = pd.DataFrame({"sample_id": ["a"], "kind": ["counted"]})
    assert scalars.scalars({"own": frame})["own/na me $"] == 1.0
