"""Grad-TTS: the official network, and the model of speech that it makes."""

from dmlik_pl.models.grad_tts.alignment import fit_duration_deviation
from dmlik_pl.models.grad_tts.checkpoint import write_network
from dmlik_pl.models.grad_tts.network import GradTTS, Losses, Synthesis, padded_length
from dmlik_pl.models.grad_tts.text_to_speech import Alignment, Policy, TextToSpeech, text_free_mean

__all__ = [
    "Alignment",
    "GradTTS",
    "Losses",
    "Policy",
    "Synthesis",
    "TextToSpeech",
    "fit_duration_deviation",
    "padded_length",
    "text_free_mean",
    "write_network",
]
