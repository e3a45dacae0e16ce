"""An average of weights that leaves frozen weights exactly as they are."""

from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["ExponentialAverage"]


class ExponentialAverage(WeightAveraging):
    """Keeps an exponential average of the weights, which is what is validated, kept as the best, and exported.

    Lightning's own `EMAWeightAveraging` takes decay x + (1 - decay) x, which rounding makes another number than x: the
    weights that a fine-tuning freezes would creep away from the model they belong to, and with them the text encoders'
    tables of positions. Interpolation between equal numbers is exact, and buffers are copied.

    Args:
        decay: Share of the average that a step keeps.
        device: Where the average is kept; beside the weights if None.

    Raises:
        ValueError: If the decay is not a share.
    """

    def __init__(self, decay: float = 0.999, device: str | None = None) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is the share that the average keeps, at least 0 and below 1, got {decay}")
        super().__init__(device, use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))
