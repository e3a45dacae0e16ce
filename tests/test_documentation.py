"""What the documents promise: their example runs and tells the truth, their links and configurations exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_first_examples_of_the_readme_are_right(capsys):
    door, network, _ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope = {}
    for example in (door, network):
        exec(compile(example, "README.md", "exec"), scope)
    assert "p(x|y) of VAE latents times 1.15458, 256 dimensions; 33 calls" in capsys.readouterr().out
    closed_form = torch.distributions.Normal(0.0, 0.5).log_prob(scope["x"]).sum(1)
    assert ((scope["own"].log_p - closed_form).abs() < 4 * scope["own"].standard_error + 1e-2).all()


def test_the_example_of_the_readme_is_right(capsys):
    *_, example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    scope = {}
    exec(compile(example, "README.md", "exec"), scope)
    result = scope["result"]
    closed_form = -scope["model"].log_prob(scope["x"]) / (16 * torch.log(torch.tensor(2.0)))
    assert ((result.bpd - closed_form).abs() < 4 * result.bpd_standard_error + 1e-2).all()
    assert result.density == "p(x|y)" and (result.nfe.forward, result.nfe.vjp) == (33, 33)
    assert "closed form" in capsys.readouterr().out
    assert len(example.strip().splitlines()) <= 12


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_configurations_exist(document):
    for name in re.findall(r"(?:--config |CONFIG=|`)([a-z_]+\.yaml)", document.read_text()):
        assert name == "config.yaml" or (ROOT / "configs" / name).exists(), f"{document.name} names {name}"
