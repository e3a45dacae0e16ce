"""Text to token ids, as Grad-TTS was trained on."""

from dmlik_pl.speech.text.front_end import EnglishFrontEnd

__all__ = ["EnglishFrontEnd"]
