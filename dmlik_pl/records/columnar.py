"""Rows of records as columns: one kind of value each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pyarrow as pa

__all__ = ["Value", "check_value", "columnar", "misfits"]

Value = str | int | float | bool | None | list[float]

_LARGEST = 2**63


def check_value(name: str, value: Any) -> None:
    """Refuse a value that no column can hold.

    Raises:
        TypeError: If it is neither text, number, truth value, None nor a list of numbers.
        ValueError: If it is an integer of more than 64 bits.
    """
    if isinstance(value, list):
        for each in value:
            if each is not None and (isinstance(each, bool) or not isinstance(each, int | float)):
                raise TypeError(f"column {name!r} is a list with a {type(each).__name__}: only numbers can be stored")
    elif value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"column {name!r} is a {type(value).__name__}, which cannot be stored")
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise ValueError(f"column {name!r} is an integer of {value.bit_length()} bits; at most 63 can be stored")


def misfits(units: Mapping[Any, Sequence[Mapping[str, Any]]]) -> dict[Any, str]:
    """Which units hold another kind of value in a column than most others, and what is wrong with them.

    Args:
        units: Rows by unit.
    """
    kinds: dict[str, Counter[str]] = {}
    of_unit: dict[Hashable, set[tuple[str, str]]] = {}
    for place, rows in units.items():
        found = {(name, _kind(value)) for row in rows for name, value in row.items() if value is not None}
        of_unit[place] = found
        for name, kind in found:
            kinds.setdefault(name, Counter())[kind] += 1
    usual = {name: counts.most_common(1)[0][0] for name, counts in kinds.items()}
    wrong: dict[Any, str] = {}
    for place, found in of_unit.items():
        for name, kind in sorted(found):
            if kind != usual[name]:
                wrong[place] = f"its column {name!r} is a {kind}, that of the other samples a {usual[name]}"
    return wrong


def columnar(rows: Sequence[Mapping[str, Any]], schema: pa.Schema | None = None) -> pa.Table:
    """Rows to columns: the union of all rows' columns in order of appearance, lists as float32.

    Args:
        rows: The rows; a column may be missing in some.
        schema: Names and types of the columns, where they are known.
    """
    types = {} if schema is None else {field.name: field.type for field in schema}
    names = types or dict.fromkeys(name for row in rows for name in row) or {"sample_id": None}
    columns = {}
    for name in names:
        values = [_encodable(row.get(name)) for row in rows]
        is_list = any(isinstance(value, list) for value in values)
        columns[_encodable(name)] = pa.array(values, types.get(name) or (pa.list_(pa.float32()) if is_list else None))
    return pa.table(columns)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, int | float):
        return "number"
    return "list" if isinstance(value, list) else "text"


def _encodable(value: Any) -> Any:
    """Text in which what UTF-8 does not know, the remains of a file name in another encoding, is an escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
