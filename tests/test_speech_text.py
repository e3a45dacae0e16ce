"""English text to token ids: the official ones, and what is refused."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from dmlik_pl.speech.text import EnglishFrontEnd
from dmlik_pl.speech.text.cleaners import clean_english
from dmlik_pl.speech.text.dictionary import pronunciations
from dmlik_pl.speech.text.symbols import BLANK, IDS, N_VOCAB, SPACE, SYMBOLS

GOLDEN = json.loads((Path(__file__).parent / "goldens" / "text.json").read_text())
SENTENCES = GOLDEN["sentences"]
NUMBERED = pytest.mark.parametrize("sentence", SENTENCES, ids=[str(number) for number in range(len(SENTENCES))])


def test_symbols_are_the_official_ones_in_their_order():
    assert list(SYMBOLS) == GOLDEN["symbols"]
    assert (len(SYMBOLS), BLANK, N_VOCAB) == (148, 148, 149)
    assert (SYMBOLS.index("_"), SPACE) == (0, 11)


@NUMBERED
def test_ids_are_the_official_ones(sentence):
    text = sentence["text"]
    assert EnglishFrontEnd()(text).tolist() == sentence["interspersed"]
    assert EnglishFrontEnd(blanks=False)(text).tolist() == sentence["ids"]
    if sentence["ids_no_dictionary"] is not None:
        assert EnglishFrontEnd(dictionary=False, blanks=False)(text).tolist() == sentence["ids_no_dictionary"]
    if sentence["cleaned"] is not None:
        assert clean_english(text) == sentence["cleaned"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$0", "zero dollars"),
        ("$1.01", "one dollar, one cent"),
        ("2,345", "twenty-three forty-five"),
        ("2008", "two thousand eight"),
        ("1900", "nineteen hundred"),
        ("3000", "three thousand"),
        ("22nd", "twenty-second"),
        ("5.0", "five point zero"),
        ("Dr. No", "doctor no"),
        ("ad hoc.", "ad hoc."),
        ("a\n\tb", "a b"),
    ],
    ids=str,
)
def test_cleaning_spells_numbers_and_abbreviations(text, words):
    assert clean_english(text) == words


def test_braces_hold_phones_and_text_before_them_is_spelled():
    ids = EnglishFrontEnd(blanks=False)
    phones = [IDS["@HH"], IDS["@AW1"], IDS["@S"]]
    assert ids("the {HH AW1 S}").tolist() == [*(IDS[letter] for letter in "the "), *phones]
    assert ids("{HH AW1 S} the").tolist() == [*phones, SPACE, IDS["@DH"], IDS["@AH0"]]
    assert ids("{HH XX S}").tolist() == [phones[0], phones[2]]  # an unknown phone is dropped
    assert ids("the\n{HH AW1 S}").tolist() == ids("the {HH AW1 S}").tolist()


def test_a_word_with_its_full_stop_is_spelled_and_unknown_characters_are_dropped():
    ids = EnglishFrontEnd(blanks=False)
    assert ids("unity.").tolist() == [IDS[letter] for letter in "unity."]
    assert ids("a*_~#b").tolist() == [IDS["a"], IDS["b"]]


def test_blanks_stand_before_between_and_after():
    ids = EnglishFrontEnd()("unity.")
    assert ids[::2].tolist() == [BLANK] * 7
    assert ids[1::2].tolist() == [IDS[letter] for letter in "unity."]


@pytest.mark.parametrize("text", ["", "  \n", "***", "# # #", "~_~"], ids=repr)
def test_text_without_anything_to_say_is_refused(text):
    with pytest.raises(ValueError, match=r"is empty|is known"):
        EnglishFrontEnd()(text)


def test_the_dictionary_is_the_one_of_the_training():
    words = pronunciations()
    assert words["A"] == ("EY1",)  # the package has AH0
    assert words["ZERO"] == ("Z", "IY1", "R", "OW0")  # the package has IH1
    assert words["ABDICATED"][-2:] == ("AH0", "D")
    assert "A.D." not in words and "XBOX" not in words  # later words
    assert len(words) == 125_022


def test_a_dictionary_file_takes_the_first_known_pronunciation(tmp_path):
    path = tmp_path / "dictionary"
    lines = [";;; comment", "HELLO  HH XX", "HELLO(1)  HH AH0", "HELLO(2)  HH AA0", "CAF\xc9  K AE0", "'TIS  T IH1 Z"]
    path.write_bytes("\n".join(lines).encode("latin-1"))
    assert pronunciations(str(path)) == {"HELLO": ("HH", "AH0"), "CAF\xc9": ("K", "AE0"), "'TIS": ("T", "IH1", "Z")}
    ids = EnglishFrontEnd(str(path), blanks=False)
    assert ids("hello you").tolist() == [IDS["@HH"], IDS["@AH0"], SPACE, *(IDS[letter] for letter in "you")]


def test_a_missing_or_empty_dictionary_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pronouncing dictionary nowhere"):
        EnglishFrontEnd("nowhere")
    path = tmp_path / "empty"
    path.write_text(";;; nothing\n")
    with pytest.raises(ValueError, match="no pronunciation"):
        pronunciations(str(path))


def test_a_missing_library_names_the_extra(monkeypatch):
    def absent(name, *arguments):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    extra = import_module("dmlik_pl.extras")
    monkeypatch.setattr(extra.importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match=r"needs unidecode.*pip install 'dmlik-pl\[speech\]'"):
        clean_english("text")


def test_characters_without_a_symbol_are_named() -> None:
    front_end = EnglishFrontEnd()
    assert front_end.unknown('It\'s 20 déjà vu, "quoted" — Dr. Smith: 50') == ""
    assert front_end.unknown("rain & 5% ☃ & snow_") == "☃&%_"
    assert front_end.unknown("a {HH AW1 S} %") == "%"
    assert EnglishFrontEnd(dictionary=False).unknown("castle + door") == "+"
