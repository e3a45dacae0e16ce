"""One table: what is shown, the numbers behind it, and the ways to write it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import rich.box
import rich.table
from rich.text import Text

from dmlik_pl.plain_text import file_stem, for_latex, for_markdown, one_line
from dmlik_pl.records.files import write_text
from dmlik_pl.stats import Interval

__all__ = [
    "MISSING",
    "Table",
    "bracket",
    "formatted",
    "percent",
    "percent_with_interval",
    "probability",
    "short",
    "with_error",
]

MISSING = "–"
_MOST_COLUMNS = 9
_LONGEST_HEADING, _LONGEST_CAPTION = 100, 6000  # letters
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        name: Name of its files, without extension; what cannot be in one is replaced.
        caption: What is shown, of how many samples, with which errors.
        shown: The cells as text, each a line that is not endless; the index holds the rows' headings.
        raw: The numbers behind the cells with their errors, one observation per row; texts are whole here.
        legend: What its headings mean, in phrases without a full stop.
        notes: What else has to be known, such as settings, in sentences.
    """

    name: str
    caption: str
    shown: pd.DataFrame
    raw: pd.DataFrame
    legend: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        shown = self.shown.map(one_line)
        shown.index = pd.Index(map(_heading, self.shown.index), name=_heading(self.shown.index.name or ""))
        shown.columns = pd.Index(map(_heading, self.shown.columns))
        object.__setattr__(self, "shown", shown)
        object.__setattr__(self, "name", file_stem(self.name))
        object.__setattr__(self, "caption", one_line(self.caption, _LONGEST_CAPTION))
        headings = {*shown.columns, *shown.index, shown.index.name, *shown.iloc[:, :2].to_numpy().ravel()}
        legend = {key: one_line(text, _LONGEST_CAPTION) for key, text in self.legend.items() if key in headings}
        object.__setattr__(self, "legend", legend)
        object.__setattr__(self, "notes", tuple(one_line(text, _LONGEST_CAPTION) for text in self.notes if text))

    def write(self, folder: str | Path) -> list[Path]:
        """Write the table as Markdown, CSV (the raw numbers) and LaTeX (booktabs).

        Args:
            folder: Where to; it is made if needed.

        Returns:
            The three files.
        """
        contents = {"md": self.markdown(), "csv": self.csv(), "tex": self.latex()}
        paths = [Path(folder) / f"{self.name}.{extension}" for extension in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            write_text(path, content)
        return paths

    def csv(self) -> str:
        """The raw numbers as CSV."""
        return self.raw.to_csv(index=False)

    def markdown(self) -> str:
        """The table as Markdown, its caption above, what its headings mean below."""
        shown = self._escaped(for_markdown)
        align = ["left"] + ["right"] * len(self.shown.columns)
        table = shown.to_markdown(disable_numparse=True, colalign=align, index=False)
        lines = [
            f"- **{for_markdown(key)}**: {for_markdown(text, _LONGEST_CAPTION)}" for key, text in self.legend.items()
        ]
        notes = [for_markdown(text, _LONGEST_CAPTION) for text in self.notes]
        caption = for_markdown(self.caption, _LONGEST_CAPTION)
        return "\n\n".join(filter(None, (caption, table, "\n".join(lines), *notes))) + "\n"

    def latex(self) -> str:
        """The table as a LaTeX float; it needs the packages booktabs and textcomp."""
        table = (
            self._escaped(for_latex)
            .style.hide(axis="index")
            .to_latex(
                hrules=True,
                column_format="l" + "r" * len(self.shown.columns),
                position="htbp",
                position_float="centering",
                caption=for_latex(self.caption, _LONGEST_CAPTION),
                label=f"tab:{self.name}",
            )
        )
        if not (below := self.below()):
            return table
        words = for_latex(" ".join(below), _LONGEST_CAPTION)
        return table.replace("\\end{table}", f"\\par\\smallskip\\footnotesize {words}\n\\end{{table}}")

    def below(self) -> list[str]:
        """What the headings mean and what else has to be known, in sentences."""
        return [*(f"{key}: {text}." for key, text in self.legend.items()), *self.notes]

    def _escaped(self, escape: Callable[[str], str]) -> pd.DataFrame:
        """All that is shown, the rows' headings in the first column."""
        whole = self.shown.copy()
        # A value that is a column's heading may be called as the index is.
        whole.insert(0, self.shown.index.name, self.shown.index, allow_duplicates=True)
        escaped = whole.reset_index(drop=True).map(escape)
        escaped.columns = pd.Index(map(escape, whole.columns))
        return escaped

    def rich(self) -> rich.table.Table:
        """The table for a terminal; one of many columns stands on its side."""
        table = rich.table.Table(
            title=Text(self.name.replace("_", " ")),
            caption=Text(self.caption),
            caption_justify="left",
            box=rich.box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        shown = self.shown.T if len(self.shown.columns) > _MOST_COLUMNS else self.shown
        table.add_column(Text(str(self.shown.index.name)), overflow="fold")
        for name in shown.columns:
            table.add_column(Text(name), justify="right", overflow="fold")
        for cells in shown.itertuples(name=None):
            table.add_row(*map(Text, cells))
        return table


def _heading(text: object) -> str:
    return one_line(text, _LONGEST_HEADING)


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


def formatted(value: float, form: str = ".4g") -> str:
    """A number in a format; one that is not known shows as missing, an infinite one as ∞."""
    if math.isnan(value):
        return MISSING
    return format(value, form) if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def bracket(low: float, high: float, form: str = ".2f", dash: bool = False) -> str:
    """An interval in brackets; nothing if it is not known.

    Args:
        low: Its lower end.
        high: Its upper end.
        form: Format of both.
        dash: Whether a dash stands between ends that are not negative, in place of a comma.
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    between = "–" if dash and min(low, high) >= 0 else ", "  # a dash between negative numbers cannot be read
    return f"[{formatted(low, form)}{between}{formatted(high, form)}]"


def short(value: float) -> str:
    """A number to two significant digits, for errors."""
    return formatted(value, ".2g")


def percent(share: float) -> str:
    """A share of 1 as a percentage."""
    return formatted(100 * share, ".1f")


def percent_with_interval(share: float, interval: Interval) -> str:
    """A share of 1 as a percentage with its interval."""
    if math.isnan(share):
        return MISSING
    return f"{percent(share)} {bracket(100 * interval.low, 100 * interval.high, '.0f', dash=True)}".rstrip()


def probability(p_value: float) -> str:
    """A p-value."""
    if math.isnan(p_value):
        return MISSING
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
