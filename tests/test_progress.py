"""What an evaluation says while it runs: numbers that come true."""

import re
import time

import pytest
from test_evaluate import TOY
from toy import ToyModel

import evaluate
from dmlik_pl import announce
from dmlik_pl.callbacks import progress
from dmlik_pl.callbacks.progress import Meter


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand, in seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_that_of_each_unit_by_what_its_results_took(clock) -> None:
    meter = Meter({"sweep/w=1": 6, "sweep/w=3": 6}, samples=6)
    assert meter.line() == "0 of 12 results, 0 network evaluations, time left not known yet"
    clock[0] += 4
    meter.called(1000)
    meter.kept("sweep/w=1", 2)
    assert meter.remaining is None, "one unit has no result yet"
    clock[0] += 10
    meter.called(2400)
    meter.kept("sweep/w=3", 2)
    assert meter.remaining == pytest.approx(4 * 2 + 4 * 5)
    clock[0] += 3
    assert meter.line() == "4 of 12 results, 3 400 network evaluations, 0:25 left"
    clock[0] += 60
    assert meter.line().endswith(", longer than expected")


def test_samples_that_cannot_be_read_are_lost_for_all_parts_and_take_no_time(clock) -> None:
    meter = Meter({"sweep/w=1": 4, "sweep/w=3": 4, "other": 4})
    meter.kept("sweep", 1)
    meter.kept("other", 1)
    clock[0] += 6
    for unit in ("sweep/w=1", "sweep/w=3"):
        meter.kept(unit, 3)
    assert meter.line().startswith("9 of 12 results")


def test_all_done_leaves_no_time(clock) -> None:
    meter = Meter({"a": 1})
    clock[0] += 2
    meter.kept("a", 1)
    assert meter.line() == "1 of 1 results, 0 network evaluations"


def test_a_run_says_what_it_does_and_counts_the_calls_of_the_network(tmp_path, monkeypatch, capsys) -> None:
    meters: list[Meter] = []

    class Noted(Meter):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            meters.append(self)

    network, states = ToyModel.network, []

    def called(self, x, *arguments):
        states.append(len(x))
        return network(self, x, *arguments)

    monkeypatch.setattr(ToyModel, "network", called)
    monkeypatch.setattr(progress, "Meter", Noted)
    monkeypatch.setattr(announce, "SELDOM", 0.05)
    monkeypatch.setattr("dmlik_pl.callbacks.records.write_report", lambda folder: None)
    words = ["--config", TOY, "--runs", str(tmp_path), "--data.batch_size", "3"]
    evaluate.cli_main(words)
    told = capsys.readouterr().err
    (run,) = tmp_path.iterdir()
    assert re.search(r"^\[\d+:\d\d\] Importing torch and lightning$", told, re.MULTILINE)
    assert f"Measuring 7 samples; results are kept in {run} as they come, the same command resumes" in told
    assert re.search(r"\] \d+ of 14 results, [\d ]+ network evaluations", told)
    assert "Making tables, figures and report" in told
    (meter,) = meters
    assert meter.line().startswith("14 of 14 results") and meter.evaluations == sum(states) > 0
    evaluate.cli_main(words)
    assert "Measuring" not in capsys.readouterr().err and len(meters) == 2


def test_only_the_first_process_speaks(monkeypatch, capsys) -> None:
    announce.say("here")
    monkeypatch.setenv("LOCAL_RANK", "1")
    announce.say("there")
    assert re.fullmatch(r"\[[\d:]+\] here\n", capsys.readouterr().err)
