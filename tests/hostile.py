"""Texts that would be markup, or more, where they are not taken for what they are."""

TEXTS = (
    "Ba$$in",
    "was $20 (50% off), now $10",
    r"$\frac{1}{$ \alpha \$ ^{_{}",
    "a|b",
    "[red]danger[/red] [/] :smile:",
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "**bold** `code` _it_ ~~gone~~ __x y__ #1 & 2 &amp; % ^ [a](b) ![c](d)",
    "line\none\r\ntwo\ttab",
    "\x00\x07\x1b[31mred\x1b[0m",
    "half \ud800 pair",
    "emoji \U0001f600 \u05e2\u05d1\u05e8\u05d9\u05ea \u4e2d\u6587",
    "right to \u202eleft",
    "_legend",
    "[row",
    "* star",
    "--flag",
    "x" * 140_000,
)
WHOLE = tuple(text for text in TEXTS if not any("\ud800" <= letter < "\ue000" for letter in text))
"""Those that are Unicode: a column of pandas can hold no other."""
