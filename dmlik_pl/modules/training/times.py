"""At which times a network is trained, and how finely it may tell them apart."""

from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow.schedule import Schedule

__all__ = ["draw_times", "even_share", "limit_time_frequency", "time_of"]

MOST_LOG_SNR = 14.0  # in size: some schedules end without any signal, where log-SNR is infinite


def even_share(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Return numbers in [0, 1) that are each uniform and together evenly spread, [count]."""
    return (torch.rand((), generator=generator) + torch.arange(count) / count) % 1


def time_of(schedule: Schedule, share: Tensor) -> Tensor:
    """Return the times at shares of the way from the least to the most noise in log-SNR (float64)."""
    ends = schedule.log_snr(torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64))
    most, least = ends.clamp(-MOST_LOG_SNR, MOST_LOG_SNR)
    return schedule.time(torch.lerp(most, least, share.double()))


def draw_times(
    schedule: Schedule, count: int, log_snr_share: float, generator: torch.Generator | None = None
) -> Tensor:
    """Draw times that are spread evenly between data and noise, [count], float64.

    Args:
        schedule: The noise schedule.
        count: How many times.
        log_snr_share: Share of them that is uniform in log-SNR instead of time.
        generator: Source of the randomness; the global one if None.
    """
    share = even_share(count, generator)
    in_log_snr = torch.rand(count, generator=generator) < log_snr_share
    uniform = schedule.t_min + (schedule.t_max - schedule.t_min) * share.double()
    return torch.where(in_log_snr, time_of(schedule, share), uniform)


def limit_time_frequency(unet: Any, highest: float) -> None:
    """Cut the network off from the fast part of its time embedding: those weights are zero and stay so.

    Args:
        unet: A `UNet2DConditionModel`, whose sinusoidal embedding has frequencies from 1 radian per step down to 1e-4.
        highest: Highest frequency that is kept, radians per step.
    """
    weight = unet.time_embedding.linear_1.weight
    half = weight.shape[1] // 2
    frequency = 10000.0 ** (-torch.arange(half) / (half - unet.config.freq_shift))
    kept = (frequency <= highest).float().repeat(2)
    with torch.no_grad():
        weight.mul_(kept)
    weight.register_hook(lambda gradient: gradient * kept.to(gradient))
