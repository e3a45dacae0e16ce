"""Commands that are stopped: what they say, what they leave, and that they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_evaluate import ENVIRONMENT, ROOT, command, only_run

from dmlik_pl.interruption import command_line

PATIENCE = 200  # seconds; nothing here takes that long on a machine that is not very busy


def script(body: str) -> list[str]:
    """A command that says when it is ready, in which `wait` goes on until something ends it."""
    return [
        sys.executable,
        "-c",
        "import os, signal, subprocess, sys, threading, time\n"
        "from types import SimpleNamespace\n"
        "from dmlik_pl import interruption\n"
        "from dmlik_pl.cli import run\n"
        "def trainer(*others):\n"
        "    return SimpleNamespace(strategy=SimpleNamespace(launcher=SimpleNamespace(procs=[*others])))\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    while True: time.sleep(0.01)\n"
        f"{body}\n"
        "run(command)\n",
    ]


def start(words: list[str], folder: Path, **options) -> subprocess.Popen:
    return subprocess.Popen(
        words,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Who starts the tests may have told processes to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def ready(process: subprocess.Popen) -> subprocess.Popen:
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def told(process: subprocess.Popen) -> tuple[int, str]:
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def is_gone(process: int, kill=os.kill) -> bool:
    """Whether a process, or with `os.killpg` a group of them, ends."""
    for _ in range(100 * PATIENCE):
        try:
            kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


PLAIN = "def command(): interruption.watch(trainer(), lambda: '3 of 7 samples are kept'); wait()"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_says_what_is_kept_and_has_the_status_of_a_shell(name: str, tmp_path: Path) -> None:
    process = ready(start(script(PLAIN), tmp_path))
    process.send_signal(getattr(signal, name))
    assert told(process) == (128 + getattr(signal, name), f"stopped by {name}\n3 of 7 samples are kept\n")


def test_a_signal_while_a_run_is_resumed_says_what_earlier_ones_kept(tmp_path: Path) -> None:
    body = "def command(): interruption.note(lambda: 'old results are kept'); wait()"
    process = ready(start(script(body), tmp_path))
    process.send_signal(signal.SIGTERM)
    assert told(process) == (143, "stopped by SIGTERM\nold results are kept\n")
    body = "def command(): interruption.note(lambda: 'old results are kept'); print('ready', flush=True); open('none')"
    assert told(ready(start(script(body), tmp_path))) == (1, "error: No such file or directory: none\n")


def test_a_signal_before_anything_is_kept_says_so(tmp_path: Path) -> None:
    process = ready(start(script("command = wait"), tmp_path))
    process.send_signal(signal.SIGTERM)
    assert told(process) == (143, "stopped by SIGTERM\nNothing is kept yet.\n")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    ignores = f"signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{PLAIN}"  # as `nohup` does
    process = ready(start(script(ignores), tmp_path))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert told(process)[0] == 143


# The second lock of a plain mutex waits in C for ever, as a collective does whose other processes are late.
STUCK = """
import ctypes
def command():
    interruption.watch(trainer(), lambda: '3 of 7 samples are kept')
    interruption.REACT = 0.1
    mutex = ctypes.create_string_buffer(128)
    print('ready', flush=True)
    for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""


def test_a_process_that_waits_where_python_hears_nothing_ends_all_the_same(tmp_path: Path) -> None:
    process = ready(start(script(STUCK), tmp_path))
    process.send_signal(signal.SIGTERM)
    assert told(process) == (143, "stopped by SIGTERM\n3 of 7 samples are kept\n")


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """The first is swallowed, as by a library that catches everything; the time to close files is not waited for."""
    stubborn = f"""
interruption.UNWIND = {10 * PATIENCE}
def command():
    try: wait()
    except BaseException: print('ready', flush=True)
    while True: time.sleep(0.01)
"""
    process = ready(start(script(stubborn), tmp_path))
    process.send_signal(signal.SIGINT)
    ready(process)
    time.sleep(1.0)  # longer than what counts as one signal
    process.send_signal(signal.SIGINT)
    assert told(process)[0] == 130


def test_a_forked_process_has_signals_of_its_own(tmp_path: Path) -> None:
    """One that loads data is told to end by its loader, which must not end the run."""
    forks = """
def command():
    child = os.fork()
    if child == 0:
        while True: time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    time.sleep(1.0)  # longer than the watch takes to look
    print(os.WTERMSIG(status))
"""
    process = start(script(forks), tmp_path)
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, f"{int(signal.SIGTERM)}\n")


def test_the_death_of_another_process_of_the_run_ends_all(tmp_path: Path) -> None:
    both = """
def command():
    dead = subprocess.Popen([sys.executable, '-c', 'raise SystemExit(3)'])
    alive = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(10000)'])
    print(alive.pid, flush=True)
    interruption.watch(trainer(dead, alive), lambda: '3 of 7 samples are kept')
    wait()
"""
    process = start(script(both), tmp_path)
    alive = int(process.stdout.readline())
    ready(process)
    expected = "error: another process of this run ended with status 3\n3 of 7 samples are kept\n"
    assert told(process) == (1, expected)
    assert is_gone(alive)


def test_an_error_says_what_is_kept_and_ends_the_others(tmp_path: Path) -> None:
    fails = """
def command():
    alive = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(10000)'])
    print(alive.pid, flush=True)
    interruption.watch(trainer(alive), lambda: '3 of 7 samples are kept')
    raise ValueError('the disk is full')
"""
    process = start(script(fails), tmp_path)
    alive = int(process.stdout.readline())
    assert told(process) == (1, "error: the disk is full\n3 of 7 samples are kept\n")
    assert is_gone(alive)


def test_the_command_is_told_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "fit", "--ckpt_path", "old one", "--name", "it's"])
    assert command_line() == """python train.py fit --ckpt_path 'old one' --name 'it'"'"'s'"""
    expected = """python train.py fit --name 'it'"'"'s' --ckpt_path new.ckpt"""
    assert command_line("--ckpt_path", "new.ckpt") == expected
    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py", "--ckpt_path=old", "fit"])
    assert command_line("--ckpt_path", "new.ckpt") == "python train.py fit --ckpt_path new.ckpt"


def await_lines(folder: Path, count: int, process: subprocess.Popen) -> None:
    """Wait until so many units are stored."""
    deadline = time.monotonic() + PATIENCE
    while sum(file.read_bytes().count(b"\n") for file in folder.rglob("rank*.jsonl")) < count:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def test_a_run_of_two_processes_that_is_stopped_tells_which_command_goes_on(tmp_path: Path) -> None:
    slow = command(
        *("--runs", tmp_path / "runs", "--name", "toy", "--data.batch_size", 1),
        *("--model.diffusion", "toy.SlowToyModel", "--model.diffusion.init_args.journal", tmp_path / "journal"),
        *("--model.diffusion.init_args.seconds", "0.5", "--trainer.devices", 2, "--trainer.strategy", "ddp"),
    )
    process = start(slow, tmp_path, start_new_session=True)
    await_lines(tmp_path / "runs", 4, process)  # of fourteen
    process.send_signal(signal.SIGTERM)
    status, errors = told(process)
    run = only_run(tmp_path / "runs")
    assert status == 143 and not (run / "report.md").exists()
    first, kept, line = errors.splitlines()[-3:]
    assert first == "stopped by SIGTERM" and kept.endswith(f" of 7 samples are kept in {run}. To resume:")
    assert 1 <= int(kept.split()[0]) < 7 and line.split()[1:] == slow[1:]
    assert is_gone(process.pid, os.killpg), "no process of the run is left"


def test_a_training_that_is_stopped_tells_its_last_checkpoint(tmp_path: Path) -> None:
    few = {
        "model.init_args.output": tmp_path / "model",
        "model.init_args.unet": '{"block_out_channels": [8, 16]}',
        "model.init_args.validation_draws": 1,
        "trainer.max_steps": 100_000,
        "trainer.limit_val_batches": 1,
        "trainer.limit_train_batches": 2,
        "trainer.check_val_every_n_epoch": 1,
        "trainer.logger.init_args.save_dir": tmp_path,
        "trainer.enable_progress_bar": "false",
    }
    words = [sys.executable, str(ROOT / "train.py"), "fit", "--config", "digits_train.yaml"]
    process = start([*words, *(f"--{name}={value}" for name, value in few.items())], tmp_path)
    deadline = time.monotonic() + PATIENCE
    while not (found := list(tmp_path.rglob("last.ckpt"))):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    status, errors = told(process)
    first, kept, line = errors.splitlines()[-3:]
    assert (status, first) == (130, "stopped by SIGINT")
    assert kept == f"The last checkpoint is {line.split()[-1]}. To resume:"
    assert line.split()[1:5] == words[1:] and line.split()[-2] == "--ckpt_path"
    assert Path(line.split()[-1]).parent == found[0].parent
