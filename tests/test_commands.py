"""The command ``dmlik`` and its verbs, as somebody new to it types them."""

import csv
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_command_line import TOY, outcome
from test_evaluate import ENVIRONMENT

import dmlik_pl
import evaluate
import train
from dmlik_pl import commands
from dmlik_pl.cli import CONFIGS, find_config, purpose
from dmlik_pl.commands import score
from dmlik_pl.commands.listing import title
from dmlik_pl.commands.scorers import Pictures
from dmlik_pl.flow import Multistep, log_likelihood
from dmlik_pl.interruption import command_line
from dmlik_pl.models import TextToSpeech
from dmlik_pl.modules.suggestions import with_suggestion
from dmlik_pl.results import compare, repeats
from dmlik_pl.results.page import report
from dmlik_pl.speech.audio import write
from dmlik_pl.speech.espeak import Espeak
from dmlik_pl.speech.mel import LogMel
from dmlik_pl.speech.text import EnglishFrontEnd

FEW = ["--nodes", "9"]


def dmlik(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, output, and errors without the signs of life."""
    with pytest.raises(SystemExit) as stop:
        commands.main([str(word) for word in words])
    told = capsys.readouterr()
    return stop.value.code, told.out, re.sub(r"^\[[\d:]+\] .*\n", "", told.err, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two pictures of noise, 8 by 8."""
    folder = tmp_path_factory.mktemp("images")
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return sorted(folder.glob("*.png"))


class TestScore:
    def test_every_image_is_scored_under_every_prompt_on_shared_probes(self, images, tmp_path, capsys) -> None:
        words = ["--model", "digits", "--image", *images, "--prompt", "3", "--prompt", "7", "--guidance", "1", "2"]
        status, shown, errors = dmlik(capsys, "score", *words, "--csv", tmp_path / "scores.csv", *FEW)
        assert (status, errors) == (0, "")
        rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
        assert [(Path(row["file"]).name, row["guidance"], row["prompt"]) for row in rows] == [
            (f"{image}.png", weight, prompt) for image in (0, 1) for weight in ("1.0", "2.0") for prompt in "37"
        ]
        model, names = dmlik_pl.load("digits"), [str(images[1])] * 2
        for guidance, some in ((1.0, rows[4:6]), (2.0, rows[6:])):
            found = dmlik_pl.log_likelihood(
                model, names, ["3", "7"], guidance=guidance, solver=Multistep(9), sample_ids=names
            )
            assert [float(row["log_p"]) for row in some] == pytest.approx(found.log_p.tolist(), rel=1e-6)
            assert [float(row["error"]) for row in some] == pytest.approx(found.error.tolist(), rel=1e-6)
        for row in rows:
            assert float(row["bits_per_dim"]) == pytest.approx(-float(row["log_p"]) / (64 * np.log(2)))
            assert float(row["bits_per_dim_error"]) == pytest.approx(float(row["error"]) / (64 * np.log(2)))
            assert f"{float(row['log_p']):.2f}" in shown
        assert "p(x|y) of pixels in [-1, 1], 64 dimensions" in shown and "± is the total error" in shown

    def test_without_a_prompt_it_is_the_density_of_no_condition(self, images, capsys) -> None:
        status, shown, _ = dmlik(capsys, "score", "--model", "digits", "--image", images[0], *FEW)
        model = dmlik_pl.load("digits")
        assert model.condition("").inputs["label"].tolist() == [10], "the null class"
        found = dmlik_pl.log_likelihood(model, [str(images[0])], guidance=0, solver=Multistep(9))
        assert status == 0 and f"{float(found.log_p):.2f}" in shown and "p(x) of pixels" in shown

    def test_a_sound_is_scored_under_each_text(self, tmp_path, capsys) -> None:
        texts, file = ["horse", "castle"], tmp_path / "horse.wav"
        write(file, Espeak().speak("horse", "en-us"), 22050)
        words = ["--model", "spoken-grad-tts", "--audio", file, "--text", *texts, "--csv", tmp_path / "scores.csv"]
        status, shown, errors = dmlik(capsys, "score", *words, *FEW)
        assert (status, errors) == (0, "") and "log-mel spectrogram" in shown
        rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
        model = TextToSpeech("spoken-grad-tts")
        mel = LogMel()(dmlik_pl.speech.audio.read(file))
        for row, text in zip(rows, texts, strict=True):
            condition = model.condition(model.align(EnglishFrontEnd()(text), mel).mu)
            with torch.no_grad():
                x, names = model.pad(mel), [str(file)]
                own = log_likelihood(model.flow(), x, condition, solver=Multistep(9), sample_ids=names)
            assert row["prompt"] == text and float(row["log_p"]) == pytest.approx(float(own.log_p), abs=0.1)
        assert float(rows[0]["log_p"]) > float(rows[1]["log_p"]) + 100, "it hears which word was said"

    def test_a_file_that_cannot_be_scored_takes_nothing_from_the_others(self, images, tmp_path, capsys) -> None:
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"no image")
        status, shown, _ = dmlik(capsys, "score", "--model", "digits", "--image", images[0], broken, *FEW)
        assert status == 0 and "broken.png is no image that can be read" in shown and "p(x)" in shown
        status, shown, errors = dmlik(capsys, "score", "--model", "digits", "--image", broken, *FEW)
        assert status == 1 and shown == "" and errors.startswith("error: ") and "is no image" in errors

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--model", "digit", "--image", "IMAGE"], "no model 'digit'; did you mean digits?"),
            (["--model", "nonesuch", "--image", "IMAGE"], "the package are digits, shapes-sdxl, spoken-grad-tts"),
            (["--model", "digits", "--image", "none.png"], "no file none.png"),
            (["--model", "digits"], "give the files to score: either --image FILE, or --audio FILE"),
            (["--model", "digits", "--image", "IMAGE", "--text", "a"], "--text does not go with --image"),
            (["--model", "digits", "--audio", "IMAGE"], "a sound is scored under what is said in it: give --text"),
            (["--model", "digits", "--image", "IMAGE", "--promt", "3"], "no option --promt; did you mean --prompt?"),
            (["--modle", "digits", "--image", "IMAGE"], "no option --modle; did you mean --model?"),
            (["--model", "digits", "--image", "IMAGE", "--csv", "none/s.csv"], "--csv none/s.csv: there is no folder"),
            (["--model", "digits", "--image", "IMAGE", "--nodes", "2"], "Multistep needs nodes >= 7"),
            (["--model", "digits", "--image", "IMAGE", "--prompt", "cat"], "knows no class ['cat']; its classes"),
            (["--model", "digits", "--image", "IMAGE", "--guidance", "high"], "invalid float value: 'high'"),
        ],
    )
    def test_what_will_not_do_is_one_message(self, words, told, images, capsys) -> None:
        status, shown, errors = dmlik(capsys, "score", *[images[0] if word == "IMAGE" else word for word in words])
        assert (status, shown) == (1, "") and errors.startswith("error: ") and told in errors
        assert "Traceback" not in errors and "--debug" not in errors

    def test_what_is_measured_is_shown_when_it_is_stopped(self, images, monkeypatch, capsys, tmp_path) -> None:
        measure, seen = Pictures.measure, []

        def interrupted(*arguments):
            if seen:
                raise KeyboardInterrupt
            seen.append(arguments)
            return measure(*arguments)

        monkeypatch.setattr(Pictures, "measure", interrupted)
        words = ["--model", "digits", "--image", *map(str, images), "--csv", str(tmp_path / "scores.csv"), *FEW]
        with pytest.raises(KeyboardInterrupt):
            score.command(words)
        assert "1 of 2 were measured." in capsys.readouterr().out
        assert len(list(csv.DictReader((tmp_path / "scores.csv").open()))) == 1

    def test_the_evaluations_that_it_foretells_are_those_that_it_makes(self, images, monkeypatch) -> None:
        scorer, prompts = (
            Pictures("digits", None, True, device=torch.device("cpu"), nodes=9, probes=1, seed=0),
            ["3", "7"],
        )
        for guidance in (1.0, 0.0, 2.0):
            before = scorer.evaluations
            scorer.measure(str(images[0]), prompts, guidance)
            assert scorer.evaluations - before == scorer.planned(2, guidance)
        scorer.evaluations = 0
        now = [5.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        job = score._Job(scorer, [str(images[0])], prompts, [1.0, 2.0])
        assert job.line() == "0 of 4 scores, 0 of 90 network evaluations"
        scorer.evaluations, now[0] = 18, 7.0
        assert job.line() == "0 of 4 scores, 18 of 90 network evaluations, 0:08 left"


class TestList:
    def test_it_names_every_configuration_study_and_model_in_a_line(self, capsys) -> None:
        status, shown, errors = dmlik(capsys, "list")
        assert (status, errors) == (0, "")
        lines = shown.splitlines()
        assert max(map(len, lines)) <= 80
        for path in CONFIGS.glob("*.yaml"):
            assert [line for line in lines if re.fullmatch(rf"  {path.stem} +{re.escape(title(path))} *", line)], path
        from dmlik_pl import studies

        for name in ("Adaptation", "PromptAccuracy", "Rescoring", "SpeechSweep", "StoredRescoring", "TimeSweep"):
            assert hasattr(studies, name) and re.search(rf"^  {name} ", shown, re.MULTILINE)
        trainings = shown.partition("Trainings:")[2].partition("Added")[0]
        assert "digits_train" in trainings and "shapes_sweep" not in trainings
        assert re.search(r"^  shapes-sdxl +A small `StableDiffusionXLPipeline`", shown, re.MULTILINE)

    def test_every_configuration_begins_with_a_short_title(self) -> None:
        titles = {path.stem: title(path) for path in CONFIGS.glob("*.yaml")}
        assert {name: text for name, text in titles.items() if not 10 <= len(text) <= 48} == {}


class TestWithoutMuch:
    @pytest.mark.parametrize(("program", "verb"), [(evaluate, "evaluate"), (train, "train")])
    def test_alone_it_shows_three_examples_that_are_right(self, program, verb, monkeypatch, capsys) -> None:
        monkeypatch.setattr(sys, "argv", [f"{verb}.py"])
        with pytest.raises(SystemExit) as stop:
            program.main()
        shown = capsys.readouterr().out
        examples = re.findall(rf"^  python {verb}\.py .*--config (\S+)", shown, re.MULTILINE)
        assert stop.value.code == 1 and len(examples) == 3 and shown.count("\n") < 10
        wanted = "an evaluation" if verb == "evaluate" else "a training"
        assert [purpose(CONFIGS / name) for name in examples] == [wanted] * 3

    def test_the_bare_command_names_its_verbs(self, capsys) -> None:
        status, shown, _ = dmlik(capsys)
        assert status == 1 and all(re.search(rf"^  {verb} ", shown, re.MULTILINE) for verb in commands.VERBS)
        assert dmlik(capsys, "--help")[0] == 0

    def test_a_mistyped_verb_names_the_nearest(self, capsys) -> None:
        assert dmlik(capsys, "evalute")[2] == "error: dmlik has no verb 'evalute'; did you mean evaluate?\n"
        assert "there are score, evaluate, train" in dmlik(capsys, "xyz")[2]

    @pytest.mark.parametrize("verb", commands.VERBS)
    def test_every_verb_explains_itself(self, verb, capsys) -> None:
        status, shown, _ = dmlik(capsys, verb, "--help")
        assert status == 0 and shown.startswith(f"usage: dmlik {verb}")

    def test_help_begins_with_the_own_options_and_a_short_usage(self, capsys) -> None:
        _, shown, _ = dmlik(capsys, "evaluate", "--help")
        assert shown.startswith("usage: dmlik evaluate --config NAME.yaml [--option value ...]\n")
        places = [shown.index(option) for option in ("--config", "--runs", "--model.studies", "--data ", "--trainer.")]
        assert places == sorted(places)


class TestConfigurations:
    def test_a_mistyped_name_names_the_nearest(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"no configuration 'shaps.yaml' .*; did you mean shapes.yaml\?$"):
            find_config(["--config", "shaps.yaml"])
        with pytest.raises(FileNotFoundError, match=r"which holds: digits.yaml, "):
            find_config(["--config", "qqqq"])

    def test_the_ending_may_be_left_out(self) -> None:
        assert find_config(["--config=digits"]) == [f"--config={CONFIGS / 'digits.yaml'}"]

    @pytest.mark.parametrize(
        ("script", "words", "told"),
        [
            ("evaluate.py", ["--config", "digits_train.yaml"], "a training, not an evaluation: python train.py fit"),
            ("train.py", ["fit", "--config", "digits.yaml"], "an evaluation, not a training: python evaluate.py"),
            ("dmlik", ["--config", "digits_train.yaml"], "a training, not an evaluation: dmlik train fit"),
        ],
    )
    def test_one_of_the_other_program_says_which(self, script, words, told, monkeypatch, capsys) -> None:
        monkeypatch.setattr(sys, "argv", [script, *words])
        with pytest.raises(SystemExit) as stop:
            (train if script == "train.py" else evaluate).main()
        name = words[-1]
        assert stop.value.code == 1
        assert capsys.readouterr().err == f"error: {name} configures {told} --config {name}\n"

    def test_every_configuration_has_the_purpose_that_its_data_say(self) -> None:
        found = {path.stem: purpose(path) for path in CONFIGS.glob("*.yaml")}
        trains = re.compile("train$|finetune$|^grad_tts_(lj|libri|spoken$)")
        assert {name for name, of in found.items() if of == "a training"} == set(filter(trains.search, found))
        assert purpose(CONFIGS / "wandb.yaml") == purpose(CONFIGS / "grad_tts_spoken_padding.yaml") == ""
        assert purpose(CONFIGS / "rescoring.yaml") == purpose(TOY) == "an evaluation"

    def test_data_are_called_by_their_short_names(self, capsys) -> None:
        words = ["--model.diffusion", "PixelDiffusion", "--data", "Digits", "--data.limit", "3", "--print_config"]
        with pytest.raises(SystemExit):
            evaluate.cli_main(words)
        assert "class_path: dmlik_pl.data.digits.Digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--confg", "x.yaml"], "unrecognized arguments: --confg"),
        (["--model.sed", "3"], "--model.sed 3; did you mean --model.seed?"),
        (["--trainer.devicess", "3"], "did you mean --trainer.devices?"),
        (["--model.solver.nodess", "9"], "Multistep: Option 'nodess' is not accepted, in"),
        (["--model.solver.nodess", "9"], "; did you mean nodes?"),
        (["--model.studies.time_sweep.guidanc", "3"], "'guidanc' is not accepted; did you mean guidance?"),
        (["--model.solver", "Multstep"], "import path string: Multstep; did you mean Multistep?"),
        (["--data", "Shaps"], "import path string: Shaps; did you mean Shapes?"),
        (["--data.lmit", "3"], "'lmit' is not accepted; did you mean limit?"),
    ],
)
def test_a_mistyped_option_names_the_nearest(words, told, monkeypatch, capsys) -> None:
    status, errors = outcome(evaluate, ["--config", TOY, *words], monkeypatch, capsys)
    assert status == 1 and told.removesuffix(", in") in errors and errors.startswith("error: ")


def test_a_setting_is_that_of_the_innermost_class() -> None:
    told = (
        "Problem with given class_path 'dmlik_pl.studies.TimeSweep':\n  Problem with given class_path "
        "'dmlik_pl.flow.Multistep':\n    Option 'nods' is not accepted\nGiven value: 3"
    )
    assert "accepted; did you mean nodes?\nGiven" in with_suggestion(told, [])


@pytest.mark.parametrize(("command", "option"), [(report, "--wandbb"), (compare, "--papre"), (repeats, "--debg")])
def test_the_commands_of_results_name_the_nearest_too(command, option) -> None:
    nearest = {"--wandbb": "--wandb", "--papre": "--paper", "--debg": "--debug"}[option]
    with pytest.raises(ValueError, match=rf"there is no option {option}; did you mean {nearest}\?"):
        command.main(["runs/x", option, "2"])


def test_classes_of_the_current_folder_can_be_named(tmp_path) -> None:
    (tmp_path / "my_data.py").write_text("from dmlik_pl.data.digits import Digits\n\n\nclass Mine(Digits):\n    pass\n")
    words = ["evaluate", "--config", "digits", "--data", "my_data.Mine", "--print_config"]
    run = [sys.executable, "-m", "dmlik_pl.commands", *words]
    environment = ENVIRONMENT | {"PYTHONSAFEPATH": "1"}  # as of an installed script, which does not add the folder
    result = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "class_path: my_data.Mine" in result.stdout


def test_the_command_that_goes_on_is_the_one_that_was_typed(tmp_path, monkeypatch) -> None:
    script = tmp_path / "dmlik"
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python", str(script), "evaluate", "--config", "a b.yaml"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_line() == "dmlik evaluate --config 'a b.yaml'"
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_line() == f"/usr/bin/python {script} evaluate --config 'a b.yaml'"
