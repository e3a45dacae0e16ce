"""Files are whole at any moment, and an error names the file that was to be written."""

from pathlib import Path

import pytest

from dmlik_pl.records.files import draft_of, write_text


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.md"
    write_text(path, "old")
    with draft_of(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old" and draft.suffix == ".md"
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "old")
    with pytest.raises(KeyError), draft_of(path) as draft:
        draft.write_text("half")
        raise KeyError("killed")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_its_draft(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"report\.md") as error, draft_of(tmp_path / "report.md") as draft:
        draft.mkdir()
        draft.write_text("a folder is in the way")
    assert error.value.filename == str(tmp_path / "report.md")


def test_what_cannot_be_encoded_is_written_as_its_escape(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "caf\udce9 \N{SNOWMAN}")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "caf\\udce9 \N{SNOWMAN}"
