"""Tables and the numbers in them against direct computation, and their files."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rich.console
from fake_records import DIMS, Row, accuracy_units, frame_of, said, sweep_units

from dmlik_pl.records.frames import describe, pooled_errors
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.bits_per_dim import bits_per_dim_rows
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.prompt_accuracy.decisions import decisions
from dmlik_pl.results.prompt_accuracy.summaries import accuracy_summary, confusion_matrix, method_summary, pair_summary
from dmlik_pl.results.table import Table, percent_with_interval, probability, with_error
from dmlik_pl.results.tables import make_tables
from dmlik_pl.results.time_sweep.summaries import sweep_summary
from dmlik_pl.stats.estimate import UNKNOWN
from dmlik_pl.stats.rates import wilson_interval
from dmlik_pl.stats.significance import holm


def by_name(records: dict[str, pd.DataFrame]) -> dict[str, Table]:
    return {table.name: table for table in make_tables(records)}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Records that went through the store, as those of a run do."""
    store = RecordStore(tmp_path_factory.mktemp("run"))
    for name, rows in sweep_units().items():
        store.append("time_sweep", name, rows)
    for name, rows in accuracy_units(with_elbo=True).items():
        store.append("prompt_accuracy", name, rows)
    store.append_failure("prompt_accuracy", "test-99999", "NaN from the network")
    return store.finalise()


class TestTimeSweep:
    def test_numbers(self, records: dict[str, pd.DataFrame]) -> None:
        frame = records["time_sweep"]
        summary = sweep_summary(frame)
        assert summary["stage"].tolist() == ["data"] + ["sample"] * 5
        assert summary["time"].tolist()[1:] == [1.0, 0.75, 0.5, 0.25, 0.0]
        assert summary["sigma"].tolist() == pytest.approx([0.0413, 14.6, 3.63, 1.42, 0.574, 0.0413])
        half = frame[(frame["stage"] == "sample") & (frame["time"] == 0.5)]
        row = summary.iloc[3]
        assert row["n"] == 64
        assert row["bpd"] == pytest.approx(half["bpd"].mean())
        assert row["bpd_sampling_error"] == pytest.approx(half["bpd"].std() / 8)
        assert row["bpd_grid_error"] == pytest.approx(0.0004)
        assert row["bpd_standard_error"] == pytest.approx(math.hypot(half["bpd"].std() / 8, 0.0004))
        assert row["bpd_probe_error"] == pytest.approx(0.02 / 8)
        assert row["bpd_marginal"] == pytest.approx(half["bpd_marginal"].mean())
        assert row["clip"] == pytest.approx(half["clip"].mean())
        assert row["clip_standard_error"] == pytest.approx(half["clip"].std() / 8)
        data = frame[frame["stage"] == "data"]
        a, b = (np.stack(part["feature"].tolist()).astype(float) for part in (data, half))
        cross = np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).astype(complex)
        shift = np.square(a.mean(0) - b.mean(0)).sum()
        expected = shift + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * np.sqrt(cross).real.sum()
        assert row["fid"] == pytest.approx(expected, rel=1e-6)
        assert summary["fid"][0] == 0

    def test_layout_is_the_paper_s(self, records: dict[str, pd.DataFrame]) -> None:
        table = by_name(records)["time_sweep"]
        assert list(table.shown.columns) == ["Data", "1.00", "0.75", "0.50", "0.25", "0.00"]
        assert list(table.shown.index) == ["σ", "BPD", "BPD marginal", "FID", "KID", "CLIP"]
        assert table.shown.loc["σ", "0.75"] == "3.63"
        value, error = table.shown.loc["BPD", "1.00"].split(" ± ")
        assert float(value) == pytest.approx(table.raw["bpd"][1], abs=5e-4)
        assert float(error) == pytest.approx(table.raw["bpd_standard_error"][1], abs=5e-4)
        assert table.shown.loc["BPD marginal", "Data"] == "–"
        for words in ("64 samples, 0 failed", "p(x|y)", "1024 dimensions", "w = 1: conditional", "N = 64", "33 VJPs"):
            assert words in said(table), words
        assert table.legend["BPD"].startswith("x_t read as data at t = 0, in bits per dimension")
        assert table.legend["σ"] == "noise-to-signal ratio" and "BPD pixels" not in table.legend

    def test_close_times_keep_their_own_columns(self, records: dict[str, pd.DataFrame]) -> None:
        frame = records["time_sweep"].replace({"time": {0.25: 0.004, 0.5: 0.0041}})
        table = by_name({"time_sweep": frame})["time_sweep"]
        assert list(table.shown.columns) == ["Data", "1", "0.75", "0.0041", "0.004", "0"]

    def test_fid_error_is_that_of_repeated_draws(self) -> None:
        generator = np.random.default_rng(0)
        values, errors = [], []
        for _ in range(60):
            content = generator.normal(0, 1, (120, 4))
            shifted = content + generator.normal(1, 0.5, (120, 4))
            rows = [
                {"sample_id": f"{i:03d}", "stage": stage, "time": time, "feature": list(features[i])}
                for stage, time, features in (("data", None, content), ("sample", 0.0, shifted))
                for i in range(120)
            ]
            row = sweep_summary(pd.DataFrame(rows)).iloc[1]
            values.append(row["fid"])
            errors.append(row["fid_standard_error"])
        assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.3)

    def test_what_is_not_finite_is_left_out_and_counted(self) -> None:
        units = sweep_units(4)
        units["test-00002"][1] |= {"bpd": math.nan}
        units["test-00003"][2] |= {"bpd": math.inf}
        table = by_name({"time_sweep": frame_of(units)})["time_sweep"]
        assert table.raw["non_finite"].tolist() == [0, 1, 1, 0, 0, 0]
        kept = [units[f"test-{i:05d}"][1]["bpd"] for i in (0, 1, 3)]
        assert table.raw["bpd"][1] == pytest.approx(np.mean(kept))
        assert "2 likelihoods were not finite" in table.caption

    def test_one_sample_and_no_extras(self) -> None:
        rows = [
            {"stage": "data", "time": None, "bpd": 1.25},
            {"stage": "sample", "time": 0.5, "bpd": 2.5},
        ]
        table = by_name({"time_sweep": frame_of({"a": rows})})["time_sweep"]
        assert table.shown.loc["BPD"].tolist() == ["1.25", "2.5"]
        assert list(table.shown.index) == ["σ", "BPD"]


def decision_row(truth: str, scores: dict[str, float], **more: object) -> Row:
    best = max(scores, key=lambda name: scores[name])
    return {
        "attribute": "shape",
        "truth": truth,
        "candidates": json.dumps(list(scores)),
        "predicted": best,
        "correct": best == truth,
        "decided": True,
        "scores": json.dumps(scores),
        "dims": 10,
    } | more


class TestPromptAccuracy:
    def test_numbers(self, records: dict[str, pd.DataFrame]) -> None:
        frame = records["prompt_accuracy"]
        summary = accuracy_summary(frame).set_index("attribute")
        for attribute, k in (("colour", 8), ("shape", 3)):
            rows, row = frame[frame["attribute"] == attribute], summary.loc[attribute]
            assert (row["n"], row["candidates"], row["chance"]) == (96, k, pytest.approx(1 / k))
            assert row["accuracy"] == pytest.approx(rows["correct"].mean())
            assert (row["accuracy_low"], row["accuracy_high"]) == wilson_interval(int(rows["correct"].sum()), 96)
            assert row["undecided"] == (~rows["decided"]).sum()
            assert row["accuracy_decided"] == pytest.approx(rows.loc[rows["decided"], "correct"].mean())
            assert row["clip"] == pytest.approx(rows["clip_correct"].mean())
            assert row["elbo"] == pytest.approx(rows["elbo_correct"].astype(bool).mean())
            correct, theirs = rows["correct"].to_numpy(bool), rows["clip_correct"].to_numpy(bool)
            pairs = pair_summary(frame).set_index(["attribute", "a", "b"]).loc[(attribute, "likelihood", "clip")]
            assert (pairs["only_a"], pairs["only_b"]) == ((correct & ~theirs).sum(), (theirs & ~correct).sum())
        pairs, methods = pair_summary(frame), method_summary(frame)
        assert pairs["p_holm"].tolist() == pytest.approx(holm(pairs["p"].tolist()))
        assert (methods["chance_p_holm"] >= methods["chance_p"])[methods["method"] != "chance"].all()

    def test_ranks_and_column_centring_by_hand(self) -> None:
        # The prompt "cube" has 10 nats more on every image: it always wins until its mean is taken off.
        units = {
            "a": [decision_row("cube", {"cube": 13.0, "ball": 0.0, "cone": 0.0})],
            "b": [decision_row("ball", {"cube": 10.0, "ball": 3.0, "cone": 0.0})],
            "c": [decision_row("cone", {"cube": 10.0, "ball": 4.0, "cone": 3.0})],
        }
        row = method_summary(frame_of(units)).iloc[0]
        assert row["accuracy"] == pytest.approx(1 / 3)
        assert row["accuracy_centred"] == pytest.approx(1.0)
        assert row["mean_rank"] == pytest.approx((1 + 2 + 3) / 3)
        assert row["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
        # 1 of 3 right with chance 1/3 is the likeliest outcome
        assert row["chance_p"] == pytest.approx(1.0)
        wide = accuracy_summary(frame_of(units)).iloc[0]
        assert math.isnan(wide["clip"]) and wide["clip_n"] == 0

    def test_a_tie_is_not_a_win(self) -> None:
        frame = frame_of({"a": [decision_row("ball", {"cube": 1.0, "ball": 1.0})]})
        assert decisions(frame)[0].ranks().tolist() == [2]

    def test_scores_as_a_list_or_with_other_orders(self) -> None:
        units = {
            "a": [decision_row("ball", {"cube": 1.0, "ball": 2.0})],
            "b": [decision_row("ball", {"ball": 4.0, "cube": 3.0})],
            "c": [decision_row("cube", {"cube": 5.0, "ball": 6.0}) | {"scores": "[5.0, 6.0]"}],
        }
        (decision,) = decisions(frame_of(units))
        assert decision.candidates == ["cube", "ball"]
        np.testing.assert_array_equal(decision.scores, [[1, 2], [3, 4], [5, 6]])
        assert decision.truth.tolist() == [1, 1, 0]

    def test_a_score_that_is_not_finite_is_no_miss(self) -> None:
        units = {
            "a": [decision_row("ball", {"cube": 1.0, "ball": 2.0})],
            "b": [decision_row("ball", {"cube": 1.0, "ball": math.nan})],
        }
        table = by_name({"prompt_accuracy": frame_of(units)})["prompt_accuracy"]
        assert table.raw.loc[0, ["n", "accuracy", "non_finite"]].tolist() == [1, 1.0, 1]
        assert "because a likelihood was not finite: 1." in table.caption

    def test_baseline_known_for_some_samples_only(self) -> None:
        units = {
            "a": [decision_row("ball", {"cube": 1.0, "ball": 2.0}, clip_correct=None)],
            "b": [decision_row("ball", {"cube": 1.0, "ball": 2.0}, clip_correct=False)],
            "c": [decision_row("ball", {"cube": 1.0, "ball": 2.0}, clip_correct=True)],
        }
        row = accuracy_summary(frame_of(units)).iloc[0]
        assert (row["clip_n"], row["clip"]) == (2, 0.5)
        assert pair_summary(frame_of(units)).loc[0, ["n", "only_a", "only_b"]].tolist() == [2, 1, 0]

    def test_confusion(self, records: dict[str, pd.DataFrame]) -> None:
        table = by_name(records)["prompt_accuracy_confusion_colour"]
        colour = decisions(records["prompt_accuracy"])[0]
        counts = confusion_matrix(colour)
        assert counts.to_numpy().sum() == 96
        assert np.trace(counts.to_numpy()) == colour.rows["correct"].sum()
        assert (counts.sum(axis=1) == 12).all()
        assert list(counts.index) == list(counts.columns) == colour.candidates
        assert table.shown.loc["red", "red"] == str(counts.loc["red", "red"])

    def test_layout(self, records: dict[str, pd.DataFrame]) -> None:
        tables = by_name(records)
        shown = tables["prompt_accuracy"].shown
        assert list(shown.index) == ["colour", "shape"]
        assert list(shown.columns) == [
            "n", "log p %", "undecided", "decided %", "ELBO %", "CLIP %", "chance %",
        ]  # fmt: skip
        assert shown["chance %"].tolist() == ["12.5", "33.3"]
        methods = ["exact likelihood", "ELBO", "CLIP", "chance"]
        assert list(tables["prompt_accuracy_methods_colour"].shown.index) == methods
        assert len(tables["prompt_accuracy_pairs"].shown) == 2 * 3
        assert "96 samples, 1 failed" in tables["prompt_accuracy"].caption
        without = by_name({"prompt_accuracy": frame_of(accuracy_units(8))})
        assert "ELBO %" not in without["prompt_accuracy"].shown


class TestBitsPerDim:
    def test_sweep_and_decisions(self, records: dict[str, pd.DataFrame]) -> None:
        raw = by_name(records)["bits_per_dim"].raw.set_index("study")
        frame = records["time_sweep"]
        data = frame[frame["stage"] == "data"]
        sweep = raw.loc["time_sweep"]
        assert sweep["bpd"] == pytest.approx(data["bpd"].mean())
        assert sweep["sampling_error"] == pytest.approx(data["bpd"].std() / 8)
        assert sweep["probe_error"] == pytest.approx(0.02 / 8)
        assert sweep["grid_error"] == pytest.approx(0.0004)
        assert sweep["standard_error"] == pytest.approx(math.hypot(data["bpd"].std() / 8, 0.0004))
        assert (sweep["n"], sweep["dims"], sweep["network_calls"], sweep["failed"]) == (64, DIMS, 66, 0)
        accuracy = raw.loc["prompt_accuracy"]
        first = records["prompt_accuracy"].query("attribute == 'colour'")
        own = [json.loads(row.scores)[row.truth] for row in first.itertuples()]
        assert accuracy["bpd"] == pytest.approx(-np.mean(own) / DIMS / math.log(2))
        assert accuracy["probe_error"] == pytest.approx(6 / math.sqrt(96) / DIMS / math.log(2))
        assert (accuracy["n"], accuracy["failed"]) == (96, 1)

    def test_weighted_by_dimensions(self) -> None:
        frame = pd.DataFrame({"sample_id": ["a", "b"], "log_p": [-10.0, -90.0], "dims": [10, 30]})
        assert bits_per_dim_rows({"any": frame})["bpd"][0] == pytest.approx(100 / 40 / math.log(2))

    def test_a_density_above_that_of_the_noise_is_named(self) -> None:
        # log N(0; 0, 0.0413^2) = 2.2676 nats per dimension
        units = {"a": {"log_p": 2.26 * 50}, "b": {"log_p": 2.27 * 50}}
        rows = [{"sample_id": name, "dims": 50, "r_min": 0.04131} | row for name, row in units.items()]
        table = by_name({"any": pd.DataFrame(rows)})["bits_per_dim"]
        assert table.raw["too_dense"].tolist() == [1]
        assert "1 likelihoods are higher than data smoothed" in table.caption

    def test_studies_without_likelihoods_of_data(self) -> None:
        frame = pd.DataFrame({"sample_id": ["a"], "score": [1.0]})
        (table,) = make_tables({"other": frame})  # of a kind that nobody declares
        assert table.name == "other" and table.shown.loc["all", "score"] == "1"

    def test_several_likelihoods_of_a_sample_that_nobody_declares_make_no_headline(self) -> None:
        rows = [{"sample_id": name, "dims": 4, "log_p": -1.0, "level": level} for name in "ab" for level in ("x", "y")]
        table, *others = make_tables({"other": pd.DataFrame(rows)})
        assert not others and table.shown["n"].to_dict() == {"x": "2", "y": "2"}


class TestTable:
    def test_files(self, records: dict[str, pd.DataFrame], tmp_path: Path) -> None:
        for table in make_tables(records):
            paths = table.write(tmp_path / "tables")
            assert [path.name for path in paths] == [f"{table.name}.{kind}" for kind in ("md", "csv", "tex")]
            pd.testing.assert_frame_equal(pd.read_csv(paths[1]), table.raw, check_dtype=False)
            rows = [line for line in paths[0].read_text().splitlines() if line.startswith("| ")]
            assert len(rows) == len(table.shown) + 1
            tex = paths[2].read_text()
            body = tex[tex.index(r"\midrule") : tex.index(r"\bottomrule")]
            assert body.count(r"\\") == len(table.shown)
            assert tex.isascii(), [c for c in tex if not c.isascii()]

    def test_special_characters(self) -> None:
        shown = pd.DataFrame({"a|b_c": ["50 % ± 1", r"x_1 & \y"]}, index=pd.Index(["σ", "#~^{}$"], name="p(x|y)"))
        table = Table("odd", "p(x|y) is 100 % <ours>", shown, shown)
        assert r"50 \% $\pm$ 1" in table.latex() and r"x\_1 \& \textbackslash{}y" in table.latex()
        assert r"p(x\textbar{}y) & a\textbar{}b\_c \\" in table.latex()
        assert r"\#\textasciitilde{}\textasciicircum{}\{\}\$" in table.latex()
        assert r"a\|b_c" in table.markdown()

    def test_terminal(self, records: dict[str, pd.DataFrame]) -> None:
        console = rich.console.Console(width=110, file=io.StringIO())
        for table in make_tables(records):
            console.print(table.rich())
        text = console.file.getvalue()
        assert "12.5" in text and "time sweep" in text and "NaN from the network" in text

    def test_numbers_as_text(self) -> None:
        assert with_error(1.23456, 0.0123) == "1.235 ± 0.012"
        assert with_error(-123.456, 23.0) == "-123 ± 23"
        assert with_error(0.5, math.nan) == "0.5"
        assert with_error(math.nan, 1.0) == "–"
        assert with_error(math.inf, 1.0) == "inf"
        assert with_error(1 - 1e-16, 2e-17) == "1"
        assert percent_with_interval(0.5, wilson_interval(5, 10)) == "50.0 [24–76]"
        assert percent_with_interval(1 / 3, UNKNOWN) == "33.3"
        assert (probability(0.0004), probability(0.0123), probability(math.nan)) == ("<0.001", "0.012", "–")


class TestCaption:
    @pytest.mark.parametrize(
        ("guidance", "words"),
        [(0.0, "w = 0: unconditional"), (1.0, "w = 1: conditional"), (3.0, "density of the guided flow")],
    )
    def test_guidance_is_named_for_what_it_is(self, guidance: float, words: str) -> None:
        frame = pd.DataFrame({"sample_id": ["a"], "guidance": [guidance], "density": ["p"], "space": ["pixels"]})
        assert words in describe(frame)

    def test_failures_table_and_counts(self, records: dict[str, pd.DataFrame]) -> None:
        failed = by_name(records)["failures"]
        assert failed.shown.loc["test-99999", "error"] == "NaN from the network"
        assert make_tables({"failures": records["failures"].iloc[:0]}) == []


def test_a_new_study_declares_its_tables(declared: Callable[..., None]) -> None:
    def tables(study: str, frame: pd.DataFrame) -> list[Table]:
        return [Table(study, f"{len(frame)} rows.", frame.astype(str), frame)]

    declared(Kind("made_up", tables=tables))
    failures = pd.DataFrame({"study": ["made_up"], "sample_id": ["b"], "error": ["no"]})
    made = by_name({"made_up": pd.DataFrame({"sample_id": ["a"]}), "failures": failures})
    assert made["made_up"].caption == "1 rows. 1 samples, 1 failed."


class TestPooledProbeErrors:
    """Errors of means are pooled from unbiased variances; a single value's own error is widened and is not."""

    def test_variances_are_pooled_where_there_are_some(self) -> None:
        frame = pd.DataFrame({"standard_error": [2.0, 2.0, np.nan], "probe_variance": [1.0, np.nan, np.nan]})
        np.testing.assert_array_equal(pooled_errors(frame), [1.0, 2.0, np.nan])

    def test_bits_per_dimension_share_those_of_the_log_density(self) -> None:
        frame = pd.DataFrame(
            {"standard_error": [2.0, 0.0], "probe_variance": [1.0, 0.0], "bpd_standard_error": [0.5, 0.0]}
        )
        np.testing.assert_array_equal(pooled_errors(frame, "bpd"), [0.25, 0.0])

    def test_the_headline_has_them(self) -> None:
        rows = {"sample_id": list("abcd"), "log_p": [-1.0, -2.0, -3.0, -4.0], "dims": 5, "standard_error": 3.0}
        wide = bits_per_dim_rows({"any": pd.DataFrame(rows)})["probe_error"][0]
        narrow = bits_per_dim_rows({"any": pd.DataFrame(rows | {"probe_variance": 4.0})})["probe_error"][0]
        # sqrt(4 samples x variance) over 20 dimensions
        assert wide == pytest.approx(6 / (20 * math.log(2))) and narrow == pytest.approx(4 / (20 * math.log(2)))

    def test_those_of_a_sweep(self) -> None:
        frame = frame_of(sweep_units(9), "time_sweep")
        wide = sweep_summary(frame)["bpd_probe_error"]
        narrow = sweep_summary(frame.assign(probe_variance=(0.5 * frame["standard_error"]) ** 2))["bpd_probe_error"]
        np.testing.assert_allclose(narrow, wide / 2)
