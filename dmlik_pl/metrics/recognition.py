"""Speech recognisers: waves to text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmlik_pl.metrics.speech_model import SpeechModel, from_folder_or_hub
from dmlik_pl.speech.extra import load

__all__ = ["Recogniser", "Wav2Vec2", "Whisper", "WordLoop"]


class Recogniser(SpeechModel):
    """From waves to text. The transcript of a wave does not depend on the other waves."""

    @torch.no_grad()
    def transcribe(self, waves: Sequence[Tensor], rate: int) -> list[str]:
        """Recognise each wave.

        Args:
            waves: B waves, [N] each, full scale [-1, 1].
            rate: Their sampling rate in Hz; resampled to the recogniser's own where they differ.

        Returns:
            B texts, "" where nothing is recognised.

        Raises:
            ValueError: If a wave is not one channel, is empty or not finite, or is too long for the recogniser.
        """
        return [self.transcribe_one(wave) for wave in self.heard(waves, rate)]

    @abstractmethod
    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N] on the CPU at the recogniser's rate."""


class WordLoop(Recogniser):
    """Any sequence of a closed vocabulary's words, by pocketsphinx with the English model in its package: no download.

    The grammar knows nothing of order or frequency, so every word is decided by its sound alone. The wave is scaled to
    a fixed peak and embedded in faint noise that is the same in every call: digital silence is outside of what the
    acoustic model has heard, and the transcript stays a function of the wave. Only the CPU is used.

    Args:
        vocabulary: The words, all in the dictionary of pocketsphinx.
        insertion_probability: Factor on a path's probability for each word; less gives fewer and longer words.
        padding: Length of the noise before and after the wave in seconds.
        noise: Standard deviation of the noise in the whole wave, relative to full scale.

    Raises:
        ValueError: If the vocabulary is empty, or has words that are not in the dictionary.
    """

    rate: int = 16000

    def __init__(
        self,
        vocabulary: Sequence[str],
        insertion_probability: float = 1e-2,
        padding: float = 0.4,
        noise: float = 1e-3,
    ) -> None:
        super().__init__()
        self.vocabulary = list(dict.fromkeys(word.strip().lower() for word in vocabulary))
        self.pronunciations = _pronunciations(self.vocabulary)
        self.insertion_probability = insertion_probability
        self.padding = padding
        self.noise = noise
        self.freeze()

    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N] at 16 kHz."""
        # A decoder carries its last frames' best Gaussians into the next utterance; with the vocabulary's few words a
        # new one takes 10 ms and keeps an utterance's transcript independent of the one before.
        decoder = self._decoder()
        decoder.start_utt()
        decoder.process_raw(self._embedded(wave).tobytes(), full_utt=True)
        decoder.end_utt()
        best = decoder.hyp()
        return best.hypstr if best else ""

    def _embedded(self, wave: Tensor) -> np.ndarray:
        """The wave at nine tenths of full scale between stretches of noise, 16-bit integers."""
        margin = round(self.padding * self.rate)
        signal = np.random.default_rng(0).standard_normal(len(wave) + 2 * margin) * self.noise
        peak = float(wave.abs().max())
        if peak > 0:
            signal[margin : margin + len(wave)] += wave.numpy() * (0.9 / peak)
        return (signal * 32767).clip(-32768, 32767).astype(np.int16)

    def _decoder(self) -> Any:
        decoder = load("pocketsphinx", "the word-loop recogniser").Decoder(
            lm=None, dict=None, cmn="batch", wip=self.insertion_probability, loglevel="FATAL"
        )
        for name, phones in self.pronunciations.items():
            decoder.add_word(name, phones, False)
        # state 1 between words; a path has at least one
        words = [(1, 2, 1 / len(self.vocabulary), word) for word in self.vocabulary]
        loop = decoder.create_fsg("words", 0, 2, [(0, 1, 1.0), *words, (2, 1, 1.0)])
        decoder.add_fsg("words", loop)
        decoder.activate_search("words")
        return decoder


class Whisper(Recogniser):
    """Whisper by transformers: greedy (or beam) search in English.

    Args:
        path: A folder in the layout of transformers, or a model of the Hugging Face hub ("openai/whisper-medium").
        beams: Width of the beam; 1 is greedy.
        local_files_only: Never download; a hub model must then be in the local cache.

    Raises:
        FileNotFoundError: If there is no such model at hand.
    """

    def __init__(self, path: str | Path, beams: int = 1, local_files_only: bool = True) -> None:
        super().__init__()
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        where = (path, local_files_only, "Whisper model", "openai/whisper-base.en")
        self.model = from_folder_or_hub(WhisperForConditionalGeneration.from_pretrained, *where)
        self.processor = from_folder_or_hub(WhisperProcessor.from_pretrained, *where)
        self.rate = int(self.processor.feature_extractor.sampling_rate)
        self.beams = beams
        self.freeze()

    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N]; a wave longer than the model's window (30 s) is an error, not cut."""
        window = int(self.processor.feature_extractor.n_samples)
        if len(wave) > window:
            raise ValueError(
                f"a wave of {len(wave) / self.rate:.1f} s is longer than Whisper's window of {window / self.rate:.0f} "
                "s: split it, cutting it would drop words"
            )
        inputs = self.processor.feature_extractor(wave.numpy(), sampling_rate=self.rate, return_tensors="pt")
        features = inputs["input_features"].to(self.device, self.model.dtype)
        # models for English alone refuse the choice of a language
        multilingual = getattr(self.model.generation_config, "is_multilingual", False)
        options = {"language": "en", "task": "transcribe"} if multilingual else {}
        tokens = self.model.generate(features, num_beams=self.beams, do_sample=False, **options)
        return self.processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()


class Wav2Vec2(Recogniser):
    """A CTC model of the wav2vec 2.0 family by transformers, best label per frame, no language model.

    Args:
        path: A folder in the layout of transformers, or a model of the Hugging Face hub
            ("facebook/wav2vec2-base-960h").
        local_files_only: Never download; a hub model must then be in the local cache.

    Raises:
        FileNotFoundError: If there is no such model at hand.
    """

    def __init__(self, path: str | Path, local_files_only: bool = True) -> None:
        super().__init__()
        from transformers import AutoModelForCTC, Wav2Vec2Processor

        where = (path, local_files_only, "CTC model", "facebook/wav2vec2-base-960h")
        self.model = from_folder_or_hub(AutoModelForCTC.from_pretrained, *where)
        self.processor = from_folder_or_hub(Wav2Vec2Processor.from_pretrained, *where)
        self.rate = int(self.processor.feature_extractor.sampling_rate)
        self.freeze()

    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N]."""
        inputs = self.processor.feature_extractor(wave.numpy(), sampling_rate=self.rate, return_tensors="pt")
        logits = self.model(inputs["input_values"].to(self.device, self.model.dtype)).logits
        return self.processor.tokenizer.decode(logits[0].argmax(-1)).strip()


def _pronunciations(vocabulary: list[str]) -> dict[str, str]:
    """Phones of each word from pocketsphinx' dictionary, with its variants as "word(2)", "word(3)", ..."""
    if not vocabulary:
        raise ValueError("the word loop needs a vocabulary")
    dictionary = load("pocketsphinx", "the word-loop recogniser").Decoder(lm=None, loglevel="FATAL")
    pronunciations = {}
    for word in vocabulary:
        name, variant = word, 1
        while (phones := dictionary.lookup_word(name)) is not None:
            pronunciations[name] = phones
            variant += 1
            name = f"{word}({variant})"
    missing = [word for word in vocabulary if word not in pronunciations]
    if missing:
        raise ValueError(
            f"not in the dictionary of pocketsphinx: {', '.join(repr(word) for word in missing)}. Take other words; "
            "one of several parts must be given as its parts"
        )
    return pronunciations
