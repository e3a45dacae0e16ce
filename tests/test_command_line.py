"""What the commands refuse, when, and in which words."""

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from lightning import Trainer
from lightning.fabric.plugins.collectives.torch_collective import default_pg_timeout
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import Logger, WandbLogger
from toy import ToyData, ToyModel

import evaluate
import train
from dmlik_pl.callbacks import RecordWriter, ReportLogger, Synthesis
from dmlik_pl.cli import message
from dmlik_pl.data.base import EvaluationData
from dmlik_pl.modules.command_line import PATIENCE, CommandLine
from dmlik_pl.modules.components import Components
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.records.store import RecordStore
from dmlik_pl.studies import TimeSweep

TOY = str(Path(__file__).parent / "toy.yaml")
PROMPTS, SWEEP = "--model.studies.prompt_accuracy.", "--model.studies.time_sweep."


class UntouchableModel(ToyModel):
    """Whoever makes it was too late."""

    def __init__(self) -> None:
        raise AssertionError("a model is loaded")


def outcome(
    program: Any, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit status and standard error of a command."""
    monkeypatch.setattr(sys, "argv", [f"{program.__name__}.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        program.main()
    told = capsys.readouterr().err
    return stop.value.code, "".join(line for line in told.splitlines(True) if not re.match(r"\[\d+:", line))


@pytest.fixture
def toy(tmp_path, monkeypatch, capsys):
    """The toy's evaluation with further arguments, which no report delays: its status and its errors."""
    monkeypatch.setattr("dmlik_pl.callbacks.records.write_report", lambda folder: None)
    own = ["--config", TOY, "--runs", tmp_path / "runs"]
    return lambda *arguments: outcome(evaluate, [*own, *arguments], monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model.max_batch", "-3"], "max_batch must be at least 1, got -3"),
        (["--model.seed", "-1"], "seed must be a seed from 0 to 2**63 - 1, got -1"),
        (["--model.dequantisation_bits", ".nan"], "dequantisation_bits must be at least 0, got nan"),
        ([f"{PROMPTS}confidence", "2"], "confidence must be between 0 and 1, got 2.0"),
        ([f"{PROMPTS}guidance", "[1, .nan]"], "guidance must be a finite number, got [1.0, nan]"),
        ([f"{PROMPTS}elbo_draws", "-2"], "elbo_draws must be at least 0, got -2"),
        ([f"{SWEEP}sizes", "[-2]"], "sizes must be at least 1, got [-2]"),
        ([f"{SWEEP}times", "[1, .nan, 0]"], "times must fall strictly within [0, 1]"),
        (["--data.num_workers", "-1"], "num_workers must be at least 0, got -1"),
        (["--data.limit", "0"], "limit must be at least 1, got 0"),
        (["--model.studies", "{a/b: dmlik_pl.studies.TimeSweep}"], "a study cannot be called 'a/b'"),
        (["--model.studies", "{failures: dmlik_pl.studies.TimeSweep}"], "a study cannot be called 'failures'"),
        (["--model.studies", "{1: dmlik_pl.studies.TimeSweep}"], "a study cannot be called 1"),
        (["--name", "../elsewhere"], "--name is the name of a folder in"),
        (["--model.unknown", "3"], "unrecognized arguments: --model.unknown 3"),
        ([f"{SWEEP}unknown", "3"], "model.studies: dmlik_pl.studies.TimeSweep: Option 'unknown' is not accepted"),
        (["--model.solver.nodes", "few"], "model.solver: dmlik_pl.flow.Multistep: nodes: expected int, got few"),
        (["--model.solver", "nonsense"], "model.solver: expected dot import path string: nonsense"),
        (["--model.diffusion", "toy.ToyData"], "does not correspond to a subclass of DiffusionModel"),
        (["--data", "toy.Nothing"], "data: toy.Nothing: module 'toy' has no attribute 'Nothing'"),
        (["--trainer.devices", "-3"], "there is no trainer with these settings: `devices` selected"),
        (["--trainer.accelerator", "tpu"], "torch_xla"),
        (["--trainer.precision", "bf16-mixed"], "trainer.precision is bf16-mixed"),
        (["--trainer.inference_mode", "true"], "trainer.inference_mode forbids derivatives"),
        (["--trainer.strategy", "ddp_spawn", "--trainer.devices", "2"], "take ddp"),
        ([f"{PROMPTS}template", "{tone} {size} {nope}"], "names 'nope', and the data have only tone, size"),
        ([f"{PROMPTS}template", "{tone}"], "has no {size}, so that all its candidates make the same prompt"),
        ([f"{PROMPTS}template", "{tone} {size"], "expected '}' before end of string"),
        ([f"{PROMPTS}template", "{tone} {size.upper}"], "only the name of an attribute may be in braces"),
        ([f"{PROMPTS}candidates", "{tone: [dark, grey]}"], "the true tone, 'light', is not among its candidates"),
        ([f"{PROMPTS}candidates", "{}"], "candidates is empty"),
        ([f"{SWEEP}sizes", "[4]"], "images of 2 x 2 pixels cannot be made 4 x 4"),
        (["--model.studies", "{s: dmlik_pl.studies.TextGain}"], "TextGain measures a batch of utterances"),
        (["--model.studies", "{s: dmlik_pl.studies.StoredRescoring}"], "measures a batch of n-best lists"),
        (["--model.studies", "null"], "there is nothing to do"),
        (["--model.target", "-1"], "target=-1.0 must be an error above 0"),
        (["--model.target", "0.1", "--model.target_difference", "1"], "give either target"),
        (
            ["--model.target", "0.1", "--model.solver", "dmlik_pl.flow.TorchDiffEq"],
            "configuration has TorchDiffEq",
        ),
        (["--model.max_nfe", "100"], "model.max_nfe bounds what a target costs"),
    ],
)
def test_what_will_not_do_is_refused_before_a_model_is_loaded(arguments, told, toy, tmp_path) -> None:
    model = [] if "--model.diffusion" in arguments or "null" in arguments else ["--model.diffusion"]
    status, errors = toy(*model, *["test_command_line.UntouchableModel"][: len(model)], *arguments)
    assert status == 1 and errors.startswith("error: ") and told in errors
    assert "Traceback" not in errors and "--debug" not in errors and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (bytes(range(256)), "can't decode byte 0x80"),
        ("model: {}".encode("utf-16"), "can't decode byte 0xff"),
        (b"- a\n- b\n", "Unexpected config"),
        (b"", "Unexpected config"),
        (b"model: {a: [1, 2\n", "did not find expected ',' or ']'"),
        (b"modle: {max_batch: 2}\n", "Option 'modle.max_batch' is not accepted"),
        (b"model: {max_batch: few}\n", "model.max_batch: expected int, got few"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(content, told, toy, tmp_path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_bytes(content)
    status, errors = toy("--config", file)
    assert (status, errors.count("\n") < 6) == (1, True) and told in errors and str(file) in errors


def test_a_folder_that_cannot_be_written_to_is_named(toy, tmp_path) -> None:
    (tmp_path / "taken").touch()
    status, errors = toy("--runs", tmp_path / "taken")
    assert status == 1 and errors.startswith(f"error: Not a directory: {tmp_path / 'taken'}")


def test_a_full_disk_is_one_message_and_loses_nothing(toy, tmp_path, monkeypatch) -> None:
    append, stored = RecordStore.append, []

    def full(self: RecordStore, *arguments: Any, **options: Any) -> None:
        if len(stored) == 6:  # three samples in two studies
            raise OSError(28, "No space left on device")
        stored.append(arguments)
        append(self, *arguments, **options)

    monkeypatch.setattr(RecordStore, "append", full)
    status, errors = toy("--data.batch_size", "1")
    assert status == 1 and "No space left on device" in errors and "Traceback" not in errors
    (run,) = (tmp_path / "runs").iterdir()
    assert f"3 of 7 samples are kept in {run}. To resume:" in errors
    monkeypatch.setattr(RecordStore, "append", append)
    assert toy()[0] == 0


def test_a_partial_run_is_called_one_and_goes_on(toy) -> None:
    few = ["--data.batch_size", "2", "--trainer.limit_test_batches"]
    assert [toy(*few, limit)[0] for limit in ("1", "0", "1.0", "1.0")] == [1, 1, 0, 0]


def test_the_last_line_of_a_partial_run_tells_how_to_go_on(toy, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "evaluate.py", "--config", "my toy.yaml"])
    monkeypatch.setattr("dmlik_pl.callbacks.records.write_report", lambda folder: None)
    few = ["--config", TOY, "--runs", str(tmp_path), "--data.batch_size", "3", "--trainer.limit_test_batches", "1"]
    assert evaluate.cli_main(few) == 1
    *_, kept, command = capsys.readouterr().out.splitlines()
    (run,) = tmp_path.iterdir()
    assert kept == f"3 of 7 samples are kept in {run}. To resume:"
    assert command == "    python evaluate.py --config 'my toy.yaml'"


def test_debug_shows_where_an_error_came_from(toy) -> None:
    status, errors = toy("--model.max_batch", "0", "--debug")
    assert status == 1 and "Traceback" in errors and errors.rstrip().endswith("max_batch must be at least 1, got 0")


@pytest.mark.parametrize(("program", "arguments"), [(evaluate, []), (train, ["fit"])])
def test_help_tells_of_debug(program, arguments, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *arguments, "--help"])
    with pytest.raises(SystemExit) as stop:
        program.main()
    assert stop.value.code == 0 and "--debug" in capsys.readouterr().out


def test_what_nobody_expects_is_named_with_where_to_learn_more() -> None:
    assert message(KeyError("missing")) == "KeyError: 'missing'\nAdd --debug to the command to see where it came from."
    assert message(ZeroDivisionError()).startswith("ZeroDivisionError\nAdd --debug")
    assert message(FileNotFoundError(2, "No such file or directory", "x.csv")) == "No such file or directory: x.csv"
    assert message(ValueError("as it was said")) == "as it was said"
    assert message(RuntimeError("no space")) != "no space"
    try:
        raise RuntimeError("no space") from OSError(28, "No space left on device")
    except RuntimeError as error:
        assert message(error) == "no space"


def test_a_setting_that_is_passed_on_and_unknown_is_one_message(monkeypatch, capsys) -> None:
    words = ["fit", "--config", "digits_train.yaml", "--model.unet", "{wings: 2}"]
    status, errors = outcome(train, words, monkeypatch, capsys)
    assert status == 1 and "--debug" not in errors
    assert "a setting of PixelDiffusionTraining is unknown" in errors and "'wings'" in errors


def test_a_trainer_of_ones_own_that_casts_is_refused(tmp_path) -> None:
    module = Evaluation(ToyModel(), {"sweep": TimeSweep(times=[1.0, 0.0])})
    options = {"logger": False, "enable_progress_bar": False, "inference_mode": False, "accelerator": "cpu"}
    trainer = Trainer(precision="bf16-mixed", default_root_dir=tmp_path, **options)
    with pytest.raises(ValueError, match=r"trainer.precision is bf16-mixed.*`dtype`"):
        trainer.test(module, datamodule=ToyData())


class Unreachable(Logger):
    """A logger whose server is gone."""

    name = version = "unreachable"

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def log_metrics(self, *_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")


def test_a_logger_that_fails_takes_nothing_from_a_run(tmp_path, monkeypatch, capsys, caplog) -> None:
    words = ["--config", TOY, "--runs", tmp_path, "--data.limit", "2"]
    status, _ = outcome(evaluate, [*words, "--trainer.logger", "test_command_line.Unreachable"], monkeypatch, capsys)
    (run,) = tmp_path.iterdir()
    assert status == 0 and (run / "report.html").is_file()
    assert f"Unreachable failed, and the report is in {run}: no route to host" in caplog.text


def test_a_logger_that_cannot_start_is_told_before_anything_is_computed() -> None:
    class Wandb(WandbLogger):
        def __init__(self) -> None:
            pass

        @property
        def experiment(self) -> Any:
            raise ConnectionError("no route to host")

    trainer: Any = SimpleNamespace(loggers=[Wandb()], is_global_zero=True)
    with pytest.raises(ValueError, match="Wandb cannot be started: no route to host"):
        ReportLogger(RecordWriter("runs")).on_test_start(trainer, Evaluation(ToyModel(), {"s": TimeSweep()}))


def test_a_training_does_not_end_for_what_it_sounds_like(tmp_path) -> None:
    def mute(batch: Any, limit: int, seed: int) -> list[Any]:
        raise RuntimeError("fewer frames than tokens")

    trainer: Any = SimpleNamespace(current_epoch=0, sanity_checking=False, is_global_zero=True, global_step=7)
    module: Any = SimpleNamespace(speech_examples=mute)
    callback = Synthesis(samples=2)
    callback.on_validation_epoch_start(trainer, module)
    with pytest.warns(UserWarning, match="cannot be spoken after 7 steps: fewer frames than tokens"):
        callback.on_validation_batch_end(trainer, module, None, None, 0)


class Reference(EvaluationData):
    """Data that are not there."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self.root = root

    def test_set(self) -> Any:
        raise FileNotFoundError(f"no data in {self.root}")


class Weights:
    """Something with weights; it writes down that it was made, and whether it might have downloaded them."""

    made: list[str] = []  # noqa: RUF012

    def __init__(self, path: str, part: "Weights | None" = None) -> None:
        from huggingface_hub import constants

        Weights.made.append(f"{path}{'' if constants.HF_HUB_OFFLINE else ', fetched'}")
        if not Path(path).exists():
            raise FileNotFoundError(f"no weights in {path}")


def build(tmp_path: Path, data: str, weights: str, part: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=Reference)
    parser.add_argument("--weights", type=Weights)
    words = [f"--data.root={data}", f"--weights.path={weights}", f"--weights.part.path={part}"]

    def listed(component: Any) -> None:
        if isinstance(component, Reference) and not Path(component.root).exists():
            component.sample_ids()

    components = Components(parser, parser.parse_args(words), listed)
    Weights.made = []
    for key in ("data", "weights"):
        components.make(key)
    components.finish()
    assert components.config.weights.__class__ is Weights


def test_all_that_is_missing_is_named_at_once_and_nothing_is_fetched(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    here = str(tmp_path)
    with pytest.raises(ValueError, match="3 things are missing or wrong") as error:
        build(tmp_path, "no/data", "no/weights", "no/part")
    for missing in ("no data in no/data", "no weights in no/weights", "no weights in no/part"):
        assert missing in str(error.value)
    assert Weights.made == ["no/part", "no/weights"], "data are looked at first, then nothing is fetched"
    with pytest.raises(FileNotFoundError, match=r"^no data in no/data$"):
        build(tmp_path, "no/data", here, here)
    assert Weights.made == [], "weights that are there are not loaded in vain"
    with pytest.raises(FileNotFoundError, match=r"^no weights in no/weights$"):
        build(tmp_path, here, "no/weights", here)
    build(tmp_path, here, here, here)
    assert Weights.made == [f"{here}, fetched"] * 2


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ("sdxl_pacs.yaml", ["data/pacs", "no model at 'no/such/sdxl'", "no CLIP model at 'no/clip'"]),
        (
            "grad_tts_sweep.yaml",
            ["data/LJSpeech-1.1", "models/grad-tts/grad-tts.pt", "models/hifigan", "'no/whisper'", "'no/voices'"],
        ),
        ("grad_tts_rescoring.yaml", ["data/nbest_wav2vec2_lm.csv.gz", "models/grad-tts/grad-tts.pt"]),
        (
            "tedlium_adaptation.yaml",
            ["data/TEDLIUM_release-3", "models/grad-tts/grad-tts.pt", "models/hifigan", "data/LJSpeech-1.1"],
        ),
    ],
)
def test_a_bare_machine_is_told_all_that_a_configuration_needs(config, missing, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    places = {
        "sdxl_pacs.yaml": [
            *("--model.diffusion.init_args.path", "no/such/sdxl"),
            *(f"{PROMPTS}init_args.clip", "no/clip", f"{SWEEP}init_args.clip", "no/clip"),
        ],
        "grad_tts_sweep.yaml": [
            *("--model.studies.speech_sweep.init_args.recogniser.init_args.path", "no/whisper"),
            *("--model.studies.speech_sweep.init_args.speaker_encoder.init_args.path", "no/voices"),
        ],
    }
    status, errors = outcome(evaluate, ["--config", config, *places.get(config, [])], monkeypatch, capsys)
    assert status == 1 and "Traceback" not in errors
    assert [each for each in missing if each not in errors] == []


@pytest.mark.parametrize(
    ("strategy", "devices", "timeout"),
    [
        ("auto", 2, PATIENCE),
        ("ddp", 2, PATIENCE),
        ("ddp_find_unused_parameters_true", 2, PATIENCE),
        ("ddp_notebook", 2, PATIENCE),
        ("ddp_spawn", 2, PATIENCE),
        ('{"class_path": "lightning.pytorch.strategies.DDPStrategy"}', 1, PATIENCE),
        (
            '{"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"timeout": "0:05:00"}}',
            2,
            timedelta(minutes=5),
        ),
    ],
)
def test_processes_wait_for_one_another(strategy, devices, timeout, monkeypatch) -> None:
    """Whatever the strategy: what it gives to the process group is looked at where they connect."""
    connected = []
    connect = "lightning.pytorch.strategies.ddp._init_dist_connection"
    monkeypatch.setattr(connect, lambda *arguments, **options: connected.append(options["timeout"]))
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))  # Lightning's changes end with the test
    options = {"run": False, "save_config_callback": None, "seed_everything_default": False}
    words = ["--trainer.accelerator=cpu", f"--trainer.devices={devices}", f"--trainer.strategy={strategy}"]
    CommandLine(BoringModel, args=words, **options).trainer.strategy.setup_distributed()
    assert connected == [timeout] and timeout != default_pg_timeout
