"""Tables and figures of adaptations, from made-up records of which every number is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_records import said
from PIL import Image

from dmlik_pl.records.sharing import file_name
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.adaptation import KIND
from dmlik_pl.results.adaptation.figures import adaptation_figures, adaptation_sheet
from dmlik_pl.results.adaptation.summaries import (
    adaptation_summary,
    paired_summary,
    published_cells,
    round_trip_summary,
)
from dmlik_pl.results.adaptation.tables import adaptation_tables
from dmlik_pl.results.page.report import write_report
from dmlik_pl.stats.paired import matched_pairs, permutation_p_value
from dmlik_pl.stats.rates import corpus_rate

N = 12
WORDS = [4 + i % 3 for i in range(N)]
ROUTES = [("stochastic", "Euler"), ("RK45", "Euler"), ("RK45", "RK45")]
BLURS = {"blur 3×3, σ 2": (3, 2.0), "blur 5×5, σ 1": (5, 1.0)}
SOLVERS = {"Euler": "mid-time Euler in t (100 steps)", "RK45": "dopri5 in t (rtol=1e-05, atol=1e-05)"}
ERRORS = {  # of each utterance, by stage and route
    ("data", "none", "none"): [0] * N,
    ("vocoded", "none", "none"): [i % 2 for i in range(N)],
    ("adapted", "stochastic", "Euler"): [WORDS[i] - (i == 3) for i in range(N)],
    ("adapted", "RK45", "Euler"): [1 if i in (1, 3, 4, 5) else i % 2 for i in range(N)],
    ("adapted", "RK45", "RK45"): [i % 2 for i in range(N)],
}
BPD = {"data": 0.1, "stochastic": 1.8, "RK45": 0.12}
COSINE = {"data": 0.55, "vocoded": 0.5, "stochastic": 0.3, "RK45": 0.52}


def unit(i: int, protocol: str) -> list[dict[str, Any]]:
    """The records of one utterance."""
    wobble, rows = 0.01 * math.sin(i + 1), []
    for mean, (kernel, sigma) in BLURS.items():
        routes = [*ERRORS, *(("round trip", name, name) for name in SOLVERS)]
        for stage, forward, reverse in routes:
            heard, scored = stage != "round trip", stage in ("data", "adapted")
            way = forward if stage == "adapted" else stage
            bpd = BPD[way] + wobble + 0.01 * kernel if scored else None
            log_p = -bpd * 8000 * math.log(2) if bpd is not None else None
            rows.append(
                {
                    "kind": "adaptation",
                    "stage": stage,
                    "mean": mean,
                    "blur_kernel": kernel,
                    "blur_sigma": sigma,
                    "forward": forward,
                    "reverse": reverse,
                    "forward_solver": SOLVERS.get(forward),
                    "reverse_solver": SOLVERS.get(reverse),
                    "forward_speaker": 0,
                    "reverse_speaker": 0,
                    "protocol": protocol,
                    "text": "castle window",
                    "frames": 100,
                    "dims": 8000,
                    "density": "p(x|y)",
                    "space": "log-mel spectrogram (natural log, 80 bands)",
                    "guidance": 1.0,
                    "solver": "multistep(17 nodes, order 4)",
                    "probes": "1 rademacher per node",
                    "r_min": 0.001,
                    "r_max": 150.0,
                    "nfe_forward": 17,
                    "nfe_vjp": 17,
                    "nfe_jvp": 0,
                    "log_p": log_p,
                    "standard_error": 20.0 if scored else None,
                    "discretisation": 10.0 if scored else None,
                    "bpd": bpd,
                    "bpd_standard_error": 0.004 if scored else None,
                    "bpd_own_mean": None if bpd is None else bpd - (0.05 if stage == "adapted" else 0.0),
                    "bpd_own_mean_standard_error": 0.004 if scored else None,
                    "bpd_change": BPD[way] - BPD["data"] + wobble if stage == "adapted" else None,
                    "bpd_change_standard_error": 0.002 if stage == "adapted" else None,
                    "recogniser": "WordLoop",
                    "transcript": "castle" if heard else None,
                    "word_errors": ERRORS[stage, forward, reverse][i] if heard else None,
                    "words": WORDS[i] if heard else None,
                    "speaker_encoder": "Resemblyzer",
                    "speaker_similarity": COSINE[way] + wobble if heard and (way, i) != ("stochastic", 2) else None,
                    "source_similarity": 0.9 if heard else None,
                    "reference": "LJSpeech",
                    "reference_size": 1 if protocol == "published" else 50,
                    "reference_similarity": None if protocol == "published" else 0.87,
                    "vocoder": "HiFiGAN",
                    "latent_rms": None if stage in ("data", "vocoded") else 0.95 + wobble,
                    "change_rms": None if stage in ("data", "vocoded") else 0.001 * (i + 1),
                    "change_max": None if stage in ("data", "vocoded") else 0.01 * (i + 1),
                }
            )
    return rows


def make_frame(protocol: str = "repaired") -> pd.DataFrame:
    return pd.DataFrame([{"sample_id": f"talk-{i:02d}"} | row for i in range(N) for row in unit(i, protocol)])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return make_frame()


def test_every_row_of_the_grid_has_its_numbers(frame: pd.DataFrame) -> None:
    summary = adaptation_summary(frame)
    assert summary[["stage", "forward", "reverse"]].apply(tuple, axis=1).tolist() == [*ERRORS] * 2
    assert summary["mean"].tolist() == [mean for mean in BLURS for _ in ERRORS] and (summary["n"] == N).all()
    wobbles = [0.01 * math.sin(i + 1) for i in range(N)]
    for row in summary.to_dict("records"):
        errors = ERRORS[row["stage"], row["forward"], row["reverse"]]
        rate = corpus_rate(errors, WORDS)
        assert (row["wer"], row["wer_low"], row["wer_high"]) == (rate.value, *rate.interval)
        assert row["word_errors"] == sum(errors) and row["words"] == sum(WORDS)
        way = row["forward"] if row["stage"] == "adapted" else row["stage"]
        if row["stage"] == "vocoded":
            assert math.isnan(row["bpd"]) and row["non_finite"] == 0
        else:
            assert row["bpd"] == pytest.approx(BPD[way] + 0.01 * row["blur_kernel"] + np.mean(wobbles))
            assert row["bpd_sampling_error"] == pytest.approx(np.std(wobbles, ddof=1) / math.sqrt(N))
            assert row["bpd_standard_error"] == pytest.approx(
                math.hypot(row["bpd_sampling_error"], row["bpd_grid_error"])
            )
            assert row["bpd_low"] < row["bpd"] < row["bpd_high"]
            assert row["bpd_probe_error"] == pytest.approx(0.004 / math.sqrt(N))
            assert row["bpd"] - row["bpd_own_mean"] == pytest.approx(0.05 if row["stage"] == "adapted" else 0)
        assert row["speaker_similarity_undefined"] == (way == "stochastic")
        left = [w for i, w in enumerate(wobbles) if (way, i) != ("stochastic", 2)]
        assert row["speaker_similarity"] == pytest.approx(COSINE[way] + np.mean(left))


def test_untouched_speech_is_compared_utterance_by_utterance(frame: pd.DataFrame) -> None:
    paired = paired_summary(frame).set_index(["mean", "forward", "reverse", "baseline"])
    assert len(paired) == 2 * len(ROUTES) * 2
    for (_, forward, reverse, baseline), row in paired.iterrows():
        errors, theirs = ERRORS["adapted", forward, reverse], ERRORS[baseline, "none", "none"]
        test = matched_pairs(errors, theirs)
        assert row["wer_difference"] == pytest.approx((sum(errors) - sum(theirs)) / sum(WORDS))
        assert (row["matched_pairs_z"], row["matched_pairs_p"]) == pytest.approx((test.z, test.p))
        assert row["permutation_p"] == pytest.approx(permutation_p_value(errors, theirs))
        assert row["matched_pairs_p_holm"] >= row["matched_pairs_p"]
        assert row["worse"] == sum(a > b for a, b in zip(errors, theirs, strict=True))
        assert row["better"] == sum(a < b for a, b in zip(errors, theirs, strict=True)) and row["n"] == N
        assert row["similarity_difference"] == pytest.approx(COSINE[forward] - COSINE[baseline])
        if baseline == "data":
            assert row["bpd_change"] == pytest.approx(BPD[forward] - 0.1 + np.mean(np.sin(np.arange(N) + 1)) / 100)
            assert row["bpd_change_probe_error"] == pytest.approx(0.002 / math.sqrt(N))
        else:
            assert math.isnan(row["bpd_change"])
    same = paired.loc["blur 5×5, σ 1", "RK45", "RK45", "vocoded"]
    assert same["wer_difference"] == 0 and same["permutation_p"] == 1
    assert same["low"] == -same["high"] < -0.05, "that they never differ here does not say that they never will"
    mixed = paired.loc["blur 5×5, σ 1", "RK45", "Euler", "vocoded"]
    assert mixed["permutation_p"] == 1 and mixed["worse"] == 1  # one utterance more
    lost = paired.loc["blur 5×5, σ 1", "stochastic", "Euler", "data"]
    assert lost["low"] > 0.8 and lost["permutation_p"] == pytest.approx(2 / 2**N)


def test_round_trips_are_summed_up_by_solver(frame: pd.DataFrame) -> None:
    trips = round_trip_summary(frame)
    assert trips["solver"].tolist() == ["Euler", "RK45"] * 2 and trips["description"].tolist()[:2] == [
        *SOLVERS.values()
    ]
    for row in trips.to_dict("records"):
        assert row["change_rms_median"] == pytest.approx(0.0065) and row["change_rms_mean"] == pytest.approx(0.0065)
        assert row["change_rms_largest"] == pytest.approx(0.012) and row["change_max"] == pytest.approx(0.12)
        assert row["latent_rms"] == pytest.approx(0.95 + np.mean(np.sin(np.arange(N) + 1)) / 100)


def test_published_twins_are_of_the_papers_blur(frame: pd.DataFrame) -> None:
    cells = {(measure, name): (value, error) for measure, name, value, error in published_cells(frame)}
    names = ("None / None", "Euler / Euler", "RK45 / Euler", "RK45 / RK45")
    assert set(cells) == {(measure, name) for measure in ("WER", "BPD", "ASV") for name in names}
    summary = adaptation_summary(frame)
    row = summary[(summary["blur_kernel"] == 5) & (summary["forward"] == "stochastic")].iloc[0]
    assert cells["WER", "Euler / Euler"] == (row["wer"], row["wer_standard_error"])
    assert cells["BPD", "Euler / Euler"] == (row["bpd"], row["bpd_standard_error"])
    similarity, error = row["speaker_similarity"], row["speaker_similarity_standard_error"]
    assert cells["ASV", "Euler / Euler"] == pytest.approx(((1 + similarity) / 2, error / 2))
    assert cells["WER", "None / None"][0] == 0  # not vocoded, as in the paper
    other = {name: value for _, name, value, _ in published_cells(frame[frame["blur_kernel"] == 3]) if _ is not None}
    assert len(other) == 4


def test_tables_say_what_is_shown(frame: pd.DataFrame) -> None:
    grid, paired, trips = adaptation_tables("adaptation", frame)
    assert [table.name for table in (grid, paired, trips)] == [
        "adaptation",
        "adaptation_paired",
        "adaptation_round_trip",
    ]
    assert grid.shown.index.tolist()[:5] == ["none", "none", "stochastic", "RK45", "RK45"]
    assert grid.shown.columns.tolist() == [
        *("reverse", "μ", "vocoded", "WER %", "BPD, μ of recording", "BPD, own μ", "ASV")
    ]
    assert grid.shown["vocoded"].tolist()[:3] == ["no", "yes", "yes"]
    assert grid.shown["BPD, μ of recording"].iloc[1] == "–" and grid.shown["WER %"].iloc[0].startswith("0.0 [0.0, ")
    assert grid.shown["ASV"].iloc[0].startswith("0.55") and grid.legend["ASV"].startswith("cosine by Resemblyzer")
    for words in (
        *("WordLoop", f"all {sum(WORDS)} words", "mean of 50 recordings of LJSpeech"),
        *("reach 0.87", "HiFiGAN", "dopri5", "Protocol: repaired", "2 waves have no voice", "q(x_T | x_0)"),
    ):
        assert words in said(grid), words
    assert paired.shown.index.tolist()[0] == "blur 3×3, σ 2: stochastic → Euler"
    assert paired.shown["against"].tolist()[:2] == ["vocoded recording", "recording"]
    assert paired.shown["BPD"].tolist()[0] == "–" and paired.shown["BPD"].tolist()[1].startswith("+1.70")
    assert trips.shown["relative RMS, median"].tolist() == ["0.0065"] * 4
    for table in (grid, paired, trips):
        assert table.shown.map(lambda cell: isinstance(cell, str)).all(axis=None)
        assert table.markdown() and table.latex() and table.rich()


def test_the_published_protocol_names_its_deviations() -> None:
    grid, *_ = adaptation_tables("adaptation", make_frame("published"))
    first = grid.shown["ASV"].iloc[0]
    summary = adaptation_summary(make_frame("published"))
    assert first.startswith(f"{(1 + summary['speaker_similarity'].iloc[0]) / 2:.3f}")
    for words in (
        *("Protocol: published", "zeros", "(cosine + 1) / 2 by Resemblyzer to one recording of LJSpeech"),
        *("The paper calls the stochastic draw Euler", "22.05 kHz", "Not reproduced", "Unknown"),
    ):
        assert words in said(grid), words


def test_without_recogniser_and_encoder_only_likelihoods_are_shown(frame: pd.DataFrame) -> None:
    deaf = frame.assign(
        **dict.fromkeys(("recogniser", "speaker_encoder", "reference", "transcript")),
        **dict.fromkeys(("word_errors", "words", "speaker_similarity", "source_similarity"), np.nan),
    )
    grid, paired, _ = adaptation_tables("adaptation", deaf[deaf["blur_kernel"] == 5])
    assert grid.shown.columns.tolist() == ["reverse", "vocoded", "BPD, μ of recording", "BPD, own μ"]
    assert "WER" not in said(grid) and "ASV:" not in said(grid)
    assert paired.shown.columns.tolist() == ["against", "BPD", "± BPD", "probe error", "grid error"]
    (figure,) = adaptation_figures("adaptation", deaf).values()
    assert [axes.get_ylabel() for axes in figure.axes] == ["bits per dimension, μ of the recording"]


def test_one_utterance_has_no_intervals(frame: pd.DataFrame) -> None:
    one = frame[(frame["sample_id"] == "talk-01") & (frame["blur_kernel"] == 5)]
    grid, paired, trips = adaptation_tables("adaptation", one)
    assert grid.shown["WER %"].tolist() == ["0.0", "20.0", "100.0", "20.0", "20.0"]
    assert paired.raw["matched_pairs_p"].isna().all() and paired.shown["p (matched pairs)"].eq("–").all()
    assert trips.shown["RMS of x_T − μ"].tolist() == ["0.9591"] * 2
    assert adaptation_figures("adaptation", one)


def test_the_figure_holds_every_way_and_the_untouched_recording(frame: pd.DataFrame) -> None:
    (figure,) = adaptation_figures("adaptation", frame).values()
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "WER",
        "bits per dimension, μ of the recording",
        "ASV, cosine to the reference",
    ]
    rates = figure.axes[0]
    labels = rates.get_legend_handles_labels()[1]
    assert set(labels) == {*(" → ".join(route) for route in ROUTES), "recording", "recording, vocoded"}
    assert [tick.get_text() for tick in rates.get_xticklabels()] == list(BLURS)
    summary = adaptation_summary(frame)
    heights = sorted(value for points in rates.containers for value in points.lines[0].get_ydata())
    assert heights == pytest.approx(sorted(summary[summary["stage"] == "adapted"]["wer"]))


def test_the_sheet_shows_spectrograms_on_their_way(frame: pd.DataFrame, tmp_path: Path) -> None:
    assert adaptation_sheet(tmp_path, frame) is None
    panels = 7  # the blur, two latents, three that came out, and the recording
    for i in range(5):
        strip = np.repeat(np.arange(panels, dtype=np.uint8) * 30, 11)
        Image.fromarray(np.tile(strip[None, :, None], (80, 1, 3))).save(tmp_path / f"{file_name(f'talk-{i:02d}')}.png")
    figure = adaptation_sheet(tmp_path, frame)
    assert figure is not None and len(figure.axes) == 3 * panels
    titles = [axes.get_title() for axes in figure.axes[:panels]]
    ways = [" → ".join(route) for route in ROUTES]
    assert titles == ["recording", "μ: blur 3×3, σ 2", "x_T, stochastic", "x_T, RK45", *ways]
    shown = [int(axes.images[0].get_array().max()) for axes in figure.axes[:panels]]
    assert shown == [180, 0, 30, 60, 90, 120, 150]


def test_a_run_folder_is_reported_whole(frame: pd.DataFrame, tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for i in range(N):
        store.append("adaptation", f"talk-{i:02d}", unit(i, "repaired"))
    store.append_failure("adaptation", "talk-99", "the solver gave up")
    store.close()
    tables = {table.name for table in write_report(tmp_path).tables}
    assert {"adaptation", "adaptation_paired", "adaptation_round_trip", "bits_per_dim", "failures"} <= tables
    report = (tmp_path / "report.md").read_text()
    assert "figures/adaptation.png" in report and "## Adaptation paired" in report
    data, named, _ = KIND.data(frame)
    assert (
        named == "μ: blur 3×3, σ 2" and len(data) == N and set(data["mean"]) == {"blur 3×3, σ 2"}
    )  # each recording once
