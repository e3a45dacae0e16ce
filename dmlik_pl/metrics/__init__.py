"""Metrics as `torchmetrics.Metric`, each with a functional twin, and the models that listen for them."""

from dmlik_pl.metrics.accuracy import PromptAccuracy, prompt_accuracy
from dmlik_pl.metrics.bits_per_dim import BitsPerDim, bits_per_dim
from dmlik_pl.metrics.cepstral import MelCepstralDistortion, mel_cepstral_distortion
from dmlik_pl.metrics.clip import CLIPEncoder, CLIPImageFeatures, CLIPScore, clip_score_matrix, clip_scores
from dmlik_pl.metrics.frechet import FrechetDistance, PrecomputedFeatures, frechet_distance
from dmlik_pl.metrics.kernel import kernel_distance, kernel_distance_standard_error
from dmlik_pl.metrics.pitch import LogF0RMSE, log_f0_rmse
from dmlik_pl.metrics.recognition import Hypothesis, Recogniser, Wav2Vec2, Whisper, WordLoop
from dmlik_pl.metrics.speaker import (
    Resemblyzer,
    SpeakerEncoder,
    SpeakerSimilarity,
    TitaNet,
    XVector,
    speaker_similarity,
)
from dmlik_pl.metrics.word_error import WordErrorRate, word_errors

__all__ = [
    "BitsPerDim",
    "CLIPEncoder",
    "CLIPImageFeatures",
    "CLIPScore",
    "FrechetDistance",
    "Hypothesis",
    "LogF0RMSE",
    "MelCepstralDistortion",
    "PrecomputedFeatures",
    "PromptAccuracy",
    "Recogniser",
    "Resemblyzer",
    "SpeakerEncoder",
    "SpeakerSimilarity",
    "TitaNet",
    "Wav2Vec2",
    "Whisper",
    "WordErrorRate",
    "WordLoop",
    "XVector",
    "bits_per_dim",
    "clip_score_matrix",
    "clip_scores",
    "frechet_distance",
    "kernel_distance",
    "kernel_distance_standard_error",
    "log_f0_rmse",
    "mel_cepstral_distortion",
    "prompt_accuracy",
    "speaker_similarity",
    "word_errors",
]
