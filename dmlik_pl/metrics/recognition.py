"""Speech recognisers: waves to text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.metrics.beam_search import NGram, beam_search
from dmlik_pl.metrics.recogniser import Hypothesis, Recogniser, best_of_each_text
from dmlik_pl.metrics.word_loop import WordLoop
from dmlik_pl.pretrained import load_with_processor
from dmlik_pl.ranges import at_least, finite

__all__ = ["Hypothesis", "Recogniser", "Wav2Vec2", "Whisper", "WordLoop"]


class Whisper(Recogniser):
    """Whisper by transformers: greedy (or beam) search in English.

    Args:
        path: A folder in the layout of transformers, or a model of the Hugging Face hub ("openai/whisper-medium").
        beams: Width of the beam; 1 is greedy.
        local_files_only: Never download; a hub model must then be in the local cache.

    Raises:
        FileNotFoundError: If there is no such model at hand.
        ValueError: If it is another model, or a damaged one.
    """

    def __init__(self, path: str | Path, beams: int = 1, local_files_only: bool = True) -> None:
        super().__init__()
        at_least(1, beams=beams)
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self.model, self.processor = load_with_processor(
            WhisperForConditionalGeneration,
            WhisperProcessor,
            path,
            what="Whisper model",
            example="openai/whisper-base.en",
            local_files_only=local_files_only,
        )
        self.rate = int(self.processor.feature_extractor.sampling_rate)
        self.beams = beams
        self.freeze()

    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N]; a wave longer than the model's window (30 s) is an error, not cut."""
        language = {"language": "en", "task": "transcribe"} if self._multilingual else {}
        tokens = self.model.generate(self._features(wave), num_beams=self.beams, do_sample=False, **language)
        return self.processor.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()

    def hypotheses_of_one(self, wave: Tensor, n: int) -> list[Hypothesis]:
        """The n-best list of one wave [N]: the final beams, n of them at least, by their tokens' log-probability."""
        from transformers import GenerationMixin

        tokenizer, beams = self.processor.tokenizer, max(n, self.beams, 2)
        # Whisper's own `generate` searches once for each sequence that it is asked for, and finds the same each time.
        if self._multilingual:
            tokenizer.set_prefix_tokens(language="english", task="transcribe", predict_timestamps=False)
        found: Any = GenerationMixin.generate(
            self.model,
            self._features(wave),
            decoder_input_ids=torch.tensor([tokenizer.prefix_tokens], device=self.device),
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            length_penalty=0.0,  # the sum of the log-probabilities, not their mean
            return_dict_in_generate=True,
            output_scores=True,
        )
        texts = tokenizer.batch_decode(found.sequences, skip_special_tokens=True)
        scores = found.sequences_scores.tolist()
        return best_of_each_text((Hypothesis(t.strip(), score) for t, score in zip(texts, scores, strict=True)), n)

    @property
    def _multilingual(self) -> bool:
        """Models for English alone refuse the choice of a language."""
        return bool(getattr(self.model.generation_config, "is_multilingual", False))

    def _features(self, wave: Tensor) -> Tensor:
        """What the model hears of a wave [N]."""
        window = int(self.processor.feature_extractor.n_samples)
        if len(wave) > window:
            raise ValueError(
                f"a wave of {len(wave) / self.rate:.1f} s is longer than Whisper's window of {window / self.rate:.0f} "
                "s: split it, cutting it would drop words"
            )
        inputs = self.processor.feature_extractor(wave.numpy(), sampling_rate=self.rate, return_tensors="pt")
        features: Tensor = inputs["input_features"].to(self.device, self.model.dtype)
        return features


class Wav2Vec2(Recogniser):
    """A CTC model of the wav2vec 2.0 family by transformers.

    A transcript is the best label of each frame. An n-best list comes from a beam search, with a language model if one
    is given: its score is log p_CTC(text) + `language_weight` log p_LM(text) + `word_score` for each word.

    Args:
        path: A folder in the layout of transformers, or a model of the Hugging Face hub
            ("facebook/wav2vec2-base-960h").
        beams: Width of the beam search for n-best lists.
        language_model: An n-gram model in the ARPA format (.arpa or .arpa.gz) for n-best lists; none by default.
        language_weight: Weight of its log-probabilities.
        word_score: Added for each word, nats.
        local_files_only: Never download; a hub model must then be in the local cache.

    Raises:
        FileNotFoundError: If there is no such model at hand.
        ValueError: If it is another model, or a damaged one.
    """

    def __init__(
        self,
        path: str | Path,
        beams: int = 100,
        language_model: str | Path | None = None,
        language_weight: float = 1.0,
        word_score: float = 0.0,
        local_files_only: bool = True,
    ) -> None:
        super().__init__()
        at_least(1, beams=beams)
        finite(language_weight=language_weight, word_score=word_score)
        from transformers import AutoModelForCTC, Wav2Vec2Processor

        self.model, self.processor = load_with_processor(
            AutoModelForCTC,
            Wav2Vec2Processor,
            path,
            what="CTC model",
            example="facebook/wav2vec2-base-960h",
            local_files_only=local_files_only,
        )
        self.rate = int(self.processor.feature_extractor.sampling_rate)
        self.beams = beams
        self.language_weight = language_weight
        self.word_score = word_score
        self.language_model = None if language_model is None else NGram(language_model)
        self.freeze()

    def transcribe_one(self, wave: Tensor) -> str:
        """Recognise one wave [N]."""
        return self.processor.tokenizer.decode(self._logits(wave).argmax(-1)).strip()

    def hypotheses_of_one(self, wave: Tensor, n: int) -> list[Hypothesis]:
        """The n-best list of one wave [N]; `parts` names the score without the language model, "ctc"."""
        tokenizer = self.processor.tokenizer
        labels = tokenizer.convert_ids_to_tokens(list(range(self.model.config.vocab_size)))
        found = beam_search(
            self._logits(wave).float().log_softmax(-1).numpy(force=True),
            [" " if label == tokenizer.word_delimiter_token else label for label in labels],
            blank=tokenizer.pad_token_id,
            banned=set(tokenizer.all_special_ids) - {tokenizer.pad_token_id, tokenizer.word_delimiter_token_id},
            width=max(n, self.beams),
            language_model=self.language_model,
            language_weight=self.language_weight,
            word_score=self.word_score,
        )
        extra = self.language_model is not None
        return best_of_each_text(
            (Hypothesis(path.text, path.score, {"ctc": path.ctc} if extra else {}) for path in found), n
        )

    def _logits(self, wave: Tensor) -> Tensor:
        """Scores of each label in each frame, [T, labels]."""
        inputs = self.processor.feature_extractor(wave.numpy(), sampling_rate=self.rate, return_tensors="pt")
        logits: Tensor = self.model(inputs["input_values"].to(self.device, self.model.dtype)).logits
        return logits[0]
