"""One table: what is shown, the numbers behind it, and the ways to write it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import rich.box
import rich.table

from dmlik_pl.results.significance import Interval

__all__ = ["MISSING", "Table", "percent", "percent_with_interval", "probability", "short", "with_error"]

MISSING = "–"
_MOST_COLUMNS = 9
_ROUNDING = 1e-12
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "σ": r"$\sigma$",
    "≤": r"$\leq$",
    "–": "--",
}


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        name: Name of its files, without extension.
        caption: What is shown, of how many samples, with which errors.
        shown: The cells as text; the index holds the rows' headings.
        raw: The numbers behind the cells with their errors, one observation a row.
    """

    name: str
    caption: str
    shown: pd.DataFrame
    raw: pd.DataFrame

    def write(self, folder: str | Path) -> list[Path]:
        """Write the table as Markdown, CSV (the raw numbers) and LaTeX (booktabs).

        Args:
            folder: Where to; it is made if needed.

        Returns:
            The three files.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        contents = {"md": self.markdown(), "csv": self.raw.to_csv(index=False), "tex": self.latex()}
        paths = []
        for extension, content in contents.items():
            paths.append(folder / f"{self.name}.{extension}")
            paths[-1].write_text(content, encoding="utf-8")
        return paths

    def markdown(self) -> str:
        """The table as Markdown, its caption above."""
        escaped = self.shown.map(lambda cell: cell.replace("|", r"\|"))
        escaped.columns = [str(name).replace("|", r"\|") for name in self.shown.columns]
        align = ["left"] + ["right"] * len(escaped.columns)
        return f"{self.caption}\n\n{escaped.to_markdown(disable_numparse=True, colalign=align)}\n"

    def latex(self) -> str:
        """The table as a LaTeX float; it needs the package booktabs."""
        escaped = self.shown.reset_index(names=self.shown.index.name or "").map(_latex_text)
        escaped.columns = pd.Index(map(_latex_text, escaped.columns))
        return escaped.style.hide(axis="index").to_latex(
            hrules=True,
            column_format="l" + "r" * len(self.shown.columns),
            position="htbp",
            position_float="centering",
            caption=_latex_text(self.caption),
            label=f"tab:{self.name}",
        )

    def rich(self) -> rich.table.Table:
        """The table for a terminal; one of many columns stands on its side."""
        table = rich.table.Table(
            title=self.name.replace("_", " "),
            caption=self.caption,
            caption_justify="left",
            box=rich.box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        shown = self.shown.T if len(self.shown.columns) > _MOST_COLUMNS else self.shown
        table.add_column(str(self.shown.index.name or ""))
        for name in shown.columns:
            table.add_column(str(name), justify="right")
        for heading, cells in zip(shown.index, shown.itertuples(index=False), strict=True):
            table.add_row(str(heading), *cells)
        return table


def with_error(value: float, error: float) -> str:
    """`value ± error` to two significant digits of the error.

    Args:
        value: The value; NaN shows as missing.
        error: Its standard error; if it is NaN, infinite, or 0 up to rounding, the value stands alone.
    """
    if math.isnan(value):
        return MISSING
    if error <= _ROUNDING * abs(value) or not math.isfinite(error) or not math.isfinite(value):
        return f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def short(value: float) -> str:
    """A number to two significant digits, for errors."""
    return MISSING if math.isnan(value) else f"{value:.2g}"


def percent(share: float) -> str:
    """A share of 1 as a percentage."""
    return MISSING if math.isnan(share) else f"{100 * share:.1f}"


def percent_with_interval(share: float, interval: Interval) -> str:
    """A share of 1 as a percentage with its interval."""
    if math.isnan(share):
        return MISSING
    return f"{percent(share)} [{100 * interval.low:.0f}–{100 * interval.high:.0f}]"


def probability(p_value: float) -> str:
    """A p-value."""
    if math.isnan(p_value):
        return MISSING
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _latex_text(text: object) -> str:
    return "".join(_LATEX.get(character, character) for character in str(text))
