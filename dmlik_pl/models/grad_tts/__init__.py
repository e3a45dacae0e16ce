"""Grad-TTS: the official network, and the model of speech that it makes."""

from dmlik_pl.models.grad_tts.network import GradTTS, Losses, Synthesis, padded_length

__all__ = ["GradTTS", "Losses", "Synthesis", "padded_length"]
