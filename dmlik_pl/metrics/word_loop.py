"""The embedded recogniser: a loop over the words of a closed vocabulary, by pocketsphinx."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

from dmlik_pl.extras import load
from dmlik_pl.metrics.recogniser import Hypothesis, Recogniser, best_of_each_text
from dmlik_pl.ranges import above, at_least

__all__ = ["WordLoop"]

SCORE_UNIT = 1024  # pocketsphinx gives scores divided by 2^10, so that they fit its integers
LISTED = 100  # paths of a decoder's own list that are looked at; most differ in their silences alone


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
        above(0, insertion_probability=insertion_probability)
        at_least(0, padding=padding, noise=noise)
        self.vocabulary = list(dict.fromkeys(word.strip().lower() for word in vocabulary))
        self.pronunciations = _pronunciations(self.vocabulary)
        self.insertion_probability = insertion_probability
        self.padding = padding
        self.noise = noise
        self.freeze()

    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N] at 16 kHz."""
        decoder = self._decoded(self._embedded(wave))
        best = decoder.hyp()
        return best.hypstr if best else ""

    def hypotheses_of_one(self, wave: Tensor, n: int) -> list[Hypothesis]:
        """The n-best list of one wave [N] at 16 kHz.

        The recogniser's own list is short where it is sure, so that the best rivals of each word in its place join it.
        Every candidate is then scored alone, by its best alignment with the wave: the acoustic log-likelihood of that
        path and the grammar's word probabilities, in nats up to a constant, to a tenth of a nat.
        """
        sound = self._embedded(wave)
        candidates = _texts(self._decoded(sound))
        best = candidates[0].split() if candidates else []
        for place, word in enumerate(best):
            slots = [[own] for own in best]
            slots[place] = [other for other in self.vocabulary if other != word]
            candidates += [text for text in _texts(self._decoded(sound, slots)) if len(text.split()) == len(best)]
        scored = [(text, self._aligned(sound, text)) for text in dict.fromkeys(candidates)]
        return best_of_each_text([Hypothesis(text, score) for text, score in scored if score is not None], n)

    def _aligned(self, sound: np.ndarray, text: str) -> float | None:
        """Score of the best path through exactly these words, nats; None if the sound has none."""
        found = self._decoded(sound, [[word] for word in text.split()]).hyp()
        # a path that ends early is no path through all words
        return SCORE_UNIT * math.log(found.score) if found and found.hypstr == text and found.score > 0 else None

    def _embedded(self, wave: Tensor) -> np.ndarray:
        """The wave at nine tenths of full scale between stretches of noise, 16-bit integers."""
        margin = round(self.padding * self.rate)
        signal = np.random.default_rng(0).standard_normal(len(wave) + 2 * margin) * self.noise
        peak = float(wave.abs().max())
        if peak > 0:
            signal[margin : margin + len(wave)] += wave.numpy() * (0.9 / peak)
        return (signal * 32767).clip(-32768, 32767).astype(np.int16)

    def _decoded(self, sound: np.ndarray, slots: Sequence[Sequence[str]] | None = None) -> Any:
        """A decoder that has heard the sound: any sequence of words, or one word of each slot in turn."""
        # A decoder carries its last frames' best Gaussians into the next utterance; with the vocabulary's few words a
        # new one takes 10 ms and keeps an utterance's transcript independent of the one before.
        decoder = load("pocketsphinx", "the word-loop recogniser").Decoder(
            lm=None, dict=None, cmn="batch", wip=self.insertion_probability, loglevel="FATAL"
        )
        for name, phones in self.pronunciations.items():
            decoder.add_word(name, phones, False)
        chance = 1 / len(self.vocabulary)
        if slots is None:  # state 1 between words; a path has at least one
            words = [(1, 2, chance, word) for word in self.vocabulary]
            grammar = decoder.create_fsg("words", 0, 2, [(0, 1, 1.0), *words, (2, 1, 1.0)])
        else:
            words = [(place, place + 1, chance, word) for place, slot in enumerate(slots) for word in slot]
            grammar = decoder.create_fsg("words", 0, len(slots), words)
        decoder.add_fsg("words", grammar)
        decoder.activate_search("words")
        decoder.start_utt()
        decoder.process_raw(sound.tobytes(), full_utt=True)
        decoder.end_utt()
        return decoder


def _texts(decoder: Any) -> list[str]:
    """Different texts of a decoder's list, best first."""
    best = decoder.hyp()
    if not best:
        return []
    listed = [entry.hypstr for entry in islice(decoder.nbest(), LISTED) if entry]
    return list(dict.fromkeys(text for text in (best.hypstr, *listed) if text))


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
