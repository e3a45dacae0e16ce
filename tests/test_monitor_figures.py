"""The figure of a likelihood monitor, from its table alone."""

import numpy as np
import pandas as pd
import pytest

from dmlik_pl.results.monitor_figures import monitor_figure


@pytest.fixture
def history() -> pd.DataFrame:
    rows = []
    for step in (0, 100, 200):
        for loader, bpd in (("drawings", 2.0 - step / 200), ("photos", 1.0 + step / 1000)):
            row = {"step": step, "loader": loader, "bpd": bpd, "bpd_sampling_error": 0.1, "bpd_samples": 5.0}
            row |= {"bpd_unconditional": bpd + 0.1, "guidance_gap": 0.1, "guidance_gap_sampling_error": 0.02}
            row |= {"elbo": bpd + 0.05, "elbo_sampling_error": 0.1}
            if step:
                start = 2.0 if loader == "drawings" else 1.0
                row |= {"bpd_change": bpd - start, "bpd_change_sampling_error": 0.03}
            rows.append(row)
    return pd.DataFrame(rows)


def test_every_number_has_a_panel_and_every_loader_a_curve(history):
    figure = monitor_figure(history)
    titles = ["likelihood", "likelihood, change since the start", "guidance gap", "evidence lower bound"]
    assert [axes.get_title() for axes in figure.axes] == titles
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["drawings (n = 5)", "photos (n = 5)"]
    change = figure.axes[1].lines
    assert change[0].get_ydata() == pytest.approx([0, -0.5, -1]) and change[1].get_ydata() == pytest.approx(
        [0, 0.1, 0.2]
    )


def test_bands_are_intervals_of_students_t(history):
    axes = monitor_figure(history).axes
    band = axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(2.0 + 2.776 * 0.1, abs=1e-3), "97.5 % quantile of 4 degrees of freedom"
    start = axes[1].collections[0].get_paths()[0].vertices
    assert np.ptp(start[start[:, 0] == 0, 1]) == 0, "nothing is uncertain where changes count from"


def test_an_unnamed_loader_and_missing_numbers_leave_fewer_panels(history, tmp_path):
    plain = history[history["loader"] == "photos"].assign(loader="").drop(columns=["elbo", "bpd_unconditional"])
    figure = monitor_figure(
        plain.drop(columns="guidance_gap").assign(text_gain=0.2, text_gain_sampling_error=0.1), "text_gain"
    )
    assert [axes.get_title() for axes in figure.axes if axes.get_title()][-1] == "text gain"
    assert figure.legends[0].get_texts()[0].get_text() == "(n = 5)"
    plain.to_csv(tmp_path / "likelihood.csv", index=False)
    again = monitor_figure(pd.read_csv(tmp_path / "likelihood.csv"))
    assert again.axes[0].lines[0].get_ydata() == pytest.approx([1, 1.1, 1.2])
    first = monitor_figure(plain[plain["step"] == 0].drop(columns="guidance_gap"))
    assert [axes.get_title() for axes in first.axes] == ["likelihood"]
