"""Lists of users: text that is decoded strictly, and each row with the line that it begins on."""

import csv
import gzip
import io
import json
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Row", "Table", "read_csv", "read_json_lines", "read_lines", "read_text"]

LARGEST_CELL = 2**31 - 1  # characters; Python's own limit of 131 072 would end a list at one long caption
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")  # how UTF-16 and UTF-32 begin
HALF_CHARACTER = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        line: The line of the file that it begins on, from 1.
        cells: A text for each column.
    """

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        path: The file.
        columns: What the first row calls its columns.
        rows: The other rows, without blank lines.
    """

    path: str | Path
    columns: list[str]
    rows: list[Row]

    def column(self, name: str) -> int:
        """Return the place of a column.

        Raises:
            ValueError: If there is not exactly one of that name.
        """
        if self.columns.count(name) != 1:
            count = "two columns" if name in self.columns else "no column"
            raise ValueError(f"{self.path}, line 1 has {count} {name!r}; it has {', '.join(map(repr, self.columns))}")
        return self.columns.index(name)


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark; one whose name ends with .gz is unpacked.

    Raises:
        ValueError: If it cannot be read or unpacked, or is not UTF-8 text, with the line.
    """
    content = _content(path)
    if content.startswith(WIDE_MARKS):
        raise ValueError(f"{path}, line 1: the file is in UTF-16 or UTF-32; save it in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line} is not UTF-8 (byte 0x{content[error.start]:02x}): save the file in UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path}, line {line} holds a zero byte: this is not UTF-8 text")
    return text


def read_lines(path: str | Path) -> list[str]:
    r"""Read the lines of a text file, which end with "\n" or "\r\n" and with nothing else.

    Raises:
        ValueError: If it is not UTF-8 text, see `read_text`.
    """
    return [line.removesuffix("\r") for line in read_text(path).split("\n")]


def read_csv(path: str | Path, skip_spaces: bool = True) -> Table:
    """Read a CSV file; a short row is filled with empty cells.

    Args:
        path: The file.
        skip_spaces: Drop the spaces before a cell.

    Raises:
        ValueError: If it is not UTF-8 text, quotes are wrong, or a row has more cells than the first, with the line.
    """
    limit = csv.field_size_limit(LARGEST_CELL)
    lines = csv.reader(io.StringIO(read_text(path), newline="\n"), skipinitialspace=skip_spaces, strict=True)
    rows: list[Row] = []
    begin = 1
    try:
        columns = [column.strip() for column in next(lines, [])]
        begin = lines.line_num + 1
        for cells in lines:
            if len(cells) > len(columns):
                raise ValueError(f"{path}, line {begin} has {len(cells)} cells in {len(columns)} columns")
            if len(cells) > 1 or any(map(str.strip, cells)):
                rows.append(Row(begin, cells + [""] * (len(columns) - len(cells))))
            begin = lines.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {begin} is not CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    return Table(path, columns, rows)


def read_json_lines(path: str | Path) -> list[tuple[int, dict[str, Any]]]:
    """Read a file with a JSON object on each line; blank lines are left out.

    Returns:
        The number of each line, from 1, and its object.

    Raises:
        ValueError: If it is not UTF-8 text or a line is not JSON object, with the line.
    """
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} is not a JSON object")
        if HALF_CHARACTER.search(line) and not _encodes(row):
            raise ValueError(f"{path}, line {number} holds half a character (an unpaired surrogate)")
        rows.append((number, row))
    return rows


def _content(path: str | Path) -> bytes:
    """Return the bytes of a file, unpacked."""
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if os.fspath(path).lower().endswith(".gz") else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged, or not a gzip file: {error}") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def _encodes(row: dict[str, Any]) -> bool:
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
