"""Rescoring from the command line: stored scores alone, and with a recogniser and a model."""

import shutil
import sys
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nbest_lists import COPIES, KINDS, RATES, paper_lists

import evaluate
from dmlik_pl.models import GradTTS
from dmlik_pl.models.grad_tts import write_network
from dmlik_pl.records.store import RecordStore, read
from dmlik_pl.results.compare import compare
from dmlik_pl.speech.audio import write
from dmlik_pl.speech.nbest import read as read_lists
from dmlik_pl.studies import rescoring

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


def test_stored_lists_give_their_rates_without_a_model(made_lists: Path, tmp_path: Path) -> None:
    folder = stored(made_lists, tmp_path)
    assert rates(folder) == pytest.approx(RATES, abs=0.005)
    table = (folder / "tables" / "rescoring.md").read_text()
    assert "40 lists" in table and "400 words" in table
    written = {path.stem for path in (folder / "tables").glob("*.csv")}
    assert {"rescoring", "rescoring_tests", "rescoring_lists", "rescoring_correlation"} <= written
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {"rescoring", "rescoring_correlation"}
    (log,) = folder.glob("log/metrics.csv")
    assert 100 * pd.read_csv(log).iloc[-1]["rescoring/wer_likelihood"] == pytest.approx(22.5)
    records = read(folder)["rescoring"]
    assert set(records["kind"]) == {"rescoring"} and records["sample_id"].nunique() == 40 and len(records) == 100


def test_published_protocol_chooses_as_published(made_lists: Path, tmp_path: Path) -> None:
    folder = stored(made_lists, tmp_path, f"--{PUBLISHED}", "published")
    draws = {kind: [each[0] for each in hypotheses] for kind, hypotheses in KINDS.items()}
    drawn = 0
    for name in (f"{kind}{copy}" for kind in KINDS for copy in range(COPIES)):
        number = int.from_bytes(blake2b(f"draw {name}".encode(), digest_size=8).digest(), "big")
        drawn += draws[name[0]][number % len(draws[name[0]])]
    assert rates(folder) == pytest.approx(
        {
            "acoustic": 12.5,
            "likelihood": 22.5,
            "random (one draw)": 100 * drawn / 400,
            # Of 259 characters, one error is as good as none: the first of the two is taken, which errs in kind c.
            "oracle best": 5.0,
            "oracle worst": 32.5,
        },
        abs=0.005,
    )
    caption = (folder / "tables" / "rescoring.md").read_text()
    assert "Protocol: published" in caption and "one draw" in caption and "rounded" in caption
    (beside,) = compare(read(folder), 2, "wav2vec2")
    difference = beside.raw.set_index("column")["difference"]
    assert difference["AM Score"] == pytest.approx(12.5 - 13.3) and difference["Oracle Best"] == pytest.approx(5 - 10.5)


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
    path = paper_lists(name)
    folder = stored(path, tmp_path)
    found = rates(folder)
    names = ("acoustic", "likelihood", "random (expected)", "oracle best", "oracle worst")
    assert tuple(found[strategy] for strategy in names) == expected
    table = (folder / "tables" / "rescoring.md").read_text()
    assert "95 lists" in table and "1560 words" in table
    assert len(read(folder)["rescoring"]) == len(read_lists(path))


def test_published_protocol_repeats_the_published_choices(tmp_path: Path) -> None:
    folder = stored(paper_lists("wav2vec2_lm"), tmp_path, f"--{PUBLISHED}", "published")
    found = rates(folder)
    assert (found["acoustic"], found["likelihood"]) == (13.27, 19.55)
    assert (found["oracle best"], found["oracle worst"]) == (10.45, 28.97)  # of rounded rates, as printed: 10.5, 29.0
    assert 19.42 <= found["random (one draw)"] <= 21.28  # holds 95 % of all draws; the paper's was 20.2
    (beside,) = compare(read(folder), 2, "wav2vec2")
    assert len(beside.raw) == 5 and beside.raw["difference"].abs().max() < 1
    assert beside.raw.set_index("column")["difference"].drop("Random").abs().max() < 0.06


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


def test_a_run_goes_on_list_by_list(made_lists: Path, tmp_path: Path) -> None:
    folder = stored(made_lists, tmp_path / "whole")
    records = folder / "records"
    lines = (records / "rank0.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 40
    (records / "rank0.jsonl").write_bytes(b"".join(lines[:25]) + lines[25][:50])  # killed while it wrote
    (records / "rescoring.parquet").unlink()
    again = stored(made_lists, tmp_path / "whole")
    assert again == folder
    assert len(RecordStore(folder).done()["rescoring"]) == 40
    assert rates(again)["likelihood"] == 22.5


def test_a_list_that_changes_is_measured_anew_under_its_old_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_lists(tmp_path / "lists.csv")
    folder = stored(path, tmp_path / "runs")
    assert rates(folder)["acoustic"] == 25.0
    path.write_text(path.read_text().replace("u2,c d,c d,2,40", "u2,c d,c d,9,40"))
    assert stored(path, tmp_path / "runs") == folder
    assert "Changed, and measured again: 1 of 4 samples (u2)." in capsys.readouterr().err
    assert rates(folder)["acoustic"] == 0.0


@pytest.mark.parametrize(
    ("content", "more", "told"),
    [
        (None, [], ["no n-best lists at"]),
        ("utterance_id,".encode("utf-16"), [], ["lists.csv, line 1: the file is in UTF-16"]),
        ("utt,hyp\n1,a\n", [], ["lists.csv, line 1 has no column 'am_score', 'gtts_ll', 'hypothesis', 'reference'"]),
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
    ids=["missing", "utf-16", "columns", "empty", "unusable", "audio"],
)
def test_unusable_lists_are_one_message(
    content: str | bytes | None,
    more: list[str],
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "lists.csv"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    arguments = ["--config", "rescoring.yaml", "--data.path", str(path), *more, "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = capsys.readouterr().err
    assert stop.value.code == 1 and "error:" in message
    assert all(words in message for words in told)


def test_a_study_of_other_data_says_so(
    made_lists: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gain.yaml"
    shutil.copy(Path(evaluate.__file__).parent / "configs" / "rescoring.yaml", config)
    config.write_text(
        config.read_text()
        .replace("dmlik_pl.studies.StoredRescoring", "dmlik_pl.studies.TextGain")
        .replace("        protocol: repaired", "        confidence: 0.95")
    )
    arguments = ["--config", str(config), "--data.path", str(made_lists)]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    assert stop.value.code == 1
    assert "TextGain measures a batch of utterances with their texts and recordings" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["spoken_rescoring.yaml", "grad_tts_rescoring.yaml"])
def test_missing_weights_are_one_plain_message(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "absent.pt")
    arguments = ["--config", config, "--model.diffusion.path", absent, "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    message = capsys.readouterr().err
    assert stop.value.code == 1 and f"no Grad-TTS at {absent!r}" in message and "github.com/huawei-noah" in message
    assert "Union" not in message and "Namespace" not in message
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Grad-TTS of random weights, lists of two utterances and the recording of each."""
    root = tmp_path_factory.mktemp("speech")
    torch.manual_seed(0)
    sizes = {"n_enc_channels": 12, "filter_channels": 16, "filter_channels_dp": 8, "n_enc_layers": 1, "dec_dim": 8}
    write_network(root / "model", GradTTS(**sizes))
    lines = ["utterance_id,reference,hypothesis,am_score"]
    for name in ("LJ001-0001", "LJ001-0002", "LJ001-0003"):
        lines += [f"{name},an ox,an ox,2", f"{name},an ox,an axe,1", f"{name},an ox,{'ox ' * 30},0"]
    (root / "lists.csv").write_text("\n".join(lines) + "\n")
    (root / "wavs").mkdir()
    for name in ("LJ001-0001", "LJ001-0002"):
        write(root / "wavs" / f"{name}.wav", 0.1 * torch.randn(4096))
    return root


@pytest.mark.parametrize("protocol", ["repaired", "published"])
def test_the_official_model_rescores_stored_lists(
    protocol: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # random weights are stiff, and the published tolerance would take minutes
    monkeypatch.setattr(rescoring, "PUBLISHED_SOLVER", replace(rescoring.PUBLISHED_SOLVER, rtol=0.01, atol=0.01))
    config = {"repaired": "grad_tts_rescoring.yaml", "published": "grad_tts_rescoring_published.yaml"}[protocol]
    folder = run(
        [
            *("--config", config, "--model.diffusion.path", str(speech / "model")),
            *("--data.path", str(speech / "lists.csv"), "--data.audio", str(speech / "wavs")),
            *("--model.solver.nodes", "9", "--model.divergence.probes", "1"),
            *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        ],
        tmp_path,
    )
    records = read(folder)["rescoring"]
    assert len(records) == 9 and set(records["protocol"]) == {protocol}
    reasons = records["excluded"].str.partition(":")[0].tolist()
    assert reasons == ["", "", "alignment impossible"] * 2 + ["no audio file"] * 3
    usable = records[records["excluded"] == ""]
    assert usable["score_likelihood"].notna().all() and set(usable["dims"]) == {80 * 16}
    caption = (folder / "tables" / "rescoring.md").read_text()
    if protocol == "published":
        assert usable["solver"].str.contains("dopri5").all() and "score_unconditional" not in records
        assert "one probe of its own" in caption and "wrong rate" in caption and "one draw" in caption
        assert "oracle best" in rates(folder) and "random (one draw)" in rates(folder)
    else:
        assert usable["solver"].str.contains("9 nodes").all() and usable["score_unconditional"].notna().all()
        assert "share grid and probes" in caption and "alignment: search" in caption
        names = {"likelihood", "likelihood − unconditional", "likelihood + duration", "acoustic + w likelihood"}
        assert names <= set(rates(folder))
        assert "repeat" in set(pd.read_csv(folder / "tables" / "rescoring_reliability.csv")["route"])
    lists = pd.read_csv(folder / "tables" / "rescoring_lists.csv").iloc[0]
    assert (lists["lists"], lists["lost"], lists["excluded"]) == (2, 1, 5)


def test_the_embedded_recogniser_and_model_rescore(tmp_path: Path) -> None:
    study = "--model.studies.rescoring.init_args"
    folder = run(
        [
            *("--config", "spoken_rescoring.yaml", "--data.limit", "2", "--model.solver.nodes", "7"),
            *(f"{study}.hypotheses", "3", f"{study}.unconditional", "false", f"{study}.repeat", "false"),
            *("--trainer.accelerator", "cpu"),
        ],
        tmp_path,
    )
    records = read(folder)["rescoring"]
    assert records["sample_id"].nunique() == 2 and records.groupby("sample_id").size().between(2, 3).all()
    assert set(records["recogniser"]) == {"WordLoop"} and set(records["normalisation"]) == {"whisper"}
    assert (records["excluded"] == "").all() and np.isfinite(records["score_likelihood"]).all()
    assert set(records["voice"]) <= {"en-us", "en-us+f2"}
    # The likelihood hears the words: what the recogniser's rivals change costs hundreds of nats.
    errors = records.groupby("sample_id").apply(lambda part: part.loc[part["score_likelihood"].idxmax(), "errors"])
    assert errors.sum() <= records.groupby("sample_id")["errors"].mean().sum()
    assert rates(folder)["oracle best"] <= rates(folder)["likelihood"] <= rates(folder)["oracle worst"]
