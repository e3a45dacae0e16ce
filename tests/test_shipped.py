"""Where a named model lies: on the disk, in the package, or in the cache of the hub."""

from pathlib import Path

import pytest

from dmlik_pl.shipped import ASSETS, locate, resolved

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model, its branch "main" and a commit that no branch names."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--owner--name"
    for commit in (COMMIT, "f" * 40):
        (model / "snapshots" / commit).mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return model


def test_a_hub_id_is_its_snapshot_in_the_cache(cache: Path) -> None:
    assert resolved("owner/name") == cache / "snapshots" / COMMIT
    assert resolved("owner/name", "f" * 40) == cache / "snapshots" / ("f" * 40)
    assert resolved("owner/name", "fp16") is None
    assert resolved("owner/other") is None


def test_a_path_is_itself_and_a_shipped_name_its_folder(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.touch()
    assert resolved(str(file)) == file
    assert resolved(str(tmp_path)) == tmp_path
    assert resolved("shapes-sdxl") == ASSETS / "shapes-sdxl" == Path(locate("shapes-sdxl"))


@pytest.mark.parametrize("text", ["", "a photo of a dog", "x" * 5000, "nul\0", "../assets", "~nobody/x", "a/b/c", "."])
def test_other_texts_are_no_model(cache: Path, text: str) -> None:
    assert resolved(text) == (Path(".") if text == "." else None)
    assert locate(text) == text
