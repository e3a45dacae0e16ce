"""Every way to decide between prompts, against a model of which all is known: scores, errors, draws and costs."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_studies import CANDIDATES, exact_estimator, make_batch
from torch import Tensor
from toy import SHIFTS, ToyModel

from dmlik_pl.data.base import Batch
from dmlik_pl.flow import Hutchinson, Information, Multistep, Noising, elbo
from dmlik_pl.records.frames import listed
from dmlik_pl.studies import Elimination, Estimator, PromptAccuracy, Screening

TEMPLATE = "{tone} {size}"
NOISY = Estimator(solver=Multistep(9), divergence=Hutchinson(2, distribution="gaussian"), double=True, seed=3)
EVERY: dict[str, Any] = {
    "elbo_draws": 4,
    "empty_prompt": True,
    "pmi": True,
    "elimination": Elimination(keep=[3, 2], draws=[6, 12]),
    "screening": Screening(keep=2, check=0.5),
}


class CountingModel(ToyModel):
    """Counts the samples that go through its network."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        self.count += len(x)
        return super().network(x, time, inputs)


def listed_batch(model: ToyModel, lengths: tuple[int, ...] = (4, 4, 4, 4, 4, 4)) -> Batch:
    """Images whose own lists name the prompts that compete, the true one first."""
    batch = make_batch(model, 6)
    lists = [[prompt, *(other for other in SHIFTS if other != prompt)] for prompt in batch.prompt]
    return replace(batch, candidates=[prompts[:length] for prompts, length in zip(lists, lengths, strict=True)])


def rows_of(study: PromptAccuracy, batch: Batch, estimator: Estimator, model: ToyModel | None = None) -> list[Any]:
    outcomes = study.measure(model or ToyModel(), batch, estimator)
    return [row | {"sample_id": outcome.sample_id} for outcome in outcomes for row in outcome.rows]


def assert_same(left: Any, right: Any) -> None:
    """Equal records, numbers to rounding."""
    if isinstance(left, str) and left.startswith("{"):
        left, right = json.loads(left), json.loads(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, float | list):
        assert left == pytest.approx(right, rel=1e-8, abs=1e-8, nan_ok=True)
    else:
        assert left == right


# Likelihood ratio to the empty prompt


def test_the_ratio_to_the_empty_prompt_is_its_closed_form() -> None:
    model = ToyModel()
    batch = make_batch(model)
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    rows = rows_of(PromptAccuracy(TEMPLATE, CANDIDATES, empty_prompt=True), batch, exact_estimator())
    for row in rows:
        x = batch.image[batch.sample_id.index(row["sample_id"])].reshape(1, 4)
        prompt = batch.prompt[batch.sample_id.index(row["sample_id"])]
        empty, true = (float(model.mixture.log_prob(x, shift, r_min)) for shift in (0.0, model.shift([prompt])))
        assert row["null_log_p"] == pytest.approx(empty, abs=2e-2)
        assert row["null_margin"] == pytest.approx(true - empty, abs=2e-2)
        assert row["null_margin"] == pytest.approx(json.loads(row["scores"])[row["truth"]] - row["null_log_p"])
        assert row["null_log_p_standard_error"] == row["null_margin_standard_error"] == 0
    assert len({row["null_log_p"] for row in rows}) == 6  # once a sample, whichever attribute competes


def test_the_ratio_is_taken_on_the_same_probes() -> None:
    for row in rows_of(PromptAccuracy(TEMPLATE, CANDIDATES, empty_prompt=True), make_batch(ToyModel()), NOISY):
        apart = math.hypot(row["null_log_p_standard_error"], json.loads(row["scores_standard_error"])[row["truth"]])
        assert 0 < row["null_margin_standard_error"] < 0.7 * apart


def test_a_guided_prompt_is_compared_with_the_plain_empty_one() -> None:
    plain, guided = (
        rows_of(
            PromptAccuracy(TEMPLATE, CANDIDATES, guidance=w, empty_prompt=True),
            make_batch(ToyModel()),
            exact_estimator(33),
        )
        for w in (1.0, 3.0)
    )
    for one, other in zip(plain, guided, strict=True):
        assert one["null_log_p"] == pytest.approx(other["null_log_p"]) and one["null_margin"] != other["null_margin"]


# Evidence lower bound and mutual information


def test_bound_and_information_are_those_of_the_flow() -> None:
    model = ToyModel()
    batch = listed_batch(model)
    flow = model.flow()
    for b, row in enumerate(rows_of(PromptAccuracy(elbo_draws=8, pmi=True), batch, NOISY)):
        assert row["attribute"] == "prompt" and row["truth"] == batch.prompt[b]
        prompts = batch.candidates[b]
        assert listed(row["candidates"]) == prompts
        x, ids = batch.image[[b] * 4].double(), [batch.sample_id[b]] * 4
        condition = model.condition(prompts)
        bound = elbo(flow, x, condition, draws=8, sample_ids=ids, seed=3)
        assert_same(json.loads(row["elbo_scores"]), dict(zip(prompts, bound.value.tolist(), strict=True)))
        assert row["elbo_levels"] == pytest.approx(bound.log_snr[:, 0].tolist())
        assert_same(
            json.loads(row["elbo_level_errors"]), dict(zip(prompts, bound.squared_errors.T.tolist(), strict=True))
        )
        order = bound.value.argsort(descending=True).tolist()
        gap = replace(bound, draws=bound.draws[:, [order[0]]] - bound.draws[:, [order[1]]])
        assert row["elbo_predicted"] == prompts[order[0]] and row["elbo_correct"] == (order[0] == 0)
        assert row["elbo_margin"] == pytest.approx(float(gap.value))
        assert row["elbo_margin_standard_error"] == pytest.approx(float(gap.standard_error))
        assert row["elbo_decided"] == (row["elbo_margin"] > 1.959964 * row["elbo_margin_standard_error"])
        noising = Noising.keyed(flow, x, draws=8, sample_ids=ids, seed=3)
        said = Information.of(
            noising, noising.predict(flow, x, condition), noising.predict(model.flow(0.0), x, condition)
        )
        assert_same(json.loads(row["pmi_scores"]), dict(zip(prompts, said.standard.value.tolist(), strict=True)))
        orthogonal = dict(zip(prompts, said.orthogonal.value.tolist(), strict=True))
        assert_same(json.loads(row["pmi_orthogonal_scores"]), orthogonal)
        assert row["pmi_predicted"] == row["elbo_predicted"]
        draws = said.standard.draws
        between = replace(said.standard, draws=draws[:, [order[0]]] - draws[:, [order[1]]])
        assert row["pmi_margin"] == pytest.approx(float(between.value))
        assert row["pmi_margin_standard_error"] == pytest.approx(float(between.standard_error))
        assert row["elbo_eliminated"] is None


def pooled(model: ToyModel, batch: Batch, b: int, prompt: str, totals: list[int]) -> tuple[float, Tensor]:
    """The mean over the draws of all rounds, each taken by hand, and the draws."""
    x, condition, flow = batch.image[[b]].double(), model.condition([prompt]), model.flow()
    blocks = []
    for stage, (before, total) in enumerate(zip([0, *totals], totals, strict=False)):
        draws = Noising.keyed(flow, x, draws=total - before, sample_ids=[batch.sample_id[b]], seed=3, stage=stage)
        plain = elbo(flow, x, condition, draws=total - before, sample_ids=[batch.sample_id[b]], seed=3)
        error = (draws.noises - draws.predict(flow, x, condition)).flatten(2).pow(2).sum(2)
        constant = (
            plain.draws[0]
            + plain.squared_errors[0]
            * Noising.keyed(flow, x, draws=total - before, sample_ids=[batch.sample_id[b]], seed=3).weights[0]
        )
        blocks.append(constant - draws.weights * error)
    every = torch.cat(blocks)[:, 0]
    return float(every.mean()), every


def test_elimination_gives_draws_round_by_round() -> None:
    model = ToyModel()
    batch = listed_batch(model)
    study = PromptAccuracy(elbo_draws=4, pmi=True, elimination=Elimination(keep=[3, 2], draws=[6, 12]))
    for b, row in enumerate(rows_of(study, batch, NOISY)):
        given, scores = json.loads(row["elbo_eliminated"]), json.loads(row["elbo_scores"])
        assert sorted(given.values()) == [4, 6, 12, 12]
        assert row["elbo_nfe"] == 34 and row["pmi_nfe"] == 4 * 5
        assert len(row["elbo_levels"]) == 4 and {len(e) for e in json.loads(row["elbo_level_errors"]).values()} == {4}
        # By hand: who is eliminated has the lowest mean of the draws so far.
        first = {prompt: pooled(model, batch, b, prompt, [4])[0] for prompt in given}
        assert given[min(first, key=first.__getitem__)] == 4
        second = {prompt: pooled(model, batch, b, prompt, [4, 6])[0] for prompt in given if given[prompt] > 4}
        assert given[min(second, key=second.__getitem__)] == 6
        final = {prompt: pooled(model, batch, b, prompt, [4, 6, 12]) for prompt in given if given[prompt] == 12}
        for prompt, (value, _) in final.items():
            assert scores[prompt] == pytest.approx(value, abs=1e-8)
        best = max(final, key=lambda prompt: final[prompt][0])
        assert row["elbo_predicted"] == best == max(scores, key=scores.__getitem__)
        # Who was eliminated lies as far behind the best as on the draws that both have.
        (out,) = [prompt for prompt in given if given[prompt] == 4]
        assert scores[out] == pytest.approx(scores[best] + first[out] - first[best], abs=1e-8)


def test_without_elimination_all_draws_are_plain_bounds() -> None:
    model = ToyModel()
    batch = listed_batch(model)
    everybody = Elimination(keep=[4, 4], draws=[6, 12])
    for b, row in enumerate(rows_of(PromptAccuracy(elbo_draws=4, elimination=everybody), batch, NOISY)):
        assert set(json.loads(row["elbo_eliminated"]).values()) == {12} and row["elbo_nfe"] == 48
        draws = {prompt: pooled(model, batch, b, prompt, [4, 6, 12])[1] for prompt in batch.candidates[b]}
        assert_same(json.loads(row["elbo_scores"]), {prompt: float(each.mean()) for prompt, each in draws.items()})
        best, second = sorted(draws, key=lambda prompt: float(draws[prompt].mean()), reverse=True)[:2]
        gap = draws[best] - draws[second]
        assert row["elbo_predicted"] == best and row["elbo_margin"] == pytest.approx(float(gap.mean()))
        blocks = [gap[:4], gap[4:6], gap[6:]]
        errors = [float(replace(plain, draws=block[:, None]).standard_error) for block in blocks for plain in [_ANY]]
        squares = [(error * len(block) / 12) ** 2 for error, block in zip(errors, blocks, strict=True)]
        assert row["elbo_margin_standard_error"] == pytest.approx(math.sqrt(sum(squares)))


_ANY = elbo(ToyModel().flow(), torch.zeros(1, 1, 2, 2), ToyModel().condition(["dark small"]), draws=2)


def test_the_confidence_is_what_decides() -> None:
    batch = make_batch(ToyModel())
    counts = []
    for confidence, threshold in ((0.5, 0.674490), (0.95, 1.959964), (0.9999, 3.890592)):
        rows = rows_of(PromptAccuracy(TEMPLATE, CANDIDATES, confidence=confidence), batch, NOISY)
        for row in rows:
            assert row["decided"] == (row["margin"] > threshold * row["margin_standard_error"])
        counts.append(sum(row["decided"] for row in rows))
    assert counts[0] > counts[2]


def test_a_question_is_decided_alike_whatever_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The true prompt competes in both attributes and may get further in one."""
    for prompt, shift in (("dark huge", -1.2), ("light huge", 1.2)):
        monkeypatch.setitem(SHIFTS, prompt, shift)
    batch, candidates = make_batch(ToyModel(), 12), CANDIDATES | {"size": ["small", "large", "huge"]}
    options: dict[str, Any] = {"elbo_draws": 3, "pmi": True, "elimination": Elimination(keep=[2], draws=[8])}
    both = rows_of(PromptAccuracy(TEMPLATE, candidates, **options), batch, NOISY)
    alone = rows_of(PromptAccuracy(TEMPLATE, {"size": candidates["size"]}, **options), batch, NOISY)
    assert len(both) == 2 * len(alone)
    for one, other in zip(both[1::2], alone, strict=True):
        for name in one:
            assert_same(one[name], other[name])
    assert {row["elbo_nfe"] for row in alone} == {3 + 8 + 8}
    assert any(json.loads(row["elbo_eliminated"])[row["truth"]] == 3 for row in alone)  # but it gets 8 for its tone


@pytest.mark.parametrize(
    ("keep", "draws"), [([5], [24, 96]), ([], []), ([2, 5], [24, 96]), ([5, 1], [24, 96]), ([5, 2], [24, 25])]
)
def test_impossible_eliminations_are_refused(keep: list[int], draws: list[int]) -> None:
    with pytest.raises(ValueError, match="elimination needs"):
        Elimination(keep, draws)


# Screening


def test_screening_is_told_of_where_all_was_computed() -> None:
    batch = listed_batch(ToyModel())
    screening = Screening(keep=2, check=0.5)
    full = rows_of(PromptAccuracy(elbo_draws=4, empty_prompt=True), batch, NOISY)
    rows = rows_of(PromptAccuracy(elbo_draws=4, empty_prompt=True, screening=screening), batch, NOISY)
    checked = [row["screened_checked"] for row in rows]
    assert checked == [screening.checks(name) for name in batch.sample_id] and 0 < sum(checked) < 6
    for row, whole in zip(rows, full, strict=True):
        exact, kept = json.loads(whole["scores"]), json.loads(row["screened_scores"])
        bound = json.loads(row["elbo_scores"])
        best = sorted(bound, key=bound.__getitem__, reverse=True)[:2]
        assert {value for value in kept if kept[value] is not None} == set(best) and row["screened_kept"] == 2
        for value in best:
            assert kept[value] == pytest.approx(exact[value])
        assert row["screened_predicted"] == max(best, key=exact.__getitem__)
        one = whole["nfe_forward"] + whole["nfe_vjp"] + whole["nfe_jvp"]
        assert whole["nfe"] == 4 * one and row["screened_nfe"] == 2 * one + row["elbo_nfe"]
        if row["screened_checked"]:
            assert row["nfe"] == 4 * one and row["predicted"] == whole["predicted"]
            assert_same(row["scores"], whole["scores"])
            assert_same(row["true_margin"], whole["true_margin"])
        else:
            assert row["nfe"] == row["screened_nfe"]
            for name in ("predicted", "correct", "scores", "decided", "margin", "margin_standard_error"):
                assert row[name] == row[f"screened_{name}"]
            errors = json.loads(row["scores_standard_error"])
            assert {value for value in errors if errors[value] is not None} == set(best)
            known = row["truth"] in best
            assert (row["true_margin"] is None) == (row["null_margin"] is None) == (not known)


def test_the_share_that_is_checked_is_that_of_names() -> None:
    names = [f"image-{number}" for number in range(4000)]
    assert sum(Screening(2, 0.25).checks(name) for name in names) == pytest.approx(1000, abs=85)
    assert not any(Screening(2, 0.0).checks(name) for name in names)
    assert all(Screening(2, 1.0).checks(name) for name in names)
    few, many = (({name for name in names if Screening(2, share).checks(name)}) for share in (0.1, 0.3))
    assert few < many
    for keep, check in ((1, 0.1), (2, 1.5), (2, -0.1)):
        with pytest.raises(ValueError, match="keeps 2 prompts or more"):
            Screening(keep, check)


# All of them


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_costs_are_what_went_through_the_network(guidance: float) -> None:
    model, calls = CountingModel(), 1 if guidance == 1 else 2
    batch = listed_batch(model).select([0])
    study = PromptAccuracy(guidance=guidance, elbo_draws=4, pmi=True, empty_prompt=True)
    (row,) = rows_of(study, batch, NOISY, model)
    assert row["nfe_forward"] == calls * 9 and row["nfe_vjp"] == 2 * row["nfe_forward"]  # two probes a node
    assert row["nfe"] == 4 * 3 * calls * 9
    assert row["elbo_nfe"] == calls * 4 * 4 and row["pmi_nfe"] == 4 * (calls * 4 + 1)
    # Derivatives are no passes of the network; the empty prompt has no second branch.
    assert model.count == 4 * row["nfe_forward"] + 9 + row["pmi_nfe"]
    model.count = 0
    screened = PromptAccuracy(
        guidance=guidance,
        elbo_draws=4,
        elimination=Elimination(keep=[2], draws=[10]),
        screening=Screening(keep=2, check=0.0),
    )
    (row,) = rows_of(screened, batch, NOISY, model)
    assert row["elbo_nfe"] == calls * (4 * 4 + 2 * 6)
    assert row["nfe"] == row["screened_nfe"] == row["elbo_nfe"] + 2 * 3 * calls * 9
    assert model.count == row["elbo_nfe"] + 2 * calls * 9


def test_records_do_not_depend_on_batch_order_or_memory() -> None:
    model = ToyModel()
    batch = listed_batch(model, (4, 3, 2, 4, 3, 2))
    study = PromptAccuracy(guidance=2.0, reconstruct=True, **EVERY)
    whole = rows_of(study, batch, NOISY)
    assert [len(listed(row["candidates"])) for row in whole] == [4, 3, 2, 4, 3, 2]
    backwards = rows_of(study, batch.select([5, 4, 3, 2, 1, 0]), NOISY)
    pieces = rows_of(study, batch, replace(NOISY, max_batch=3))
    alone = [row for b in range(6) for row in rows_of(study, batch.select([b]), NOISY)]
    for others in (backwards[::-1], pieces, alone):
        for row, other in zip(whole, others, strict=True):
            assert row.keys() == other.keys()
            for name in row:
                assert_same(row[name], other[name])


def test_parts_are_guidance_and_reconstruction() -> None:
    model = ToyModel()
    batch = make_batch(model)
    study = PromptAccuracy(TEMPLATE, CANDIDATES, guidance=[1.0, 2.5], reconstruct=[False, True], elbo_draws=4)
    parts = study.parts()
    assert list(parts) == ["guidance=1", "guidance=1,reconstructed", "guidance=2.5", "guidance=2.5,reconstructed"]
    assert list(PromptAccuracy(TEMPLATE, CANDIDATES).parts()) == ["guidance=1"]
    assert set(study.axes) == {"guidance", "reconstruct"}
    for label, measure in parts.items():
        rows = [row for outcome in measure(model, batch, NOISY) for row in outcome.rows]
        assert {row["reconstructed"] for row in rows} == {"reconstructed" in label}
        assert {row["guidance"] for row in rows} == {2.5 if "2.5" in label else 1.0}
        weight, moved = (2.5 if "2.5" in label else 1.0), "reconstructed" in label
        single = PromptAccuracy(TEMPLATE, CANDIDATES, guidance=weight, reconstruct=moved, elbo_draws=4)
        assert rows == [row for outcome in single.measure(model, batch, NOISY) for row in outcome.rows]
    assert len(study.measure(model, batch, NOISY)[0].rows) == 8


def test_methods_agree_where_margins_are_wide() -> None:
    rows = rows_of(PromptAccuracy(**(EVERY | {"elbo_draws": 32, "elimination": None})), listed_batch(ToyModel()), NOISY)
    wide = [row for row in rows if row["screened_checked"] and row["margin"] > 1.5]
    assert len(wide) >= 1
    for row in wide:
        assert row["predicted"] == row["elbo_predicted"] == row["screened_predicted"]


def test_a_sample_without_result_fails_alone() -> None:
    outcomes = PromptAccuracy(**EVERY).measure(ToyModel(broken=["toy-2"]), listed_batch(ToyModel()), NOISY)
    assert [outcome.error is None for outcome in outcomes] == [True, True, False, True, True, True]
    assert outcomes[2].rows == [] and all(len(outcome.rows) == 1 for b, outcome in enumerate(outcomes) if b != 2)


def test_data_without_lists_of_prompts_are_told_what_to_bring() -> None:
    with pytest.raises(ValueError, match=r"name no prompts that compete .*dmlik_pl\.data\.captioned\.ImagePrompts"):
        PromptAccuracy().measure(ToyModel(), make_batch(ToyModel()), NOISY)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"template": "{tone}"}, "belong together"),
        ({"candidates": {"tone": ["dark", "dark"]}, "template": "{tone}"}, "two or more different values"),
        ({"guidance": []}, "guidance must be one value or a list of different ones"),
        ({"guidance": [1.0, 1.0]}, "guidance must be"),
        ({"reconstruct": [True, True]}, "reconstruct must be"),
        ({"elbo_draws": 1}, "elbo_draws must be 2 or more"),
        ({"pmi": True}, "elbo_draws must be 2 or more"),
        ({"screening": Screening(2)}, "elbo_draws must be 2 or more"),
        ({"elbo_draws": 24, "elimination": Elimination([2], [24])}, "after elbo_draws=24"),
        ({"protocol": "published", "empty_prompt": True}, "published protocol has no empty_prompt"),
    ],
    ids=["template", "candidates", "empty", "twice", "reconstruct", "draws", "pmi", "screening", "rounds", "published"],
)
def test_impossible_settings_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        PromptAccuracy(**options)
