"""Margins of repeated decisions against their standard errors, of known size."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from fake_records import accuracy_units
from scipy import stats

from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.repeats import main, repeat_summary, repeat_table
from dmlik_pl.stats.rates import wilson_interval


def decided_twice(n: int, claimed: float, seed: int) -> pd.DataFrame:
    """Margins with noise of standard deviation 1 around the same values in every run, and an error that is claimed."""
    truth, noise = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for i in range(n):
        margin = truth.normal(0, 5) + noise.normal()
        scores = {"a": margin, "b": 0.0, "c": -100.0}
        best = "a" if margin > 0 else "b"
        row = {"sample_id": f"{i}", "attribute": "letter", "truth": "a", "candidates": "a|b|c", "predicted": best}
        row |= {
            "correct": best == "a",
            "scores": json.dumps(scores),
            "dims": 4,
            "decided": abs(margin) > 1.96 * claimed,
        }
        rows.append(row | {"margin": abs(margin), "margin_standard_error": claimed})
    return pd.DataFrame(rows)


def test_by_hand() -> None:
    first, second = decided_twice(2, 1.0, 1), decided_twice(2, 1.0, 2)
    gaps = []
    for one, other in zip(first["scores"], second["scores"], strict=True):
        gaps.append((json.loads(one)["a"] - json.loads(other)["a"]) / math.sqrt(2))  # whichever of the two was best
    row = repeat_summary(first, second).iloc[0]
    total = sum(gap**2 for gap in gaps)
    assert row[["n", "samples", "rms_z"]].tolist() == pytest.approx([2, 2, math.sqrt(total / 2)])
    assert row["p"] == pytest.approx(2 * min(math.exp(-total / 2), 1 - math.exp(-total / 2)))  # chi-square of 2


@pytest.mark.parametrize(("claimed", "size"), [(1.0, 1.0), (0.5, 2.0)])
def test_errors_that_are_honest_and_those_that_are_not(claimed: float, size: float) -> None:
    row = repeat_summary(decided_twice(500, claimed, 1), decided_twice(500, claimed, 2)).iloc[0]
    assert row["rms_z_low"] < size < row["rms_z_high"]
    assert row["beyond"] == pytest.approx(2 * stats.norm.sf(1.96 / size), abs=0.03)
    assert (row["p"] < 0.001) == (size > 1)


def test_decisions_that_turn_are_not_alike() -> None:
    """Three decided samples, of which the second run turns one over and changes the runner-up of another."""
    first = decided_twice(4, 1.0, 1).assign(decided=[True, True, True, False])
    first["scores"] = json.dumps({"a": 3.0, "b": 0.0, "c": -100.0})
    again = [{"a": 3.0, "b": 0.0}, {"a": 0.0, "b": 3.0}, {"a": 3.0, "c": 1.0}, {"a": 0.0, "b": 3.0}]
    second = first.assign(scores=[json.dumps({"a": -100.0, "b": -100.0, "c": -100.0} | one) for one in again])
    row = repeat_summary(first, second).iloc[0]
    assert row["alike"] == pytest.approx(2 / 3)
    assert (row["alike_low"], row["alike_high"]) == wilson_interval(2, 3)


def test_other_rivals_are_left_out() -> None:
    first, second = decided_twice(10, 1.0, 1), decided_twice(10, 1.0, 2)
    second.loc[3, "scores"] = json.dumps({"a": 5.0, "b": 0.0, "c": 3.0})
    row = repeat_summary(first, second).iloc[0]
    assert (row["n"], row["samples"]) == (9, 10)
    with pytest.raises(ValueError, match="no decision"):
        repeat_table("letters", first, second.assign(attribute="other"))
    with pytest.raises(ValueError, match="the same noise"):
        repeat_table("letters", first, first)


def test_command(tmp_path, capsys) -> None:
    for seed in (1, 2):
        with RecordStore(tmp_path / str(seed)) as store:
            for name, rows in accuracy_units(12, seed=seed).items():
                store.append("prompt_accuracy", name, rows)
        store.finalise()
    assert main([str(tmp_path / "1"), str(tmp_path / "2")]) == 0
    out = capsys.readouterr().out
    assert "rms z" in out and "p: chi-square test of an rms of 1." in out
    assert main([str(tmp_path / "1"), str(tmp_path / "3")]) == 1
    assert "error: " in capsys.readouterr().err
