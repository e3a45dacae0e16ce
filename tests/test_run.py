"""The folder of a run: the same for the same settings, another for others."""

import json
from pathlib import Path

import pytest

import dmlik_pl
from dmlik_pl.results import run
from dmlik_pl.results.run import part_digests, run_folder, write_settings

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
    write_settings(tmp_path / "run", "model: {}\n", {"sweep/guidance=3": "ab12"})
    assert json.loads((tmp_path / "run" / "parts.json").read_text()) == {"sweep/guidance=3": "ab12"}
    assert (tmp_path / "run" / "config.yaml").read_text() == "model: {}\n"
    versions = json.loads((tmp_path / "run" / "versions.json").read_text())
    assert versions["dmlik_pl"] == dmlik_pl.__version__ and {"torch", "diffusers", "python"} <= versions.keys()


def digests(**changes: object) -> dict[str, str]:
    """Digests of a sweep with the parts guidance 1 and 3, and of another study."""
    sweep = {"class_path": "Sweep", "init_args": {"guidance": [1, 3], "times": [1, 0]} | changes.pop("sweep", {})}
    settings = changed(studies={changes.pop("name", "sweep"): sweep, "prompts": {"class_path": "Prompts"}})
    settings |= changes
    name = next(iter(settings["model"]["studies"]))  # type: ignore[index]
    units = {f"{name}/guidance={w}": (name, f"guidance={w}") for w in (1, 3)} | {"prompts": ("prompts", "")}
    return part_digests(settings, {name: ("guidance",), "prompts": ()}, units)


def test_a_part_is_known_by_what_its_results_depend_on() -> None:
    first = digests()
    assert len(set(first.values())) == 3
    assert digests(sweep={"guidance": [1, 3, 5]}) == first, "what else is in the sweep changes no part"
    assert digests(data={"init_args": {"limit": 99, "per_cell": 2, "batch_size": 1}}) == first, "nor do other samples"
    assert list(digests(name="renamed").values()) == list(first.values())
    other = digests(sweep={"times": [1, 0.5, 0]})
    assert other["prompts"] == first["prompts"], "a study does not depend on another"
    assert not set(other.values()) - {other["prompts"]} & set(first.values())
    assert not set(digests(data={"init_args": {"size": 512}}).values()) & set(first.values())
