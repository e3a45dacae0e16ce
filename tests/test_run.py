"""The folder of a run: the same for the same settings, another for others."""

import json
from pathlib import Path

import pytest

import dmlik_pl
from dmlik_pl.results import run
from dmlik_pl.results.run import run_folder, write_settings

SETTINGS = {
    "model": {"seed": 0, "max_batch": 8, "solver": {"init_args": {"nodes": 33}}, "diffusion": {"path": "weights"}},
    "data": {"init_args": {"limit": 3, "batch_size": 2, "num_workers": 0}},
    "trainer": {"devices": 1},
    "runs": "runs",
}


def changed(**model: object) -> dict[str, object]:
    return SETTINGS | {"model": SETTINGS["model"] | model}  # type: ignore[operator]


def test_settings_that_change_results_change_the_folder(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "shapes", SETTINGS)
    assert folder.parent == tmp_path and folder.name.startswith("shapes-") and len(folder.name) == len("shapes-") + 8
    assert run_folder(tmp_path, "shapes", changed(seed=1)) != folder
    assert run_folder(tmp_path, "shapes", SETTINGS | {"data": {"init_args": {"limit": 4}}}) != folder


def test_settings_that_change_none_do_not(tmp_path: Path) -> None:
    other = changed(max_batch=1) | {"trainer": {"devices": 4}, "runs": "elsewhere", "name": None}
    other["data"] = {"init_args": {"limit": 3, "batch_size": 7, "num_workers": 2}}
    assert run_folder(tmp_path, "shapes", other) == run_folder(tmp_path, "shapes", SETTINGS)


def test_new_weights_and_new_source_start_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"one")
    settings = changed(diffusion={"path": str(weights)})
    before = run_folder(tmp_path, "a", settings)
    assert run_folder(tmp_path, "a", settings) == before
    (weights / "model.safetensors").write_bytes(b"other")
    after = run_folder(tmp_path, "a", settings)
    assert after != before
    (tmp_path / "official.pt").write_bytes(b"one")
    of_file = changed(diffusion={"path": str(tmp_path / "official.pt")})
    with_file = run_folder(tmp_path, "a", of_file)
    (tmp_path / "official.pt").write_bytes(b"other")
    assert run_folder(tmp_path, "a", of_file) != with_file
    monkeypatch.setattr(run, "_source_digest", lambda: "another solver")
    assert run_folder(tmp_path, "a", settings) not in (before, after)


def test_settings_and_versions_are_written(tmp_path: Path) -> None:
    write_settings(tmp_path / "run", "model: {}\n")
    assert (tmp_path / "run" / "config.yaml").read_text() == "model: {}\n"
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert versions["dmlik_pl"] == dmlik_pl.__version__ and {"torch", "diffusers", "python"} <= versions.keys()
