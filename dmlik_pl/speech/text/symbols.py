"""The symbols that Grad-TTS knows, in the order of their ids."""

__all__ = ["BLANK", "IDS", "N_VOCAB", "PHONES", "PHONE_MARK", "SPACE", "SYMBOLS"]

PAD = "_"
PHONE_MARK = "@"  # keeps the phone "B" apart from the letter "B"

CONSONANTS = ("B", "D", "F", "G", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W", "Y", "Z")
DIGRAPHS = ("CH", "DH", "HH", "JH", "NG", "SH", "TH", "ZH")
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
STRESSES = ("", "0", "1", "2")
PHONES = tuple(sorted([*CONSONANTS, *DIGRAPHS, *(vowel + stress for vowel in VOWELS for stress in STRESSES)]))

SYMBOLS = (
    PAD,
    *"-!'(),.:;? ",
    *"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    *"abcdefghijklmnopqrstuvwxyz",
    *(PHONE_MARK + phone for phone in PHONES),
)
IDS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
SPACE = IDS[" "]
BLANK = len(SYMBOLS)
N_VOCAB = len(SYMBOLS) + 1
