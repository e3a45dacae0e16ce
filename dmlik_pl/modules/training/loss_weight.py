r"""How much each noise level counts in a training, whatever the network predicts.

Every loss of a diffusion model is a weight of the squared error of the denoised data,
:math:`w(\mathrm{SNR}) \, \|x_0 - \hat x_0\|^2`; the network's own output errs by a multiple of it that its prediction
decides.

References:
    | Progressive Distillation (Salimans and Ho, 2022), section 4, for the weights of predictions
    | Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023), Eq. 5-8
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dmlik_pl.flow import Prediction
from dmlik_pl.flow.schedule import NoiseLevel
from dmlik_pl.ranges import above

__all__ = ["LossWeight", "MinSNR", "NoiseError", "VelocityError", "noise_error", "output_weight", "target"]


class LossWeight(ABC):
    """Weighs the squared error of the denoised data."""

    @abstractmethod
    def __call__(self, snr: Tensor) -> Tensor:
        """The weights at signal-to-noise ratios alpha^2 / sigma^2, of their shape."""


@dataclass(frozen=True)
class NoiseError(LossWeight):
    """The plain error of the noise: SNR. The "simple" loss of epsilon-prediction."""

    def __call__(self, snr: Tensor) -> Tensor:  # noqa: D102
        return snr


@dataclass(frozen=True)
class VelocityError(LossWeight):
    """The plain error of v: SNR + 1, which still learns where hardly any signal is left."""

    def __call__(self, snr: Tensor) -> Tensor:  # noqa: D102
        return snr + 1


@dataclass(frozen=True)
class MinSNR(LossWeight):
    """The error of the noise, held where the noise is low: min(SNR, gamma).

    Attributes:
        gamma: The most that any level counts.

    Example:
        >>> import torch
        >>> MinSNR(5.0)(torch.tensor([0.1, 5.0, 100.0]))
        tensor([0.1000, 5.0000, 5.0000])
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        above(0, gamma=self.gamma)

    def __call__(self, snr: Tensor) -> Tensor:  # noqa: D102
        return snr.clamp(max=self.gamma)


def output_weight(weight: LossWeight, prediction: Prediction, snr: Tensor) -> Tensor:
    """Weight of the squared error of a network's output, of the shape of `snr`.

    Args:
        weight: Weight of the squared error of the denoised data.
        prediction: What the network's output is; the process is variance preserving, or straight for "velocity".
        snr: Signal-to-noise ratios, positive unless the prediction is "v" or "x0".
    """
    match prediction:
        case "x0":
            return weight(snr)
        case "epsilon":
            return weight(snr) / snr
        case "v":
            return weight(snr) / (snr + 1)
        case "velocity":
            return weight(snr) / (snr.sqrt() + 1).square()
    raise ValueError(f"no training is known for networks that predict {prediction!r}")


def target(prediction: Prediction, data: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
    """The output that a network should give for alpha data + sigma noise.

    Args:
        prediction: What its output is.
        data: Samples [B, ...].
        noise: Standard normal noise of the same shape.
        level: Noise levels, broadcastable to them.
    """
    match prediction:
        case "x0":
            return data
        case "epsilon":
            return noise
        case "v":
            return level.alpha * noise - level.sigma * data
        case "velocity":
            return noise - data
    raise ValueError(f"no training is known for networks that predict {prediction!r}")


def noise_error(predict: Callable[[Tensor], Tensor], data: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
    """The squared error of the noise that a network predicts, summed over a sample's dimensions, [B].

    Args:
        predict: Takes alpha data + sigma noise and gives the predicted noise.
        data: Samples [B, ...].
        noise: Standard normal noise of the same shape.
        level: Noise levels, broadcastable to them.
    """
    return (predict(level.alpha * data + level.sigma * noise) - noise).square().flatten(1).sum(1)
