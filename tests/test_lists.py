"""Lists and folders as they are handed in: what is read, what is left out, and what is told of damaged ones."""

import gzip
import os
from pathlib import Path

import pytest

from dmlik_pl.data.filelists import read_filelist
from dmlik_pl.data.names import readable, require_unique, sample_name
from dmlik_pl.speech.lists import read_csv, read_json_lines, read_lines
from dmlik_pl.speech.search import find_files, require_file


def test_lines_end_with_line_feeds_alone(tmp_path: Path) -> None:
    odd = "one\u2028still one\x0b\x0c\x1c\x85 and one\rmore"
    (tmp_path / "a.txt").write_bytes(f"\ufeff{odd}\r\ntwo\n".encode())
    assert read_lines(tmp_path / "a.txt") == [odd, "two", ""]
    rows = f'a,"{odd}"\r\n\r\nb,"two\r\nlines"\r\nc,"x\u2028y"\r\n'
    (tmp_path / "b.csv").write_bytes(f"\ufeffname,text\r\n{rows}".encode())
    table = read_csv(tmp_path / "b.csv")
    assert table.columns == ["name", "text"]
    assert table.rows == [(2, ["a", odd]), (4, ["b", "two\r\nlines"]), (6, ["c", "x\u2028y"])]
    (tmp_path / "c.jsonl").write_bytes(b'\xef\xbb\xbf{"a": "x\xe2\x80\xa8y"}\r\n\r\n{"a": 2}\n')
    assert read_json_lines(tmp_path / "c.jsonl") == [(1, {"a": "x\u2028y"}), (3, {"a": 2})]


def test_a_cell_may_be_longer_than_pythons_limit(tmp_path: Path) -> None:
    import csv

    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f"name,text\na,{'x' * 140_000}\nb\n")
    assert read_csv(tmp_path / "a.csv").rows == [(2, ["a", "x" * 140_000]), (3, ["b", ""])]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("name,text\na,é\n".encode("utf-16"), "line 1: the file is in UTF-16"),
        ("name,text\na,b\n".encode("utf-16-be"), "line 1 holds a zero byte"),
        ("name,text\na,caf\xe9\n".encode("latin-1"), "line 2 is not UTF-8 (byte 0xe9)"),
        (b"\x89PNG\r\n\x1a\n\0\0", "line 1 is not UTF-8 (byte 0x89)"),
        (b"name,text\na,b,c\n", "line 2 has 3 cells in 2 columns"),
        (b'name,text\n"x",y\n\n"a,b\nc,d\n', "line 4 is not CSV: unexpected end of data"),
        (b'name,text\na,"b" c\n', "line 2 is not CSV: ',' expected after '\"'"),
        (b"name,text\na,b\rc,d\n", "line 2 is not CSV: new-line character"),
    ],
    ids=["utf-16", "without-mark", "latin-1", "picture", "cells", "open-quote", "quote", "return"],
)
def test_a_list_that_is_none_is_named_with_the_line(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as wrong:
        read_csv(path)
    assert str(wrong.value).startswith(f"{path}, {told}")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"a": ', "line 2 is not JSON"),
        ("[1]", "line 2 is not a JSON object"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "line 2 is not JSON: Exceeds the limit"),
        (r'{"a": "\ud800"}', "line 2 holds half a character"),
    ],
)
def test_a_line_that_is_no_object_is_named(line: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"a": "😀 \ud83d\ude00"}' + f"\n{line}\n")
    with pytest.raises(ValueError) as wrong:
        read_json_lines(path)
    assert str(wrong.value).startswith(f"{path}, {told}")


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n" + bytes(range(65, 91)) * 50)
    damaged = {"cut": whole[:-20], "head": whole[:5], "none": b"a,b\n", "zeros": whole[:20] + bytes(99)}
    for name, content in damaged.items():
        path = tmp_path / f"{name}.csv.gz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} is damaged, or not a gzip file"):
            read_csv(path)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_lines(tmp_path / "gone.txt")


def test_hidden_files_and_folders_are_left_out_at_every_depth(tmp_path: Path) -> None:
    kept = ["a.png", "b/c.PNG", "b/d/e.png", "b.png"]
    hidden = [
        *(".a.png", "._a.png", ".ipynb_checkpoints/a.png", ".Trash/b/a.png", "__MACOSX/a.png", "b/__MACOSX/b/a.png"),
        *("b/.ipynb_checkpoints/a-checkpoint.png", "b/d/@eaDir/e.png/thumb.png", "b/d/.e.png", "lost+found/a.png"),
        *("a.txt", "png", "b/$RECYCLE.BIN/a.png"),
    ]
    for name in kept + hidden:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "device.png")
    os.symlink(tmp_path / "gone", tmp_path / "gone.png")
    os.symlink(tmp_path, tmp_path / "b" / "loop")
    os.symlink(tmp_path / "b" / "d", tmp_path / "again")
    found = [str(path.relative_to(tmp_path)) for path in find_files(tmp_path, (".png",))]
    assert found == ["a.png", "again/e.png", "b/c.PNG", "b/d/e.png", "b.png", "gone.png"]
    root = tmp_path / ".hidden"
    (root / "x").mkdir(parents=True)
    (root / "x" / "a.png").write_text("")
    assert len(find_files(root, (".png",))) == 1  # what was asked for by name is not hidden
    with pytest.raises(ValueError, match=r"folder .*nowhere cannot be read: No such file"):
        find_files(tmp_path / "nowhere", (".png",))
    for name in ("pipe.png", "device.png", "folder.png"):
        with pytest.raises(ValueError, match="not a file"):
            require_file(tmp_path / name)


def test_names_are_valid_text_and_different_files_have_different_ones(tmp_path: Path) -> None:
    stored = (b"caf\xe9.png", b"caf\\xe9.png", b"caf\xc3\xa9.png", b"a\\b.png", b"a/b.png")
    files = [os.fsdecode(name) for name in stored]
    names = [sample_name(tmp_path / file, tmp_path) for file in files]
    assert names == [r"caf\xe9.png", r"caf\\xe9.png", "café.png", r"a\\b.png", "a/b.png"]
    assert [name.encode() for name in names] and len(set(names)) == 5
    assert sample_name(Path("x/./y/../a.png"), Path("x")) == "a.png"
    for stray in ("../a.png", "/etc/a.png", "."):
        with pytest.raises(ValueError, match=r"list, line 3: .* does not lie in"):
            sample_name(tmp_path / stray, tmp_path, "list, line 3")
    assert readable(files[0]) == r"caf\udce9.png"


def test_a_name_that_is_given_twice_is_told_with_both_places() -> None:
    require_unique(["a", "b"], ["list, line 1", "list, line 2"])
    with pytest.raises(ValueError, match=r"'a' is given to more than one sample: list, line 1, and other, line 9"):
        require_unique(["a", "b", "a"], ["list, line 1", "list, line 2", "other, line 9"])


def test_a_filelist_may_come_from_a_windows_editor(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    digits = "12345678901234567890123456789012345678"
    path.write_bytes(f"\ufeffDUMMY/a.wav|One\u2028two|3\r\n\r\nb.wav|Three|{digits}\r\n".encode())
    lines = read_filelist(path, speakers=True)
    assert [(line.path, line.text, line.speaker) for line in lines] == [
        ("DUMMY/a.wav", "One\u2028two", 3),
        ("b.wav", "Three", int(digits)),
    ]
    assert lines[1].origin == f"{path}, line 3"
    for wrong in ("|text|1", "a.wav|text|²", f"a.wav|text|{'1' * 5000}", "a.wav|text|-1"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"list\.txt, line 1: expected path\|text\|speaker"):
            read_filelist(path, speakers=True)
