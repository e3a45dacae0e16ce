"""Noise processes and predictions as the configurations of diffusers' schedulers state them.

A scheduler is a sampler on a grid; what is read here is only the noise process that the network was trained on. All
else in the configuration (spacing, order, Karras grids) has no bearing on a likelihood. The shift of a flow-matching
sampler moves its steps and not the density: it is kept, to place nodes with.

References:
    | Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2024), algorithm 1
    | Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dmlik_pl.flow import (
    VE,
    Cosine,
    DiscreteVP,
    Interpolation,
    NetworkTime,
    Prediction,
    RectifiedFlow,
    Schedule,
)
from dmlik_pl.flow.schedule import fit
from dmlik_pl.pretrained.files import first_line, quiet

__all__ = ["NoiseProcess", "StepCountingFlow", "read_process"]

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
# Samplers of the discrete processes of DDPM, of straight paths, of EDM's denoisers and of single other processes.
# Another may be the sampler of another process.
_DISCRETE = {
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDIMInverseScheduler"),
    *("PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler"),
    *("DPMSolverSinglestepScheduler", "DPMSolverMultistepScheduler", "DPMSolverMultistepInverseScheduler"),
    *("DPMSolverSDEScheduler", "UniPCMultistepScheduler", "SASolverScheduler"),
}
_STRAIGHT = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}
_PRECONDITIONED = {"EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"}
_OTHERS = {"ScoreSdeVeScheduler", "DDPMWuerstchenScheduler"}
_ANGLE = "CosineDPMSolverMultistepScheduler"  # Stable Audio's; diffusers imports it with torchsde alone
_FEW_STEPS = {"LCMScheduler", "TCDScheduler"}  # of distilled models, whose teachers were trained as DDPM
_MIN_KEPT = 1e-4  # of the signal's variance, where Wuerstchen's scheduler clamps it at either end


class StepCountingFlow(RectifiedFlow):
    """Rectified flow, data at t = 0 and noise at t = 1, whose network is told the time in steps.

    Args:
        steps: What the network is told at t = 1.
        t_min: Time at which data are read; that of the first step by default, the smallest it was trained at.
        t_max: Time at which the prior is evaluated.
        shift: Of the sampler's times, see :class:`~dmlik_pl.flow.RectifiedFlow`.
    """

    def __init__(self, steps: int = 1000, t_min: float | None = None, t_max: float = 1.0, shift: float = 1.0) -> None:
        super().__init__(1 / steps if t_min is None else t_min, t_max, shift)
        self.steps = steps

    def network_time(self, t: Tensor) -> Tensor:  # noqa: D102
        return t * self.steps


@dataclass(frozen=True)
class NoiseProcess:
    """What a network was trained to undo.

    Attributes:
        schedule: The noise schedule.
        prediction: What its output is, once it is preconditioned.
        network_time: What it is told of the noise level.
        scheduler: The scheduler that scales its input, its time and its output, as EDM has it; None where it is taken
            as it is.
    """

    schedule: Schedule
    prediction: Prediction
    network_time: NetworkTime = "schedule"
    scheduler: Any = None

    def told(self, time: Tensor) -> Tensor:
        """What the network itself is told at times [B]."""
        return time if self.scheduler is None else self.scheduler.precondition_noise(time)

    def through(self, network: Callable[[Tensor, Tensor], Tensor], x: Tensor, time: Tensor) -> Tensor:
        """The prediction of a network for x_t [B, ...] at its times [B], with the scalings around it."""
        if self.scheduler is None:
            return network(x, time)
        sigma = fit(time, x)
        output = network(self.scheduler.precondition_inputs(x, sigma), self.told(time))
        denoised: Tensor = self.scheduler.precondition_outputs(x, output, sigma)
        return denoised


def read_process(
    config: Mapping[str, Any],
    t_min: float | None = None,
    t_max: float | None = None,
    interpolation: Interpolation = "spline",
    *,
    distilled: bool = False,
) -> NoiseProcess:
    """The noise process of a scheduler's configuration, and what its network predicts.

    Args:
        config: Content of scheduler_config.json.
        t_min: Time in [0, 1] at which data are read; the schedule's first step by default.
        t_max: Time in [0, 1] at which the prior is evaluated; the schedule's last step by default.
        interpolation: How log-SNR runs between steps; a process that is known everywhere needs none.
        distilled: Whether the samplers of few-step models are known too.

    Raises:
        ValueError: If the configuration states another kind of process.

    Example:
        >>> config = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "scaled_linear"}
        >>> process = read_process(config | {"beta_start": 0.00085, "beta_end": 0.012})  # SDXL's
        >>> process.prediction, [f"{r:.4f}" for r in process.schedule.at(torch.tensor([0.0, 1.0])).r]
        ('epsilon', ['0.0292', '14.6146'])
    """
    name = str(config.get("_class_name"))
    discrete = _DISCRETE | _FEW_STEPS if distilled else _DISCRETE
    straight = _STRAIGHT | {"FlowMatchLCMScheduler"} if distilled else _STRAIGHT
    if name not in (known := discrete | straight | _PRECONDITIONED | _OTHERS | {_ANGLE}):
        raise ValueError(
            f"{name} is not a scheduler of a diffusion or flow-matching process that is known here; known are "
            f"{', '.join(sorted(known))}"
        )
    steps = int(config.get("num_train_timesteps", 1000))
    process = _process(name, config, steps, interpolation, name in straight)
    schedule = process.schedule
    if t_min is not None:
        schedule.t_min = t_min
    if t_max is not None:
        schedule.t_max = min(t_max, schedule.t_max)
    if not 0 <= schedule.t_min < schedule.t_max:
        raise ValueError(f"times must satisfy 0 <= t_min < t_max <= 1, got t_min={t_min} and t_max={t_max}")
    return process


def _process(
    name: str, config: Mapping[str, Any], steps: int, interpolation: Interpolation, straight: bool
) -> NoiseProcess:
    predicted = config.get("prediction_type", "epsilon")
    if straight or predicted == "flow_prediction":
        return NoiseProcess(StepCountingFlow(steps, shift=_shift(config)), "velocity")
    if name == _ANGLE:
        return NoiseProcess(_angular(config), "v")
    if name in _PRECONDITIONED | _OTHERS:
        scheduler = _scheduler(name, config)  # with its defaults in the place of what is not stated
        if name == "DDPMWuerstchenScheduler":
            return NoiseProcess(_wuerstchen(scheduler.config), "epsilon")
        schedule = VE(scheduler.config.sigma_min, scheduler.config.sigma_max)
        if name == "ScoreSdeVeScheduler":
            return NoiseProcess(schedule, "score", "sigma")
        return NoiseProcess(schedule, "x0", "sigma", scheduler)
    if config.get("beta_schedule") is None and config.get("trained_betas") is None:
        raise ValueError(f"{name} states no betas, and so no noise process")
    if predicted not in _PREDICTIONS:
        raise ValueError(f"{name} has prediction_type {predicted!r}; known are {[*_PREDICTIONS, 'flow_prediction']}")
    if config.get("timestep_type", "discrete") != "discrete":
        raise ValueError(f"{name} has timestep_type {config['timestep_type']!r}; only 'discrete' is known")
    # All of them make the same betas of the same settings, and DDPM's knows the most schedules.
    betas = torch.as_tensor(_scheduler("DDPMScheduler", config).betas, dtype=torch.float64)
    return NoiseProcess(DiscreteVP(betas, interpolation=interpolation), _PREDICTIONS[predicted])


def _scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """A scheduler of diffusers, of which only what it says of the process is used."""
    import diffusers

    try:
        with quiet():
            return getattr(diffusers, name).from_config(dict(config))
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        stated = {key: config[key] for key in ("beta_schedule", "sigma_schedule") if key in config}
        raise ValueError(f"a {name} cannot read its noise process, {stated}: {first_line(error)}") from error


def _shift(config: Mapping[str, Any]) -> float:
    """How far the sampler moves its times; where that depends on the image's size, as it does for the largest."""
    name = "flow_shift" if "flow_shift" in config else "shift"
    return math.exp(config["max_shift"]) if config.get("use_dynamic_shifting") else float(config.get(name) or 1.0)


def _angular(config: Mapping[str, Any]) -> Schedule:
    """The cosine schedule whose v a network gives that is told the angle, 2 / pi arctan sigma.

    EDM's scalings of data of size 1 make these of it: c_in = cos, c_skip x = cos x_t, c_out = -sin.
    """
    data, predicted = config.get("sigma_data", 1.0), config.get("prediction_type", "v_prediction")
    if (data, predicted) != (1.0, "v_prediction"):
        raise ValueError(f"{_ANGLE} has sigma_data {data} and {predicted!r}; only 1 and 'v_prediction' are known")
    ends = (config.get("sigma_min", 0.3), config.get("sigma_max", 500.0))
    return Cosine(0.0, *(math.atan(sigma) * 2 / math.pi for sigma in ends))


def _wuerstchen(config: Mapping[str, Any]) -> Schedule:
    """The cosine schedule, from where the scheduler's own has a signal of 0.9999 to where it has one of 0.0001."""
    if config["scaler"] != 1:
        raise ValueError(f"DDPMWuerstchenScheduler has scaler {config['scaler']}; only 1 is known")
    schedule = Cosine(config["s"])
    odds = math.log((1 - _MIN_KEPT) / _MIN_KEPT)
    schedule.t_min, schedule.t_max = (float(schedule.time(log_snr)) for log_snr in (odds, -odds))
    return schedule
