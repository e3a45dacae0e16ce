"""Numbers, tables, figures and pictures of a sweep over settings, against direct computation from its records."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fake_records import SIGMAS, TIMES, frame_of, said, sweep_grid_units, sweep_units
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from dmlik_pl.metrics.frechet import frechet_distance
from dmlik_pl.records.sharing import file_name
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.compare import compare, published
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.kinds import kinds
from dmlik_pl.results.page.report import write_report
from dmlik_pl.results.parts import Part, labels, of_part, parts_of
from dmlik_pl.results.table import Table
from dmlik_pl.results.tables import make_tables
from dmlik_pl.results.time_sweep.pictures import sweep_sheets
from dmlik_pl.results.time_sweep.summaries import difference_summary, sweep_summary
from dmlik_pl.stats.significance import holm

N = 16
PARTS = [Part(size, again, w) for size in (32, 64) for again in (False, True) for w in (1.0, 3.0, 7.0)]


def by_name(frame: pd.DataFrame) -> dict[str, Table]:
    return {table.name: table for table in make_tables({"sweep": frame})}


def rows_of(frame: pd.DataFrame, part: Part, time: float | None) -> pd.DataFrame:
    """Records of one part and stage by sample, picked without the code under test."""
    chosen = (frame["size"] == part.size) & (frame["reconstructed"] == part.reconstructed)
    chosen &= frame["guidance"] == part.guidance
    chosen &= frame["stage"] == "data" if time is None else frame["time"] == time
    return frame[chosen].set_index("sample_id")


def number(summary: pd.DataFrame, part: Part, time: float | None) -> pd.Series:
    rows = of_part(summary, part)
    rows = rows[rows["stage"] == "data"] if time is None else rows[rows["time"] == time]
    assert len(rows) == 1
    return rows.iloc[0]


def features(rows: pd.DataFrame) -> torch.Tensor:
    return torch.tensor(rows["feature"].tolist(), dtype=torch.float64)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(sweep_grid_units(N), "time_sweep")


@pytest.fixture(scope="module")
def summary(frame: pd.DataFrame) -> pd.DataFrame:
    return sweep_summary(frame)


@pytest.fixture(scope="module")
def differences(frame: pd.DataFrame) -> pd.DataFrame:
    return difference_summary(frame)


@pytest.fixture(scope="module")
def tables(frame: pd.DataFrame) -> dict[str, Table]:
    return by_name(frame)


@pytest.fixture(scope="module")
def figures(frame: pd.DataFrame) -> dict[str, Figure]:
    return make_figures({"sweep": frame})


class TestCells:
    def test_every_combination_in_order(self, frame: pd.DataFrame) -> None:
        assert list(parts_of(frame.sample(frac=1, random_state=0))) == PARTS
        assert all(len(rows) == 6 * N for rows in parts_of(frame).values())

    def test_records_without_the_settings_are_one_cell(self) -> None:
        old = frame_of(sweep_units(3), "time_sweep").drop(columns="guidance")
        assert list(parts_of(old)) == [Part(None, False, None)]
        assert of_part(sweep_summary(old), Part(None, False, None))["n"].tolist() == [3] * 6

    def test_words_say_what_differs(self) -> None:
        assert list(labels(PARTS).values())[:4] == ["w = 1, 32 px", "w = 3, 32 px", "w = 7, 32 px",
                                                    "w = 1, 32 px, reconstructed"]  # fmt: skip
        assert list(labels(PARTS[:2]).values()) == ["w = 1", "w = 3"]


class TestSummary:
    def test_means_and_errors_of_a_cell(self, frame: pd.DataFrame, summary: pd.DataFrame) -> None:
        part = Part(64, True, 3.0)
        rows, row = rows_of(frame, part, 0.25), number(summary, part, 0.25)
        assert (row["n"], row["part"], row["sigma"]) == (N, "w = 3, 64 px, reconstructed", pytest.approx(0.574))
        for name in ("bpd", "bpd_pixels", "bpd_marginal", "clip", "round_trip", "round_trip_pixels"):
            assert row[name] == pytest.approx(rows[name].astype(float).mean()), name
            expected = rows[name].astype(float).std() / math.sqrt(N)
            if name == "bpd":
                assert row["bpd_sampling_error"] == pytest.approx(expected)
                expected = math.hypot(expected, 0.0004)
            error = pytest.approx(expected if expected > 1e-9 else math.nan, nan_ok=True)  # no spread tells of none
            assert row[f"{name}_standard_error"] == error, name
        assert row["bpd_pixels_probe_error"] == pytest.approx(0.02 / math.sqrt(N))
        assert row["bpd_grid_error"] == pytest.approx(0.0004) and math.isnan(row["bpd_pixels_grid_error"])
        assert math.isnan(number(summary, Part(64, False, 3.0), 0.25)["round_trip"])

    @pytest.mark.parametrize(("part", "time"), [(Part(32, False, 7.0), 0.5), (Part(64, True, 1.0), None)])
    def test_distances_are_to_the_plain_data_of_the_size(
        self, frame: pd.DataFrame, summary: pd.DataFrame, part: Part, time: float | None
    ) -> None:
        row = number(summary, part, time)
        real = features(rows_of(frame, Part(part.size, False, 1.0), None))
        fake = features(rows_of(frame, part, time))
        a, b = real.numpy(), fake.numpy()
        cross = np.linalg.eigvals(np.cov(a.T) @ np.cov(b.T)).astype(complex)
        shift = np.square(a.mean(0) - b.mean(0)).sum()
        fid = shift + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * np.sqrt(cross).real.sum()
        assert row["fid"] == pytest.approx(fid, rel=1e-4)
        assert (row["fid_n"], row["fid_features"]) == (N, 16)

        def kid(a: np.ndarray, b: np.ndarray) -> float:
            off = ~np.eye(len(a), dtype=bool)
            kernels = [(x @ y.T / 16 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
            return kernels[0][off].mean() + kernels[1][off].mean() - 2 * kernels[2][off].mean()

        assert row["kid"] == pytest.approx(kid(a, b))
        left_out = [kid(np.delete(a, i, 0), np.delete(b, i, 0)) for i in range(N)]
        assert row["kid_standard_error"] == pytest.approx(math.sqrt((N - 1) * np.var(left_out)))
        group = torch.arange(N) % 10
        left_out = [float(frechet_distance(real[group != g], fake[group != g])) for g in range(10)]
        assert row["fid_standard_error"] == pytest.approx(math.sqrt(9 * np.var(left_out)))

    def test_the_data_are_at_no_distance_from_themselves(self, summary: pd.DataFrame) -> None:
        for part in PARTS:
            row = number(summary, part, None)
            assert (row["fid"] == 0) == (row["fid_standard_error"] == 0) == (not part.reconstructed)
            assert (row["kid"] == 0) == (not part.reconstructed)

    def test_reconstructions_alone_are_measured_against_the_reconstructed_data(self) -> None:
        only = sweep_summary(frame_of(sweep_grid_units(6, (1.0,), (32,), (True,)), "time_sweep"))
        assert only["fid"].iloc[0] == 0 and (only["fid"].iloc[1:] > 0).all()

    def test_too_dense_and_not_finite_are_counted_by_cell(self, frame: pd.DataFrame) -> None:
        # A density smoothed by noise of 0.0413 has at most 2.268 nats, -3.27 bits, in each dimension.
        changed = frame[(frame["size"] == 32) & ~frame["reconstructed"] & (frame["time"] == 0)].copy()
        part = Part(32, False, 7.0)
        place = rows_of(changed.reset_index(), part, 0.0)["index"]
        changed.loc[place.iloc[0], "log_p"] = 2.28 * 256
        changed.loc[place.iloc[1], "log_p"] = 2.26 * 256
        changed.loc[place.iloc[2], "bpd"] = math.nan
        counts = sweep_summary(changed)
        assert counts["too_dense"].sum() == number(counts, part, 0.0)["too_dense"] == 1
        assert counts["non_finite"].sum() == number(counts, part, 0.0)["non_finite"] == 1
        table = by_name(changed)["sweep"]
        assert "1 likelihoods were not finite" in table.caption and len(table.caption.split()) <= 50
        assert "1 likelihoods are higher than data smoothed" in said(table)


class TestDifferences:
    def test_they_are_paired_by_sample(self, frame: pd.DataFrame, differences: pd.DataFrame) -> None:
        a, b = (rows_of(frame, Part(32, False, w), 0.0) for w in (7.0, 1.0))
        row = differences.query("part == 'w = 7, 32 px' and baseline == 'w = 1, 32 px' and time == 0").iloc[0]
        change = a["bpd"] - b["bpd"]
        assert row["of"] == "guidance" and row["n"] == N
        assert row["bpd"] == pytest.approx(change.mean())
        assert row["bpd_sampling_error"] == pytest.approx(change.std() / math.sqrt(N))
        assert row["bpd_standard_error"] == pytest.approx(math.hypot(row["bpd_sampling_error"], row["bpd_grid_error"]))
        assert row["bpd_p"] == pytest.approx(stats.ttest_rel(a["bpd"], b["bpd"]).pvalue)
        assert row["bpd"] == pytest.approx(0.57, abs=0.05), "what the fakes were made with"
        alone = math.hypot(*(part["bpd"].std() / math.sqrt(N) for part in (a, b)))
        assert row["bpd_standard_error"] < 0.5 * alone, "pairs tell more than two means"

    def test_order_of_samples_and_missing_ones_change_no_pair(self, frame: pd.DataFrame) -> None:
        gone = (frame["sample_id"] == "test-00003") & (frame["guidance"] == 7) & (frame["size"] == 32)
        part = frame[~gone & (frame["size"] == 32) & ~frame["reconstructed"]].sample(frac=1, random_state=1)
        row = difference_summary(part).query("part == 'w = 7' and baseline == 'w = 1' and time == 0")
        a, b = (rows_of(frame, Part(32, False, w), 0.0).drop("test-00003") for w in (7.0, 1.0))
        assert row["n"].tolist() == [N - 1]
        assert row["clip"].iloc[0] == pytest.approx((a["clip"] - b["clip"]).mean())

    def test_what_is_compared_with_what(self, frame: pd.DataFrame, differences: pd.DataFrame) -> None:
        pairs = differences[["of", "part", "baseline"]].drop_duplicates()
        assert pairs["of"].value_counts().to_dict() == {"guidance": 8, "reconstruction": 6, "size": 6}
        found = set(pairs.itertuples(index=False, name=None))
        assert ("reconstruction", "w = 3, 64 px, reconstructed", "w = 3, 64 px") in found
        assert ("size", "w = 3, 64 px", "w = 3, 32 px") in found
        without_plain = difference_summary(
            frame[(frame["guidance"] > 1) & (frame["size"] == 32) & (frame["time"] == 0)]
        )
        assert set(without_plain.query("of == 'guidance'")["baseline"].str[:5]) == {"w = 3"}
        assert len(difference_summary(frame_of(sweep_units(3), "time_sweep"))) == 0

    def test_holm_over_each_setting_and_no_test_of_equal_values(self, differences: pd.DataFrame) -> None:
        for _, family in differences.groupby("of"):
            for name in ("bpd", "clip"):
                known = family[family[f"{name}_p"].notna()]
                assert known[f"{name}_p_holm"].tolist() == pytest.approx(holm(known[f"{name}_p"].tolist()))
        same = differences.query("stage == 'data' and of != 'size'")
        assert (same["clip"] == 0).all() and same["clip_p"].isna().all() and same["clip_p_holm"].isna().all()


class TestTables:
    def test_the_grid_has_the_paper_s_layout(self, tables: dict[str, Table], summary: pd.DataFrame) -> None:
        assert list(tables) == ["sweep", "sweep_settings", "sweep_differences", "bits_per_dim"]
        table = tables["sweep"]
        assert list(table.shown.columns) == ["N", "t", "Data", "1.00", "0.75", "0.50", "0.25", "0.00"]
        assert table.shown.iloc[0].tolist()[1:] == ["σ", "0.0413", "14.6", "3.63", "1.42", "0.574", "0.0413"]
        plain = table.shown.loc["w = 3, 64 px"].set_index("t")
        assert list(plain.index) == ["BPD", "BPD pixels", "BPD marginal", "FID", "KID", "CLIP"]
        again = table.shown.loc["w = 3, 64 px, reconstructed"].set_index("t")
        assert list(again.index)[-2:] == ["round trip", "round trip, levels"]
        assert set(plain["N"]) == {str(N)}
        value, error = plain.loc["FID", "0.50"].split(" ± ")
        row = number(summary, Part(64, False, 3.0), 0.5)
        assert float(value) == pytest.approx(row["fid"], abs=float(error) / 10)
        assert float(error) == pytest.approx(row["fid_standard_error"], rel=0.1)
        for words in ("w > 1",):
            assert words not in said(table)
        for words in ("density of the guided flow", f"N = {N} samples per column", "not per pixel value", "KID",
                      "encoded again", "16 samples, 0 failed"):  # fmt: skip
            assert words in said(table), words
        assert table.legend["round trip, levels"] == "the same of the decoded image, in levels of 255"

    def test_settings_stand_at_both_ends_of_time(self, tables: dict[str, Table], summary: pd.DataFrame) -> None:
        shown = tables["sweep_settings"].shown
        assert list(shown.index) == list(labels(PARTS).values())
        assert list(shown.columns) == [
            "N", "BPD, data", "CLIP, data", "BPD, t = 0", "FID, t = 0", "KID, t = 0", "CLIP, t = 0",
            "round trip, t = 0", "BPD, t = 1", "FID, t = 1", "CLIP, t = 1",
        ]  # fmt: skip
        for time in (0.0, 1.0):
            expected = number(summary, Part(32, True, 7.0), time)["bpd"]
            shown_value = float(shown.loc["w = 7, 32 px, reconstructed", f"BPD, t = {time:g}"].split(" ")[0])
            assert shown_value == pytest.approx(expected, abs=1e-3)
        assert shown.loc["w = 7, 32 px", "round trip, t = 0"] == "–"
        assert all(len(table.caption.split()) <= 55 for table in tables.values())
        assert "σ is 0.0413 at t = 0, 14.6 at t = 1" in tables["sweep_settings"].caption
        assert "under one heading" in said(tables["sweep_settings"])
        assert list(tables["sweep_settings"].legend) == [
            "setting", "N", "BPD, data", "CLIP, data", "FID, t = 0", "KID, t = 0", "round trip, t = 0",
        ]  # fmt: skip

    def test_differences_have_a_column_a_time(self, tables: dict[str, Table]) -> None:
        table = tables["sweep_differences"]
        assert len(table.shown) == 3 * 20 and len(table.raw) == 6 * 20
        shown = table.shown.loc["w = 7, 32 px"].set_index(["minus", "t"]).loc[("w = 1, 32 px", "BPD"), "0.00"]
        raw = table.raw.query("part == 'w = 7, 32 px' and baseline == 'w = 1, 32 px' and time == 0").iloc[0]
        assert shown.endswith("(<0.001)") and float(shown.split(" ")[0]) == pytest.approx(raw["bpd"], abs=1e-3)
        for words in ("paired", "Holm", "N = 16", "guided flow"):
            assert words in said(table), words

    def test_the_published_protocol_names_its_unit(self) -> None:
        units = {
            name: [row | {"protocol": "published", "deviations": "odd"} for row in rows]
            for name, rows in sweep_grid_units(4, (1.0, 7.0), (32,), (False,)).items()
        }
        for name, table in by_name(frame_of(units, "time_sweep")).items():
            if name != "bits_per_dim":
                assert "bits per pixel value" in said(table) and "Published protocol: odd." in table.notes, name

    def test_a_failed_unit_shows_in_the_number_of_samples(self) -> None:
        units = sweep_grid_units(5, (1.0, 3.0), (32,), (False,))
        units["test-00002"] = [row for row in units["test-00002"] if row["guidance"] == 1.0]
        tables = by_name(frame_of(units, "time_sweep"))
        assert set(tables["sweep"].shown.loc["w = 3", "N"]) == {"4"}
        assert "of N = 4 to 5 samples per column" in tables["sweep"].legend["FID"]

    def test_files_can_be_written(self, tables: dict[str, Table], tmp_path: Path) -> None:
        for table in tables.values():
            for path in table.write(tmp_path):
                assert path.stat().st_size > 100
        assert len(pd.read_csv(tmp_path / "sweep.csv")) == 12 * 6

    def test_bits_per_dim_are_those_of_one_setting(self, frame: pd.DataFrame) -> None:
        data, named, _ = kinds()["time_sweep"].data(frame)
        assert len(data) == N and named == "w = 1, 64 px"
        assert set(data["guidance"]) == {1.0} and set(data["size"]) == {64} and not data["reconstructed"].any()


class TestFigures:
    def test_a_line_a_setting_and_a_row_a_size(self, figures: dict[str, Figure], summary: pd.DataFrame) -> None:
        axes = figures["sweep"].axes
        assert len(axes) == 10  # two sizes, five measures
        panel = axes[5 + 3]  # FID at 64 pixels
        assert panel.get_title(loc="left") == "64 px" and panel.get_ylabel() == "FID against the data"
        lines = [line for line in panel.lines if len(line.get_xdata()) == len(TIMES)]
        assert [line.get_linestyle() for line in lines] == ["-"] * 3 + ["--"] * 3
        for line, part in zip(lines, PARTS[6:], strict=True):
            expected = of_part(summary, part).query("stage == 'sample'")
            np.testing.assert_allclose(line.get_xdata(), expected["time"])
            np.testing.assert_allclose(line.get_ydata(), expected["fid"])
        assert lines[0].get_color() == lines[3].get_color() != lines[1].get_color()
        left, right = panel.get_xlim()
        assert left > 1 > 0 > right
        assert [text.get_text() for text in panel.get_xticklabels()][-1] == "data"
        legend = [text.get_text() for text in figures["sweep"].legends[0].get_texts()]
        assert legend == ["w = 1", "w = 3", "w = 7", "not reconstructed", "reconstructed"]

    def test_bands_are_95_percent_intervals(self, figures: dict[str, Figure], summary: pd.DataFrame) -> None:
        band = figures["sweep"].axes[0].collections[0].get_paths()[0].vertices[:, 1]
        rows = of_part(summary, PARTS[0]).query("stage == 'sample'")
        student = stats.t.ppf(0.975, N - 1)
        assert band.max() == pytest.approx((rows["bpd"] + student * rows["bpd_standard_error"]).max())
        bars = [container[2][0].get_segments()[0][:, 1] for container in figures["sweep"].axes[0].containers]
        for bar, part in zip(bars, PARTS[:6], strict=True):
            row = number(summary, part, None)
            reach = student * row["bpd_standard_error"]
            assert bar == pytest.approx([row["bpd"] - reach, row["bpd"] + reach])

    def test_guidance_against_likelihood(self, figures: dict[str, Figure], summary: pd.DataFrame) -> None:
        panel = figures["sweep_guidance"].axes[1]  # 64 pixels
        handles, names = panel.get_legend_handles_labels()
        named = dict(zip(names, handles, strict=True))
        assert list(named) == ["data", "samples, t = 0", "data, reconstructed", "samples, t = 0, reconstructed"]
        for name, again, time in (("data", False, None), ("samples, t = 0, reconstructed", True, 0.0)):
            line = named[name].lines[0]
            expected = [number(summary, Part(64, again, w), time)["bpd"] for w in (1.0, 3.0, 7.0)]
            np.testing.assert_allclose(np.asarray(line.get_xdata(), float), [1, 3, 7])
            np.testing.assert_allclose(np.asarray(line.get_ydata(), float), expected)
            rows = [number(summary, Part(64, again, w), time) for w in (1.0, 3.0, 7.0)]
            bars = np.diff([bar[:, 1] for bar in named[name][2][0].get_segments()])[:, 0]
            np.testing.assert_allclose(bars, [row["bpd_high"] - row["bpd_low"] for row in rows])

    def test_samples_count_by_the_path_that_made_them(self, frame: pd.DataFrame) -> None:
        """At t = 0 and where that path is known: not for reconstructions, nor for data."""
        own = frame["bpd"].where((frame["stage"] == "sample") & ~frame["reconstructed"].astype(bool)) - 0.5
        errors = {f"bpd_marginal_{name}": 0.01 for name in ("standard_error", "probe_variance")}
        known = frame.assign(bpd_marginal=own, **errors)
        table, drawn = by_name(known)["sweep_settings"].shown, make_figures({"sweep": known})
        summary, weights = sweep_summary(known), (1.0, 3.0, 7.0)
        handles, names = drawn["sweep_guidance"].axes[1].get_legend_handles_labels()
        lines = {name: np.asarray(each.lines[0].get_ydata(), float) for name, each in zip(names, handles, strict=True)}
        read = [[number(summary, Part(64, again, w), 0.0)["bpd"] for w in weights] for again in (False, True)]
        np.testing.assert_allclose(lines["samples, t = 0"], np.array(read[0]) - 0.5)
        np.testing.assert_allclose(lines["samples, t = 0, reconstructed"], read[1])
        across = np.concatenate([line.get_xdata() for line in drawn["sweep_quality"].axes[0].lines])
        assert np.isclose(across[:, None], lines["samples, t = 0"]).any(0).all()
        assert list(table["BPD marginal, t = 0"] == "–") == [part.reconstructed for part in PARTS]

    def test_quality_against_likelihood(self, figures: dict[str, Figure], summary: pd.DataFrame) -> None:
        clip, fid, kid = figures["sweep_quality"].axes
        assert [axes.get_ylabel() for axes in (clip, fid, kid)] == [
            "CLIP score", "FID against the data", "KID against the data",
        ]  # fmt: skip
        points = [container.lines[0].get_xydata()[0] for container in clip.containers]
        expected = [number(summary, part, 0.0)[["bpd", "clip"]] for part in PARTS]
        np.testing.assert_allclose(points, np.array(expected, dtype=float))
        across, up = (bars.get_segments()[0] for bars in fid.containers[0][2])
        row = number(summary, PARTS[0], 0.0)
        assert np.ptp(across[:, 0]) == pytest.approx(row["bpd_high"] - row["bpd_low"])
        assert np.ptp(up[:, 1]) == pytest.approx(2 * stats.t.ppf(0.975, 9) * row["fid_standard_error"])

    def test_one_guidance_has_no_figure_of_guidance(self) -> None:
        frame = frame_of(sweep_grid_units(4, (1.0,), (32,), (False, True)), "time_sweep")
        assert sorted(make_figures({"sweep": frame})) == ["sweep", "sweep_bits_per_dim", "sweep_quality"]

    def test_little_known_still_gives_figures(self, tmp_path: Path) -> None:
        units = sweep_grid_units(1, (1.0, 3.0), (32,), (False,))
        keep = ("stage", "time", "sigma", "bpd", "guidance", "log_p", "dims")
        bare = frame_of(
            {name: [{k: row[k] for k in keep} for row in rows] for name, rows in units.items()}, "time_sweep"
        )
        for name, figure in make_figures({"sweep": bare}).items():
            figure.savefig(tmp_path / f"{name}.png")
        assert len(by_name(bare)) == 4


def paint(folder: Path, frame: pd.DataFrame) -> None:
    """A picture for every sample and part: each panel has one grey level, the reconstruction 100 more."""
    for part, rows in parts_of(frame).items():
        label = f"guidance={part.guidance:g},size={part.size}" + (",reconstructed" if part.reconstructed else "")
        (folder / label).mkdir(parents=True)
        for name in dict.fromkeys(rows["sample_id"]):
            levels = np.repeat(10 + 20 * np.arange(1 + len(TIMES), dtype=np.uint8), 16)[None].repeat(16, 0)
            picture = np.concatenate([levels, levels + 100]) if part.reconstructed else levels
            Image.fromarray(picture).save(folder / label / f"{file_name(name)}.png")


class TestPictures:
    @pytest.fixture(scope="class")
    def few(self) -> pd.DataFrame:
        return frame_of(sweep_grid_units(3), "time_sweep")

    @pytest.fixture(scope="class")
    def sheets(self, few: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
        folder = tmp_path_factory.mktemp("pictures")
        paint(folder, few)
        return sweep_sheets(folder, few)

    def test_sheets_are_few(self, sheets: dict[str, Figure]) -> None:
        contact = [name for name in sheets if name.startswith("pictures")]
        assert len(contact) == 8 and "pictures_w7_64px_reconstructed" in contact and "pictures_w3_32px" not in contact
        assert [name for name in sheets if name not in contact] == ["samples", "process", "reconstruction"]

    def test_the_way_from_noise_to_data(self, sheets: dict[str, Figure], few: pd.DataFrame) -> None:
        axes = sheets["process"].axes
        assert len(axes) == 3 * 6  # three guidances of one sample
        assert axes[0].get_title() == "t = 1\nσ = 14.6" and axes[5].get_title() == "data"
        greys = [int(np.asarray(panel.images[0].get_array())[8, 8, 0]) for panel in axes[:6]]
        assert greys == [30, 50, 70, 90, 110, 10], "from noise, with the data last"
        bpd = few.query("sample_id == 'test-00000' and size == 64 and not reconstructed and guidance == 7")
        assert axes[12].get_xlabel().startswith(f"{bpd.query('time == 1')['bpd'].iloc[0]:.3f} ± 0.020\nat t ")
        assert axes[17].get_xlabel() == f"{bpd.query('time.isna()')['bpd'].iloc[0]:.3f} ± 0.020"

    def test_a_reconstruction_is_beside_its_source(self, sheets: dict[str, Figure], few: pd.DataFrame) -> None:
        axes = sheets["reconstruction"].axes
        assert [panel.get_title() for panel in axes[:4]] == ["data", "reconstructed", "sample, t = 0", "reconstructed"]
        greys = [int(np.asarray(panel.images[0].get_array())[8, 8, 0]) for panel in axes[:4]]
        assert greys == [10, 110, 110, 210]
        own = few.query("sample_id == 'test-00000' and size == 64 and guidance == 1 and time == 0")
        source, after = (own[own["reconstructed"] == again]["bpd"].iloc[0] for again in (False, True))
        assert axes[2].get_xlabel() == f"{source:.3f} ± 0.020"
        assert axes[3].get_xlabel() == f"{after:.3f} ± 0.020\nchanged by 3 %"

    def test_samples_of_every_plain_setting(self, sheets: dict[str, Figure]) -> None:
        axes = sheets["samples"].axes
        titles = [panel.get_title() for panel in axes[:7]]
        assert titles == ["data", *(f"w = {w}\n{size} px" for size in (32, 64) for w in (1, 3, 7))]
        greys = [int(np.asarray(panel.images[0].get_array())[8, 8, 0]) for panel in axes[:7]]
        assert greys == [10] + [110] * 6, "the last stage of each"

    def test_a_sweep_of_the_size_of_the_data(self, tmp_path: Path) -> None:
        one = frame_of(sweep_grid_units(2, (1.0,), (32,), (False,)), "time_sweep")
        paint(tmp_path, one)
        (tmp_path / "guidance=1,size=32").rename(tmp_path / "guidance=1,size=data")
        assert sorted(sweep_sheets(tmp_path, one)) == ["pictures", "process"]
        assert sweep_sheets(tmp_path / "nothing", one) == {}

    def test_pictures_of_a_run_before_parts(self, tmp_path: Path) -> None:
        old = frame_of(sweep_units(2), "time_sweep")
        Image.new("L", (96, 16)).save(tmp_path / f"{file_name('test-00001')}.png")
        assert sorted(sweep_sheets(tmp_path, old)) == ["pictures", "process"]

    def test_the_report_shows_them(self, few: pd.DataFrame, tmp_path: Path) -> None:
        with RecordStore(tmp_path) as store:
            for name, rows in sweep_grid_units(3, (1.0, 3.0), (32,), (False,)).items():
                store.append("sweep", name, [row | {"kind": "time_sweep"} for row in rows if row["time"] in (0, None)])
        store.finalise()
        painted = few[few["guidance"] < 7].query("size == 32 and not reconstructed")
        paint(tmp_path / "pictures" / "sweep", painted)
        write_report(tmp_path)
        made = {path.stem for path in (tmp_path / "figures").glob("*.png")}
        assert {"sweep_process", "sweep_samples", "sweep_pictures_w1", "sweep_pictures_w3", "sweep_guidance"} <= made


class TestPaper:
    @pytest.fixture(scope="class")
    def grid(self) -> dict[str, pd.DataFrame]:
        return {"sweep": frame_of(sweep_grid_units(4, (1.0, 7.0), (512, 1024), (False, True)), "time_sweep")}

    def test_every_setting_meets_its_row_of_table_7(self, grid: dict[str, pd.DataFrame]) -> None:
        tables = {table.name: table for table in compare(grid, 7)}
        assert list(tables) == [
            f"paper_7_sweep_CFG_{w}_{size}{again}" for size in (512, 1024) for again in ("", "-R") for w in (0, 7)
        ]
        raw = tables["paper_7_sweep_CFG_0_512-R"].raw.set_index(["measure", "column"])
        rows = rows_of(grid["sweep"], Part(512, True, 1.0), 0.75)
        assert raw.loc[("CLIP", "0.75"), "run"] == pytest.approx(rows["clip"].mean())
        assert raw.loc[("BPD", "0.75"), "run"] == pytest.approx(rows["bpd_pixels"].mean()), "as the paper: decoded"
        assert raw.loc[("FID", "0.75"), "published"] == 399.6
        assert raw.loc[("BPD", "1.00"), "published"] == pytest.approx(0.01 * 48)
        caption = said(tables["paper_7_sweep_CFG_0_512-R"])
        assert "The run's setting is w = 1, 512 px, reconstructed." in caption and "stand for" not in caption

    def test_table_4_is_one_of_them(self, grid: dict[str, pd.DataFrame]) -> None:
        (table,) = compare(grid, 4)
        raw = table.raw.set_index(["measure", "column"])
        assert raw.loc[("BPD", "Data"), "published"] == pytest.approx(-0.17 * 48)
        assert raw.loc[("BPD", "Data"), "run"] == pytest.approx(
            rows_of(grid["sweep"], Part(1024, False, 7.0), None)["bpd"].mean()
        )

    def test_table_5_mixes_both_ends_of_time_as_printed(self, grid: dict[str, pd.DataFrame]) -> None:
        (table,) = compare(grid, 5)
        raw = table.raw.set_index(["measure", "column"])
        places = {"CFG 0.00": (Part(1024, False, 1.0), 0.0), "CFG 7.00": (Part(1024, False, 7.0), 0.0),
                  "512-R": (Part(512, True, 7.0), 1.0), "1024": (Part(1024, False, 7.0), 1.0)}  # fmt: skip
        for column, (part, time) in places.items():
            expected = rows_of(grid["sweep"], part, time)["clip"].mean()
            assert raw.loc[("CLIP", column), "run"] == pytest.approx(expected), column
        assert math.isnan(raw.loc[("CLIP", "CFG 3.00"), "run"])
        # The printed size columns are Table 7's at t = 1.00, those of guidance its t = 0.00.
        paper = published()
        five = paper[paper["table"] == 5].set_index(["measure", "column"])["value"]
        seven = paper[paper["table"] == 7].set_index(["system", "measure", "column"])["value"]
        for measure in ("FID", "CLIP"):
            assert five[(measure, "512-R")] == seven[("CFG 7 512-R", measure, "1.00")]
            assert five[(measure, "CFG 3.00")] == seven[("CFG 3 1024", measure, "0.00")]

    def test_other_sizes_stand_for_the_paper_s(self) -> None:
        records = {"sweep": frame_of(sweep_grid_units(3, (7.0,), (32, 64), (False,)), "time_sweep")}
        names = [table.name for table in compare(records, 7)]
        assert names == ["paper_7_sweep_CFG_7_512", "paper_7_sweep_CFG_7_1024"]
        (table,) = compare(records, 4)
        assert "The run's setting is w = 7, 64 px." in said(table)
        assert "64 px stand for 1024, its 32 px stand for 512" in said(table)

    def test_a_single_setting_is_compared_with_what_is_named(self) -> None:
        records = {"sweep": frame_of(sweep_grid_units(3, (2.0,), (32,), (False,)), "time_sweep")}
        with pytest.raises(ValueError, match="no setting of the run is one of table 7's; the run has w = 2"):
            compare(records, 7)
        (table,) = compare(records, 7, "CFG 3 1024-R")
        assert table.raw["run"].notna().all() and "The run's setting is w = 2." in said(table)

    def test_pixel_values_of_the_published_protocol_are_brought_to_latents(self) -> None:
        units = {
            name: [row | {"protocol": "published", "bpd_pixels": None} for row in rows]
            for name, rows in sweep_grid_units(3, (7.0,), (1024,), (False,)).items()
        }
        frame = frame_of(units, "time_sweep")
        (table,) = compare({"sweep": frame}, 4)
        run = table.raw.set_index(["measure", "column"])["run"]
        assert run[("BPD", "0.00")] == pytest.approx(48 * frame[frame["time"] == 0]["bpd"].mean())


def test_sigma_stands_beside_every_time(tables: dict[str, Table]) -> None:
    assert [float(part) for part in tables["sweep"].shown.iloc[0, 3:]] == pytest.approx(list(SIGMAS), rel=1e-2)
