"""Figures show the numbers of the records; a run folder's report is made from records alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_records import accuracy_units, sweep_units
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import t

from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.page.report import main, write_report
from dmlik_pl.results.prompt_accuracy.summaries import accuracy_summary
from dmlik_pl.results.time_sweep.summaries import sweep_summary


def fill(folder: Path, n: int = 32) -> dict[str, pd.DataFrame]:
    with RecordStore(folder) as store:
        for name, rows in sweep_units(n).items():
            store.append("time_sweep", name, rows)
        for name, rows in accuracy_units(n, with_elbo=True).items():
            store.append("prompt_accuracy", name, rows)
    return store.finalise()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return fill(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def figures(records: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    return make_figures(records)


def test_every_figure_is_there(figures: dict[str, Figure]) -> None:
    assert sorted(figures) == [
        "prompt_accuracy",
        "prompt_accuracy_bits_per_dim",
        "prompt_accuracy_calibration",
        "prompt_accuracy_confusion",
        "prompt_accuracy_cost",
        "prompt_accuracy_margins",
        "time_sweep",
        "time_sweep_bits_per_dim",
    ]


def test_time_sweep_curves(figures: dict[str, Figure], records: dict[str, pd.DataFrame]) -> None:
    summary = sweep_summary(records["time_sweep"]).iloc[1:]
    bpd, clip, fid, kid = figures["time_sweep"].axes
    for axes, name in ((bpd, "bpd"), (clip, "clip"), (fid, "fid"), (kid, "kid")):
        line = axes.lines[0]
        np.testing.assert_allclose(line.get_xdata(), summary["time"])
        np.testing.assert_allclose(line.get_ydata(), summary[name])
        left, right = axes.get_xlim()
        assert left > 1 > 0 > right, "noise is on the left"
        band = axes.collections[0].get_paths()[0].vertices[:, 1]
        groups = 10 if name == "fid" else 32  # of the jackknife
        half = t.ppf(0.975, groups - 1) * summary[f"{name}_standard_error"]
        assert band.max() == pytest.approx((summary[name] + half).max())
        assert band.min() == pytest.approx((summary[name] - half).min())
    data = sweep_summary(records["time_sweep"]).iloc[0]
    line, zone = bpd.lines[-1], bpd.patches[0].get_bbox()
    assert set(line.get_ydata()) == {data["bpd"]}
    half = t.ppf(0.975, 31) * data["bpd_standard_error"]
    assert (zone.y0, zone.y1) == pytest.approx((data["bpd"] - half, data["bpd"] + half))
    assert [text.get_text() for text in bpd.get_legend().get_texts()] == [
        "xₜ read as data",
        "at its own time t",
        "data",
    ]


def test_accuracy_bars(figures: dict[str, Figure], records: dict[str, pd.DataFrame]) -> None:
    summary = accuracy_summary(records["prompt_accuracy"])
    axes = figures["prompt_accuracy"].axes[0]
    likelihood, hatched, elbo, clip = (axes.containers[i] for i in (0, 1, 3, 5))
    for bars, name in ((likelihood, "accuracy"), (clip, "clip"), (elbo, "elbo")):
        np.testing.assert_allclose([bar.get_height() for bar in bars], 100 * summary[name])
    rows = records["prompt_accuracy"]
    undecided_right = rows[rows["correct"] & ~rows["decided"]].groupby("attribute").size() / 32
    np.testing.assert_allclose([bar.get_height() for bar in hatched], 100 * undecided_right)


def test_margins_and_confusion(figures: dict[str, Figure], records: dict[str, pd.DataFrame]) -> None:
    rows = records["prompt_accuracy"].query("attribute == 'colour'")
    legend = [text.get_text() for text in figures["prompt_accuracy_margins"].axes[0].get_legend().get_texts()]
    assert f"right: {(rows['correct'] & rows['decided']).sum()}" in legend
    assert f"undecided: {(~rows['decided']).sum()}" in legend
    assert f"wrong: {(~rows['correct'] & rows['decided']).sum()}" in legend
    for axes, attribute in zip(figures["prompt_accuracy_margins"].axes, ("colour", "shape"), strict=True):
        own = records["prompt_accuracy"]
        own = own[own["attribute"] == attribute].sort_values("true_margin")
        zone = axes.patches[0].get_bbox()
        reach = 1.959964 * own["true_margin_standard_error"].median()
        assert (zone.y0, zone.y1) == pytest.approx((-reach, reach), rel=1e-4)
        ends = np.concatenate([lines.get_segments() for lines in axes.collections])
        middle, error = own["true_margin"].to_numpy(), own["true_margin_standard_error"].to_numpy()
        expected = np.c_[middle - error, middle + error]
        np.testing.assert_allclose(ends[ends[:, 0, 0].argsort()][:, :, 1], expected)
    panels = figures["prompt_accuracy_confusion"].axes
    assert [axes.get_title() for axes in panels[:3]] == ["colour, exact likelihood", "colour, ELBO", "colour, CLIP"]
    red = panels[0].images[0].get_array()[0, 0]
    assert red == pytest.approx((rows[rows["truth"] == "red"]["predicted"] == "red").mean())


def test_histogram_counts_every_sample(figures: dict[str, Figure], records: dict[str, pd.DataFrame]) -> None:
    axes = figures["time_sweep_bits_per_dim"].axes
    assert sum(bar.get_height() for bar in axes[0].patches) == 32
    assert [label.get_text() for label in axes[3].get_yticklabels()] == ["sphere", "cylinder", "cube"]
    data = records["time_sweep"].query("stage == 'data' and shape == 'cube'")
    means = [container.lines[0].get_xdata()[0] for container in axes[3].containers]
    assert means[2] == pytest.approx(data["bpd"].mean())
    (bar,) = axes[3].containers[2][2][0].get_segments()
    half = t.ppf(0.975, len(data) - 1) * data["bpd"].std() / np.sqrt(len(data))
    half = np.hypot(half, 1.959964 * 0.0004)  # the fakes' error of the grid
    assert bar[:, 0] == pytest.approx([data["bpd"].mean() - half, data["bpd"].mean() + half])


def test_classes_of_few_samples_have_wide_bars() -> None:
    """Two samples 2 bits apart: a standard error of 1 and one degree of freedom, whose 97.5 % quantile is 12.706."""
    bits = np.array([1.0, 3.0, 5.0])
    rows = pd.DataFrame({"sample_id": list("abc"), "tone": ["dark", "dark", "light"], "dims": 10})
    figure = make_figures({"run": rows.assign(log_p=-bits * 10 * np.log(2))})["run_bits_per_dim"]
    light, dark = (container[2][0].get_segments()[0][:, 0] for container in figure.axes[1].containers)
    assert dark == pytest.approx([2 - 12.7062, 2 + 12.7062], abs=1e-3)
    assert light == pytest.approx([5, 5]), "one sample has no interval"


def test_unusual_records_still_give_figures(tmp_path: Path) -> None:
    one = {name: pd.DataFrame([{"sample_id": key} | row for key, rows in units.items() for row in rows])
           for name, units in (("time_sweep", sweep_units(1)), ("prompt_accuracy", accuracy_units(1)))}  # fmt: skip
    bare = pd.DataFrame({"sample_id": list("abc"), "log_p": [1.0, 2.0, np.nan], "dims": [4, 4, 4]})
    figures = make_figures(one | {"likelihood": bare, "other": pd.DataFrame({"sample_id": ["a"]})})
    assert "likelihood_bits_per_dim" in figures and not any(name.startswith("other") for name in figures)
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")


def test_drawing_leaves_no_global_state(records: dict[str, pd.DataFrame]) -> None:
    make_figures(records)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_report_of_a_killed_run_and_again_without_its_lines(tmp_path: Path) -> None:
    fill(tmp_path, n=9)
    store = RecordStore(tmp_path, rank=1)
    store.append_failure("time_sweep", "test-00009", "corrupt file")
    for path in (tmp_path / "records").glob("*.parquet"):
        path.unlink()
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    names = [table.name for table in write_report(tmp_path).tables]
    assert names[-1] == "failures"
    text = (tmp_path / "report.md").read_text()
    for path in [*(tmp_path / "figures").iterdir(), *(tmp_path / "tables").glob("*.csv"), tmp_path / "config.yaml"]:
        assert f"({path.relative_to(tmp_path)})" in text
    for path in (tmp_path / "figures").glob("*.png"):
        assert np.asarray(Image.open(path).convert("L")).std() > 10, f"{path.name} is empty"
        assert 500 < Image.open(path).width < 3000

    first = (tmp_path / "tables" / "time_sweep.csv").read_text()
    store.append("time_sweep", "test-00009", sweep_units(10)["test-00009"])
    assert "failures" not in [table.name for table in write_report(tmp_path).tables]
    assert not (tmp_path / "tables" / "failures.md").exists(), "a table of the past must not stay"
    assert (tmp_path / "tables" / "time_sweep.csv").read_text() != first

    second = (tmp_path / "tables" / "time_sweep.csv").read_text()
    for path in (tmp_path / "records").glob("*.jsonl"):
        path.unlink()
    write_report(tmp_path)
    assert (tmp_path / "tables" / "time_sweep.csv").read_text() == second


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nothing")]) == 1
    assert "no finalised records in" in capsys.readouterr().err
    with pytest.raises(SystemExit) as leave:
        main(["--help"])
    assert leave.value.code == 0 and "from its records" in capsys.readouterr().out
    fill(tmp_path, n=4)
    code = (
        "import sys; from dmlik_pl.results.page.report import main; assert main([sys.argv[1]]) == 0; "
        "loaded = [m for m in sys.modules if m.startswith(('dmlik_pl.flow', 'dmlik_pl.models', 'diffusers'))]; "
        "assert not loaded, loaded"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert run.returncode == 0, run.stderr
    assert "Time sweep: samples at t = 0" in run.stdout and f"Report: {tmp_path / 'report.html'}" in run.stdout
