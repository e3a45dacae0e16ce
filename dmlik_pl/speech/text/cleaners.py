"""English text made regular: plain letters, lower case, numbers and abbreviations in words, single spaces."""

import re

from dmlik_pl.extras import load
from dmlik_pl.speech.text.numbers import spell_numbers

__all__ = ["clean_english"]

ABBREVIATIONS = {
    "mrs": "misess",  # so spelled when the models were trained
    "mr": "mister",
    "dr": "doctor",
    "st": "saint",
    "co": "company",
    "jr": "junior",
    "maj": "major",
    "gen": "general",
    "drs": "doctors",
    "rev": "reverend",
    "lt": "lieutenant",
    "hon": "honorable",
    "sgt": "sergeant",
    "capt": "captain",
    "esq": "esquire",
    "ltd": "limited",
    "col": "colonel",
    "ft": "fort",
}
ABBREVIATION = re.compile(rf"\b({'|'.join(ABBREVIATIONS)})\.")
WHITESPACE = re.compile(r"\s+")


def clean_english(text: str) -> str:
    """Clean a text; leading and trailing white space becomes one space, as in training.

    Example:
        >>> clean_english("Dr. Smith  met Mrs. Brontë.")
        'doctor smith met misess bronte.'
    """
    text = load("unidecode", "reading text").unidecode(text).lower()
    text = spell_numbers(text)
    text = ABBREVIATION.sub(lambda found: ABBREVIATIONS[found[1]], text)
    return WHITESPACE.sub(" ", text)
