"""The text normalisation that word errors are counted after."""

from collections.abc import Callable
from functools import cache

from dmlik_pl.extras import load

__all__ = ["english_normaliser"]


@cache
def english_normaliser() -> Callable[[str], str]:
    """Whisper's English text normaliser: lower case, no punctuation, contractions in full, one spelling, digits.

    A run of number words becomes one word ("one two three" is "123"), so speech of digits alone has few words.

    Returns:
        A function from text to normalised text.

    Example:
        >>> english_normaliser()("Mr. Jones won't pay £20, the colour's grey!")
        'mister jones will not pay £20 the color is gray'
    """
    normaliser: Callable[[str], str] = load("whisper_normalizer.english", "the word error rate").EnglishTextNormalizer()
    return normaliser
