"""The studies against a model of which every likelihood is known."""

import json
import math

import pytest
import torch
from toy import ToyModel

from dmlik_pl.data.base import Batch
from dmlik_pl.flow import Exact, Hutchinson, Multistep
from dmlik_pl.studies import Estimator, PromptAccuracy, TimeSweep

CANDIDATES = {"tone": ["dark", "light"], "size": ["small", "large"]}


def make_batch(model: ToyModel, count: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    tones, sizes = ["dark", "light"] * (count // 2), ["small", "small", "large"] * (count // 3)
    prompts = [f"{tone} {size}" for tone, size in zip(tones, sizes, strict=True)]
    x = model.mixture.sample(count, generator) + model.shift(prompts)
    return Batch([f"toy-{i}" for i in range(count)], x.reshape(count, 1, 2, 2), prompts, {"tone": tones, "size": sizes})


def exact_estimator(nodes: int = 129, **options: object) -> Estimator:
    return Estimator(solver=Multistep(nodes), divergence=Exact(), double=True, **options)  # type: ignore[arg-type]


def test_prompt_scores_are_the_closed_form_log_likelihoods() -> None:
    model = ToyModel()
    batch = make_batch(model)
    outcomes = PromptAccuracy("{tone} {size}", CANDIDATES).measure(model, batch, exact_estimator())
    assert [outcome.sample_id for outcome in outcomes] == batch.sample_id
    for b, outcome in enumerate(outcomes):
        assert [row["attribute"] for row in outcome.rows] == ["tone", "size"]
        for row in outcome.rows:
            truth = {"tone": batch.attributes["tone"][b], "size": batch.attributes["size"][b]}
            scores = json.loads(row["scores"])
            expected = {}
            for value in CANDIDATES[row["attribute"]]:
                words = truth | {row["attribute"]: value}
                shift = model.shift([f"{words['tone']} {words['size']}"])
                r_min = float(model.schedule.at(model.schedule.t_min).r)
                expected[value] = float(model.mixture.log_prob(batch.image[b].reshape(1, 4), shift, r_min))
            assert scores == pytest.approx(expected, abs=2e-2)
            best = max(expected, key=expected.__getitem__)
            assert row["predicted"] == best and row["correct"] == (best == truth[row["attribute"]])
            low, high = sorted(expected.values())
            assert row["margin"] == pytest.approx(high - low, abs=2e-2)
            assert row["margin_standard_error"] == 0 and row["decided"]
            assert row["true_margin"] == pytest.approx(row["margin"] * (1 if row["correct"] else -1))


def test_a_margin_within_its_error_is_undecided() -> None:
    model = ToyModel()
    study = PromptAccuracy("{tone} {size}", CANDIDATES)
    gaussian = Hutchinson(probes=2, distribution="gaussian")  # noisy on purpose
    noisy = Estimator(solver=Multistep(9), divergence=gaussian, double=True)
    rows = [row for outcome in study.measure(model, make_batch(model), noisy) for row in outcome.rows]
    threshold = 1.959964
    for row in rows:
        assert row["decided"] == (row["margin"] > threshold * row["margin_standard_error"])
    assert all(row["margin_standard_error"] > 0 for row in rows)


def test_results_do_not_depend_on_how_many_go_through_the_network_at_once() -> None:
    model = ToyModel()
    study = PromptAccuracy("{tone} {size}", CANDIDATES, elbo_draws=4)
    batch = make_batch(model)
    whole = study.measure(model, batch, Estimator(double=True))
    pieces = study.measure(model, batch, Estimator(double=True, max_batch=5))
    for a, b in zip(whole, pieces, strict=True):
        for left, right in zip(a.rows, b.rows, strict=True):
            assert left["margin"] == pytest.approx(right["margin"], abs=1e-9)
            assert left["elbo_predicted"] == right["elbo_predicted"]


def test_baseline_by_the_bound_agrees_where_margins_are_wide() -> None:
    model = ToyModel()
    rows = [
        row
        for outcome in PromptAccuracy("{tone} {size}", CANDIDATES, elbo_draws=64).measure(
            model, make_batch(model), exact_estimator()
        )
        for row in outcome.rows
        if row["margin"] > 3
    ]
    assert len(rows) >= 3
    assert all(row["elbo_predicted"] == row["predicted"] for row in rows)


def test_a_candidate_list_without_the_truth_is_an_error() -> None:
    model = ToyModel()
    study = PromptAccuracy("{tone} {size}", {"tone": ["dark", "grey"]})
    with pytest.raises(ValueError, match="not among its candidates"):
        study.measure(model, make_batch(model), exact_estimator())
    with pytest.raises(ValueError, match="no attribute 'colour'"):
        PromptAccuracy("{colour}", {"colour": ["a", "b"]}).measure(model, make_batch(model), exact_estimator())


def test_a_sample_without_result_fails_alone() -> None:
    model = ToyModel(broken=["toy-2"])
    batch = make_batch(model)
    for study in (TimeSweep(times=[1.0, 0.0]), PromptAccuracy("{tone} {size}", CANDIDATES)):
        outcomes = study.measure(model, batch, exact_estimator(nodes=17))
        assert [outcome.error is None for outcome in outcomes] == [True, True, False, True, True, True]
        assert "NaN" in str(outcomes[2].error) and outcomes[2].rows == []
        assert all(math.isfinite(row["bpd"]) for row in outcomes[1].rows if "bpd" in row)
