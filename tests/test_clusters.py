"""What samples are clustered by: names, labels, errors, and what a report says of them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_records import COLOURS, accuracy_units, frame_of, said, sweep_units

from dmlik_pl.data.nbest import StoredLists
from dmlik_pl.records.frames import CLUSTER, clusters_of
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results.bits_per_dim import bits_per_dim_rows
from dmlik_pl.results.clusters import check_cluster, clustered, clusters_in_words, records_of
from dmlik_pl.results.compare import main as compare_main
from dmlik_pl.results.page.report import main, write_report
from dmlik_pl.results.page.scalars import scalars
from dmlik_pl.results.prompt_accuracy.summaries import accuracy_summary, pair_summary
from dmlik_pl.results.rescoring.summaries import lists_of, word_error_rates
from dmlik_pl.results.tables import make_tables
from dmlik_pl.results.time_sweep.summaries import difference_summary, sweep_summary
from dmlik_pl.speech.nbest import NBestColumns, read
from dmlik_pl.stats.rates import corpus_rate, share
from dmlik_pl.stats.significance import mean_with_error


@pytest.fixture(scope="module")
def records() -> dict[str, pd.DataFrame]:
    """A sweep whose samples know colour and shape, and decisions on the same samples about both."""
    return {
        "sweep": frame_of(sweep_units(32), "time_sweep"),
        "prompts": frame_of(accuracy_units(32), "prompt_accuracy"),
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a small sweep."""
    with RecordStore(tmp_path / "run") as store:
        for name, rows in sweep_units(8).items():
            store.append("sweep", name, rows)
    store.finalise()
    return tmp_path / "run"


class TestNames:
    def test_an_attribute_holds_for_all_studies_of_the_run(self, records: dict[str, pd.DataFrame]) -> None:
        found = clustered(records, "colour")
        for frame in (found["sweep"], found["prompts"]):
            labels = dict(zip(frame["sample_id"], clusters_of(frame), strict=True))
            assert labels["test-00000"] == labels["test-00008"] == COLOURS[0] and len(set(labels.values())) == 8
        assert CLUSTER not in records["sweep"], "what was given is as it was"

    def test_what_prompts_compete_about_will_do_alone(self, records: dict[str, pd.DataFrame]) -> None:
        found = clustered({"prompts": records["prompts"]}, "shape")["prompts"]
        assert set(clusters_of(found)) == {"cube", "cylinder", "sphere"}

    def test_a_name_that_nobody_knows_is_an_error_with_those_there_are(self, records: dict[str, pd.DataFrame]) -> None:
        with pytest.raises(
            ValueError, match=r"no 'speaker' to cluster.* they have colour, shape, prompt, image, folder"
        ):
            clustered(records, "speaker")
        with pytest.raises(ValueError, match=r"'stage', which differs within the sample 'test-00000'"):
            clustered(records, "stage")
        with pytest.raises(ValueError, match="no 'speaker' to be clustered by; they have voice, image, folder"):
            check_cluster("speaker", {"voice": []})
        check_cluster("voice", {"voice": []})
        check_cluster("", {})

    def test_captions_of_one_image_are_one_cluster_unasked(self) -> None:
        names = ["a/1.png", "a/1.png#0123abcd", "a/2.png", "b/3.png", "b/3.png#99999999"]
        frame = pd.DataFrame({"sample_id": names, "log_p": [-1.0, -1.5, -3.0, -4.0, -5.0], "dims": 5})
        assert len(set(clusters_of(frame))) == 3 and clusters_in_words(frame) == "Clustered by image (3)."
        (row,) = bits_per_dim_rows({"any": frame}).to_dict("records")
        bits = -frame["log_p"] / (5 * math.log(2))
        expected = mean_with_error(bits, clusters=["1", "1", "2", "3", "3"])
        assert (row["n"], row["clusters"], row["standard_error"]) == (5, 3, pytest.approx(expected.standard_error))
        folders = clustered({"any": frame}, "folder")["any"]
        assert set(clusters_of(folders)) == {"a", "b"} and clusters_in_words(folders) == "Clustered by folder (2)."

    def test_a_sample_without_a_label_is_a_cluster_of_its_own(self, records: dict[str, pd.DataFrame]) -> None:
        frame = records["sweep"].assign(colour=records["sweep"]["colour"].where(records["sweep"]["colour"] != "red"))
        assert len(set(clusters_of(clustered({"sweep": frame}, "colour")["sweep"]))) == 7 + 4


class TestTables:
    def test_every_mean_and_share_is_over_clusters(self, records: dict[str, pd.DataFrame]) -> None:
        found = clustered(records, "colour")
        data = found["sweep"].query("stage == 'data'")
        row = sweep_summary(found["sweep"]).iloc[0]
        expected = mean_with_error(data["bpd"], data["bpd_standard_error"], clusters=data["colour"])
        assert row["bpd_sampling_error"] == pytest.approx(expected.sampling_error)
        assert row["bpd_sampling_error"] != pytest.approx(sweep_summary(records["sweep"])["bpd_sampling_error"][0])
        shapes = found["prompts"].query("attribute == 'shape'")
        row = accuracy_summary(found["prompts"]).set_index("attribute").loc["shape"]
        expected = share(shapes["correct"], clusters_of(shapes))
        assert (row["accuracy_low"], row["accuracy_high"]) == expected.interval
        plain = accuracy_summary(records["prompts"]).set_index("attribute").loc["shape"]
        assert row["accuracy"] == plain["accuracy"] and row["accuracy_high"] != plain["accuracy_high"]
        pairs = pair_summary(found["prompts"])
        assert (pairs["p"] >= 2 / 2**8).all(), "eight clusters can be exchanged"

    def test_differences_are_paired_by_sample_and_clustered(self) -> None:
        frame = pd.concat(
            [frame_of(sweep_units(16, seed=k), "time_sweep").assign(guidance=w) for k, w in enumerate((1.0, 3.0))]
        )
        found = clustered({"sweep": frame.reset_index(drop=True)}, "colour")["sweep"]
        row = difference_summary(found).query("time == 0").iloc[0]
        a, b = (found[(found["guidance"] == w) & (found["time"] == 0)].set_index("sample_id") for w in (3.0, 1.0))
        expected = mean_with_error(a["bpd"] - b["bpd"], clusters=a["colour"])
        assert row["bpd_sampling_error"] == pytest.approx(expected.sampling_error) and row["n"] == 16

    def test_captions_say_so(self, records: dict[str, pd.DataFrame]) -> None:
        for table in make_tables(clustered(records, "colour")):
            counted = "confusion" not in table.name
            assert table.caption.endswith("Clustered by colour (8).") == counted, table.name
        assert not any("lustered" in said(table) for table in make_tables(records) if "calibration" not in table.name)
        alone = clustered({"sweep": records["sweep"].query("colour == 'red'")}, "colour")
        (table, bits) = make_tables(alone)
        assert "Clustered by colour (1, which gives no error)." in table.caption
        assert "±" not in table.shown.loc["BPD", "Data"] and "±" not in bits.shown["BPD"].iloc[0]

    def test_loggers_get_the_same(self, records: dict[str, pd.DataFrame]) -> None:
        plain, found = scalars(records), scalars(clustered(records, "colour"))
        assert plain["sweep/bpd_data"] == found["sweep/bpd_data"]
        assert plain["sweep/bpd_data_standard_error"] != found["sweep/bpd_data_standard_error"]


class TestReports:
    def test_the_command_takes_a_name(self, run: Path, capsys: pytest.CaptureFixture) -> None:
        assert main([str(run), "--cluster", "shape"]) == 0
        assert "Clustered by shape (3)." in (run / "report.md").read_text()
        raw = pd.read_csv(run / "tables" / "sweep.csv")
        assert np.isfinite(raw["bpd_standard_error"]).all()
        assert main([str(run), "--cluster", "speaker"]) == 1
        assert "error: the records have no 'speaker'" in capsys.readouterr().err
        assert "Clustered by shape (3)." in (run / "report.md").read_text(), "what was there is not touched"

    def test_the_configuration_s_name_is_the_default(self, run: Path) -> None:
        (run / "config.yaml").write_text("cluster: colour\n")
        report = write_report(run)
        assert all("Clustered by colour (8)." in table.caption for table in report.tables)
        assert set(clusters_of(report.records["sweep"])) == set(COLOURS)
        assert "lustered" not in write_report(run, "").tables[0].caption
        assert clusters_in_words(records_of(run)["sweep"]) == "Clustered by colour (8)."

    def test_a_name_that_no_record_has_is_a_serious_caveat(self, run: Path) -> None:
        (run / "config.yaml").write_text("cluster: speaker\n")
        report = write_report(run)
        assert "lustered" not in report.tables[0].caption
        (caveat,) = (caveat for caveat in report.caveats if "no 'speaker' to cluster samples by" in caveat.text)
        assert caveat.severity == "serious"

    def test_a_broken_configuration_is_named(self, run: Path, capsys: pytest.CaptureFixture) -> None:
        (run / "config.yaml").write_text("{")
        assert compare_main([str(run), "--paper", "4"]) == 1
        assert "config.yaml is no YAML" in capsys.readouterr().err


class TestStoredLists:
    LINES = (
        "utterance_id,reference,hypothesis,am_score,gtts_ll,speaker",
        "a,the cat sat,the cat sat,-1,5,anna",
        "a,the cat sat,a cat sat,-2,4,anna",
        "b,two dogs,two docks,-1,5,anna",
        "c,it rains,it rains,-1,5,ben",
    )

    def test_further_columns_are_kept_and_cluster_the_lists(self, tmp_path: Path) -> None:
        (tmp_path / "lists.csv").write_text("\n".join(self.LINES))
        data = StoredLists(str(tmp_path / "lists.csv"), NBestColumns(attributes=["speaker"]))
        batch = data.collate([data.test_set()[i] for i in range(3)])
        assert batch.attributes == {"speaker": ["anna", "anna", "ben"]}
        assert batch.select([2]).attributes == {"speaker": ["ben"]}
        frame = pd.concat(batch.lists, ignore_index=True).assign(kind="rescoring")
        found = clustered({"lists": frame}, "speaker")["lists"]
        assert lists_of(found).clusters.tolist() == ["anna", "anna", "ben"]
        row = word_error_rates(found).set_index("strategy").loc["acoustic"]
        expected = corpus_rate([0, 1, 0], [3, 2, 2], ["anna", "anna", "ben"])
        assert (row["low"], row["high"]) == expected.interval != corpus_rate([0, 1, 0], [3, 2, 2]).interval

    def test_a_column_of_the_records_is_no_attribute(self) -> None:
        with pytest.raises(ValueError, match=r"columns.attributes: 'words' is a column of the records anyway"):
            NBestColumns(attributes=["words"]).texts()

    def test_one_list_has_no_interval(self, tmp_path: Path) -> None:
        (tmp_path / "lists.csv").write_text("\n".join(self.LINES[:3]))
        frame = read(tmp_path / "lists.csv").assign(kind="rescoring")
        tables = {table.name: table for table in make_tables({"lists": frame})}
        assert (tables["lists"].shown["95 % interval"] == "–").all()
        assert tables["lists"].legend["95 % interval"].endswith("none for one list")
        assert "[" not in tables["lists_tests"].shown["A − B, points"].iloc[0]
        assert tables["lists_tests"].shown["p (matched pairs)"].iloc[0] == "–"
