"""What Grad-TTS is given, looked at before it is scored: spectrograms of another kind give a number like any other."""

import math

import torch
from torch import Tensor

from dmlik_pl.speech.mel import FLOOR, LOUDEST

__all__ = ["check_mel", "check_tokens", "check_width"]

_SLACK = 0.5  # nats: a wave that leaves [-1, 1] by two thirds, as resampling may do, is not yet another kind of wave


def check_width(mel: Tensor, bands: int) -> None:
    """Refuse what is not a spectrogram [bands, T] in floating point.

    Raises:
        ValueError: If it is not; the message says what was found.
    """
    if not isinstance(mel, Tensor) or mel.dim() != 2 or mel.shape[0] != bands or mel.shape[1] == 0:
        found = list(mel.shape) if isinstance(mel, Tensor) else type(mel).__name__
        raise ValueError(f"a spectrogram must be [{bands}, T] with a frame at least, got {found}")
    if not mel.is_floating_point():
        raise ValueError(f"a spectrogram must be in floating point, got {mel.dtype}")


def check_mel(mel: Tensor, bands: int) -> None:
    """Refuse anything but a log-mel spectrogram of a wave in [-1, 1], see :class:`~dmlik_pl.speech.mel.LogMel`.

    Raises:
        ValueError: If it is not; the message says what was found.
    """
    check_width(mel, bands)
    if not bool(mel.isfinite().all()):
        raise ValueError("the spectrogram holds NaN or infinity")
    low, high = float(mel.min()), float(mel.max())
    if low < math.log(FLOOR) - 1e-2 or high > LOUDEST + _SLACK or low >= 0:
        raise ValueError(
            f"the spectrogram reaches from {low:.4g} to {high:.4g}, which is not the natural logarithm of mel "
            f"magnitudes of a wave in [-1, 1]: that lies between {math.log(FLOOR):.2f} and {LOUDEST}, and reaches "
            "below 0. Decibels, magnitudes without a logarithm and waves in 16-bit counts do not: use "
            "dmlik_pl.speech.mel.LogMel"
        )


def check_tokens(tokens: Tensor, known: int) -> None:
    """Refuse what is not a list of token ids [L].

    Args:
        tokens: The ids.
        known: How many tokens the model knows.

    Raises:
        ValueError: If it is not, or the model does not know one; the message says what was found.
    """
    if not isinstance(tokens, Tensor) or tokens.dim() != 1 or tokens.dtype not in (torch.int32, torch.int64):
        found = f"{tokens.dtype} {list(tokens.shape)}" if isinstance(tokens, Tensor) else f"a {type(tokens).__name__}"
        raise ValueError(
            f"token ids must be whole numbers [L], as a front end of dmlik_pl.speech makes them, got {found}"
        )
    if len(tokens) == 0 or int(tokens.min()) < 0 or int(tokens.max()) >= known:
        span = f"{int(tokens.min())} to {int(tokens.max())}" if len(tokens) else "none"
        raise ValueError(f"token ids {span}: the model knows 0 to {known - 1}, and needs one at least")
