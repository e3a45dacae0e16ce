"""Noise schedules and predictions as the configurations of diffusers' schedulers state them.

A scheduler is a sampler on a grid; what is read here is only the noise process that the network was trained on. All
else in the configuration (spacing, order, Karras grids, shifts of the sampling times) has no bearing on a likelihood.

References:
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2024), algorithm 1
    | Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), Eq. 17
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import DiscreteVP, Interpolation, Prediction, RectifiedFlow, Schedule

__all__ = ["StepCountingFlow", "read_schedule"]

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
# Samplers of the discrete processes of DDPM, and of straight paths. Another may be the sampler of another process.
_DISCRETE = {
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler"),
    *("PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler"),
    *("DPMSolverSinglestepScheduler", "DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler"),
    *("DPMSolverSDEScheduler", "UniPCMultistepScheduler", "SASolverScheduler"),
}
_STRAIGHT = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}
_MAX_BETA = 0.999  # where the cosine schedule would remove all that is left of the signal in one step


class StepCountingFlow(RectifiedFlow):
    """Rectified flow, data at t = 0 and noise at t = 1, whose network is told the time in steps.

    Args:
        steps: What the network is told at t = 1.
        t_min: Time at which data are read.
        t_max: Time at which the prior is evaluated.
    """

    def __init__(self, steps: int = 1000, t_min: float = 1e-3, t_max: float = 1.0) -> None:
        super().__init__(t_min, t_max)
        self.steps = steps

    def network_time(self, t: Tensor) -> Tensor:  # noqa: D102
        return t * self.steps


def read_schedule(
    config: Mapping[str, Any],
    t_min: float | None = None,
    t_max: float | None = None,
    interpolation: Interpolation = "spline",
) -> tuple[Schedule, Prediction]:
    """The noise schedule of a scheduler's configuration, and what its network predicts.

    Args:
        config: Content of scheduler_config.json.
        t_min: Time in [0, 1] at which data are read; the schedule's first step by default.
        t_max: Time in [0, 1] at which the prior is evaluated; the schedule's last step by default.
        interpolation: How log-SNR runs between steps; a flow-matching process is known everywhere and needs none.

    Raises:
        ValueError: If the configuration states another kind of process.

    Example:
        >>> config = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "scaled_linear"}
        >>> schedule, prediction = read_schedule(config | {"beta_start": 0.00085, "beta_end": 0.012})  # SDXL's
        >>> prediction, [f"{r:.4f}" for r in schedule.at(torch.tensor([0.0, 1.0])).r]
        ('epsilon', ['0.0292', '14.6146'])
    """
    name = str(config.get("_class_name"))
    if name not in _DISCRETE | _STRAIGHT:
        raise ValueError(
            f"{name} is not a scheduler of a DDPM-type or flow-matching process that is known here; known are "
            f"{', '.join(sorted(_DISCRETE | _STRAIGHT))}"
        )
    steps = int(config.get("num_train_timesteps", 1000))
    predicted = config.get("prediction_type", "epsilon")
    if name in _STRAIGHT or predicted == "flow_prediction":
        low = 1 / steps if t_min is None else t_min
        return StepCountingFlow(steps, low, 1.0 if t_max is None else t_max), "velocity"
    if config.get("beta_schedule") is None and config.get("trained_betas") is None:
        raise ValueError(f"{name} states no betas, and so no noise process")
    if predicted not in _PREDICTIONS:
        raise ValueError(f"{name} has prediction_type {predicted!r}; known are {[*_PREDICTIONS, 'flow_prediction']}")
    if config.get("timestep_type", "discrete") != "discrete":
        raise ValueError(f"{name} has timestep_type {config['timestep_type']!r}; only 'discrete' is known")
    schedule = DiscreteVP(_betas(config, steps), interpolation=interpolation)
    if t_min is not None:
        schedule.t_min = t_min
    if t_max is not None:
        schedule.t_max = min(t_max, schedule.t_max)
    if not 0 <= schedule.t_min < schedule.t_max:
        raise ValueError(f"times must satisfy 0 <= t_min < t_max <= 1, got t_min={t_min} and t_max={t_max}")
    return schedule, _PREDICTIONS[predicted]


def _betas(config: Mapping[str, Any], steps: int) -> Tensor:
    """Variance that each step adds, [steps], float64."""
    start, end = config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if config.get("trained_betas") is not None:
        betas = torch.as_tensor(config["trained_betas"], dtype=torch.float64)
    else:
        match config["beta_schedule"]:
            case "linear":
                betas = torch.linspace(start, end, steps, dtype=torch.float64)
            case "scaled_linear":
                betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
            case "squaredcos_cap_v2":
                edges = torch.arange(steps + 1, dtype=torch.float64) / steps
                signal = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
                betas = (1 - signal[1:] / signal[:-1]).clamp(max=_MAX_BETA)
            case unknown:
                known = ["linear", "scaled_linear", "squaredcos_cap_v2"]
                raise ValueError(f"beta_schedule {unknown!r} is not known; known are {known} and trained_betas")
    return _without_signal_at_the_end(betas) if config.get("rescale_betas_zero_snr") else betas


def _without_signal_at_the_end(betas: Tensor) -> Tensor:
    """Shift and stretch alpha so that its last value is zero and its first stays."""
    alpha = torch.cumprod(1 - betas, 0).sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    kept = alpha**2
    return 1 - torch.cat([kept[:1], kept[1:] / kept[:-1]])
