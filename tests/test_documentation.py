"""What the documents promise: their example runs and tells the truth, their links and configurations exist."""

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_example_of_the_readme_is_right(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
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
