"""Lists are read alike from every kind of file, and no row is left out without its name and reason."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nbest_lists import WORDS, paper_lists

from dmlik_pl.speech.nbest import NBestColumns, NBestLists, check, count_word_errors, read

ROWS = [
    {"utt": "007", "ref": "the cat sat", "hyp": "the cat sat", "am": -1.5, "ll": 10.0},
    {"utt": "007", "ref": "the cat sat", "hyp": "null", "am": -2.5, "ll": 11.25},
    {"utt": "01e3", "ref": "Don't stop", "hyp": "do not stop", "am": -0.5, "ll": 12.0},
]
COLUMNS = NBestColumns("utt", "ref", "hyp", {"acoustic": "am", "likelihood": "ll"})


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    frame = pd.DataFrame(rows)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif ".jsonl" in path.name:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.jsonl", "a.jsonl.gz"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    frame = read(write(tmp_path / name, ROWS), COLUMNS)
    assert frame["sample_id"].tolist() == ["007", "007", "01e3"]  # ids are names, not numbers
    assert frame["hypothesis"].tolist() == ["the cat sat", "null", "do not stop"]  # a word, not a missing value
    assert frame["score_likelihood"].tolist() == [10.0, 11.25, 12.0]
    assert frame["errors"].tolist() == [0, 3, 2]
    assert frame["words"].tolist() == [3, 3, 2]
    assert frame["row"].tolist() == [1, 2, 3]
    assert (frame["excluded"] == "").all()


def test_normalisation_is_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    assert read(path, COLUMNS, "none")["errors"].tolist() == [0, 3, 2]  # "Don't" is another word than "do not"
    normalised = read(path, COLUMNS, "whisper")
    assert normalised["errors"].tolist() == [0, 3, 0]
    assert normalised["words"].tolist() == [3, 3, 3]
    assert normalised["hypothesis"].tolist() == ["the cat sat", "null", "do not stop"]
    with pytest.raises(ValueError, match="'english' is unknown: take none or whisper"):
        read(path, COLUMNS, "english")  # type: ignore[arg-type]


def rows_of(*rows: tuple[object, object, object, float, float]) -> pd.DataFrame:
    names = ["sample_id", "reference", "hypothesis", "score_acoustic", "score_likelihood"]
    frame = pd.DataFrame(rows, columns=names)
    frame.insert(1, "row", range(1, len(frame) + 1))
    return frame


def test_every_bad_row_is_named_and_nothing_else() -> None:
    nan, inf = float("nan"), float("inf")
    frame = check(
        rows_of(
            ("", "a", "a", 1, 1),
            ("u1", "", "a", 1, 1),
            ("u1", "a b", "  ", 1, 1),
            ("u1", "a b", "a", nan, 1),
            ("u1", "a b", "a", 1, -inf),
            ("u1", "a b", "a", 1, 2),
            ("u1", "a b", "a c", 3, 2),
            ("u1", "a b", "a", 1, 2),
            ("u1", "a b", "a", 1, 2.5),
            ("u2", "a b", "a", 1, 1),
            ("u2", "a c", "a", 1, 1),
            ("u3", "a", "a", nan, 1),
        )
    )
    assert frame["excluded"].tolist() == [
        "no utterance id",
        "no reference",
        "empty hypothesis",
        "acoustic score is not a finite number",
        "likelihood score is not a finite number",
        "",
        "",
        "copy of row 6",
        "",  # the same text scored again: a measurement, kept
        "the list's rows name different references",
        "the list's rows name different references",
        "acoustic score is not a finite number",
    ]
    assert frame["errors"].isna().tolist() == (frame["excluded"] != "").tolist()
    lists = NBestLists.from_records(frame)
    assert lists.utterances == ["u1"]
    assert lists.errors.tolist() == [1, 1, 1]


def test_texts_may_be_kept_once() -> None:
    frame = rows_of(("u", "a b", "a", 1, 2), ("u", "a b", "b", 1, 2), ("u", "a b", "a", 0, 3), ("v", "a", "a", 1, 1))
    assert check(frame, duplicates="texts")["excluded"].tolist() == ["", "", "same text as row 1", ""]
    assert (check(frame, duplicates="copies")["excluded"] == "").all()


def test_reasons_that_are_known_already_come_first() -> None:
    frame = rows_of(("u", "a", "a", 1, float("nan")), ("u", "a", "b", 1, 2)).assign(excluded=["no audio", ""])
    assert check(frame)["excluded"].tolist() == ["no audio", ""]


def test_scores_that_are_no_numbers_are_excluded(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("utt,ref,hyp,am,ll\nu,a,a,1,n/a\nu,a,b,1,\nu,a,c,1,2\n")
    reason = "likelihood score is not a finite number"
    assert read(path, COLUMNS)["excluded"].tolist() == [reason, reason, ""]


def test_missing_values_of_parquet_are_missing_texts(tmp_path: Path) -> None:
    rows = [*ROWS, {"utt": "x", "ref": None, "hyp": "a", "am": 1.0, "ll": 1.0}]
    for name in ("a.parquet", "a.jsonl"):
        assert read(write(tmp_path / name, rows), COLUMNS)["excluded"].tolist() == ["", "", "", "no reference"]


def test_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no n-best lists at .*csv.gz"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="has no column 'am_score', 'gtts_ll'"):
        read(write(tmp_path / "a.csv", ROWS), NBestColumns("utt", "ref", "hyp"))
    with pytest.raises(ValueError, match="of an unknown kind"):
        read(write(tmp_path / "a.txt", ROWS), COLUMNS)
    (tmp_path / "b.jsonl").write_text('{"utt": 1}\n{"utt": \n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read(tmp_path / "b.jsonl", COLUMNS)
    (tmp_path / "c.csv").write_text("utt,ref,hyp,am,ll\n")
    with pytest.raises(ValueError, match="holds no hypothesis"):
        read(tmp_path / "c.csv", COLUMNS)
    bad = check(rows_of(("u", "", "a", 1, 2), ("u", "", "b", 1, 2)))
    with pytest.raises(ValueError, match="none of 2 hypotheses is usable: 2 × no reference"):
        NBestLists.from_records(bad)


DAMAGED = {
    "utf-16.csv": ("utt,ref,hyp,am,ll\nu,a,a,1,2\n".encode("utf-16"), "line 1: the file is in UTF-16"),
    "latin-1.csv": ("utt,ref,hyp,am,ll\nu,a,caf\xe9,1,2\n".encode("latin-1"), "line 2 is not UTF-8"),
    "cut.csv.gz": (gzip.compress(b"utt,ref,hyp,am,ll\n" + b"u,a,a,1,2\n" * 99)[:-9], "is damaged, or not a gzip file"),
    "plain.csv.gz": (b"utt,ref,hyp,am,ll\nu,a,a,1,2\n", "is damaged, or not a gzip file"),
    "cut.jsonl.gz": (gzip.compress(b'{"utt": "u"}\n' * 999)[:40], "is damaged, or not a gzip file"),
    "cells.csv": (b"utt,ref,hyp,am,ll\nu,a,a,1,2\nu,a,a, b,1,2\n", "line 3 has 6 cells in 5 columns"),
    "quote.csv": (b'utt,ref,hyp,am,ll\nu,a,"a,1,2\nu,a,b,1,2\n', "line 2 is not CSV"),
    "columns.csv": (b"utt,ref,hyp,am\nu,a,a,1\n", "line 1 has no column 'll'"),
    "twice.csv": (b"utt,ref,hyp,am,ll,ll\nu,a,a,1,2,3\n", "line 1 has two columns 'll'"),
    "cut.parquet": (b"PAR1" + bytes(99), "cannot be read as Parquet"),
    "number.jsonl": (b'{"utt": 1' + b"0" * 5000 + b"}\n", "line 1 is not JSON"),
    "deep.jsonl": (b"[" * 99_999, "line 1 is not JSON"),
    "folder.csv": (None, "no n-best lists at"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_message_with_its_name(name: str, tmp_path: Path) -> None:
    content, told = DAMAGED[name]
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)) as wrong:
        read(path, COLUMNS)
    assert told in str(wrong.value) and str(path) in str(wrong.value)


def test_one_odd_row_spoils_no_other(tmp_path: Path) -> None:
    digits, letters = "1234567890" * 500, "a" * 140_000
    scores = [digits[:37], digits, "1_0", "yes", "1e400", '"1,5"', letters, "2"]
    rows = "".join(f"{number},a {number},a,1,{score}\n" for number, score in enumerate(scores))
    (tmp_path / "a.csv").write_text(f"utt,ref,hyp,am,ll\n{rows}{digits[:37]},{letters},{digits},1,3\n")
    frame = read(tmp_path / "a.csv", COLUMNS, "whisper")
    no_number = "likelihood score is not a finite number"
    assert frame["excluded"].tolist() == ["", *[no_number] * 6, "", "a text cannot be normalised"]
    assert frame["score_likelihood"].tolist()[::7] == [float(digits[:37]), 2.0]
    values = ['"b"', "true", "[1]", '{"x": 1}', "null", digits[:37], digits[:4000], "2"]
    start = '"ref": "a", "hyp": "a", "am": 1'
    lines = [f'{{"utt": {number}, {start}, "ll": {value}}}' for number, value in enumerate(values)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert read(tmp_path / "a.jsonl", COLUMNS)["excluded"].tolist() == [no_number] * 5 + ["", no_number, ""]


def test_a_line_separator_in_a_text_ends_no_row(tmp_path: Path) -> None:
    text = "the\u2028cat\x0bsat\x85on"
    (tmp_path / "a.csv").write_bytes(f"\ufeffutt,ref,hyp,am,ll\r\nu,{text},{text},1,2\r\n".encode())
    frame = read(tmp_path / "a.csv", COLUMNS)
    assert frame["hypothesis"].tolist() == [text] and frame["errors"].tolist() == [0]


def test_word_errors_by_hand() -> None:
    errors, words = count_word_errors(["a b c", "a b c", "a", "a b c d"], ["a x c", "b c d", "x y z", "d c b a"])
    assert errors.tolist() == [1, 2, 3, 4]
    assert words.tolist() == [3, 3, 1, 4]


def test_counted_errors_are_the_known_ones(made_lists: Path) -> None:
    stored, frame = pd.read_csv(made_lists), read(made_lists)
    assert frame["errors"].tolist() == stored["errors"].tolist() and len(frame) == 100
    assert frame["sample_id"].nunique() == 40 and (frame["words"] == len(WORDS)).all()


@pytest.mark.parametrize(("name", "hypotheses"), [("wav2vec2_lm", 8998), ("whisper_base", 309)])
def test_counted_errors_agree_with_the_stored_ones(name: str, hypotheses: int) -> None:
    path = paper_lists(name)
    stored, frame = pd.read_csv(path, keep_default_na=False), read(path)
    assert len(frame) == hypotheses
    np.testing.assert_array_equal(frame["errors"], stored["errors"])
    np.testing.assert_array_equal(frame["words"], stored["ref_words"])


def test_lists_do_not_depend_on_the_order_of_rows() -> None:
    frame = check(rows_of(("u2", "a b", "a", 1, 5), ("u1", "c", "c", 2, 6), ("u2", "a b", "a b", 3, 7)))
    lists = NBestLists.from_records(frame)
    assert lists.utterances == ["u1", "u2"]
    assert lists.words.tolist() == [1, 2]
    assert lists.member.tolist() == [0, 1, 1]
    assert lists.starts.tolist() == [0, 1]
    assert lists.sizes.tolist() == [1, 2]
    assert lists.scores["likelihood"].tolist() == [6, 5, 7]
    assert lists.total(lists.errors).tolist() == [0, 1]
    assert lists.centred(lists.scores["likelihood"]).tolist() == [0, -1, 1]
