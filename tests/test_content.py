"""Digests of files, folders, code and samples: equal for equal content, and for nothing else."""

import dataclasses
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from dmlik_pl.data.base import Sample
from dmlik_pl.data.fingerprint import fingerprint
from dmlik_pl.records import content
from dmlik_pl.records.content import file_digest, folder_digest, own_code_digest


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every file is large enough to be remembered, in a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(content, "_REMEMBERED", 0)
    return tmp_path / "cache" / "dmlik" / "digests.sqlite"


class TestFiles:
    def test_a_large_file_is_read_once(self, remembered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "weights"
        path.write_bytes(b"one")
        first = file_digest(path)
        monkeypatch.setattr(content.hashlib, "file_digest", lambda *a: pytest.fail("it was read again"))
        assert file_digest(path) == first and remembered.is_file()

    def test_one_of_equal_size_and_time_is_told_apart(self, remembered: Path, tmp_path: Path) -> None:
        path = tmp_path / "weights"
        path.write_bytes(b"one")
        times = path.stat()
        first = file_digest(path)
        path.write_bytes(b"two")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_mtime_ns == times.st_mtime_ns and file_digest(path) != first

    def test_a_copy_is_the_same(self, remembered: Path, tmp_path: Path) -> None:
        for name in ("one", "copy"):
            (tmp_path / name).write_bytes(b"one")
        assert file_digest(tmp_path / "one") == file_digest(tmp_path / "copy")

    @pytest.mark.parametrize("obstacle", ["a file", "no database"])
    def test_where_nothing_can_be_remembered_it_is_read(self, remembered: Path, tmp_path: Path, obstacle: str) -> None:
        if obstacle == "a file":
            remembered.parent.parent.write_text("in the way")
        else:
            remembered.parent.mkdir(parents=True)
            remembered.write_text("no database " * 1000)
        (tmp_path / "weights").write_bytes(b"one")
        assert len(file_digest(tmp_path / "weights")) == 32

    def test_folders_count_by_names_and_contents(self, tmp_path: Path) -> None:
        for folder, names in {"a": ("x", "y/z"), "b": ("x", "y/z"), "c": ("x", "y/w")}.items():
            for name in names:
                (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / name).write_text(name[0])
        digests = {name: folder_digest(tmp_path / name) for name in "abc"}
        assert digests["a"] == digests["b"] != digests["c"]
        (tmp_path / "b" / ".git").mkdir()
        (tmp_path / "b" / ".git" / "HEAD").write_text("main")
        (tmp_path / "b" / ".DS_Store").write_text("")
        assert folder_digest(tmp_path / "b") == digests["a"]
        (tmp_path / "b" / "y" / "z").write_text("other")
        assert folder_digest(tmp_path / "b") != digests["a"]


class TestCode:
    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        files = {
            "ours/__init__.py": "",
            "ours/model.py": "from . import parts\nfrom .deep.layers import Layer\nimport torch\n\nclass Model: ...\n",
            "ours/parts.py": "def late():\n    import ours_tools\n",
            "ours/deep/__init__.py": "",
            "ours/deep/layers.py": "class Layer: ...\n",
            "ours_tools.py": "X = 1\n",
            "ours_other.py": "X = 1\n",
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        __import__("ours.model")
        yield tmp_path
        for name in [name for name in sys.modules if name.startswith("ours")]:
            del sys.modules[name]

    @pytest.mark.parametrize("name", ["model.py", "parts.py", "deep/layers.py", "deep/__init__.py", "../ours_tools.py"])
    def test_all_that_is_imported_anywhere_counts(self, project: Path, name: str) -> None:
        before = own_code_digest(["ours.model.Model"])
        (project / "ours" / name).write_text((project / "ours" / name).read_text() + "Y = 2\n")
        assert own_code_digest(["ours.model.Model"]) != before

    def test_what_is_not_imported_does_not(self, project: Path) -> None:
        before = own_code_digest(["ours.model.Model"])
        (project / "ours_other.py").write_text("X = 2\n")
        assert own_code_digest(["ours.model.Model"]) == before

    def test_installed_packages_and_plain_texts_are_no_code_of_ones_own(self) -> None:
        texts = ["torch.nn.Linear", "dmlik_pl.models.StableDiffusionXL", "a photo of a dog.", "v1.5", "os.path", "x"]
        assert own_code_digest(texts) == ""


SAMPLE = Sample("a", torch.tensor([[[0.5, -0.25]]]), "a dog", {"class": "dog", "domain": "photo"}, ["a dog", "a cat"])


class TestFingerprint:
    @pytest.mark.parametrize(
        "change",
        [
            {"sample_id": "b"},
            {"image": torch.tensor([[[0.5, -0.2500001]]])},
            {"image": torch.tensor([[[0.5], [-0.25]]])},
            {"image": torch.tensor([[[0.5, -0.25]]], dtype=torch.float64)},
            {"prompt": "a dog "},
            {"attributes": {"class": "cat", "domain": "photo"}},
            {"attributes": {"class": "dog"}},
            {"candidates": ["a cat", "a dog"]},
        ],
    )
    def test_anything_that_a_study_sees_changes_it(self, change: dict[str, Any]) -> None:
        assert fingerprint(dataclasses.replace(SAMPLE, **change)) != fingerprint(SAMPLE)

    def test_the_order_of_attributes_and_the_place_in_memory_do_not(self) -> None:
        image = torch.tensor([[[0.5, 7.0, -0.25, 7.0]]])[..., ::2]
        same = dataclasses.replace(SAMPLE, image=image, attributes={"domain": "photo", "class": "dog"})
        assert not image.is_contiguous() and fingerprint(same) == fingerprint(SAMPLE)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (["ab", "c"], ["a", "bc"]),
            ([["a"], "b"], [["a", "b"]]),
            ("1", 1),
            (1, 1.0),
            (True, 1),
            (None, ""),
            (math.nan, 0.0),
            (torch.zeros(0), torch.zeros(0, 3)),
            (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16)),
            (np.array(["a", None], dtype=object), np.array(["a", "None"], dtype=object)),
            (pd.DataFrame({"x": [1.0, math.nan]}), pd.DataFrame({"x": [1.0, 2.0]})),
            (pd.DataFrame({"x": ["a"]}), pd.DataFrame({"y": ["a"]})),
            ({"a": 1}, {"b": 1}),
            (b"a", "a"),
        ],
    )
    def test_no_two_values_are_alike(self, one: Any, other: Any) -> None:
        assert fingerprint(one) == fingerprint(one)
        assert fingerprint(one) != fingerprint(other)

    def test_what_cannot_be_told_apart_is_refused(self) -> None:
        with pytest.raises(TypeError, match="holds a object"):
            fingerprint([object()])
