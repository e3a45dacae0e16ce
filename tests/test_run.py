"""The folder of a run: the same for the same settings, another for others."""

import json
import os
from pathlib import Path

import pytest

import dmlik_pl
from dmlik_pl.records import run
from dmlik_pl.records.run import part_digests, run_folder, write_settings

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
    other = changed(max_batch=1) | {"trainer": {"devices": 4}, "runs": "elsewhere", "name": None, "cluster": "speaker"}
    other["data"] = {"init_args": {"limit": 3, "batch_size": 7, "num_workers": 2}}
    assert run_folder(tmp_path, "shapes", other) == run_folder(tmp_path, "shapes", SETTINGS)


def test_new_weights_and_new_source_start_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"one")
    settings = changed(diffusion={"path": str(weights)})
    before = run_folder(tmp_path, "a", settings)
    assert run_folder(tmp_path, "a", settings) == before
    (weights / "model.safetensors").write_bytes(b"two")
    after = run_folder(tmp_path, "a", settings)
    assert after != before
    monkeypatch.setattr(run, "package_digest", lambda rooms: "another solver")
    assert run_folder(tmp_path, "a", settings) not in (before, after)


@pytest.mark.parametrize("name", ["official.pt", "g_02500000", "vocoder.pth", "last.ckpt", "list.txt"])
def test_a_single_file_counts_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"one")
    settings = changed(diffusion={"init_args": {"vocoder": {"init_args": {"path": str(tmp_path / name)}}}})
    before = run_folder(tmp_path, "a", settings)
    (tmp_path / name).write_bytes(b"two")
    assert run_folder(tmp_path, "a", settings) != before


def test_content_counts_and_not_when_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    for name in ("unet.safetensors", "README.md"):
        (tmp_path / "weights" / name).write_bytes(b"one")
    settings = changed(diffusion={"path": str(tmp_path / "weights")})
    before = digests_of(settings)
    for path in (tmp_path / "weights").iterdir():
        os.utime(path, (1, 1))
    (tmp_path / "weights" / ".cache").mkdir()
    (tmp_path / "weights" / ".cache" / "downloaded").write_text("today")
    assert digests_of(settings) == before
    (tmp_path / "weights" / "unet.safetensors").write_bytes(b"two")
    times = os.stat(tmp_path / "weights" / "README.md")
    os.utime(tmp_path / "weights" / "unet.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digests_of(settings) != before


def test_a_copy_of_weights_is_the_same_model(tmp_path: Path) -> None:
    for name in ("weights", "copy", "other"):
        (tmp_path / name / "unet").mkdir(parents=True)
        (tmp_path / name / "unet" / "model.safetensors").write_text("other" if name == "other" else "one")
    one, copy, other = (changed(diffusion={"path": str(tmp_path / name)}) for name in ("weights", "copy", "other"))
    assert digests_of(one) == digests_of(copy) != digests_of(other)
    assert run_folder(tmp_path, "a", one) == run_folder(tmp_path, "a", copy) != run_folder(tmp_path, "a", other)


def test_weights_of_a_hub_count_by_what_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--somebody--model"
    for commit in ("one", "two"):
        (cached / "snapshots" / commit / "unet").mkdir(parents=True)
        (cached / "snapshots" / commit / "unet" / "weights.safetensors").write_text(commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("one")
    settings = changed(diffusion={"init_args": {"path": "somebody/model", "revision": None}})
    main = digests_of(settings)
    (cached / "refs" / "main").write_text("two")
    assert digests_of(settings) != main, "the hub's main branch has moved on"
    pinned = changed(diffusion={"init_args": {"path": "somebody/model", "revision": "one"}})
    fixed = digests_of(pinned)
    (cached / "refs" / "main").write_text("one")
    assert digests_of(pinned) == fixed
    assert run_folder(tmp_path, "a", settings) == run_folder(tmp_path, "a", settings), "before and after a download"


def digests_of(settings: dict[str, object]) -> dict[str, str]:
    study = {"sweep": {"class_path": "Sweep", "init_args": {"times": [1, 0]}}}
    model = settings["model"] | {"studies": study}  # type: ignore[operator]
    return part_digests(settings | {"model": model}, {"sweep": ()}, {"sweep": ("sweep", "")})


@pytest.mark.parametrize(
    "name", ["name", "config", "trainer", "runs", "batch_size", "num_workers", "max_batch", "cluster"]
)
def test_only_settings_of_the_run_itself_are_left_out_and_none_called_alike(tmp_path: Path, name: str) -> None:
    one, other = (changed(diffusion={"init_args": {"channel": {name: value}}}) for value in "AB")
    assert run_folder(tmp_path, "a", one) != run_folder(tmp_path, "a", other)
    assert digests_of(one) != digests_of(other)
    of_data = [SETTINGS | {"data": {"init_args": {"channel": {name: value}}}} for value in "AB"]
    assert run_folder(tmp_path, "a", of_data[0]) != run_folder(tmp_path, "a", of_data[1])


def test_data_count_by_where_they_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for place in ("here", "there"):
        (tmp_path / place / "images").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        folders.append(run_folder(tmp_path, "a", SETTINGS | {"data": {"init_args": {"root": "images"}}}))
    assert folders[0] != folders[1]


def test_a_text_that_could_be_no_path_is_no_weight(tmp_path: Path) -> None:
    odd = ["x" * 5000, "a\0b", "a\nb", "\udce9", "~nobody/x", "", "a/" * 3000]
    assert run_folder(tmp_path, "a", changed(studies={"p": {"prompts": odd}})).name.startswith("a-")


def test_settings_and_versions_are_written(tmp_path: Path) -> None:
    write_settings(tmp_path / "run", "model: {}\n")
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
    assert digests(data={"init_args": {"size": 512}}) == first, "what a sample is, its own fingerprint says"
