"""The examples of docs/own-network.md are whole, run, and give the closed forms that they are about."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dmlik_pl.flow import Condition, Multistep, ProbabilityFlow, RectifiedFlow, log_likelihood
from dmlik_pl.modules.training.likelihoods import measure, summary
from dmlik_pl.modules.training.offers import LikelihoodProblem
from dmlik_pl.studies import Estimator

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "own-network.md").read_text()


def example(heading):
    """The code below a heading that begins so."""
    section = TEXT.split(f"## {heading}")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return code


def run(heading):
    scope = {}
    exec(compile(example(heading), heading, "exec"), scope)
    return scope


def assert_closed_form(result, closed_form, tolerance=0.01):
    assert ((result.log_p - closed_form).abs() < tolerance + 4 * result.standard_error).all()
    assert closed_form.std() > 0.1


def test_velocities_in_either_direction():
    scope = run("A flow-matching velocity")
    assert_closed_form(scope["ours"], scope["closed_form"])
    torch.testing.assert_close(scope["theirs"].log_p, scope["ours"].log_p)


def test_denoisers_and_scores():
    scope = run("A denoiser of EDM")
    assert_closed_form(scope["by_denoiser"], scope["closed_form"], 0.02)
    assert_closed_form(scope["by_score"], scope["closed_form"], 0.02)


def test_conditions_with_a_null_branch(capsys):
    scope = run("Classes or texts")
    normal = torch.distributions.Normal(scope["centres"][:2], 0.5)
    closed = normal.log_prob(scope["x"]).sum(1)
    assert_closed_form(scope["each"], closed)
    assert float(scope["margin"]) == pytest.approx(float(closed[0] - closed[1]), abs=0.05)
    assert capsys.readouterr().out.strip() == "guided flow at w=2"
    assert scope["guided"].log_p.shape == (2,)


def test_sequences_with_masks():
    scope = run("Sequences with masks")
    assert float(scope["padded"].log_p[1]) == pytest.approx(float(scope["short"].log_p[0]), abs=1e-9)
    assert scope["padded"].dims.tolist() == [15, 9]


def test_a_posterior_of_simulation_based_inference():
    scope = run("Simulation-based inference")
    assert (scope["posterior"].log_p - scope["closed_form"]).abs().max() < 0.25
    assert (scope["posterior"].standard_error == 0).all()


def test_maximum_likelihood_by_the_gradient():
    scope = run("The gradient of a likelihood")
    torch.testing.assert_close(scope["shift"].detach(), scope["data"].mean(0), rtol=0, atol=0.02)


def test_the_lora_script_runs_anywhere(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(example("A likelihood curve"))
    code = example("A likelihood curve").split("class LoRA")[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    bits, change = map(float, done.stdout.split("bits per dimension:")[1].split())
    assert math.isfinite(bits) and change != 0


def test_a_training_is_measured_without_lightning_too():
    def problem(scale):
        flow = ProbabilityFlow(lambda x, t, inputs: scale * x, RectifiedFlow(), "velocity")
        x = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
        return LikelihoodProblem(flow, x, Condition(), ["a", "b"])

    estimator = Estimator(Multistep(9))
    start, now = measure(problem(0.0), estimator), measure(problem(0.1), estimator)
    found = summary(now, start, "gain")
    wanted = [
        float(log_likelihood(p.flow, p.x, sample_ids=["a", "b"], solver=Multistep(9)).bpd.mean())
        for p in (problem(0.0), problem(0.1))
    ]
    assert found["bpd"] == pytest.approx(wanted[1])
    assert found["bpd_change"] == pytest.approx(wanted[1] - wanted[0]) and found["bpd_change"] < -0.01


def test_many_conditions_of_one_sample_share_its_probes():
    def velocity(x, t, inputs):
        return torch.sin(3 * x + inputs["angle"][:, None]).cumsum(1)

    flow = ProbabilityFlow(velocity, RectifiedFlow(), "velocity")
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    found = log_likelihood(flow, x, Condition({"angle": angles}), sample_ids=["it"])
    alone = [log_likelihood(flow, x, Condition({"angle": angle[None]}), sample_ids=["it"]).log_p for angle in angles]
    torch.testing.assert_close(found.log_p, torch.cat(alone))
    with pytest.raises(ValueError, match="the inputs of the condition are of 3 samples"):
        log_likelihood(flow, x.expand(2, 4), Condition({"angle": angles}))
