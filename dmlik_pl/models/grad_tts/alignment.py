"""Which token each frame belongs to: the best monotonic path, and paths of given durations.

Paths are [B, L, T] of zeros and ones, L tokens by T frames.

References:
    | Glow-TTS: A Generative Flow for Text-to-Speech via Monotonic Alignment Search (Kim et al., 2020)
"""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

__all__ = [
    "duration_log_prob",
    "fit_duration_deviation",
    "generate_path",
    "length_mask",
    "log_prior",
    "maximum_path",
    "stretch_durations",
]

IMPOSSIBLE = np.float32(-1e9)


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Which of ``size`` places lie within each length [B]: boolean [B, size]; the longest length by default."""
    places = torch.arange(int(lengths.max()) if size is None else size, device=lengths.device)
    return places < lengths[:, None]


def log_prior(mu: Tensor, y: Tensor) -> Tensor:
    """Log-density of every frame of y [B, F, T] under N(mu, I) of every token, mu [B, F, L]: nats, [B, L, T]."""
    cross = mu.transpose(1, 2) @ y
    constant = -0.5 * math.log(2 * math.pi) * mu.shape[1]
    return cross - 0.5 * (y**2).sum(1)[:, None] - 0.5 * (mu**2).sum(1)[:, :, None] + constant


@torch.no_grad()
def maximum_path(value: Tensor, mask: Tensor) -> Tensor:
    """The monotonic path of the highest sum, in which every token has a frame and none is passed over.

    Where staying with a token and moving on are equally good, the path stays. All utterances and tokens of a frame are
    taken at once, in float32 on the CPU.

    Args:
        value: What each cell is worth, [B, L, T].
        mask: Which cells are real, of the shape of value: a corner of ones for each utterance.

    Returns:
        The path, of the shape, dtype and device of value.

    Raises:
        ValueError: If an utterance has fewer frames than tokens.

    Example:
        >>> value = torch.tensor([[[0.0, 0.0, -5.0], [-1.0, 2.0, 3.0]]])  # two tokens, three frames
        >>> maximum_path(value, torch.ones(1, 2, 3))
        tensor([[[1., 0., 0.],
                 [0., 1., 1.]]])
    """
    tokens = mask[:, :, 0].sum(1).long().cpu().numpy()
    frames = mask[:, 0].sum(1).long().cpu().numpy()
    if (frames < tokens).any():
        b = int((frames < tokens).argmax())
        raise ValueError(f"alignment impossible: {tokens[b]} tokens, {frames[b]} frames, and every token needs a frame")
    worth = (value * mask).permute(2, 0, 1).float().cpu().numpy()
    length, batch, height = worth.shape
    moves = np.empty((length, batch, height), dtype=bool)
    # Column 0 stands before the first token: the one way into the table is its first cell.
    best = np.full((batch, height + 1), IMPOSSIBLE, dtype=np.float32)
    best[:, 0] = 0
    for t in range(length):
        if t < height:
            best[:, t + 1] = IMPOSSIBLE  # token t cannot have begun before frame t
        stay, move = best[:, 1:], best[:, :-1]
        np.less(stay, move, out=moves[t])
        total = np.maximum(stay, move)
        total += worth[t]
        best[:, 1:] = total
        best[:, 0] = IMPOSSIBLE
    diagonal = np.arange(min(length, height))
    moves[diagonal, :, diagonal] = True
    moves[:, :, 0] = False

    rows = np.arange(batch)
    token = tokens - 1
    owner = np.empty((length, batch), dtype=np.int64)
    for t in range(length - 1, -1, -1):
        owner[t] = token
        token = token - (moves[t, rows, token] & (t < frames))
    path = torch.from_numpy(owner.T[:, None] == np.arange(height)[:, None]).to(value)
    return path * mask


def generate_path(duration: Tensor, mask: Tensor) -> Tensor:
    """The path with given durations: token l has the frames between the sums of the durations before and up to it.

    Args:
        duration: Durations in frames [B, L], not necessarily whole.
        mask: Which cells are real, [B, L, T].
    """
    ends = duration.cumsum(1)
    before = torch.arange(mask.shape[2], device=duration.device) < ends[:, :, None]
    started = torch.cat([torch.zeros_like(before[:, :1]), before[:, :-1]], 1)
    return (before & ~started).to(mask) * mask


def stretch_durations(predicted: Tensor, frames: int) -> Tensor:
    """Whole durations [L] that sum to a number of frames: one for every token, the others shared as predicted.

    Args:
        predicted: Predicted durations [L] in frames, positive.
        frames: Their sum, at least L.

    Raises:
        ValueError: If there are fewer frames than tokens.

    Example:
        >>> stretch_durations(torch.tensor([1.0, 2.0, 3.0]), frames=9)
        tensor([2, 3, 4])
    """
    tokens = len(predicted)
    if frames < tokens:
        raise ValueError(f"alignment impossible: {tokens} tokens, {frames} frames, and every token needs a frame")
    ends = predicted.double().cumsum(0)
    ends = (ends / ends[-1] * (frames - tokens)).round().long()
    return 1 + torch.diff(ends, prepend=ends.new_zeros(1))


def duration_log_prob(durations: Tensor, log_predicted: Tensor, deviation: float) -> Tensor:
    """Log-probability of whole durations >= 1 under a rounded log-normal law, nats, of the shape of durations, float64.

    A duration d has the probability that exp(N(log_predicted, deviation^2)) rounds to d, and d = 1 all that is less:
    the probabilities of 1, 2, 3, ... sum to one.

    Args:
        durations: Whole durations in frames.
        log_predicted: Natural logarithms of the predicted durations.
        deviation: Standard deviation of the logarithm.
    """
    last = durations.double()
    centre = log_predicted.double()
    upper = ((last + 0.5).log() - centre) / deviation
    lower = ((last - 0.5).log() - centre) / deviation
    lower = torch.where(last == 1, -torch.inf, lower)
    # In the upper tail the difference of two distribution functions near one is lost: mirror it to the lower tail.
    mirrored = lower > 0
    high = torch.special.log_ndtr(torch.where(mirrored, -lower, upper))
    low = torch.special.log_ndtr(torch.where(mirrored, -upper, lower))
    return high + torch.log(-torch.expm1(low - high))


def fit_duration_deviation(durations: Tensor, log_predicted: Tensor) -> float:
    """The deviation under which :func:`duration_log_prob` finds given durations the likeliest, between 0.01 and 10.

    Args:
        durations: Whole durations in frames, of many tokens, [N].
        log_predicted: Natural logarithms of their predictions, [N].
    """
    bounds = (math.log(0.01), math.log(10.0))
    fitted = minimize_scalar(
        lambda value: -float(duration_log_prob(durations, log_predicted, math.exp(value)).mean()),
        bounds=bounds,
        method="bounded",
    )
    return math.exp(fitted.x)
