"""The example of an own study in docs/design.md: built as it stands there, run, and shown again from its records."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three files of the example."""
    folder = tmp_path_factory.mktemp("own")
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = text[text.index("## Adding an experiment") : text.index("## Adding a metric")]
    study, shown = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    (configuration,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    (folder / "mirror_study.py").write_text(study)
    (folder / "mirror_shown.py").write_text(shown)
    (folder / "mirrored.yaml").write_text(configuration)
    assert max(len(file.read_text().splitlines()) for file in folder.iterdir()) < 40
    return folder


def run(folder: Path, *command: str) -> str:
    """What a command of the folder prints."""
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_runs_and_its_numbers_are_those_of_its_records(folder: Path) -> None:
    few = (
        "--data.init_args.limit",
        "3",
        "--model.solver",
        "dmlik_pl.flow.Multistep",
        "--model.solver.init_args.nodes",
        "9",
    )
    run(folder, str(ROOT / "evaluate.py"), "--config", "mirrored.yaml", *few)
    (made,) = (folder / "runs").iterdir()
    records = pd.read_parquet(made / "records" / "mirrored.parquet")
    assert records["view"].tolist() == ["given", "mirrored"] * 3
    given, mirrored = (records.loc[records["view"] == view, "bpd"].to_numpy() for view in ("given", "mirrored"))
    assert np.abs(given - mirrored).max() > 1e-3, "a scene is not its mirror image"
    table = pd.read_csv(made / "tables" / "mirrored.csv").set_index("view")
    assert table["bpd"].to_dict() == pytest.approx({"given": given.mean(), "mirrored": mirrored.mean()})
    own = records[records["view"] == "given"]
    sampling = max(
        given.std(ddof=1) / np.sqrt(3), np.sqrt(own["probe_variance"].sum()) / (3 * own["dims"].iloc[0] * np.log(2))
    )
    grid = (own["discretisation"] / own["dims"]).mean() / np.log(2)
    assert table["bpd_standard_error"]["given"] == pytest.approx(np.hypot(sampling, grid))
    headline = pd.read_csv(made / "tables" / "bits_per_dim.csv")
    assert headline["n"].tolist() == [3] and headline["bpd"][0] == pytest.approx(given.mean())
    report = (made / "report.md").read_text(encoding="utf-8")
    assert "Nobody declares" not in report and "mirrored_bits_per_dim.png" in report

    before = {path: path.read_bytes() for path in (made / "tables").iterdir()}
    shown = run(folder, "-m", "dmlik_pl.results", str(made), "--tables", "--kinds", "mirror_shown")
    assert "Images as given and mirrored." in " ".join(shown.split())
    assert before == {path: path.read_bytes() for path in (made / "tables").iterdir()}
    alone = run(folder, "-m", "dmlik_pl.results", str(made), "--tables")
    assert "as they are called" in " ".join(alone.split()), "nobody declares it there"
