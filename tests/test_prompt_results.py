"""Tables and figures of competing prompts against numbers recomputed from the records, or known in closed form."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_records import CELLS, COLOURS, SHAPES, Row, frame_of, prompt_units
from matplotlib.figure import Figure
from scipy.stats import binom, t

from dmlik_pl.records.frames import listed, listing
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.drawing import arms
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.kinds import kinds
from dmlik_pl.results.page.headlines import headlines
from dmlik_pl.results.prompt_accuracy.bound_summaries import elimination_summary, level_summary, screening_summary
from dmlik_pl.results.prompt_accuracy.decisions import decisions
from dmlik_pl.results.prompt_accuracy.summaries import (
    accuracy_summary,
    confusion_matrix,
    empty_prompt_summary,
    method_summary,
    pair_summary,
)
from dmlik_pl.results.table import Table
from dmlik_pl.results.tables import make_tables
from dmlik_pl.stats.rates import wilson_interval
from dmlik_pl.stats.significance import holm

FIRST = ["w = 1", "w = 1, reconstructed", "w = 3", "w = 3, reconstructed"]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Records that went through the store, as those of a run do."""
    store = RecordStore(tmp_path_factory.mktemp("run"))
    for name, rows in prompt_units().items():
        store.append("prompt_accuracy", name, rows)
    return store.finalise()["prompt_accuracy"]


@pytest.fixture(scope="module")
def figures(frame: pd.DataFrame) -> dict[str, Figure]:
    return make_figures({"prompt_accuracy": frame})


@pytest.fixture(scope="module")
def tables(frame: pd.DataFrame) -> dict[str, Table]:
    return {table.name.removeprefix("prompt_accuracy"): table for table in make_tables({"prompt_accuracy": frame})}


def of(frame: pd.DataFrame, attribute: str, guidance: float = 1.0, reconstructed: bool = False) -> pd.DataFrame:
    chosen = (frame["attribute"] == attribute) & (frame["guidance"] == guidance)
    return frame[chosen & (frame["reconstructed"] == reconstructed)]


def question(truth: str, scores: dict[str, float | None], **more: object) -> Row:
    best = max(scores, key=lambda name: -math.inf if scores[name] is None else scores[name])
    row: Row = {"attribute": "letter", "truth": truth, "candidates": "|".join(scores), "predicted": best}
    return row | {"correct": best == truth, "decided": True, "scores": json.dumps(scores), "dims": 10} | more


def test_candidates_may_hold_what_once_separated_them() -> None:
    scores = {"a|b": 3.0, "true": 2.0, '["x"]': 1.0}
    rows = [question(truth, scores) | {"sample_id": truth, "candidates": listing(list(scores))} for truth in scores]
    frame = pd.DataFrame(rows)
    assert [listed(text) for text in frame["candidates"]] == [list(scores)] * 3
    assert listed("red|blue") == ["red", "blue"] and listed('["x"]|2') == ['["x"]', "2"] and listed("5") == ["5"]
    [decision] = decisions(frame)
    assert decision.candidates == list(scores) and decision.ranks().tolist() == [1, 2, 3]
    tables = {table.name: table for table in make_tables({"prompts": frame.assign(kind="prompt_accuracy")})}
    confusion = tables["prompts_confusion_letter"]
    assert confusion.shown.index.tolist() == confusion.shown.columns.tolist() == list(scores)
    assert "| a\\|b" in confusion.markdown() and r"a\textbar{}b" in confusion.latex()


class TestParts:
    def test_every_part_and_attribute_has_its_own_row(self, frame: pd.DataFrame) -> None:
        summary = accuracy_summary(frame)
        assert summary["part"].tolist() == [part for part in FIRST for _ in range(2)]
        assert summary["attribute"].tolist() == ["colour", "shape"] * 4
        assert [tuple(row) for row in summary[["guidance", "reconstructed"]].to_numpy()[::2]] == list(CELLS)
        for row in summary.to_dict("records"):
            rows = of(frame, row["attribute"], row["guidance"], row["reconstructed"])
            assert row["elbo"] == pytest.approx(rows["elbo_correct"].mean())
            full = rows[rows["screened_checked"]]
            assert (row["accuracy_n"], row["accuracy"]) == (24, pytest.approx(full["correct"].mean()))

    def test_one_part_is_not_named(self) -> None:
        single = frame_of(prompt_units(6, CELLS[:1]), "prompt_accuracy")
        assert accuracy_summary(single)["part"].tolist() == ["", ""]
        moved = frame_of(prompt_units(6, CELLS[:2]), "prompt_accuracy")
        assert list(dict.fromkeys(accuracy_summary(moved)["part"])) == ["as given", "reconstructed"]

    def test_the_data_s_likelihood_is_of_the_data_and_taken_once(self, frame: pd.DataFrame) -> None:
        data, named, attribute = kinds()["prompt_accuracy"].data(frame)
        assert (named, attribute) == ("w = 1", "truth")
        plain = of(frame, "colour")
        expected = [json.loads(text)[truth] for text, truth in zip(plain["scores"], plain["truth"], strict=True)]
        known = [value for value in expected if value is not None]
        assert data["log_p"].tolist() == pytest.approx(known) and not data["reconstructed"].any()


class TestMethods:
    def test_numbers_of_every_method(self, frame: pd.DataFrame) -> None:
        summary = method_summary(frame).set_index(["part", "attribute", "method"])
        rows = of(frame, "colour", 3.0, True)
        for method in ("elbo", "pmi", "clip", "screened"):
            row = summary.loc[(FIRST[3], "colour", method)]
            right = rows[f"{method}_correct"].astype(bool)
            assert (row["n"], row["accuracy"]) == (48, pytest.approx(right.mean()))
            assert (row["accuracy_low"], row["accuracy_high"]) == wilson_interval(int(right.sum()), 48)
            scores = [
                {key: -math.inf if value is None else value for key, value in json.loads(text).items()}
                for text in rows[f"{method}_scores"]
            ]
            ranks = [
                sum(value >= mine[true] for value in mine.values())
                for mine, true in zip(scores, rows["truth"], strict=True)
            ]
            assert row["mean_reciprocal_rank"] == pytest.approx(np.mean(1 / np.array(ranks)))
            if method == "clip":
                assert math.isnan(row["undecided"]) and math.isnan(row["nfe"])
            else:
                decided = rows[f"{method}_decided"].astype(bool)
                assert row["undecided"] == (~decided).sum() and row["nfe"] == rows[f"{method}_nfe"].mean()
                assert row["accuracy_decided"] == pytest.approx(right[decided].mean())
        assert summary.loc[(FIRST[0], "colour", "likelihood"), "nfe"] == 66 * 8
        guess = summary.loc[(FIRST[0], "shape", "chance")]
        assert guess[["accuracy", "mean_rank", "nfe"]].tolist() == pytest.approx([1 / 3, 2, 0])
        assert guess["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)

    def test_centring_takes_off_what_a_prompt_wins_everywhere(self) -> None:
        # "a" has 10 more by every method.
        scores = [("a", (13.0, 0.0, 0.0)), ("b", (10.0, 3.0, 0.0)), ("c", (10.0, 4.0, 3.0))]
        units = {
            truth: [
                question(
                    truth,
                    dict(zip("abc", values, strict=True)),
                    elbo_correct=truth == "a",
                    elbo_predicted="a",
                    elbo_scores=json.dumps(values),
                )
            ]
            for truth, values in scores
        }
        summary = method_summary(frame_of(units, "prompt_accuracy")).set_index("method")
        for method in ("likelihood", "elbo"):
            row = summary.loc[method, ["accuracy", "accuracy_centred", "mean_rank"]]
            assert row.tolist() == pytest.approx([1 / 3, 1.0, 2.0])

    def test_costs_of_records_without_costs_are_those_of_all_candidates(self) -> None:
        row = question("a", {"a": 1.0, "b": 0.0}, nfe_forward=33, nfe_vjp=33, nfe_jvp=0)
        summary = method_summary(frame_of({"x": [row]}, "prompt_accuracy")).set_index("method")
        assert summary.loc["likelihood", "nfe"] == 132

    def test_candidates_may_differ_from_sample_to_sample(self) -> None:
        units = {
            "x": [question("a", {"a": 3.0, "b": 2.0})],
            "y": [question("c", {"c": 1.0, "d": 2.0, "e": 0.0})],
        }
        frame = frame_of(units, "prompt_accuracy")
        (decision,) = decisions(frame)
        assert decision.ranks().tolist() == [1, 2] and not decision.shared
        np.testing.assert_array_equal(decision.offered, [[True] * 2 + [False] * 3, [False] * 2 + [True] * 3])
        row = method_summary(frame).iloc[0]
        assert row[["accuracy", "candidates", "chance"]].tolist() == pytest.approx([0.5, 2.5, 5 / 12])
        assert math.isnan(row["accuracy_centred"])
        names = {table.name for table in make_tables({"prompt_accuracy": frame})}
        assert not any("confusion" in name for name in names)
        make_figures({"prompt_accuracy": frame})


class TestPairs:
    def test_mcnemar_by_hand(self) -> None:
        # Right: likelihood on 9 of 10, ELBO on 3, all of these among the 9, so 6 against 0: p = 2 / 2^6.
        units = {
            f"{i}": [
                question(
                    "a" if i < 9 else "b",
                    {"a": 1.0, "b": 0.0},
                    elbo_correct=i < 3,
                    elbo_predicted="a" if i < 3 else "b",
                    clip_correct=True if i < 4 else None,
                )
            ]
            for i in range(10)
        }
        pairs = pair_summary(frame_of(units, "prompt_accuracy")).set_index(["a", "b"])
        first = pairs.loc[("likelihood", "elbo")]
        assert first[["n", "only_a", "only_b", "difference", "p"]].tolist() == pytest.approx([10, 6, 0, 0.6, 2 / 64])
        # Differences of 1 on six samples and of 0 on four: a variance of 10 (.6 - .36) / 9 over 10.
        assert first["standard_error"] == pytest.approx(math.sqrt(0.24 / 9))
        assert 0 < first["low"] < 0.6 < first["high"] < 1
        assert pairs.loc[("elbo", "clip"), ["n", "only_a", "only_b"]].tolist() == [4, 0, 1]
        assert pairs["p_holm"].tolist() == pytest.approx(holm(pairs["p"].tolist()))
        assert len(pairs) == 3

    def test_all_pairs_of_all_parts(self, frame: pd.DataFrame) -> None:
        pairs = pair_summary(frame)
        assert len(pairs) == 4 * 2 * 10
        both = of(frame, "shape", 3.0).query("screened_checked")
        row = pairs.query("part == 'w = 3' and attribute == 'shape' and a == 'likelihood' and b == 'clip'").iloc[0]
        mine, theirs = both["correct"].to_numpy(bool), both["clip_correct"].to_numpy(bool)
        wins = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
        assert (row["n"], row["only_a"], row["only_b"]) == (24, *wins)
        assert row["p"] == pytest.approx(min(1, 2 * binom.cdf(min(wins), sum(wins), 0.5)))


class TestEmptyPrompt:
    def test_gains_over_all_and_by_value(self, frame: pd.DataFrame) -> None:
        summary = empty_prompt_summary(frame).set_index(["part", "attribute", "value"])
        rows = of(frame, "colour", 3.0)
        gain = rows["null_margin"] / 1024 / math.log(2)
        row = summary.loc[("w = 3", "all", "all")]
        assert row["gain"] == pytest.approx(gain.mean())
        assert row["standard_error"] == pytest.approx(gain.std() / math.sqrt(48))
        reach = t.ppf(0.975, 47) * gain.std() / math.sqrt(48)
        assert (row["gain_low"], row["gain_high"]) == pytest.approx((gain.mean() - reach, gain.mean() + reach))
        errors = rows["null_margin_standard_error"] / 1024 / math.log(2)
        assert row["probe_error"] == pytest.approx(math.sqrt((errors**2).sum()) / 48)
        assert row["better"] == pytest.approx((gain > 0).mean())
        assert (row["better_low"], row["better_high"]) == wilson_interval(int((gain > 0).sum()), 48)
        assert row["undecided_share"] == pytest.approx((gain.abs() <= 1.96 * errors).mean())
        own = summary.loc[("w = 3", "shape", "sphere")]
        same = of(frame, "shape", 3.0).query("truth == 'sphere'")
        assert (own["n"], own["gain"]) == (16, pytest.approx(same["null_margin"].mean() / 1024 / math.log(2)))
        assert len(summary) == 4 * (1 + len(COLOURS) + len(SHAPES))

    def test_nothing_without_an_empty_prompt(self) -> None:
        without = frame_of(prompt_units(4, CELLS[:1]), "prompt_accuracy").assign(null_margin=None)
        assert empty_prompt_summary(without).empty
        assert not any("empty" in table.name for table in make_tables({"prompt_accuracy": without}))


class TestBound:
    def test_levels_by_hand(self) -> None:
        # Two draws a sample, one on either side of 0. The truth errs least on 1 of 3, then on all.
        noisy = [(5.0, 4.0), (5.0, 5.0), (3.0, 4.0)]
        units = {
            f"{i}": [
                question(
                    "a",
                    {"a": 1.0, "b": 0.0},
                    elbo_levels=[-2.0 - 0.1 * i, 1.0 + 0.1 * i],
                    elbo_level_errors=json.dumps({"a": [mine, 1.0], "b": [other, 2.0]}),
                )
            ]
            for i, (mine, other) in enumerate(noisy)
        }
        summary = level_summary(frame_of(units, "prompt_accuracy"))
        assert summary["accuracy"].tolist() == pytest.approx([1 / 3, 1.0])  # the tie counts against it
        assert summary["log_snr"].tolist() == pytest.approx([-2.1, 1.1])
        assert summary["sigma"].tolist() == pytest.approx([math.exp(1.05), math.exp(-0.55)])
        assert summary[["n", "draws"]].to_numpy().tolist() == [[3, 1], [3, 1]]
        assert (summary["accuracy_low"][0], summary["accuracy_high"][0]) == wilson_interval(1, 3)

    def test_levels_peak_where_the_draws_know_most(self, frame: pd.DataFrame) -> None:
        summary = level_summary(frame)
        curve = summary.query("part == 'w = 1' and attribute == 'colour'")
        assert len(curve) == 8 and (np.diff(curve["log_snr"]) > 0).all()
        assert abs(curve.loc[curve["accuracy"].idxmax(), "log_snr"]) < 1.5
        assert curve["accuracy"].iloc[0] < 0.3 < 0.6 < curve["accuracy"].max()

    def test_elimination(self, frame: pd.DataFrame) -> None:
        summary = elimination_summary(frame).query("part == 'w = 1' and attribute == 'shape'").set_index("draws")
        given = [json.loads(text) for text in of(frame, "shape")["elbo_eliminated"]]
        true = [draws[value] for draws, value in zip(given, of(frame, "shape")["truth"], strict=True)]
        drawn = [count for draws in given for count in draws.values()]
        assert summary.index.tolist() == [8, 16] and summary["last"].tolist() == [False, True]
        assert summary.loc[8, "true_stopped"] == pytest.approx(np.mean(np.array(true) == 8))
        assert summary["stopped"].sum() == pytest.approx(1) and summary["true_stopped"].sum() == pytest.approx(1)
        assert summary.loc[8, "mean_draws"] == pytest.approx(np.mean(drawn))

    def test_screening(self, frame: pd.DataFrame) -> None:
        summary = screening_summary(frame).query("part == 'w = 3'").set_index("attribute")
        rows = of(frame, "shape", 3.0)
        full = rows[rows["screened_checked"]]
        row = summary.loc["shape"]
        assert (row["n"], row["checked"], row["kept"]) == (48, 24, 2)
        agree = full["screened_predicted"] == full["predicted"]
        assert row["agreement"] == pytest.approx(agree.mean())
        assert (row["agreement_low"], row["agreement_high"]) == wilson_interval(int(agree.sum()), 24)
        survived = [
            json.loads(text)[winner] is not None
            for text, winner in zip(full["screened_scores"], full["predicted"], strict=True)
        ]
        assert row["survived"] == pytest.approx(np.mean(survived))
        # 2 of 3 likelihoods of 66 calls and 3 bounds of 16, against 3 likelihoods of 132
        assert (row["nfe_screened"], row["nfe_full"]) == (2 * 66 + 3 * 16, 3 * 132)
        assert row["saved"] == pytest.approx(1 - 180 / 396)

    def test_a_winner_that_was_screened_out_is_no_agreement(self) -> None:
        kept = json.dumps({"a": 2.0, "b": 1.0, "c": None})
        row = question("c", {"a": 2.0, "b": 1.0, "c": 3.0})
        row |= {"screened_predicted": "a", "screened_correct": False, "screened_scores": kept}
        summary = screening_summary(
            frame_of({"x": [row | {"screened_checked": True, "screened_nfe": 5}]}, "prompt_accuracy")
        ).iloc[0]
        assert summary[["kept", "agreement", "survived", "true_kept"]].tolist() == [2, 0, 0, 0]
        screened = decisions(frame_of({"x": [row | {"screened_checked": True}]}, "prompt_accuracy"))[0].by("screened")
        assert screened.ranks().tolist() == [3]  # last, with all that were screened out

    def test_only_screened_samples_have_no_exact_decision(self) -> None:
        row = question("a", {"a": 2.0, "b": 1.0, "c": None}, screened_predicted="a", screened_correct=True)
        row |= {"screened_scores": row["scores"], "screened_checked": False, "screened_nfe": 5, "nfe": 5}
        frame = frame_of({"x": [row], "y": [row]}, "prompt_accuracy")
        assert method_summary(frame)["method"].tolist() == ["screened", "chance"]
        assert math.isnan(accuracy_summary(frame)["accuracy"][0])
        assert screening_summary(frame)["checked"].tolist() == [0]
        make_tables({"prompt_accuracy": frame})
        make_figures({"prompt_accuracy": frame})


class TestFigures:
    def test_names(self, figures: dict[str, Figure]) -> None:
        single = {"", "_guidance", "_cost", "_margins", "_empty_prompt", "_levels", "_bits_per_dim"}
        parts = ("w1", "w1_reconstructed", "w3", "w3_reconstructed")
        named = {f"_{what}_{part}" for what in ("calibration", "confusion") for part in parts}
        assert {name.removeprefix("prompt_accuracy") for name in figures} == single | named

    def test_cost_against_accuracy(self, figures: dict[str, Figure], frame: pd.DataFrame) -> None:
        axes = figures["prompt_accuracy_cost"].axes[0]
        points = {tuple(container.lines[0].get_xydata()[0].round(6)) for container in axes.containers}
        rows = of(frame, "colour")
        # four parts side by side, the first one 1.5 steps of 5 per cent to the left
        expected = (round(128 * 1.05**-1.5, 6), round(100 * rows["elbo_correct"].mean(), 6))
        assert expected in points and axes.get_xscale() == "log"

    def test_gains_over_the_empty_prompt(self, figures: dict[str, Figure], frame: pd.DataFrame) -> None:
        """Bars are intervals over the samples of a value: 6 of each colour, 16 of each shape."""
        figure = figures["prompt_accuracy_empty_prompt"]
        for axes, attribute, values in zip(figure.axes, ("colour", "shape"), (COLOURS, SHAPES), strict=True):
            shown = [label.get_text() for label in axes.get_yticklabels()][::-1]
            gain = of(frame, attribute, 3.0).groupby("truth")["null_margin"]
            assert set(shown) == set(values) == set(gain.groups)
            reach = t.ppf(0.975, gain.size() - 1) * gain.sem()
            bars = axes.containers[2][2][0].get_segments()  # the third part is w = 3
            ends = pd.DataFrame({"low": gain.mean() - reach, "high": gain.mean() + reach}) / 1024 / math.log(2)
            np.testing.assert_allclose([bar[:, 0] for bar in bars], ends.loc[shown])

    def test_levels_and_guidance(self, figures: dict[str, Figure], frame: pd.DataFrame) -> None:
        summary = level_summary(frame).query("part == 'w = 1' and attribute == 'shape'")
        line = figures["prompt_accuracy_levels"].axes[1].lines[0]
        np.testing.assert_allclose(line.get_xydata(), np.c_[summary["log_snr"], 100 * summary["accuracy"]])
        axes = figures["prompt_accuracy_guidance"].axes[0]
        clip = [100 * of(frame, "colour", weight)["clip_correct"].mean() for weight in (1.0, 3.0)]
        assert any(np.allclose(container.lines[0].get_ydata(), clip) for container in axes.containers)

    def test_confusion_of_every_method(self, figures: dict[str, Figure], frame: pd.DataFrame) -> None:
        titles = [axes.get_title() for axes in figures["prompt_accuracy_confusion_w3"].axes[:5]]
        names = ["exact likelihood", "screened likelihood", "ELBO", "PMI", "CLIP"]
        assert titles == [f"colour, {name}" for name in names]
        counts = confusion_matrix(decisions(frame)[0].by("clip"))
        assert np.trace(counts.to_numpy()) == of(frame, "colour")["clip_correct"].sum()

    def test_files_are_of_a_size_to_look_at(self, figures: dict[str, Figure], tmp_path: Path) -> None:
        for name, figure in figures.items():
            assert figure.get_size_inches()[0] < 20, name
        figures["prompt_accuracy_confusion_w1"].savefig(tmp_path / "confusion.png")


def test_tables_say_what_they_count(tables: dict[str, Table]) -> None:
    parts = ("w1", "w1_reconstructed", "w3", "w3_reconstructed")
    assert set(tables) == {
        *("", "_methods_colour", "_methods_shape", "_pairs", "_empty_prompt", "_calibration"),
        *("_levels_colour", "_levels_shape", "_screening", "_elimination", "bits_per_dim"),
        *(f"_confusion_{attribute}_{part}" for attribute in ("colour", "shape") for part in parts),
    }
    methods = tables["_methods_shape"]
    assert methods.shown.loc["w = 1: chance", "accuracy %"] == "33.3"
    assert methods.shown.loc["w = 3: CLIP", ["undecided", "calls"]].tolist() == ["–", "–"]
    assert methods.shown.loc["w = 3: exact likelihood", "calls"] == "396"
    assert "an equal score counting against it" in methods.legend["MRR"]
    assert "Holm-corrected over this table" in tables["_pairs"].legend["p (Holm)"]
    assert tables["_empty_prompt"].shown.index[0] == "all (w = 1)"
    assert tables[""].legend["log p %"].endswith("highest log p(x|y), of the samples computed in full")
    assert tables[""].legend["screened %"].endswith("among the prompts that the ELBO kept")
    assert "33 nodes" in tables[""].notes[0] and "screened likelihood, log p(x|y) among" in methods.notes[0]
    assert methods.notes[1] == "All prompts of an image share their probes, noise and noise levels."
    assert "colour (w = 3, reconstructed)" in tables[""].shown.index


def test_captions_are_short_whatever_the_data(frame: pd.DataFrame) -> None:
    """With every sentence that a caption may have: a partial run, a score that is not finite, the paper's protocol."""
    odd = frame.assign(protocol="published", deviations="averages decide", attribute="of " * 60 + frame["attribute"])
    odd.loc[0, "scores"] = json.dumps(dict.fromkeys(listed(odd.loc[0, "candidates"]), math.inf))
    samples = pd.DataFrame({"sample_id": [*frame["sample_id"].unique(), "never measured"]})
    made = [
        table for table in make_tables({"prompt_accuracy": odd, "samples": samples}) if table.name != "bits_per_dim"
    ]
    assert len(made) == 13 + 6
    for table in made:
        assert table.caption.startswith("Partial: ") and len(table.caption.split()) <= 60, table.name
    assert made[1].caption.endswith("Decisions left out because a likelihood was not finite: 1.")
    assert made[0].notes == ("Published protocol: averages decide.",)


def test_probes_are_called_shared_only_where_they_are(frame: pd.DataFrame, tables: dict[str, Table]) -> None:
    published = make_tables({"prompt_accuracy": frame.assign(protocol="published")})
    [methods] = [table for table in published if table.name == "prompt_accuracy_methods_shape"]
    assert methods.notes == tables["_methods_shape"].notes[:1]


def test_arms_of_intervals_are_lengths() -> None:
    rows = pd.DataFrame({"x": [0.5, 0.2], "x_low": [0.4, 0.2 + 1e-17], "x_high": [0.8, 0.2 - 1e-16]})
    np.testing.assert_allclose(arms(rows, "x", 100), [[10, 0], [30, 0]])
    assert arms(rows, "x").min() == 0


def test_a_run_that_was_only_screened_has_headlines() -> None:
    frame = frame_of(prompt_units(4, CELLS[:2]), "prompt_accuracy").assign(screened_checked=False)
    tables = make_tables({"prompt_accuracy": frame})
    assert tables[0].shown["log p %"].tolist() == ["–"] * 4
    assert tables[0].raw["part"].tolist() == ["as given"] * 2 + ["reconstructed"] * 2
    found = [
        headline for headline in headlines({"prompt_accuracy": frame}) if "colour (reconstructed)" in headline.label
    ]
    right = of(frame, "colour", 1.0, True)["screened_correct"].mean()
    assert found[0].value.startswith(f"{100 * right:.1f} [") and found[0].detail.startswith("n = 4, chance 12.5 %")
