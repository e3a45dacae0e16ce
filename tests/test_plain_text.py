"""What users write is shown as they wrote it, in every format."""

import csv
import io
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
from hostile import TEXTS, WHOLE
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from rich.console import Console

from dmlik_pl.plain_text import file_stem, for_latex, for_markdown, one_line, terminal
from dmlik_pl.results.drawing import Canvas, named
from dmlik_pl.results.table import Table


class Cells(HTMLParser):
    """The texts of the cells of a page, and every tag of it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag in ("td", "th", "p"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and data.strip():
            self.cells[-1] += data


def table_of(texts: tuple[str, ...]) -> Table:
    """Each text as a row's heading, a column's heading and a cell."""
    shown = pd.DataFrame([texts] * len(texts), index=pd.Index(texts, name=texts[0]), columns=list(texts))
    return Table(f"of {texts[0]}", texts[0], shown, pd.DataFrame({"text": texts}))


@pytest.mark.parametrize("text", TEXTS)
def test_a_line_says_all_that_can_be_seen(text: str) -> None:
    shown = one_line(text, 80)
    assert len(shown) <= 80 and "\n" not in shown and shown.isprintable()
    assert one_line(shown, 80) == shown
    shown.encode("utf-8")
    if len(text) < 80 and text.isprintable():
        assert shown == text


def test_escapes_and_ends() -> None:
    assert one_line("a\nb\x1b[0m\ud800\u202e") == r"a b\x1b[0m\ud800\u202e"
    assert one_line("family \U0001f468\u200d\U0001f469") == "family \U0001f468\u200d\U0001f469"
    assert one_line("abcdef", 4) == "abc…" and one_line("abcd", 4) == "abcd"
    assert one_line(7) == "7"


def test_a_table_in_markdown_shows_the_texts_and_nothing_else() -> None:
    table = table_of(WHOLE)
    page = Cells(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(table.markdown()))
    assert page.tags <= {"p", "table", "thead", "tbody", "tr", "th", "td"}
    caption, *cells = [" ".join(cell.split()) for cell in page.cells]
    headings = [" ".join(one_line(text, 100).split()) for text in WHOLE]
    assert caption == headings[0] and cells[: len(WHOLE) + 1] == [headings[0], *headings]
    width = len(WHOLE) + 1
    for row, heading in enumerate(headings, start=1):
        assert cells[row * width] == heading
        assert cells[row * width + 1 : (row + 1) * width] == [" ".join(one_line(text).split()) for text in WHOLE]


def test_underscores_within_words_stay_readable() -> None:
    assert for_markdown("time_sweep of a_b") == "time_sweep of a_b"
    assert for_markdown("_x_ __y__") == r"\_x\_ \_\_y\_\_"


def test_latex_has_no_open_command() -> None:
    assert for_latex(r"50% of $x_1^2 & \y {#} ~") == (
        r"50\% of \$x\_1\textasciicircum{}2 \& \textbackslash{}y \{\#\} \textasciitilde{}"
    )
    assert for_latex("-−–— [a] *b 'c' \"d\" `e") == (
        r"-$-$----- {[}a] {*}b \textquotesingle{}c\textquotesingle{} \textquotedbl{}d\textquotedbl{} "
        r"\textasciigrave{}e"
    )
    assert for_latex("--- σ ± 1 → μ…") == r"-{}-{}- $\sigma$ $\pm$ 1 $\rightarrow$ $\mu$\ldots{}"
    body = table_of(WHOLE).latex().split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == len(WHOLE)
    assert not any(line.lstrip().startswith(("[", "*")) for line in body), "an argument of the line break before it"


def test_the_raw_numbers_keep_whole_texts() -> None:
    before = csv.field_size_limit(10**6)
    try:
        [_, *rows] = csv.reader(io.StringIO(table_of(WHOLE).csv(), newline=""))
    finally:
        csv.field_size_limit(before)
    assert [row[0] for row in rows] == list(WHOLE)


def test_a_terminal_shows_brackets_and_colons() -> None:
    console = Console(file=io.StringIO(), width=400)
    console.print(table_of(TEXTS[:5]).rich())
    shown = console.file.getvalue()
    assert "[red]danger[/red] [/] :smile:" in shown and "Ba$$in" in shown


def test_the_terminal_takes_strings_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal().print("runs/[red]x[/red] \ud800 ± :smile:")
    stream.flush()
    assert stream.buffer.getvalue().decode() == "runs/[red]x[/red] \\ud800 \\xb1 :smile:\n"


def test_names_of_files_are_safe_and_apart() -> None:
    assert file_stem("time_sweep_w0.5,x".replace(",", "-")) == "time_sweep_w0.5-x"
    names = [*TEXTS, "a b", "a_b", "a/b", "x" * 140_001, "é", "e"]
    stems = [file_stem(name) for name in names]
    assert len(set(stems)) == len(names)
    for stem in stems:
        assert len(stem) < 100 and stem.isascii() and not set(stem) & set("/\\ *?[]$|<>\"'&#%")
    assert table_of(("a/b",)).name == file_stem("of a/b")


def test_figures_draw_every_text_as_it_is(recwarn: pytest.WarningsRecorder) -> None:
    figure = Figure(figsize=(6, 6), layout="constrained")
    canvas = Canvas(figure)
    axes = figure.subplots()
    for text in TEXTS:
        axes.plot([0, 1], [0, 1], label=named(text))
        axes.set(title=text, xlabel=text, ylabel=named(text))
        axes.set_xticks([0, 1], [text, named(text)])
        axes.legend()
        canvas.draw()
    assert len(axes.get_legend().get_texts()) == len(TEXTS)
    assert not [str(one.message) for one in recwarn if "Glyph" in str(one.message) or "support" in str(one.message)]


def test_a_formula_is_drawn_as_wide_as_its_letters() -> None:
    figure = Figure()
    renderer = Canvas(figure).get_renderer()
    drawn = [figure.text(0, 0.5, text).get_window_extent(renderer).width for text in ("$x_1$", "x", "x_1")]
    assert drawn[0] > drawn[2] > drawn[1]
