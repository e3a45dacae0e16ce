"""Beam search over the label probabilities of a CTC model, with an optional n-gram language model.

References:
    | Connectionist Temporal Classification (Graves et al., 2006)
    | First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs (Hannun et al.,
      2014)
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["BeamPath", "NGram", "beam_search"]

NEGLIGIBLE = -12.0  # ln of a label's probability below which a frame does not try it
NEVER = -math.inf
LN_10 = math.log(10)
START, END, UNKNOWN = "<s>", "</s>", "<unk>"
UNSEEN = -100 * LN_10  # of a word in a model without <unk>; finite, so that a text of two is not worse than of one


class BeamPath(NamedTuple):
    """One text that the search ended with.

    Attributes:
        text: Its words.
        score: CTC and language model together, nats.
        ctc: The CTC model's log-probability alone, as far as the beam has summed it, nats.
    """

    text: str
    score: float
    ctc: float


class NGram:
    """An n-gram language model with back-off, read from a file in the ARPA format when it is first asked.

    It is held in memory unpacked, at a few hundred bytes per n-gram: prune models of many millions. Case is ignored.

    Args:
        path: The file, .arpa or .arpa.gz.

    Raises:
        FileNotFoundError: If there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"no language model at {str(path)!r}: give an n-gram model in the ARPA format")
        self._grams: dict[tuple[str, ...], tuple[float, float]] | None = None
        self._order = 1

    def log_prob(self, word: str, context: Sequence[str] = ()) -> float:
        """Log-probability of a word after others, nats.

        Args:
            word: The word; one that the model does not know counts as its ``<unk>``.
            context: What stands before it, from the beginning of the sentence.
        """
        grams = self._read()
        known = word.casefold() if (word.casefold(),) in grams else UNKNOWN
        before = (START, *(other.casefold() for other in context))
        before = before[len(before) - self._order + 1 :] if self._order > 1 else ()
        back_off = 0.0
        while True:
            if (*before, known) in grams:
                return LN_10 * (back_off + grams[*before, known][0])
            if not before:
                return LN_10 * back_off + UNSEEN
            back_off += grams.get(before, (0.0, 0.0))[1]
            before = before[1:]

    def _read(self) -> dict[tuple[str, ...], tuple[float, float]]:
        """Decimal logarithms of probability and back-off weight of each n-gram."""
        if self._grams is None:
            grams: dict[tuple[str, ...], tuple[float, float]] = {}
            order = 0
            with (gzip.open if self.path.suffix == ".gz" else open)(self.path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    fields = line.split()
                    if len(fields) == 1 and fields[0].endswith("-grams:"):
                        order = int(fields[0][1:].partition("-")[0])
                    elif order and len(fields) > order:
                        words = tuple(field.casefold() for field in fields[1 : order + 1])
                        try:
                            weight = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
                            grams[words] = float(fields[0]), weight
                        except ValueError as error:
                            raise ValueError(f"{self.path}, line {number} is not an n-gram in ARPA format") from error
            if not grams:
                raise ValueError(f"{self.path} holds no n-gram in ARPA format")
            self._grams, self._order = grams, max(map(len, grams))
        return self._grams


class _Words:
    """What the language model adds to a prefix of labels, each prefix taken once."""

    def __init__(self, labels: Sequence[str], model: NGram | None, language_weight: float, word_score: float) -> None:
        self.labels = labels
        self.model = model
        self.language_weight = language_weight
        self.word_score = word_score
        self._known: dict[tuple[int, ...], float] = {(): 0.0}

    def text(self, prefix: tuple[int, ...]) -> list[str]:
        return "".join(self.labels[label] for label in prefix).split()

    def bonus(self, prefix: tuple[int, ...]) -> float:
        """What the language model adds for the words that a space has ended, nats."""
        if prefix not in self._known:
            before = self.bonus(prefix[:-1])
            ended = self.labels[prefix[-1]] == " " and len(prefix) > 1 and self.labels[prefix[-2]] != " "
            self._known[prefix] = before + (self._of(self.text(prefix)) if ended else 0.0)
        return self._known[prefix]

    def final(self, prefix: tuple[int, ...]) -> float:
        """What the language model adds for all words and the end of the sentence, nats."""
        words = self.text(prefix)
        last = self._of(words) if words and self.labels[prefix[-1]] != " " else 0.0
        end = 0.0 if self.model is None else self.language_weight * self.model.log_prob(END, words)
        return self.bonus(prefix) + last + end

    def _of(self, words: list[str]) -> float:
        log_p = 0.0 if self.model is None else self.model.log_prob(words[-1], words[:-1])
        return self.language_weight * log_p + self.word_score


def beam_search(
    log_probs: np.ndarray,
    labels: Sequence[str],
    blank: int,
    banned: Collection[int] = (),
    width: int = 100,
    language_model: NGram | None = None,
    language_weight: float = 1.0,
    word_score: float = 0.0,
) -> list[BeamPath]:
    """The likeliest texts of a CTC model, each summed over the alignments that stay in the beam.

    Args:
        log_probs: Log-probability of each label in each frame, nats, [T, labels].
        labels: What each label stands for; " " ends a word.
        blank: Index of CTC's blank.
        banned: Indices of labels that no text has.
        width: How many prefixes are kept after each frame.
        language_model: Scores words; None for none.
        language_weight: Weight of its log-probabilities.
        word_score: Added for each word, nats.

    Returns:
        At most `width` texts, best first; different label sequences of one text stay apart.
    """
    words = _Words(labels, language_model, language_weight, word_score)
    usable = [label for label in range(log_probs.shape[1]) if label != blank and label not in banned]
    # of each prefix the log-probability of alignments that end in a blank, and in its last label
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, NEVER)}
    for frame in log_probs:
        likely = [label for label in usable if frame[label] > NEGLIGIBLE]
        following: dict[tuple[int, ...], tuple[float, float]] = {}

        def add(
            prefix: tuple[int, ...], in_blank: float, in_label: float, into: dict[tuple[int, ...], tuple[float, float]]
        ) -> None:
            old = into.get(prefix, (NEVER, NEVER))
            into[prefix] = _log_sum(old[0], in_blank), _log_sum(old[1], in_label)

        for prefix, (in_blank, in_label) in beam.items():
            total = _log_sum(in_blank, in_label)
            again = in_label + float(frame[prefix[-1]]) if prefix else NEVER
            add(prefix, total + float(frame[blank]), again, following)
            for label in likely:
                # the same label again is a new one only after a blank
                source = in_blank if prefix and prefix[-1] == label else total
                if source > NEVER:
                    add((*prefix, label), NEVER, source + float(frame[label]), following)
        ranked = sorted(following.items(), key=lambda item: -(_log_sum(*item[1]) + words.bonus(item[0])))
        beam = dict(ranked[:width])
    paths = [
        BeamPath(" ".join(words.text(prefix)), _log_sum(*ends) + words.final(prefix), _log_sum(*ends))
        for prefix, ends in beam.items()
    ]
    return sorted(paths, key=lambda path: -path.score)


def _log_sum(a: float, b: float) -> float:
    """ln(exp a + exp b)."""
    high, low = (a, b) if a > b else (b, a)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
