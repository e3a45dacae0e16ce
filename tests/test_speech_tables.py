"""Tables and figures of the studies of speech against direct computation from records of known properties."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_records import Row, said
from matplotlib.figure import Figure
from PIL import Image

from dmlik_pl.records.frames import describe
from dmlik_pl.records.sharing import file_name
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.coverage import coverage
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.page.report import Report, write_report
from dmlik_pl.results.page.scalars import scalars
from dmlik_pl.results.page.wandb_run import log_run
from dmlik_pl.results.speech_sweep.summaries import speech_sweep_summary
from dmlik_pl.results.table import Table
from dmlik_pl.results.tables import make_tables
from dmlik_pl.results.text_gain.summaries import text_gain_summary
from dmlik_pl.stats.rates import corpus_rate
from dmlik_pl.stats.significance import mean_with_error

UTTERANCES = 24
TIMES = (1.0, 0.625, 0.0)
PANELS = len(TIMES) + 2
VOICES = ("en-us", "en-us+f2")


def likelihood(bpd: float, dims: int) -> Row:
    return {
        "log_p": -bpd * dims * math.log(2),
        "standard_error": 0.01 * dims * math.log(2),
        "discretisation": 1e-4 * dims,
        "bpd": bpd,
        "bpd_standard_error": 0.01,
        "prior_term": -0.9 * dims,
        "divergence_term": 0.1 * dims,
        "dims": dims,
        "nfe_forward": 17,
        "nfe_vjp": 17,
        "nfe_jvp": 0,
        "density": "p(x|y)",
        "guidance": 1.0,
        "space": "log-mel spectrogram (natural log, 80 bands)",
        "r_min": 0.01,
        "r_max": 150.0,
        "solver": "multistep(17 nodes, order 4)",
        "probes": "1 rademacher per node",
        "dequantisation_bits": 0.0,
    }


def about(i: int) -> Row:
    return {"text": "castle window guitar", "frames": 100 + 7 * i, "voice": VOICES[i % 2], "domain": "clean"}


def sweep_units() -> dict[str, list[Row]]:
    """BPD falls and voices meet from noise to data; F0 is not defined of every third utterance's noise."""
    generator = np.random.default_rng(0)
    units = {}
    for i in range(UTTERANCES):
        dims, offset, rows = 80 * (100 + 7 * i), generator.normal(0, 0.1), []
        for stage, time in [("data", None), ("vocoded", None), *(("sample", time) for time in TIMES)]:
            noise = 0.0 if time is None else time
            row = likelihood(-0.1 + 2.8 * noise + offset, dims)
            if stage == "vocoded":
                row |= dict.fromkeys(["log_p", "standard_error", "discretisation", "bpd", "bpd_standard_error"])
            distance = 0.0 if stage == "data" else 1 + 6 * noise + generator.normal(0, 0.2)
            rows.append(
                row
                | {
                    "stage": stage,
                    "time": time,
                    "sigma": None if stage == "vocoded" else 0.01 + 150 * noise**4,
                    "bpd_marginal": None if stage == "vocoded" else -0.1 + 2.1 * noise + offset,
                    "bpd_marginal_standard_error": None if stage == "vocoded" else 0.01,
                    "recogniser": "WordLoop",
                    "speaker_encoder": "Resemblyzer",
                    "transcript": "castle window",
                    "word_errors": int(generator.binomial(3, 0.1 + 0.6 * noise)),
                    "words": 3,
                    "speaker_similarity": 1.0 if stage == "data" else 0.9 - 0.4 * noise + generator.normal(0, 0.02),
                    "cepstral_distortion": distance,
                    "log_f0_rmse": None if time == 1.0 and i % 3 == 0 else 0.1 * distance,
                    "duration_log_p": -70.0 - i,
                    "alignment": "search",
                    "durations": "reference",
                    "vocoder": "GriffinLim",
                }
                | about(i)
            )
        units[f"test-{i:05d}"] = rows
    return units


def gain_units() -> dict[str, list[Row]]:
    """The text helps against the mean, surely; against the shuffled words it is a coin's toss within the error."""
    generator = np.random.default_rng(1)
    units = {}
    for i in range(UTTERANCES):
        rows = []
        for alignment in ("search", "durations"):
            for alternative in ("mean", "shuffled"):
                if alternative == "shuffled" and i == 5:
                    continue  # its words have no other order
                gain = 300 + 40 * generator.normal() if alternative == "mean" else 8 * generator.normal()
                rows.append(
                    likelihood((-0.1 if alignment == "search" else 0.05) + 0.01 * (i % 3), 80 * (100 + 7 * i))
                    | {
                        "gain": gain,
                        "gain_standard_error": 10.0,
                        "decided": abs(gain) > 19.6,
                        "bpd_alternative": 0.2,
                        "alignment": alignment,
                        "alternative": alternative,
                        "duration_log_p": -70.0,
                        "duration_log_p_alternative": None if alternative == "mean" else -73.0 - i % 2,
                    }
                    | about(i)
                )
        units[f"test-{i:05d}"] = rows
    return units


def fill(folder: Path) -> dict[str, pd.DataFrame]:
    with RecordStore(folder) as store:
        for study, units in (("speech_sweep", sweep_units()), ("text_gain", gain_units())):
            for name, rows in units.items():
                store.append(study, name, [row | {"kind": study} for row in rows])
        store.append_failure("text_gain", "test-99999", "alignment impossible: 40 tokens, 9 frames")
    return store.finalise()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return fill(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def tables(records: dict[str, pd.DataFrame]) -> dict[str, Table]:
    return {table.name: table for table in make_tables(records)}


@pytest.fixture(scope="module")
def figures(records: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    return make_figures(records)


def test_numbers_of_the_sweep(records: dict[str, pd.DataFrame]) -> None:
    frame = records["speech_sweep"]
    summary = speech_sweep_summary(frame)
    assert summary["stage"].tolist() == ["data", "vocoded", "sample", "sample", "sample"]
    assert summary["time"].tolist()[2:] == list(TIMES)
    for k, row in summary.iterrows():
        level = frame[frame["stage"] == row["stage"]]
        level = level if k < 2 else level[level["time"] == row["time"]]
        assert row["n"] == UTTERANCES and row["words"] == 3 * UTTERANCES
        assert row["word_errors"] == level["word_errors"].sum()
        assert row["wer"] == pytest.approx(level["word_errors"].sum() / (3 * UTTERANCES))
        rate = corpus_rate(level["word_errors"], level["words"])
        assert (row["wer_low"], row["wer_high"]) == rate.interval
        for name in ("bpd", "bpd_marginal", "log_f0_rmse", "cepstral_distortion", "speaker_similarity"):
            values = level[name].dropna()
            if values.empty:
                assert math.isnan(row[name]) and row["stage"] == "vocoded"
                continue
            assert row[name] == pytest.approx(values.mean())
            grid = 1e-4 / math.log(2) if name == "bpd" else None
            expected = mean_with_error(values, grid_errors=None if grid is None else np.full(len(values), grid))
            sampling = values.std() / math.sqrt(len(values))
            if sampling < 1e-9:  # the recording's distance to itself: no spread, no error
                assert math.isnan(row[f"{name}_standard_error"]) and math.isnan(row[f"{name}_low"])
                continue
            assert row[f"{name}_standard_error"] == pytest.approx(math.hypot(sampling, grid or 0))
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(expected.interval)
    assert summary["bpd_probe_error"][0] == pytest.approx(0.01 / math.sqrt(UTTERANCES))
    assert summary["log_f0_rmse_undefined"].tolist() == [0, 0, 8, 0, 0]
    assert summary["non_finite"].tolist() == [0] * 5


def test_table_1_is_the_paper_s(tables: dict[str, Table]) -> None:
    table = tables["speech_sweep"]
    assert list(table.shown.columns) == ["Data", "Vocoded", "1.00", "0.62", "0.00"]
    assert list(table.shown.index) == ["σ", "BPD", "BPD marginal", "log-F0 RMSE", "MCD (dB)", "WER %", "ASV"]
    assert table.shown.loc["BPD", "Vocoded"] == "–" and table.shown.loc["MCD (dB)", "Data"] == "0"
    assert table.shown.loc["ASV", "Data"] == "1"
    rate = table.raw.loc[2, ["wer", "wer_low", "wer_high"]].astype(float) * 100
    assert table.shown.loc["WER %", "1.00"] == f"{rate['wer']:.1f} [{rate['wer_low']:.0f}–{rate['wer_high']:.0f}]"
    assert "Parts of ± (all of them are in the CSV): the probes up to 0.002 and the time grid up to" in said(table)
    for words in (
        *("24 samples, 0 failed", "log-mel spectrogram", "8000 to 20880 dimensions", "(search)", "(reference)"),
        *("through GriffinLim", "72 words", "per word of WordLoop", "voice by Resemblyzer", "8 values of F0 error"),
        *("without the probability of the durations", "x_t read as data"),
    ):
        assert words in said(table), words
    assert table.legend["Data"] == "the recording" and table.legend["ASV"].endswith("voice by Resemblyzer")


def test_what_was_not_listened_for_is_no_row(records: dict[str, pd.DataFrame]) -> None:
    deaf = records["speech_sweep"].assign(
        word_errors=None, words=None, recogniser=None, speaker_similarity=None, speaker_encoder=None, log_f0_rmse=None
    )
    (table, *_) = make_tables({"speech_sweep": deaf})
    assert list(table.shown.index) == ["σ", "BPD", "BPD marginal", "MCD (dB)"]
    assert not any(measure in said(table) for measure in ("WER", "ASV", "F0"))
    assert table.raw["log_f0_rmse_undefined"].sum() == 0
    (figure,) = (figure for name, figure in make_figures({"speech_sweep": deaf}).items() if name == "speech_sweep")
    assert [axes.get_ylabel() for axes in figure.axes] == ["bits per dimension", "MCD (dB)"]


def test_close_times_keep_their_own_columns(records: dict[str, pd.DataFrame]) -> None:
    frame = records["speech_sweep"].replace({"time": {0.625: 0.004, 0.0: 0.0041}})
    (table, *_) = make_tables({"speech_sweep": frame})
    assert list(table.shown.columns) == ["Data", "Vocoded", "1", "0.0041", "0.004"]


def test_numbers_of_the_gain(records: dict[str, pd.DataFrame], tables: dict[str, Table]) -> None:
    frame = records["text_gain"]
    summary = text_gain_summary(frame)
    assert list(zip(summary["alignment"], summary["alternative"], strict=True)) == [
        ("search", "mean"),
        ("search", "shuffled"),
        ("durations", "mean"),
        ("durations", "shuffled"),
    ]
    assert summary["n"].tolist() == [24, 23, 24, 23]
    for _, row in summary.iterrows():
        part = frame[(frame["alignment"] == row["alignment"]) & (frame["alternative"] == row["alternative"])]
        per_frame = part["gain"] / part["frames"]
        assert row["gain_per_frame"] == pytest.approx(per_frame.mean())
        assert row["gain_bpd"] == pytest.approx((part["gain"] / part["dims"]).mean() / math.log(2))
        assert row["gain_per_frame"] == pytest.approx(row["gain_bpd"] * 80 * math.log(2))
        expected = mean_with_error(per_frame, 10 / part["frames"])
        assert row["gain_per_frame_standard_error"] == pytest.approx(expected.standard_error)
        assert (row["gain_per_frame_low"], row["gain_per_frame_high"]) == pytest.approx(tuple(expected.interval))
        probe = np.linalg.norm(10 / part["frames"]) / len(part)
        assert row["gain_per_frame_probe_error"] == pytest.approx(probe)
        assert row["positive"] == (part["gain"] > 0).sum()
        assert row["helps"] == pytest.approx((part["gain"] > 19.6).mean())
        assert row["helps"] + row["hurts"] + row["undecided"] == pytest.approx(1)
    assert summary["helps"].tolist()[::2] == [1, 1]
    assert summary["sign_p"][0] == pytest.approx(2 * 0.5**24)
    assert summary["sign_p_holm"][0] == pytest.approx(4 * 2 * 0.5**24)
    assert summary["duration_gain"].tolist()[1::2] == pytest.approx([3 + 11 / 23] * 2)
    assert summary["duration_gain"].isna().tolist() == [True, False, True, False]
    table = tables["text_gain"]
    assert list(table.shown.index) == ["search, mean", "search, shuffled", "durations, mean", "durations, shuffled"]
    assert table.shown.loc["search, mean", "helps %"] == "100.0 [86–100]"
    assert table.shown.loc["search, mean", "gains"] == "24 of 24"
    assert table.shown.loc["search, mean", "p"] == "<0.001"
    assert table.shown.loc["search, mean", "log p(durations)"] == "–"
    assert "24 samples, 1 failed" in table.caption


def test_bits_per_dim_of_the_data_count_each_utterance_once(tables: dict[str, Table]) -> None:
    raw = tables["bits_per_dim"].raw.set_index("study")
    assert raw["n"].to_dict() == {"speech_sweep": UTTERANCES, "text_gain": UTTERANCES}
    assert -0.1 < raw.loc["text_gain", "bpd"] < -0.08  # of the own text, by the first alignment
    assert raw["failed"].to_dict() == {"speech_sweep": 0, "text_gain": 1}


def test_many_lengths_are_a_range_in_words(records: dict[str, pd.DataFrame]) -> None:
    assert "with 8000 to 20880 dimensions" in describe(records["speech_sweep"])
    few = records["speech_sweep"].assign(dims=[8000, 9000] * (len(records["speech_sweep"]) // 2))
    assert "with 8000 / 9000 dimensions" in describe(few)


def test_curves_show_every_measure(figures: dict[str, Figure], records: dict[str, pd.DataFrame]) -> None:
    summary = speech_sweep_summary(records["speech_sweep"])
    samples = summary[summary["stage"] == "sample"]
    axes = [axes for axes in figures["speech_sweep"].axes if axes.get_ylabel()]
    assert [panel.get_ylabel() for panel in axes] == [
        *("bits per dimension", "log-F0 RMSE (nats)", "MCD (dB)", "WER", "ASV, cosine"),
    ]
    names = ("bpd", "log_f0_rmse", "cepstral_distortion", "wer", "speaker_similarity")
    for panel, name in zip(axes, names, strict=True):
        np.testing.assert_allclose(panel.lines[0].get_xdata(), samples["time"])
        np.testing.assert_allclose(panel.lines[0].get_ydata(), samples[name])
        band = panel.collections[0].get_paths()[0].vertices[:, 1]
        assert band.min() == pytest.approx(samples[f"{name}_low"].min())
        assert band.max() == pytest.approx(samples[f"{name}_high"].max())
        labels = [text.get_text() for text in panel.get_legend().get_texts()]
        assert "data" in labels and ("vocoded" in labels) == (name != "bpd")


def test_gains_are_sorted_and_told_apart(figures: dict[str, Figure], records: dict[str, pd.DataFrame]) -> None:
    frame = records["text_gain"]
    panels = [axes for axes in figures["text_gain"].axes if axes.get_title()]
    assert [axes.get_title() for axes in panels][1] == "search: text against shuffled (n = 23)"
    part = frame[(frame["alignment"] == "search") & (frame["alternative"] == "shuffled")]
    points = {line.get_label(): line for line in panels[1].lines}
    counts = {"helps": (part["gain"] > 19.6).sum(), "hurts": (part["gain"] < -19.6).sum()}
    for label, count in counts.items():
        assert f"{label}: {count}" in points
    heights = np.concatenate([line.get_ydata() for name, line in points.items() if ":" in name])
    np.testing.assert_allclose(np.sort(heights), np.sort(part["gain"] / part["frames"]))
    bars = np.concatenate([lines.get_segments() for lines in panels[1].collections if len(lines.get_segments())])
    bars = bars[bars[:, 0, 0].argsort()][:, :, 1]  # from left to right
    part = part.assign(height=part["gain"] / part["frames"]).sort_values("height")
    reach = 1.959964 * 10 / part["frames"]
    np.testing.assert_allclose(bars, np.c_[part["height"] - reach, part["height"] + reach], rtol=1e-4, atol=1e-5)


def test_classes_are_voices_and_not_settings(figures: dict[str, Figure]) -> None:
    titles = [axes.get_title() for axes in figures["speech_sweep_bits_per_dim"].axes]
    assert [title for title in titles if title] == [f"voice (n = {UTTERANCES})"]


def test_the_report_shows_mels_of_encoder_decoder_and_recording(tmp_path: Path) -> None:
    fill(tmp_path)
    pictures = tmp_path / "pictures" / "speech_sweep"
    pictures.mkdir(parents=True)
    for name in ("test-00000", "test-00003"):
        # Each panel has a brightness of its own: encoder 0, then x_t at each time, then the recording.
        panels = [np.full((80, 30, 3), 40 * k, np.uint8) for k in range(PANELS)]
        Image.fromarray(np.concatenate(panels, 1)).save(pictures / f"{file_name(name)}.png")
    write_report(tmp_path)
    assert (tmp_path / "figures" / "speech_sweep_pictures.png").is_file()
    for name in ("speech_sweep", "text_gain", "bits_per_dim"):
        assert (tmp_path / "tables" / f"{name}.csv").is_file()
    assert "text against" not in (tmp_path / "report.md").read_text()
    from dmlik_pl.results.speech_sweep.figures import mel_sheet

    figure = mel_sheet(pictures, fill(tmp_path)["speech_sweep"])
    assert figure is not None and len(figure.axes) == 2 * 5
    titles = [axes.get_title() for axes in figure.axes[:5]]
    assert titles == ["recording", "encoder, μ", "decoder, t = 1", "decoder, t = 0.625", "decoder, t = 0"]
    shades = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes[:5]]
    assert shades == [40 * (PANELS - 1), 0, 40, 80, 120]
    assert mel_sheet(tmp_path / "nowhere", fill(tmp_path)["speech_sweep"]) is None


def test_numbers_for_loggers(records: dict[str, pd.DataFrame]) -> None:
    numbers = scalars(records)
    summary = speech_sweep_summary(records["speech_sweep"])
    assert numbers["speech_sweep/wer_data"] == pytest.approx(summary["wer"][0])
    assert numbers["speech_sweep/wer_sample"] == pytest.approx(summary["wer"].iloc[-1])
    assert numbers["speech_sweep/bpd_data"] == pytest.approx(summary["bpd"][0])
    assert numbers["text_gain/helps_search_mean"] == 1
    assert numbers["failures"] == 1 and all(math.isfinite(value) for value in numbers.values())
    assert numbers["speech_sweep/wer_sample_low"] == pytest.approx(summary["wer_low"].iloc[-1])


def test_wandb_gets_a_series_of_every_measure(records: dict[str, pd.DataFrame], tables: dict[str, Table]) -> None:
    logged: dict[str, object] = {}
    run = SimpleNamespace(log=logged.update, log_artifact=lambda artifact: None)
    log_run(run, Path("/nowhere"), records, Report(list(tables.values()), [], coverage(records)))  # type: ignore[arg-type]
    names = {"bpd", "bpd_marginal", "log_f0_rmse", "cepstral_distortion", "wer", "speaker_similarity"}
    assert {f"speech_sweep/{name}" for name in names} | {"tables/text_gain"} <= set(logged)
    series = logged["speech_sweep/wer"].table
    assert [row[0] for row in series.data] == [0.0, 0.625, 1.0]
    summary = speech_sweep_summary(records["speech_sweep"])
    assert [row[-1] for row in series.data] == pytest.approx(summary["wer"].tolist()[:1:-1])
