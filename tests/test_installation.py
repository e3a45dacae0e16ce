"""What is installed: a wheel by itself gives the command, its configurations and its models, from any folder."""

import csv
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import dmlik_pl
from dmlik_pl.extras import EXTRAS

ROOT = Path(__file__).parent.parent
SOURCES = ("dmlik_pl", "configs", "pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE")
EVALUATION = sorted(EXTRAS["eval"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy without a network."""
    source, place = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    build = ["wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(place)]
    subprocess.run([sys.executable, "-m", "pip", *build, str(source)], check=True)
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, in which the libraries of the extra `eval` cannot be imported."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), *install], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    outer = [path for path in sys.path if path.endswith("site-packages")]
    # Editable installs in the outer environment hang on its own .pth files, which are not read by way of this one.
    lines = [*outer, f"import sys; sys.modules.update(dict.fromkeys({EVALUATION!r}))"]
    (packages / "outer.pth").write_text("\n".join(lines))
    return folder


def dmlik(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the console script in a folder."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}
    command = [str(installed / "bin" / "dmlik"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_configurations_models_and_one_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    configurations = {name.rpartition("/")[2] for name in names if name.startswith("dmlik_pl/configs/")}
    assert configurations == {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert "dmlik_pl/assets/shapes-sdxl/unet/diffusion_pytorch_model.safetensors" in names
    assert {"dmlik_pl/cards/digits.md", "dmlik_pl/results/published.csv", "dmlik_pl/py.typed"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"dmlik_pl", "dmlik_pl-0.1.0.dist-info"}


def test_an_image_is_scored_in_an_empty_folder_with_the_core_alone(installed: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    image, folder = tmp_path / "noise.png", tmp_path / "empty"
    Image.fromarray(pixels).save(image)
    folder.mkdir()
    words = ["score", "--model", "digits", "--image", str(image), "--prompt", "3", "--csv", str(tmp_path / "s.csv")]
    result = dmlik(installed, folder, *words, "--nodes", "9")
    assert result.returncode == 0, result.stderr
    (row,) = csv.DictReader((tmp_path / "s.csv").open())
    assert (row["file"], row["prompt"], row["dims"], row["density"]) == (str(image), "3", "64", "p(x|y)")
    assert float(row["bits_per_dim"]) == pytest.approx(-float(row["log_p"]) / (64 * np.log(2)))
    here = dmlik_pl.log_likelihood(dmlik_pl.load("digits"), [str(image)], "3", solver=dmlik_pl.Multistep(9))
    assert float(row["log_p"]) == pytest.approx(float(here.log_p), abs=0.01)
    assert float(row["error"]) == pytest.approx(float(here.error), rel=0.01)
    assert f"{float(row['log_p']):.2f}" in result.stdout and list(folder.iterdir()) == []


def test_what_the_core_has_not_is_told_with_its_extra(installed: Path, tmp_path: Path) -> None:
    result = dmlik(installed, tmp_path, "evaluate", "--config", "shapes.yaml")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "needs lightning, which is not installed: pip install 'dmlik-pl[eval]'" in result.stderr


def test_the_list_names_configurations_from_anywhere(installed: Path, tmp_path: Path) -> None:
    result = dmlik(installed, tmp_path, "list")
    assert result.returncode == 0 and "shapes_prompts" in result.stdout and "spoken-grad-tts" in result.stdout


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    other = {"sklearn": "scikit-learn", "webrtcvad": "webrtcvad-wheels"}
    for extra, modules in EXTRAS.items():
        named = [Requirement(line).name for line in project["optional-dependencies"][extra]]
        assert sorted(other.get(module, module.replace("_", "-")) for module in modules) == sorted(named)
