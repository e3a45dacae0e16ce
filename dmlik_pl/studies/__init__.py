"""The experiments: each says what to ask of a flow and how the answers become records."""

from dmlik_pl.studies.adaptation import Adaptation
from dmlik_pl.studies.base import Estimator, ImageModel, Images, Model, Outcome, Study
from dmlik_pl.studies.prompt_accuracy import PromptAccuracy
from dmlik_pl.studies.prompt_bounds import Elimination
from dmlik_pl.studies.prompt_likelihoods import Screening
from dmlik_pl.studies.rescoring import Rescoring, StoredRescoring
from dmlik_pl.studies.speech import SpeechModel, Utterances
from dmlik_pl.studies.speech_sweep import SpeechSweep
from dmlik_pl.studies.text_gain import TextGain
from dmlik_pl.studies.time_sweep import TimeSweep

__all__ = [
    "Adaptation",
    "Elimination",
    "Estimator",
    "ImageModel",
    "Images",
    "Model",
    "Outcome",
    "PromptAccuracy",
    "Rescoring",
    "Screening",
    "SpeechModel",
    "SpeechSweep",
    "StoredRescoring",
    "Study",
    "TextGain",
    "TimeSweep",
    "Utterances",
]
