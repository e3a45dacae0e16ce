"""Texts that come from outside (prompts, names, values, errors) are shown as what they are, wherever they are shown.

Nothing in them is markup: a dollar sign starts no formula and a bracket no colour. They take one line and are not
endless; what cannot be seen, such as a control character, is written as its escape. Files hold them whole, as CSV.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import unicodedata

from rich.console import Console

__all__ = ["LONGEST", "file_stem", "for_latex", "for_markdown", "one_line", "terminal"]

LONGEST = 300
"""Letters of a text that are shown where nothing else is said."""

_UNSEEN = {"Cc", "Cf", "Cs"}  # control and format characters, halves of surrogate pairs
_JOINERS = "\u200c\u200d"  # format characters without which emoji and some scripts fall apart
_LONGEST_STEM = 80
_MARKDOWN = re.compile(r"([\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_]))")  # an underscore within a word is a letter
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    # At the start of a row these would be arguments of the line break before it.
    "[": "{[}",
    "*": "{*}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    **{symbol: f"${name}$" for symbol, name in {"−": "-", "±": r"\pm", "×": r"\times", "≤": r"\leq"}.items()},
    **{symbol: f"${name}$" for symbol, name in {"≥": r"\geq", "→": r"\rightarrow", "∞": r"\infty"}.items()},
    **{symbol: f"${name}$" for symbol, name in {"σ": r"\sigma", "μ": r"\mu", "µ": r"\mu", "°": r"^\circ"}.items()},
}


def one_line(text: object, most: int = LONGEST) -> str:
    """A text as it can be shown in a line: white space is spaces, what cannot be seen is escaped, the rest is cut off.

    Args:
        text: The text, or what has one.
        most: Letters of the result; one of a longer text ends in an ellipsis.
    """
    words = str(text)
    shown = words[: most + 1]
    if not shown.isprintable():
        shown = "".join(map(_seen, shown))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def for_markdown(text: object, most: int = LONGEST) -> str:
    """A text as Markdown that shows it, also within a table.

    Args:
        text: The text.
        most: Letters that are shown of it.
    """
    return _MARKDOWN.sub(r"\\\1", one_line(text, most))


def for_latex(text: object, most: int = LONGEST) -> str:
    """A text as LaTeX that shows it; letters beyond the Latin ones need LuaLaTeX or XeLaTeX and a font that has them.

    Args:
        text: The text.
        most: Letters that are shown of it.
    """
    escaped = "".join(_LATEX.get(character, character) for character in re.sub("-(?=-)", "-\0", one_line(text, most)))
    return escaped.replace("\0", "{}")  # two hyphens would become a dash


def file_stem(name: str) -> str:
    """A name as that of a file, without extension: itself if it can be one, else with a digest that keeps it apart.

    Args:
        name: The name.
    """
    stem = re.sub(r"[^A-Za-z0-9_.=-]+", "_", name)[:_LONGEST_STEM]
    if stem == name:
        return name
    return f"{stem}-{hashlib.blake2b(name.encode(errors='backslashreplace'), digest_size=4).hexdigest()}"


def terminal(stderr: bool = False) -> Console:
    """A console that takes strings as they are, and writes as escapes what the terminal's encoding lacks.

    Args:
        stderr: Whether it writes to the standard error stream.
    """
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return Console(stderr=stderr, markup=False, emoji=False)


def _seen(character: str) -> str:
    if character.isspace():
        return " "
    if unicodedata.category(character) in _UNSEEN and character not in _JOINERS:
        return character.encode("unicode_escape").decode("ascii")
    return character
