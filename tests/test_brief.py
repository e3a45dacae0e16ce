"""What a command prints of a run fits one screen, and nothing in it is cut."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_adaptation_tables
import test_speech_tables
from fake_records import accuracy_units, frame_of, prompt_units, sweep_grid_units, sweep_units
from rich.cells import cell_len

import evaluate
from dmlik_pl.records.schema import Column, Schema
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.columns import estimate, headline_of
from dmlik_pl.results.coverage import Coverage, coverage
from dmlik_pl.results.kinds import Headline, Kind
from dmlik_pl.results.page.brief import WIDTH, brief
from dmlik_pl.results.page.caveats import Caveat, find_caveats
from dmlik_pl.results.page.facts import facts
from dmlik_pl.results.page.headlines import fair_share, headlines, headlines_by_study
from dmlik_pl.results.page.report import Report, main
from dmlik_pl.results.table import Table

TOY = str(Path(__file__).parent / "toy.yaml")
MANY = {f"prompts {i}": frame_of(prompt_units(6), "prompt_accuracy") for i in range(3)} | {
    "sweep": frame_of(sweep_grid_units(3, (0.0, 1.0, 3.0), (32, 64)), "time_sweep"),
    "last": frame_of(sweep_units(3), "time_sweep"),
}


def report_of(records: dict[str, pd.DataFrame]) -> Report:
    return Report([], find_caveats(records), coverage(records), records)


def height(lines: list[str]) -> int:
    """Lines of a terminal, which folds what is wider."""
    return sum(max(1, math.ceil(cell_len(line) / WIDTH)) for line in lines)


def in_words(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def test_a_small_run_is_told_whole(tmp_path: Path) -> None:
    records = {"colours": frame_of(accuracy_units(40), "prompt_accuracy")}
    folder = tmp_path / "shapes-1a2b"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "model:\n  diffusion:\n    class_path: dmlik_pl.models.StableDiffusionXL\n    init_args: {path: sdxl}\n"
        "data: {class_path: dmlik_pl.data.Shapes}\n"
    )
    report = report_of(records)
    lines = brief(report, folder)
    assert lines[:2] == ["shapes-1a2b: 40 samples, 0 failed.", "Model: StableDiffusionXL (sdxl). Data: Shapes."]
    numbers = headlines(records)
    assert len(numbers) == 3 and numbers[0].label == "Bits per dimension (BPD) of the data"
    assert all(f"{each.label}: {each.value} ({each.detail})" in in_words(lines) for each in numbers)
    assert "sampling" in numbers[0].errors and "sampling" not in in_words(lines), "one error, the total one"
    assert all(caveat.text in in_words(lines) for caveat in report.caveats if caveat.severity == "serious")
    assert lines[-2] == f"Report: {folder / 'report.html'}"
    assert height(lines) <= 20


@pytest.mark.parametrize("most", [20, 17])
def test_of_many_numbers_every_study_has_some_and_the_rest_is_counted(most: int, tmp_path: Path) -> None:
    lines = brief(report_of(MANY), tmp_path, ["3 of 9 samples are kept. To resume:", "    dmlik evaluate"], most)
    assert height(lines) <= most and lines[-1] == "    dmlik evaluate"
    every = [each for group in headlines_by_study(MANY) for each in group]
    told = [each for each in every if f"{each.label}: {each.value} ({each.detail})" in in_words(lines)]
    assert f"{len(every) - len(told)} more numbers like these are in the report." in lines
    assert 3 <= len(told) < len(every)
    assert {each.label.partition(":")[0] for each in told[1:]} >= {"Prompts 0", "Prompts 1"}


def test_shares_are_fair_and_in_order() -> None:
    one, two, three = ([Headline(f"{name}{i}", "", "") for i in range(n)] for name, n in (("a", 4), ("b", 1), ("c", 2)))
    assert [each.label for each in fair_share([one, two, three], 5)] == ["a0", "a1", "b0", "c0", "c1"]
    assert [each.label for each in fair_share([one, two, three], 6)] == ["a0", "a1", "a2", "b0", "c0", "c1"]
    assert fair_share([one, two], 0) == []


def test_long_names_leave_the_screen_and_the_path_whole(tmp_path: Path) -> None:
    study = "学習[red]" * 30 + "\x1b[31m"
    records = {f"{study}{i}": frame_of(accuracy_units(4), "prompt_accuracy") for i in range(3)}
    caveats = [Caveat(name, f"topic {i}", "word " * 400, "serious") for name in records for i in range(9)]
    folder = tmp_path / ("a long name of a folder " * 4)
    lines = brief(Report([], caveats, coverage(records), records), folder)
    assert height(lines) <= 20
    assert f"Report: {folder / 'report.html'}" in lines and "Caveats: 27 serious. They are in the report." in lines
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_without_a_number_it_says_so(tmp_path: Path, declared: Callable[..., None]) -> None:
    declared(Kind("plain", Schema((Column("value", "number", "a value"),))))
    records = {"own": pd.DataFrame({"sample_id": ["a"], "value": [1.0], "kind": "plain"})}
    assert "No number stands out; all are in the report." in brief(report_of(records), tmp_path)


def test_sweeps_have_headlines_with_their_numbers() -> None:
    frame = frame_of(sweep_units(32), "time_sweep")
    (last,) = headlines_by_study({"sweep": frame})[1]
    samples = frame[(frame["stage"] == "sample") & (frame["time"] == frame["time"].min())]
    assert last.label == f"Sweep: samples at t = {frame['time'].min():g}"
    number = float(last.value.removeprefix("BPD ").partition(" ")[0])
    assert number == pytest.approx(samples["bpd"].mean(), abs=0.01) and " ± " in last.value
    assert last.detail.startswith("n = 32, CLIP ") and ", FID " in last.detail


def test_finished_samples_are_shown_along_the_path_that_made_them() -> None:
    frame = frame_of(sweep_units(32), "time_sweep")
    finished = (frame["stage"] == "sample") & (frame["time"] == 0)
    assert finished.any()
    along = frame.assign(bpd_marginal=frame["bpd"].where(~finished, frame["bpd"] - 0.5))
    (last,) = headlines_by_study({"sweep": along})[1]
    number = float(last.value.removeprefix("BPD ").partition(" ")[0])
    assert number == pytest.approx(along.loc[finished, "bpd_marginal"].mean(), abs=0.01)


def test_speech_has_headlines_with_their_numbers(tmp_path: Path) -> None:
    records = test_speech_tables.fill(tmp_path)
    frame = records["speech_sweep"]
    recordings, samples = (each for each in headlines(records) if each.label.startswith("Speech sweep: "))
    heard = frame[frame["stage"] == "data"]
    wer = 100 * heard["word_errors"].sum() / heard["words"].sum()
    assert recordings.label == "Speech sweep: recordings" and recordings.value.startswith(f"WER (%) {wer:.1f} [")
    assert samples.label == "Speech sweep: samples at t = 0" and ", BPD -0." in samples.detail


def test_adaptations_have_headlines_with_their_numbers() -> None:
    units = {f"u{i}": test_adaptation_tables.unit(i, "") for i in range(test_adaptation_tables.N)}
    frame = frame_of(units, "adaptation")
    found = {each.label: each for each in headlines_by_study({"voices": frame})[1]}
    one = found["Voices: RK45 there, Euler back, μ: blur 3×3, σ 2"]
    wrong = sum(test_adaptation_tables.ERRORS["adapted", "RK45", "Euler"])
    assert one.value.startswith(f"WER (%) {100 * wrong / sum(test_adaptation_tables.WORDS):.1f} [")
    assert one.detail.startswith("n = 12, speaker similarity 0.5")
    assert found["Voices: recordings, μ: blur 3×3, σ 2"].value.startswith("WER (%) 0.0 [")


def test_a_headline_is_of_what_is_known() -> None:
    columns = (estimate("WER", "wer"), estimate("BPD", "bpd"))
    row = {"n": 3, "wer": np.nan, "wer_standard_error": np.nan, "bpd": 2.0, "bpd_standard_error": 0.1}
    assert list(headline_of("my_study", "data", row, columns)) == [
        Headline("My study: data", "BPD 2.00 ± 0.10", "n = 3")
    ]
    assert list(headline_of("study", "data", row, columns[:1])) == []


@pytest.mark.parametrize("settings", ["", "- a list", "model:\ndata: 3", "model: [", "model: {diffusion: null}"])
def test_settings_that_say_nothing_are_no_fact(settings: str) -> None:
    assert facts(settings, coverage({})) == [("Samples", "0 measured, 0 failed")]


def test_the_report_prints_all_tables_if_asked(tmp_path: Path, declared: Callable[..., None], capsys) -> None:
    wide = pd.DataFrame(
        {f"heading {i}": [f"{i}.000000 ± 0.000{i}"] for i in range(8)}, index=pd.Index(["row"], name="x")
    )
    declared(Kind("wide", tables=lambda study, frame: [Table(f"{study} {n}", "Wide.", wide, wide) for n in (1, 2)]))
    with RecordStore(tmp_path) as store:
        store.append("own", "a", [{"kind": "wide", "value": 1.0}])
    assert main([str(tmp_path)]) == 0
    short = capsys.readouterr().out.splitlines()
    assert height(short) <= 20 and max(map(cell_len, short[:-2])) <= WIDTH
    assert main([str(tmp_path), "--tables"]) == 0
    long = capsys.readouterr().out
    assert long.endswith("\n".join(short) + "\n") and long.count("Wide.") == 2
    assert "…" not in long and long.count("±") == 16, "no number is cut"


def test_an_evaluation_prints_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    shown = pd.DataFrame({"heading": ["1.5 ± 0.1"]}, index=pd.Index(["row"], name="x"))
    report = Report([Table("first", "Values.", shown, shown)], [], Coverage(3, 0, frozenset("abcd"), 7))
    monkeypatch.setattr("dmlik_pl.callbacks.records.write_report", lambda folder: report)
    monkeypatch.setattr(sys, "orig_argv", ["dmlik", "evaluate"])
    words = ["--config", TOY, "--runs", str(tmp_path), "--data.batch_size", "3", "--trainer.limit_test_batches"]
    assert evaluate.cli_main([*words, "1"]) == 1
    told = capsys.readouterr().out
    (run,) = tmp_path.iterdir()
    lines = told.splitlines()
    assert lines[0] == f"{run.name}: Partial: 3 of 7 samples, 0 failed." and "Values." not in told
    assert height(lines) <= 20 and f"Report: {run / 'report.html'}" in lines
    assert lines[-2:] == [f"3 of 7 samples are kept in {run}. To resume:", "    dmlik evaluate"]
    assert evaluate.cli_main([*words, "1", "--tables"]) == 1
    assert list(tmp_path.iterdir()) == [run], "the flag is no setting"
    tables, brief_lines = capsys.readouterr().out.split(f"{run.name}: ")
    assert "Values." in tables and "1.5 ± 0.1" in tables
    assert brief_lines.splitlines()[1:-2] == lines[1:-2]
