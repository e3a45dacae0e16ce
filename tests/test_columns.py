"""Tables as lists of columns: cells by hand, and what stays below a table."""

import math

import pandas as pd
import pytest

from dmlik_pl.results.columns import across, count, estimate, interval, number, paired_tests, table_of, with_interval
from dmlik_pl.results.numbers import distinct, span
from dmlik_pl.results.over_time import SIGMA, time_headings
from dmlik_pl.results.table import bracket, formatted, percent_with_interval
from dmlik_pl.stats import Interval

NAN = math.nan


@pytest.mark.parametrize(
    ("ends", "form", "dash", "shown"),
    [
        ((0.25, 1.5), ".2f", False, "[0.25, 1.50]"),
        ((0.25, 1.5), ".1f", True, "[0.2–1.5]"),
        ((-0.25, 1.5), ".1f", True, "[-0.2, 1.5]"),
        ((0.0, math.inf), ".0f", True, "[0–∞]"),
        ((-math.inf, 2.0), ".0f", True, "[−∞, 2]"),
        ((NAN, 2.0), ".0f", True, ""),
        ((1.0, NAN), ".0f", False, ""),
    ],
)
def test_brackets(ends: tuple[float, float], form: str, dash: bool, shown: str) -> None:
    assert bracket(*ends, form, dash) == shown


def test_numbers_that_are_none() -> None:
    assert [formatted(value, ".1f") for value in (0.25, NAN, math.inf, -math.inf)] == ["0.2", "–", "∞", "−∞"]
    assert percent_with_interval(0.5, Interval(0.25, 0.761)) == "50.0 [25–76]"
    assert percent_with_interval(0.5, Interval(NAN, NAN)) == "50.0"
    assert percent_with_interval(NAN, Interval(0.1, 0.2)) == "–"


def test_cells_of_columns() -> None:
    row = {"x": 0.5, "x_low": 0.25, "x_high": 0.75, "low": -1.0, "high": 2.0, "none": NAN, "none_low": NAN}
    row |= {"none_high": NAN}
    assert with_interval("", "x").cell(row) == "0.50 [0.25, 0.75]"
    assert with_interval("", "x", form="+.1f", scale=100, ends=("low", "high"), dash=True).cell(row) == (
        "+50.0 [-100.0, 200.0]"
    )
    assert with_interval("", "x", form=".3f", scale=0.5, shift=0.5).cell(row) == "0.750 [0.625, 0.875]"
    assert with_interval("", "x", ends=("none", "none")).cell(row) == "0.50"
    assert with_interval("", "none").cell(row) == "–"
    assert interval("", ("x_low", "x_high"), form=".0f", scale=100, dash=True).cell(row) == "[25–75]"
    assert number("", "x", form=".1f", scale=100).cell(row) == "50.0"


def test_a_table_on_its_side_keeps_what_its_rows_mean() -> None:
    raw = pd.DataFrame({"stage": ["data", "sample"], "time": [NAN, 0.5], "sigma": [0.04131, NAN]})
    raw = raw.assign(bpd=[1.0, 2.0], bpd_standard_error=[0.1, NAN], n=[3, 3])
    columns = (
        SIGMA,
        estimate("BPD", "bpd", "bits per dimension"),
        number("KID", "kid", "a distance", wanted=False),
        count("n"),
    )
    legend = {"Data": "the recording", "Vocoded": "spoken", "t": "time"}
    table = across(table_of("s", "Shown.", raw, columns, time_headings(raw), "t", ["A note."], legend))
    assert table.shown.loc["BPD"].to_dict() == {"Data": "1.00 ± 0.10", "0.50": "2"}
    assert table.shown.loc["σ"].tolist() == ["0.0413", "–"] and table.shown.index.tolist() == ["σ", "BPD", "n"]
    assert table.shown.index.name == "t" and table.raw["bpd"].tolist() == [1, 2] and table.notes == ("A note.",)
    assert dict(table.legend) == {
        "Data": "the recording",
        "t": "time",
        "σ": "noise-to-signal ratio",
        "BPD": "bits per dimension",
    }


def test_times_that_two_digits_do_not_tell_apart_have_more() -> None:
    stages = pd.DataFrame({"stage": ["vocoded", "sample", "sample"], "time": [NAN, 0.625, 0.004]})
    assert time_headings(stages) == ["Vocoded", "0.62", "0.00"]
    assert time_headings(stages.assign(time=[NAN, 0.0041, 0.004])) == ["Vocoded", "0.0041", "0.004"]


def test_paired_tests_are_two_with_their_corrections() -> None:
    row = {"matched_pairs_p": 0.0004, "matched_pairs_p_holm": 0.5, "permutation_p": 0.25, "permutation_p_holm": NAN}
    assert [column.cell(row) for column in paired_tests()] == ["<0.001", "0.500", "0.250", "–"]
    assert not any(column.wanted for column in paired_tests(False))


def test_counts_and_names_in_words() -> None:
    frame = pd.DataFrame({"words": [3, 2, 3], "recogniser": ["b", None, "a"]})
    assert span(frame["words"]) == "2 to 3" and span(frame["words"].iloc[:1]) == "3"
    assert distinct(frame, "recogniser") == "a / b"
