"""A run beside the paper's numbers."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_records import accuracy_units, prompt_units, sweep_units
from nbest_lists import RATES, paper_lists

from dmlik_pl.records.store import RecordStore
from dmlik_pl.records.store import read as read_records
from dmlik_pl.results.compare import compare, main, published
from dmlik_pl.speech.nbest import read


@pytest.fixture(scope="module")
def rescoring(made_lists: Path) -> dict[str, pd.DataFrame]:
    return {"rescoring": read(made_lists).assign(kind="rescoring")}


def stored(folder: Path, units: dict, study: str) -> dict[str, pd.DataFrame]:
    store = RecordStore(folder)
    for name, rows in units.items():
        store.append(study, name, rows)
    return store.finalise()


def test_all_seven_tables_are_there_as_printed() -> None:
    table = published()
    counts = table.groupby("table").size()
    # Table 7: 16 settings, 5 times, 3 measures.
    assert counts.to_dict() == {1: 50, 2: 10, 3: 12, 4: 18, 5: 27, 6: 32, 7: 240}
    assert table["value"].notna().all() and not table.duplicated(["table", "system", "measure", "column"]).any()
    cell = table.query("table == 7 and system == 'CFG 7 1024' and measure == 'FID' and column == '0.00'")
    assert cell["value"].tolist() == [229.08]  # which Table 4 has too
    assert table.query("table == 4 and measure == 'FID' and column == '0.00'")["value"].tolist() == [229.08]


def test_rescoring_beside_table_2(rescoring) -> None:
    (table,) = compare(rescoring, 2, "wav2vec2")
    numbers = table.raw.set_index("column")
    assert numbers.loc["AM Score", "run"] == pytest.approx(12.5)
    assert numbers.loc["Grad-TTS LL", "difference"] == pytest.approx(22.5 - 19.6)
    assert numbers.loc["Oracle worst", ["published", "run"]].tolist() == pytest.approx([29.0, 32.5])
    assert numbers.loc["Random", "run"] == pytest.approx(RATES["random (expected)"])
    # Lists of 1, 0, 1 and 3 errors in ten words: a standard deviation of 1.104 errors among 40 lists.
    assert numbers.loc["AM Score", "standard_error"] == pytest.approx(1.745, abs=0.1)
    units = (numbers["run"] - numbers["published"]) / numbers["standard_error"]
    np.testing.assert_allclose(numbers["units"], units)
    assert table.shown.loc["WER Random", "in errors"] == f"{units['Random']:+.1f}"


def test_the_papers_lists_beside_table_2() -> None:
    records = {"rescoring": read(paper_lists("wav2vec2_lm")).assign(kind="rescoring")}
    (table,) = compare(records, 2, "wav2vec2")
    numbers = table.raw.set_index("column")
    assert numbers.loc["AM Score", "run"] == pytest.approx(13.27, abs=0.005)
    assert numbers.loc["Grad-TTS LL", "difference"] == pytest.approx(19.55 - 19.6, abs=0.005)
    assert numbers.loc["Oracle worst", "run"] == pytest.approx(29.36, abs=0.005)  # printed 29.0: rounded rates
    # The bootstrap interval of the acoustic score is 11.1 to 15.6: an error of 1.2.
    assert numbers.loc["AM Score", "standard_error"] == pytest.approx(1.16, abs=0.1)


def test_every_published_system_is_compared_unless_one_is_named(rescoring) -> None:
    names = [table.name for table in compare(rescoring, 2)]
    assert names == ["paper_2_rescoring_wav2vec2", "paper_2_rescoring_Whisper"]


def test_latents_are_compared_with_published_pixels_in_one_unit(tmp_path) -> None:
    records = stored(tmp_path, sweep_units(), "time_sweep")
    (table,) = compare(records, 4)
    bpd = table.raw[table.raw["measure"] == "BPD"].set_index("column")
    assert bpd.loc["Data", "published"] == pytest.approx(-0.17 * 48)
    fid = table.raw[table.raw["measure"] == "FID"].set_index("column")
    assert fid.loc["0.00", "published"] == 229.08
    sweep = records["time_sweep"]
    assert bpd.loc["Data", "run"] == pytest.approx(sweep.loc[sweep["stage"] == "data", "bpd"].mean())


def test_a_toy_stands_beside_the_paper_without_differences(tmp_path, capsys) -> None:
    stored(tmp_path, sweep_units(), "time_sweep")
    settings = "model: {diffusion: {class_path: m.StableDiffusionXL, init_args: {path: shapes-sdxl}}}\n"
    (tmp_path / "config.yaml").write_text(settings + "data: {class_path: dmlik_pl.data.shapes.Shapes}\n")
    assert main([str(tmp_path), "--paper", "4"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("Not comparable; why is said below the table.")
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (table,) = compare(read_records(tmp_path), 4, settings=settings)
    assert table.caption.startswith(
        "Not comparable: its data are Shapes; its model is the small shapes-sdxl that ships with this package; its "
        "densities have 1024 dimensions, not 16384 / 65536; its setting is w = 1; the paper's are of SDXL and PACS. "
        "Table 4"
    )
    assert table.raw["difference"].isna().all() and table.raw["units"].isna().all()
    assert set(table.shown["in errors"]) == {"–"} and "–" not in set(table.shown.loc["FID 0.00", ["published", "run"]])


def test_a_run_of_the_paper_s_own_data_has_differences(tmp_path) -> None:
    units = {name: [row | {"dims": 65536} for row in rows] for name, rows in sweep_units().items()}
    records = stored(tmp_path, units, "time_sweep")
    settings = {"model": {"diffusion": {"class_path": "m.StableDiffusionXL", "init_args": {"path": "models/sdxl"}}}}
    settings["data"] = {"class_path": "dmlik_pl.data.folders.PACS"}
    (table,) = compare(records, 7, "CFG 0 1024", settings=settings)[:1]
    assert not table.caption.startswith("Not") and table.raw["units"].notna().any()
    assert "64 samples, 0 failed" in table.caption
    settings["model"]["diffusion"]["class_path"] = "m.PixelDiffusion"
    (table,) = compare(records, 7, "CFG 0 1024", settings=settings)[:1]
    assert table.caption.startswith("Not comparable: its model is PixelDiffusion; ")


def test_another_setting_than_the_paper_s_is_said(tmp_path) -> None:
    units = {name: [row | {"dims": 65536} for row in rows] for name, rows in sweep_units().items()}
    records = stored(tmp_path, units, "time_sweep")
    (table,) = compare(records, 7, "CFG 7 1024-R")
    assert table.caption.startswith("Not comparable: its setting is w = 1; ") and table.raw["units"].isna().all()


def test_another_space_is_refused(tmp_path, capsys) -> None:
    units = {name: [row | {"space": "pixels in [-1, 1]"} for row in rows] for name, rows in sweep_units(2).items()}
    stored(tmp_path, units, "time_sweep")
    assert main([str(tmp_path), "--paper", "4"]) == 1
    assert capsys.readouterr().err == (
        "error: densities of pixels in [-1, 1] are no comparison for the paper's of VAE latents (SDXL and PACS)\n"
    )


def test_accuracies_in_percent_beside_table_6(tmp_path) -> None:
    records = stored(tmp_path, accuracy_units(), "prompt_accuracy")
    (table,) = compare(records, 6, "CLIP")
    numbers = table.raw.set_index("column")
    decided = records["prompt_accuracy"].groupby("attribute")["clip_correct"].mean()
    assert numbers.loc["CLEVR Colour", "run"] == pytest.approx(100 * decided["colour"])
    assert numbers.loc["CLEVR Colour", "published"] == 63
    assert np.isnan(numbers.loc["PACS Class", "run"])  # this run has no such attribute
    assert table.shown.loc["accuracy PACS Class", "run"] == "–"


def test_every_setting_is_compared_with_its_row_of_table_6(tmp_path) -> None:
    records = stored(tmp_path, prompt_units(12), "prompt_accuracy")
    tables = {table.name.removeprefix("paper_6_prompt_accuracy_"): table for table in compare(records, 6)}
    assert list(tables) == ["CFG_0", "CFG_3", "CFG_0-R", "CFG_3-R", "Random", "CLIP-score"]  # no guidance of 5
    numbers = tables["CFG_3-R"].raw.set_index("column")
    rows = records["prompt_accuracy"].query("guidance == 3 and reconstructed and screened_checked")
    right = rows[rows["attribute"] == "shape"]["correct"].mean()
    assert numbers.loc["CLEVR Shape", ["published", "run"]].tolist() == pytest.approx([0, 100 * right])
    assert "setting is guidance 3, reconstructed." in tables["CFG_3-R"].notes[0]
    # Wilson's interval is symmetric about its own centre, 1.96 of these errors to either side.
    n, z2 = 6, 1.959964**2
    wilson = 100 * math.sqrt(right * (1 - right) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    assert len(rows) == 2 * n and numbers.loc["CLEVR Shape", "standard_error"] == pytest.approx(wilson, rel=1e-4)
    chance = tables["Random"].raw.set_index("column").loc["CLEVR Colour"]
    assert (chance["run"], chance["standard_error"]) == (12.5, 0)


@pytest.mark.parametrize(
    ("table", "system", "message"),
    [(8, "", "tables 1 to 7"), (2, "HuBERT", "wav2vec2, Whisper"), (1, "", "no study of kind 'speech_sweep'")],
)
def test_what_cannot_be_compared_is_said(rescoring, table, system, message) -> None:
    with pytest.raises(ValueError, match=message):
        compare(rescoring, table, system)


def test_the_command_prints_the_comparison_or_the_reason(tmp_path, capsys) -> None:
    stored(tmp_path, accuracy_units(), "prompt_accuracy")
    assert main([str(tmp_path), "--paper", "6", "--system", "CFG 0"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Table 6 of the paper (CFG 0)" in shown and "accuracy CLEVR Shape" in shown
    assert main([str(tmp_path), "--paper", "3"]) == 1
    assert "no study of kind 'adaptation'" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere"), "--paper", "2"]) == 1
    assert "error:" in capsys.readouterr().err
