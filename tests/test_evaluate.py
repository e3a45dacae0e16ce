"""The evaluation as its user runs it, on a model that costs nothing: runs, resumes, processes, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

import evaluate
from dmlik_pl.records.store import read
from dmlik_pl.stats.significance import mean_with_error

HERE = Path(__file__).parent
ROOT = HERE.parent
TOY = str(HERE / "toy.yaml")
ENVIRONMENT = os.environ | {
    "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}",
    "OMP_NUM_THREADS": "1",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}


def only_run(folder: Path) -> Path:
    (run,) = (path for path in folder.iterdir() if path.is_dir())
    return run


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "evaluate.py"), "--config", TOY, *map(str, arguments)]


def assert_same_records(one: Path, other: Path, tolerance: float = 1e-6) -> None:
    """The same samples with the same numbers, in bits per dimension and everything else."""
    left, right = read(one), read(other)
    assert left.keys() == right.keys()
    for study in left:
        pd.testing.assert_frame_equal(left[study], right[study], rtol=0, atol=tolerance)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy in this process."""
    runs = tmp_path_factory.mktemp("finished")
    assert evaluate.cli_main(["--config", TOY, "--runs", str(runs)]) == 0
    return only_run(runs)


def test_a_run_writes_records_tables_figures_and_settings(finished: Path) -> None:
    records = read(finished)
    assert sorted(records) == ["failures", "prompt_accuracy", "samples", "time_sweep"]
    assert records["prompt_accuracy"]["sample_id"].tolist() == [f"toy-{i}" for i in range(7) for _ in range(2)]
    assert len(records["time_sweep"]) == 7 * 4
    assert set(records["time_sweep"]["size"]) == {2}  # pixels; the attribute of this name is another column
    assert set(records["time_sweep"]["true_size"]) == {"small", "large"}
    assert len(records["failures"]) == 0
    for name in ("time_sweep", "prompt_accuracy", "bits_per_dim"):
        for extension in ("md", "csv", "tex"):
            assert (finished / "tables" / f"{name}.{extension}").stat().st_size > 100
    assert len(list((finished / "figures").glob("*.png"))) >= 3
    assert len(list((finished / "pictures" / "time_sweep").rglob("*.png"))) == 7
    assert yaml.safe_load((finished / "config.yaml").read_text())["model"]["solver"]["init_args"]["nodes"] == 17
    assert json.loads((finished / "versions.json").read_text())["torch"]
    metrics = pd.read_csv(finished / "log" / "metrics.csv")
    accuracy = records["prompt_accuracy"].query("attribute == 'tone'")["correct"].mean()
    assert metrics["prompt_accuracy/accuracy_tone"].iloc[-1] == pytest.approx(accuracy)


def test_what_another_run_computed_with_equal_settings_is_taken_over(finished: Path, tmp_path: Path) -> None:
    small = tmp_path / finished.name
    shutil.copytree(finished, small)
    lines = (small / "records" / "rank0.jsonl").read_text().splitlines()
    for name in ("toy-5", "toy-6"):  # as if it had been stopped before these
        lines = [line for line in lines if json.loads(line)["sample_id"] != name]
    (small / "records" / "rank0.jsonl").write_text("\n".join(lines) + "\n")
    arguments = ["--config", TOY, "--runs", str(tmp_path), "--name", "other"]
    arguments += ["--model.studies.prompt_accuracy.confidence", "0.9"]  # another study than before
    assert evaluate.cli_main(arguments) == 0
    (other,) = tmp_path.glob("other-*")
    written = [json.loads(line) for line in (other / "records" / "rank0.jsonl").read_text().splitlines()]
    first = [(unit["study"].partition("/")[0], unit["sample_id"]) for unit in written[:5]]
    assert first == [("time_sweep", f"toy-{i}") for i in range(5)], "five sweeps were there already"
    assert len(written) == 14 and len({(unit["study"], unit["sample_id"]) for unit in written}) == 14
    pd.testing.assert_frame_equal(read(other)["time_sweep"], read(finished)["time_sweep"])
    assert len(list((other / "pictures" / "time_sweep").rglob("*.png"))) == 7


def test_a_changed_setting_starts_a_new_run_and_an_irrelevant_one_does_not(finished: Path) -> None:
    runs = str(finished.parent)
    evaluate.cli_main(["--config", TOY, "--runs", runs, "--data.batch_size", "5", "--model.max_batch", "3"])
    assert only_run(finished.parent) == finished
    evaluate.cli_main(
        ["--config", TOY, "--runs", runs, "--model.studies.time_sweep.guidance", "3", "--data.limit", "2"]
    )
    assert len(list(finished.parent.iterdir())) == 2


def test_samples_are_clustered_without_being_measured_again(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / finished.name)
    lines = [path.read_bytes() for path in sorted((tmp_path / finished.name / "records").glob("rank*.jsonl"))]
    assert evaluate.cli_main(["--config", TOY, "--runs", str(tmp_path), "--cluster", "tone"]) == 0
    folder = only_run(tmp_path)
    assert [path.read_bytes() for path in sorted((folder / "records").glob("rank*.jsonl"))] == lines
    raw, plain = (pd.read_csv(run / "tables" / "time_sweep.csv") for run in (folder, finished))
    data = read(folder)["time_sweep"].query("stage == 'data'")
    expected = mean_with_error(data["bpd"], clusters=data["tone"])
    assert raw["bpd_sampling_error"][0] == pytest.approx(expected.sampling_error)
    assert plain["bpd_sampling_error"][0] == pytest.approx(data["bpd"].std() / len(data) ** 0.5)
    assert "Clustered by tone (2)." in (folder / "report.md").read_text()


def test_batch_size_changes_no_record(finished: Path, tmp_path: Path) -> None:
    evaluate.cli_main(["--config", TOY, "--runs", str(tmp_path), "--data.batch_size", "7", "--model.max_batch", "4"])
    assert_same_records(finished, only_run(tmp_path), 1e-6)


def test_no_more_samples_than_allowed_go_through_the_network_at_once(tmp_path: Path) -> None:
    """The sweep's trajectories too, whatever the batch of the data."""
    journal = tmp_path / "journal"
    model = ["--model.diffusion", "toy.SlowToyModel", "--model.diffusion.init_args.journal", str(journal)]
    sizes = ["--data.batch_size", "7", "--model.max_batch", "3"]
    assert evaluate.cli_main(["--config", TOY, "--runs", str(tmp_path / "runs"), *model, *sizes]) == 0
    assert max(map(int, Path(f"{journal}.network").read_text().split())) == 3


def test_a_killed_run_finishes_what_is_left_and_computes_nothing_twice(finished: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    slow = command(
        *("--runs", tmp_path / "runs", "--name", "toy"),
        *("--model.diffusion", "toy.SlowToyModel", "--model.diffusion.init_args.journal", journal),
        *("--model.diffusion.init_args.seconds", "0.7", "--data.batch_size", "1"),
    )
    process = subprocess.Popen(
        slow, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    stored = tmp_path / "runs"
    while time.monotonic() < deadline and sum(f.read_bytes().count(b"\n") for f in stored.rglob("rank0.jsonl")) < 4:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = only_run(tmp_path / "runs")
    before = {(u["study"], u["sample_id"]) for u in map(json.loads, (run / "records/rank0.jsonl").open())}
    assert 4 <= len(before) < 14 and not (run / "report.md").exists()
    looked_at = Counter(Path(f"{journal}.log").read_text().split())

    again = subprocess.run(slow, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert "samples are done." in again.stderr
    units = [(u["study"], u["sample_id"]) for u in map(json.loads, (run / "records/rank0.jsonl").open())]
    assert len(units) == len(set(units)) == 14
    # One look a study and sample; the one in flight when the run was killed may be looked at again.
    extra = Counter(Path(f"{journal}.log").read_text().split()) - looked_at
    assert sum(extra.values()) == 14 - len(before)
    assert_same_records(finished, run, 1e-12)


def test_two_processes_find_the_records_of_one(finished: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command("--runs", tmp_path, "--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 1),
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    shares = [
        [json.loads(line)["sample_id"] for line in path.open()] for path in sorted(run.glob("records/rank*.jsonl"))
    ]
    assert [len(set(share)) for share in shares] == [4, 3] and not set(shares[0]) & set(shares[1])
    assert_same_records(finished, run, 1e-6)
    assert done.stdout.count("Report: ") == 1


def test_a_damaged_image_is_recorded_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.cli_main(["--config", TOY, "--runs", str(tmp_path), "--data.corrupt", "[1, 4]"]) == 0
    records = read(only_run(tmp_path))
    assert set(records["failures"]["sample_id"]) == {"toy-1", "toy-4"}
    assert records["prompt_accuracy"]["sample_id"].nunique() == 5
    assert "samples, 2 failed" in capsys.readouterr().out


def test_a_nan_fails_its_own_sample_alone(tmp_path: Path) -> None:
    assert evaluate.cli_main(["--config", TOY, "--runs", str(tmp_path), "--model.diffusion.broken", "[toy-3]"]) == 0
    records = read(only_run(tmp_path))
    assert records["failures"]["error"].str.contains("NaN").all() and len(records["failures"]) == 2
    assert records["time_sweep"]["sample_id"].nunique() == 6


def test_a_solver_that_does_not_converge_says_what_to_do(tmp_path: Path) -> None:
    solver = ["--model.solver", "dmlik_pl.flow.TorchDiffEq", "--model.solver.max_nfe", "20", "--data.limit", "1"]
    assert evaluate.cli_main(["--config", TOY, "--runs", str(tmp_path), *solver]) == 1
    (error,) = set(read(only_run(tmp_path))["failures"].query("study == 'prompt_accuracy/guidance=1'")["error"])
    assert "max_nfe=20" in error and "Multistep" in error


def test_a_setting_that_no_sample_can_meet_stops_the_run(tmp_path: Path) -> None:
    template = ["--model.studies.prompt_accuracy.template", "{tone} and {size}"]
    with pytest.raises(ValueError, match="could not measure the first 3 samples: unknown prompt"):
        evaluate.cli_main(["--config", TOY, "--runs", str(tmp_path), *template])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nonesuch.yaml"], "no configuration 'nonesuch.yaml'"),
        (["--config", TOY, "--data.count", "0"], "no sample to evaluate"),
        (["--config", TOY, "--model.solver.nodes", "3"], "nodes >= 7"),
        (["--config", TOY, "--model.sovler", "x"], "sovler"),
        (["--config", TOY, "--cluster", "speaker"], "no 'speaker' to be clustered by; they have tone, size"),
    ],
)
def test_bad_input_is_one_message_and_exit_status_1(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments, "--runs", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        evaluate.main()
    told = f"{stop.value.code} {capsys.readouterr().err}"
    assert stop.value.code == 1 or str(stop.value.code).startswith("error:")
    assert message in told and "Traceback" not in told


def test_print_config_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        evaluate.cli_main(["--config", TOY, "--model.solver.nodes", "21", "--print_config"])
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["solver"]["init_args"] == {"nodes": 21, "order": 4, "spacing": "log_snr"}
    assert config["model"]["max_batch"] == 64
