"""A run's prompt accuracies as in the paper's Table 6: one system per guidance, with and without reconstruction.

References:
    What happens to diffusion model likelihood when your model is conditional? (Cross and Ragni, 2024), Table 6
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from dmlik_pl.records.protocol import is_published
from dmlik_pl.results.paper import Found, Number
from dmlik_pl.results.prompt_accuracy.summaries import accuracy_summary, class_average_summary
from dmlik_pl.stats.estimate import NORMAL

__all__ = ["prompt_cells"]

_COLUMNS = {"colour": "CLEVR Colour", "shape": "CLEVR Shape", "class": "PACS Class", "domain": "PACS Domain"}
_SETTING = re.compile(r"CFG (\d+)(-R)?")


def prompt_cells(frame: pd.DataFrame, systems: Sequence[str]) -> dict[str, Found]:
    """The run's accuracies for each of the paper's systems that it has.

    The paper's "CFG 0" is the conditional model, guidance 1 here; "-R" are reconstructed images. CLIP and chance are of
    the run's first setting. A run of a single setting is compared with a single system whatever its setting is.

    Args:
        frame: The records of a prompt accuracy study.
        systems: Names as in the paper: "CFG 3-R", "CLIP-score", "Random".

    Returns:
        By system what was found of it, in per cent.
    """
    summary = class_average_summary(frame) if is_published(frame) else accuracy_summary(frame)
    parts = dict(list(summary.groupby("part", sort=False)))
    found = {}
    for system in systems:
        setting = _SETTING.fullmatch(system)
        otherwise: tuple[str, ...] = ()
        if setting is None:
            rows, name = next(iter(parts.values())), "clip" if "CLIP" in system else "chance"
        else:
            wanted, name = (float(setting[1]) or 1.0, bool(setting[2])), "accuracy"
            same = [rows for rows in parts.values() if _setting(rows) == wanted]
            if not same and not len(parts) == len(systems) == 1:
                continue
            rows = same[0] if same else next(iter(parts.values()))
            otherwise = () if same else (f"its setting is {_words(*_setting(rows))}",)
        if numbers := list(_numbers(rows, name)):
            found[system] = Found(numbers, f"The run's setting is {_words(*_setting(rows))}.", otherwise)
    return found


def _setting(rows: pd.DataFrame) -> tuple[float, bool]:
    first: dict[str, Any] = rows.iloc[0].to_dict()
    return float(first["guidance"]), bool(first["reconstructed"])


def _words(guidance: float, reconstructed: bool) -> str:
    return f"guidance {guidance:g}{', reconstructed' if reconstructed else ''}"


def _numbers(rows: pd.DataFrame, name: str) -> Iterator[Number]:
    for row in rows[rows[name].notna()].to_dict("records"):
        if row["attribute"] in _COLUMNS:
            width = 0.0 if name == "chance" else row[f"{name}_high"] - row[f"{name}_low"]
            yield "accuracy", _COLUMNS[row["attribute"]], 100 * row[name], 100 * width / (2 * NORMAL)
