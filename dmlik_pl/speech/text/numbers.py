"""Numbers of English text in words, the way the Tacotron family reads them aloud."""

import re
from functools import cache
from typing import Any

from dmlik_pl.extras import load

__all__ = ["spell_numbers"]

GROUPED = re.compile(r"[0-9][0-9,]+[0-9]")
POUNDS = re.compile(r"£([0-9,]*[0-9]+)")
DOLLARS = re.compile(r"\$([0-9.,]*[0-9]+)")
DECIMAL = re.compile(r"[0-9]+\.[0-9]+")
ORDINAL = re.compile(r"[0-9]+(?:st|nd|rd|th)")
CARDINAL = re.compile(r"[0-9]+")


def spell_numbers(text: str) -> str:
    """Replace amounts of money, decimals, ordinals and cardinals by words; digits after a point are one cardinal."""
    text = GROUPED.sub(lambda found: found[0].replace(",", ""), text)
    text = POUNDS.sub(r"\1 pounds", text)
    text = DOLLARS.sub(lambda found: _dollars(found[1]), text)
    text = DECIMAL.sub(lambda found: found[0].replace(".", " point "), text)
    text = ORDINAL.sub(lambda found: _engine().number_to_words(found[0]), text)
    return CARDINAL.sub(lambda found: _cardinal(int(found[0])), text)


def _dollars(amount: str) -> str:
    """Read an amount such as "3.50"."""
    whole, *fractions = amount.split(".")
    if len(fractions) > 1:
        return f"{amount} dollars"  # no amount, "1.2.3"
    dollars = int(whole) if whole else 0
    cents = int(fractions[0]) if fractions and fractions[0] else 0
    parts = []
    if dollars:
        parts.append(f"{dollars} {'dollar' if dollars == 1 else 'dollars'}")
    if cents:
        parts.append(f"{cents} {'cent' if cents == 1 else 'cents'}")
    return ", ".join(parts) or "zero dollars"


def _cardinal(number: int) -> str:
    """Read a whole number; one between 1000 and 3000 is read like a year."""
    say = _engine().number_to_words
    if not 1000 < number < 3000:
        return say(number, andword="")
    if number == 2000:
        return "two thousand"
    if 2000 < number < 2010:
        return f"two thousand {say(number % 100)}"
    if number % 100 == 0:
        return f"{say(number // 100)} hundred"
    return say(number, andword="", zero="oh", group=2).replace(", ", " ")


@cache
def _engine() -> Any:
    """Return the library's reader of numbers."""
    return load("inflect", "reading numbers aloud").engine()
