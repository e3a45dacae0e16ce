"""Kinds of studies: found, declared, checked, and the dictionary of their columns."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest
from fake_records import accuracy_units, frame_of, prompt_units, record, sweep_grid_units, sweep_units

from dmlik_pl.records.schema import LIKELIHOOD, Column, Schema
from dmlik_pl.records.store import RecordStore
from dmlik_pl.results import kinds as kinds_module
from dmlik_pl.results.bits_per_dim import bits_per_dim_rows
from dmlik_pl.results.dictionary import dictionary
from dmlik_pl.results.figures import make_figures
from dmlik_pl.results.kinds import Kind, declare, kind_of, kinds
from dmlik_pl.results.likelihoods import of_data
from dmlik_pl.results.page.headlines import headlines
from dmlik_pl.results.page.report import main, write_report
from dmlik_pl.results.page.scalars import scalars
from dmlik_pl.results.prompt_accuracy import decisions as decisions_module
from dmlik_pl.results.tables import make_tables
from dmlik_pl.studies import Adaptation, PromptAccuracy, Rescoring, SpeechSweep, StoredRescoring, TextGain, TimeSweep

ROOT = Path(__file__).parents[1]


def forget_kinds() -> None:
    """Look for kinds anew."""
    kinds_module._found.cache_clear()
    kinds_module.own_kinds.cache_clear()


def test_every_study_of_the_package_is_declared() -> None:
    studies = (Adaptation, PromptAccuracy, Rescoring, SpeechSweep, StoredRescoring, TextGain, TimeSweep)
    assert {study.kind for study in studies} == set(kinds())
    assert sorted(number for kind in kinds().values() for number in kind.paper) == [1, 2, 3, 4, 5, 6, 7]


def test_tables_need_no_report_to_be_imported(tmp_path: Path) -> None:
    with RecordStore(tmp_path) as store:
        for name, rows in sweep_units(4).items():
            store.append("sweep", name, [row | {"kind": "time_sweep"} for row in rows])
        for name, rows in accuracy_units(4).items():
            store.append("prompts", name, [row | {"kind": "prompt_accuracy"} for row in rows])
    store.finalise()
    code = (
        "import sys; from dmlik_pl.results.tables import make_tables; from dmlik_pl.records.store import read; "
        "print(*(table.name for table in make_tables(read(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    names = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert {"sweep", "prompts", "prompts_methods_colour", "bits_per_dim"} <= set(names)


class TestDeclaration:
    def test_a_name_is_declared_once(self) -> None:
        with pytest.raises(ValueError, match="'time_sweep' is declared already: choose another name"):
            declare(Kind("time_sweep"))
        assert declare(kinds()["time_sweep"]) is kinds()["time_sweep"], "the same again is no other"

    def test_a_duplicate_of_another_package_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = EntryPoint("sweeps", "dmlik_pl.results.time_sweep:KIND", "dmlik.kinds")
        monkeypatch.setattr(kinds_module, "entry_points", lambda group: [entry])
        forget_kinds()
        with pytest.raises(ValueError, match=r"entry point 'sweeps'.* called 'time_sweep', which is declared already"):
            kinds()
        monkeypatch.undo()
        forget_kinds()

    def test_what_is_no_kind_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dmlik_pl.results.text_gain.KIND", None)
        forget_kinds()
        with pytest.raises(ValueError, match=r"dmlik_pl\.results\.text_gain declares no kind of study"):
            kinds()
        monkeypatch.undo()
        forget_kinds()

    def test_records_of_nobody_are_shown_by_their_columns_and_said_to_be_so(self, tmp_path: Path, capsys) -> None:
        with RecordStore(tmp_path) as store:
            for i in range(4):
                rows = [{"kind": "own", "way": way, "score": i + 10.0 * (way == "b")} for way in "ab"]
                store.append("mine", f"s{i}", rows)
        report = write_report(tmp_path)
        (table,) = report.tables
        assert table.shown.loc["b", "score"] == "11.50 ± 0.65" and table.raw["score"].tolist() == [1.5, 11.5]
        assert [caveat.text for caveat in report.caveats if caveat.topic == "undeclared"] == [
            "Nobody declares the kind 'own': its records are shown by their columns, without headline."
        ]

    def test_a_module_that_declares_is_named_to_the_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
    ) -> None:
        with RecordStore(tmp_path / "run") as store:
            store.append("mine", "s", [{"kind": "own_named", "score": 1.0}])
        declaration = (
            "import pandas as pd\n"
            "from dmlik_pl.results.kinds import Kind, declare\n"
            "from dmlik_pl.results.table import Table\n"
            "declare(Kind('own_named', tables=lambda s, f: [Table('scores', 'Mine.', f.astype(str), f)]))\n"
        )
        (tmp_path / "own_kinds_module.py").write_text(declaration)
        monkeypatch.syspath_prepend(tmp_path)
        assert main([str(tmp_path / "run"), "--kinds", "own_kinds_module"]) == 0
        assert (tmp_path / "run" / "tables" / "scores.md").is_file()
        kinds_module._declared.pop("own_named")
        assert main([str(tmp_path / "run"), "--kinds", "no_such_module"]) == 1
        assert "error: No module named 'no_such_module'" in capsys.readouterr().err


class TestSchema:
    SCHEMA = Schema((Column("way", "text", "a way"), Column("count", "number", "a number"), *LIKELIHOOD), key=("way",))

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([{"count": 1}], "lacks the column 'way'"),
            ([{"way": "a", "extra": 1.0}], "the column 'extra' is not declared"),
            ([{"way": "a", "count": "many"}], "the column 'count' holds number, got 'many'"),
            ([{"way": "a", "count": True}], "the column 'count' holds number, got True"),
            ([{"way": "a"}, {"way": "a"}], r"of the same row \(way = a\)"),
        ],
    )
    def test_records_that_do_not_fit(self, rows: list[dict], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.SCHEMA.check(rows)

    def test_records_that_fit(self) -> None:
        self.SCHEMA.check([{"way": "a", "count": 2, "log_p": None}, {"way": "b", "count": 1.5, "kind": "any"}])
        free = replace(self.SCHEMA, attributes=True)
        free.check([{"way": "a", "colour": "red"}])
        assert free.is_attribute("colour") and not free.is_attribute("count") and not free.is_attribute("kind")
        with pytest.raises(ValueError, match="has to be text, not float"):
            free.check([{"way": "a", "colour": 1.0}])

    def test_names_with_a_star_stand_for_many(self) -> None:
        schema = kinds()["rescoring"].schema
        assert schema.column("score_acoustic").unit == "nats" and schema.column("scored") is None

    @pytest.mark.parametrize("kind", ["time_sweep", "prompt_accuracy"])
    def test_made_records_are_those_that_are_declared(self, kind: str) -> None:
        units = sweep_grid_units(2) if kind == "time_sweep" else prompt_units(2)
        for rows in units.values():
            kinds()[kind].schema.check(rows)
        with pytest.raises(ValueError, match="'undeclared'"):
            kinds()[kind].schema.check([rows[0] | {"undeclared": 1.0}])

    def test_a_record_builder_knows_the_declaration(self) -> None:
        assert record("text_gain", alignment="search", alternative="mean", gain=1.0)["kind"] == "text_gain"
        with pytest.raises(ValueError, match="holds number"):
            record("text_gain", alignment="search", alternative="mean", gain="much")


class TestHeadline:
    """Its numbers are of one part that is named, whatever the order of the parts and whatever failed."""

    @staticmethod
    def likelihoods(guidances: tuple[float, ...], lost: tuple[str, float] = ("", 0.0)) -> pd.DataFrame:
        frame = frame_of(prompt_units(24, tuple((w, False) for w in guidances)), "prompt_accuracy")
        return frame[(frame["sample_id"] != lost[0]) | (frame["guidance"] != lost[1])].reset_index(drop=True)

    @pytest.mark.parametrize("order", [(1.0, 0.0, 3.0), (0.0, 3.0, 1.0), (3.0, 1.0, 0.0)])
    def test_of_several_weights_that_nearest_to_1(self, order: tuple[float, ...]) -> None:
        frame = self.likelihoods(order)
        rows = bits_per_dim_rows({"prompts": frame})
        plain = bits_per_dim_rows({"prompts": frame[frame["guidance"] == 1.0]})
        assert rows["bpd"][0] == plain["bpd"][0] and rows["part"][0] == "w = 1"
        others = bits_per_dim_rows({"prompts": frame[frame["guidance"] == 3.0]})
        assert abs(rows["bpd"][0] - others["bpd"][0]) > 1e-3

    def test_a_sample_that_lacks_the_part_is_left_out_and_counted(self) -> None:
        frame = self.likelihoods((1.0, 3.0, 5.0), lost=("test-00003", 1.0))
        (row,) = bits_per_dim_rows({"prompts": frame}).to_dict("records")
        rest = frame[(frame["guidance"] == 1.0) & (frame["sample_id"] != "test-00003")]
        assert (row["n"], row["samples_expected"]) == (23, 24)
        assert row["bpd"] == bits_per_dim_rows({"prompts": rest})["bpd"][0]
        first, *_ = headlines({"prompts": frame})
        assert first.detail == "n = 23 of 24, w = 1" and first.errors.startswith("of ±: sampling ")
        table = next(table for table in make_tables({"prompts": frame}) if table.name == "bits_per_dim")
        assert table.shown.loc["prompts", ["part", "n"]].tolist() == ["w = 1", "23 of 24"]

    def test_a_part_that_is_left_alone_is_still_named(self) -> None:
        frame = self.likelihoods((1.0, 3.0))
        (row,) = bits_per_dim_rows({"prompts": frame[frame["guidance"] == 3.0]}).to_dict("records")
        assert row["part"] == "w = 3"

    def test_a_sweep_is_read_in_its_plainest_part(self) -> None:
        units = sweep_grid_units(8, (3.0, 1.0, 0.0), (32, 64))
        del units["test-00002"][-18:]  # what reconstructs at the largest size
        units["test-00005"] = [
            row
            for row in units["test-00005"]
            if (row["guidance"], row["size"], row["reconstructed"]) != (1.0, 64, False)
        ]
        (row,) = bits_per_dim_rows({"sweep": frame_of(units, "time_sweep")}).to_dict("records")
        assert (row["part"], row["n"], row["samples_expected"]) == ("w = 1, 64 px", 7, 8)

    def test_a_kind_that_does_not_choose_a_part_is_told_so(self, declared: Callable[..., None]) -> None:
        declared(Kind("many", Schema(LIKELIHOOD), data=of_data))
        frame = pd.DataFrame({"sample_id": ["a", "a"], "log_p": [1.0, 2.0], "dims": 3, "kind": "many"})
        with pytest.raises(ValueError, match=r"'a' has several likelihoods of the data: `Kind\.data` has to choose"):
            bits_per_dim_rows({"study": frame})
        assert kind_of("study", frame).name == "many"


def test_the_dictionary_of_columns_is_that_of_the_declarations() -> None:
    assert (ROOT / "docs" / "records.md").read_text(encoding="utf-8") == dictionary()


def test_summaries_are_made_once_per_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is shown of a run parses its decisions once; another frame is another run."""
    parsed: list[int] = []
    matrix = decisions_module._score_matrix
    monkeypatch.setattr(decisions_module, "_score_matrix", lambda *given: parsed.append(1) or matrix(*given))
    frame = frame_of(accuracy_units(4), "prompt_accuracy")
    records = {"prompts": frame}
    make_tables(records), make_figures(records), scalars(records), headlines(records)
    assert len(parsed) == 2, "one matrix for each attribute"
    assert decisions_module.decisions(frame) is decisions_module.decisions(frame)
    assert decisions_module.decisions(frame.copy()) is not decisions_module.decisions(frame)
