"""Columns of what is heard of a wave, which studies of speech share."""

from dmlik_pl.records.schema import Column

__all__ = ["HEARING", "UTTERANCE"]

UTTERANCE: tuple[Column, ...] = (
    Column("text", "text", "what is said"),
    Column("frames", "number", "length of the mel", "frames"),
)
HEARING: tuple[Column, ...] = (
    Column("transcript", "text", "what the recogniser heard"),
    Column("word_errors", "number", "its word errors"),
    Column("words", "number", "words of the text"),
    Column("recogniser", "text", "the recogniser and its weights"),
    Column("speaker_encoder", "text", "the speaker encoder and its weights"),
    Column("speaker_similarity", "number", "cosine of the voice to the reference's"),
    Column("cepstral_distortion", "number", "mel-cepstral distortion to the recording", "dB"),
    Column("log_f0_rmse", "number", "root mean square error of ln F0 where both are voiced", "nats"),
    Column("vocoder", "text", "what makes waves of mels"),
)
