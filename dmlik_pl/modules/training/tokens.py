"""CLIP tokenizers with a vocabulary small enough for small models."""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

__all__ = ["small_tokenizer"]

WORD_END = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


def small_tokenizer(captions: Iterable[str], length: int = 16, pad_token: str = END) -> CLIPTokenizer:
    """Build CLIP's byte-level tokenizer with merges learnt from captions, so that each of their words is one token.

    Any other text is spelt out in bytes and stays representable.

    Args:
        captions: Texts whose words are to be single tokens.
        length: The text window in tokens, with the start and end tokens.
        pad_token: Token that fills the window; CLIP's second encoder in SDXL uses ``"!"``.

    Returns:
        The tokenizer; the end of text has the highest id, as in CLIP.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000, initial_alphabet=letters, end_of_word_suffix=WORD_END, min_frequency=1, show_progress=False
    )
    learner.train_from_iterator(sorted(set(captions)), trainer)
    merges: Any = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    words = [left + right for left, right in merges]
    tokens = [*letters, *(letter + WORD_END for letter in letters), *words, START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=length)
