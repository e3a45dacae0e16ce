"""Every likelihood of a run stands in one CSV, with its total error."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_records import frame_of, prompt_units, record, sweep_units

from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.page.brief import brief
from dmlik_pl.results.page.report import write_report
from dmlik_pl.results.scores import scores_of

UNIT = 256 * math.log(2)
DECISION = record(
    "prompt_accuracy",
    attribute="colour",
    guidance=1.0,
    reconstructed=False,
    truth="red, or so",
    candidates=json.dumps(["red, or so", "blue", "grey"]),
    scores=json.dumps({"red, or so": -100.0, "blue": -90.0, "grey": None}),
    scores_standard_error=json.dumps({"red, or so": 3.0, "blue": None, "grey": None}),
    dims=256,
    discretisation=-4.0,
)


def test_prompts_have_a_row_each() -> None:
    scores = scores_of({"colours": frame_of({"a.png": [DECISION]}, "prompt_accuracy")})
    assert scores[["study", "sample_id", "attribute", "prompt"]].to_numpy().tolist() == [
        ["colours", "a.png", "colour", prompt] for prompt in ("red, or so", "blue", "grey")
    ]
    assert scores["correct"].tolist() == [True, False, False]
    np.testing.assert_equal(scores["log_p"].to_numpy(), [-100.0, -90.0, np.nan])
    np.testing.assert_equal(scores["error"].to_numpy(), [5.0, 4.0, np.nan])
    np.testing.assert_allclose(scores["bpd"], [100 / UNIT, 90 / UNIT, np.nan])
    np.testing.assert_allclose(scores["bpd_error"], [5 / UNIT, 4 / UNIT, np.nan])


def test_a_decision_without_likelihoods_has_no_row() -> None:
    bound = DECISION | {"scores": None, "scores_standard_error": None}
    assert scores_of({"colours": frame_of({"a": [bound]}, "prompt_accuracy")}).empty
    both = scores_of({"colours": frame_of({"a": [bound], "b": [DECISION]}, "prompt_accuracy")})
    assert both["sample_id"].tolist() == ["b"] * 3


def test_a_sweep_has_a_row_for_each_likelihood() -> None:
    frame = frame_of(sweep_units(4), "time_sweep")
    scores = scores_of({"sweep": frame})
    assert len(scores) == len(frame) and not scores.duplicated(["sample_id", "stage", "time"]).any()
    last, given = scores.iloc[-1], frame.iloc[-1]
    assert (last["log_p"], last["bpd"]) == (given["log_p"], given["bpd"])
    assert last["error"] == pytest.approx(math.hypot(given["standard_error"], given["discretisation"]))


def test_the_file_has_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmlik_pl.results.page.report.make_figures", lambda *given: {})
    monkeypatch.setattr("dmlik_pl.results.page.report.make_tables", lambda *given: [])
    with RecordStore(tmp_path) as store:
        store.append("colours", "a.png", [DECISION | {"kind": "prompt_accuracy"}])
        for name, rows in sweep_units(2).items():
            store.append("sweep", name, [row | {"kind": "time_sweep"} for row in rows])
    report = write_report(tmp_path)
    assert f"Every likelihood: {tmp_path / 'tables' / 'scores.csv'}" in brief(report, tmp_path)
    found = pd.read_csv(tmp_path / "tables" / "scores.csv")
    per_study = found.groupby("study").size()
    assert per_study["colours"] == 3 and per_study["sweep"] == sum(map(len, sweep_units(2).values()))
    assert found.loc[1, "prompt"] == "blue" and found.loc[1, "log_p"] == -90.0 and math.isnan(found.loc[2, "log_p"])


def test_a_study_may_be_called_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmlik_pl.results.page.report.make_figures", lambda *given: {})
    with RecordStore(tmp_path) as store:
        for name, rows in prompt_units(2, ((1.0, False),)).items():
            store.append("scores", name, [row | {"kind": "prompt_accuracy"} for row in rows])
    write_report(tmp_path)
    assert "accuracy" in pd.read_csv(tmp_path / "tables" / "scores.csv")
    assert "log_p" in pd.read_csv(tmp_path / "tables" / "scores_of_samples.csv")
