"""Rescoring from the command line: stored scores alone, and with a recogniser and a model."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

import evaluate
from dmlik_pl.results.store import RecordStore, read
from dmlik_pl.speech.nbest import read as read_lists

LISTS = Path(__file__).parent / "data" / "nbest"
PUBLISHED = "model.studies.rescoring.init_args.protocol"


def run(arguments: list[str], runs: Path) -> Path:
    assert evaluate.cli_main([*arguments, "--runs", str(runs)]) == 0
    (folder,) = runs.iterdir()
    return folder


def stored(path: Path, runs: Path, *more: str) -> Path:
    return run(["--config", "rescoring.yaml", "--data.path", str(path), *more], runs)


def rates(folder: Path, study: str = "rescoring") -> dict[str, float]:
    table = pd.read_csv(folder / "tables" / f"{study}.csv")
    return dict(zip(table["strategy"], (100 * table["wer"]).round(2), strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wav2vec2_lm", (13.27, 19.55, 20.35, 10.19, 29.36)),
        ("whisper_base", (3.33, 4.68, 4.64, 1.54, 7.18)),
    ],
)
def test_published_lists_give_their_rates_without_a_model(
    name: str, expected: tuple[float, ...], tmp_path: Path
) -> None:
    folder = stored(LISTS / f"nbest_{name}.csv.gz", tmp_path)
    found = rates(folder)
    names = ("acoustic", "likelihood", "random (expected)", "oracle best", "oracle worst")
    assert tuple(found[strategy] for strategy in names) == expected
    assert "acoustic + w likelihood" in found
    table = (folder / "tables" / "rescoring.md").read_text()
    assert "95 lists" in table and "1560 words" in table
    written = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert {"rescoring", "rescoring_tests", "rescoring_lists", "rescoring_correlation"} <= written
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {"rescoring", "rescoring_correlation"}
    records = read(folder)["rescoring"]
    assert set(records["kind"]) == {"rescoring"} and records["sample_id"].nunique() == 95
    assert len(records) == len(read_lists(LISTS / f"nbest_{name}.csv.gz"))


def test_published_protocol_repeats_the_published_choices(tmp_path: Path) -> None:
    folder = stored(LISTS / "nbest_wav2vec2_lm.csv.gz", tmp_path, f"--{PUBLISHED}", "published")
    found = rates(folder)
    assert list(found) == ["acoustic", "likelihood", "random (one draw)", "oracle best", "oracle worst"]
    assert (found["acoustic"], found["likelihood"]) == (13.27, 19.55)
    assert (found["oracle best"], found["oracle worst"]) == (10.45, 28.97)  # of rounded rates, as printed: 10.5, 29.0
    assert 19.42 <= found["random (one draw)"] <= 21.28  # holds 95 % of all draws; the paper's was 20.2
    caption = (folder / "tables" / "rescoring.md").read_text()
    assert "Protocol: published" in caption and "one draw" in caption and "rounded" in caption


def small_lists(path: Path) -> Path:
    """Two good lists, and one of every flaw."""
    path.write_text(
        "utterance_id,reference,hypothesis,am_score,gtts_ll\n"
        "u1,a b,a b,2,20\n"
        "u1,a b,a,1,30\n"
        "u1,a b,a b,2,20\n"
        "u2,c d,c x,3,30\n"
        "u2,c d,c d,2,40\n"
        "u2,c d,,1,40\n"
        "u2,,c d,1,40\n"
        "u3,e,e,nan,1\n"
        ",f,f,1,1\n"
    )
    return path


def test_flawed_rows_are_named_and_counted(tmp_path: Path) -> None:
    folder = stored(small_lists(tmp_path / "lists.csv"), tmp_path / "runs")
    records = read(folder)["rescoring"].set_index("row").sort_index()
    assert records["excluded"].tolist() == [
        *("", "", "copy of row 1", "", "", "empty hypothesis", "no reference"),
        *("acoustic score is not a finite number", "no utterance id"),
    ]
    found = rates(folder)
    del found["acoustic + w likelihood"]
    assert list(found.values()) == [25, 25, 25, 0, 50]  # acoustic, likelihood, random, oracles
    summary = pd.read_csv(folder / "tables" / "rescoring_lists.csv").iloc[0]
    assert (summary["lists"], summary["excluded"], summary["lost"]) == (2, 5, 1)
    left_out = pd.read_csv(folder / "tables" / "rescoring_excluded.csv")
    assert sorted(left_out["row"]) == [3, 6, 7, 8, 9]


def test_a_run_goes_on_list_by_list(tmp_path: Path) -> None:
    path = LISTS / "nbest_whisper_base.csv.gz"
    folder = stored(path, tmp_path / "whole")
    records = folder / "records"
    lines = (records / "rank0.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 95
    (records / "rank0.jsonl").write_bytes(b"".join(lines[:60]) + lines[60][:50])  # killed while it wrote
    (records / "rescoring.parquet").unlink()
    again = stored(path, tmp_path / "whole")
    assert again == folder
    assert len(RecordStore(folder).done()["rescoring"]) == 95
    assert rates(again)["likelihood"] == 4.68


def test_other_lists_of_the_same_name_are_another_run(tmp_path: Path) -> None:
    path = small_lists(tmp_path / "lists.csv")
    stored(path, tmp_path / "runs")
    path.write_text(path.read_text().replace("u2,c d,c d,2,40", "u2,c d,c d,9,40"))
    assert (
        evaluate.cli_main(["--config", "rescoring.yaml", "--data.path", str(path), "--runs", str(tmp_path / "runs")])
        == 0
    )
    found = {rates(folder)["acoustic"] for folder in (tmp_path / "runs").iterdir()}
    assert found == {25.0, 0.0}


@pytest.mark.parametrize(
    ("content", "more", "told"),
    [
        (None, [], ["no n-best lists at"]),
        ("utt,hyp\n1,a\n", [], ["has no column 'am_score', 'gtts_ll', 'hypothesis', 'reference', 'utterance_id'"]),
        ("utterance_id,reference,hypothesis,am_score,gtts_ll\n", [], ["holds no hypothesis"]),
        (
            "utterance_id,reference,hypothesis,am_score,gtts_ll\nu,,a,1,1\n",
            [],
            ["none of 1 hypotheses is usable: 1 × no reference"],
        ),
        (
            "utterance_id,reference,hypothesis,am_score,gtts_ll\nu,a,a,1,1\n",
            ["--data.audio", "nowhere"],
            ["no folder of recordings at 'nowhere'"],
        ),
    ],
    ids=["missing", "columns", "empty", "unusable", "audio"],
)
def test_unusable_lists_are_one_message(
    content: str | None, more: list[str], told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lists.csv"
    if content is not None:
        path.write_text(content)
    arguments = ["--config", "rescoring.yaml", "--data.path", str(path), *more, "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = str(stop.value.code)
    assert message.startswith("error:")
    assert all(words in message for words in told)


def test_a_study_that_needs_a_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gain.yaml"
    shutil.copy(Path(evaluate.__file__).parent / "configs" / "rescoring.yaml", config)
    config.write_text(
        config.read_text()
        .replace("dmlik_pl.studies.StoredRescoring", "dmlik_pl.studies.TextGain")
        .replace("        protocol: repaired", "        confidence: 0.95")
    )
    arguments = ["--config", str(config), "--data.path", str(LISTS / "nbest_whisper_base.csv.gz")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    assert "model.studies.rescoring: TextGain cannot measure without a model" in str(stop.value.code)


@pytest.mark.parametrize("config", ["spoken_rescoring.yaml", "grad_tts_rescoring.yaml"])
def test_missing_weights_are_one_plain_message(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = str(tmp_path / "absent.pt")
    arguments = ["--config", config, "--model.diffusion.path", absent, "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = str(stop.value.code)
    assert message.startswith(f"error: no Grad-TTS at {absent!r}") and "github.com/huawei-noah" in message
    assert "Union" not in message and "Namespace" not in message
    assert not (tmp_path / "runs").exists()
