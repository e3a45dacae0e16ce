"""The rooms of the package stay apart, and the environment stays lean."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_rooms_import_only_what_they_may():
    """The contracts of pyproject.toml: flow knows nothing, results run without a model, nothing calls back up."""
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("package", ["torchvision", "torchaudio", "torchcodec", "torch-fidelity"])
def test_nothing_drags_in(package):
    """Compiled companions of torch break where their versions do not match: the project needs none of them."""
    with pytest.raises(PackageNotFoundError):
        version(package)
