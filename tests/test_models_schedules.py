"""Schedules and predictions read from the configurations of diffusers' schedulers."""

import json
import math

import diffusers
import pytest
import torch

from dmlik_pl.flow import Condition, ProbabilityFlow
from dmlik_pl.models.schedules import read_process

SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULERS = {
    "ddpm": diffusers.DDPMScheduler(),
    "cosine": diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    "sigmoid": diffusers.DDPMScheduler(beta_schedule="sigmoid"),
    "laplace": diffusers.DDPMScheduler(beta_schedule="laplace"),
    "trained": diffusers.DDPMScheduler(trained_betas=[0.001 * 1.02**i for i in range(200)], num_train_timesteps=200),
    "ddim": diffusers.DDIMScheduler(**SCALED, num_train_timesteps=500),
    "euler": diffusers.EulerDiscreteScheduler(**SCALED, timestep_spacing="leading", use_karras_sigmas=True),
    "pndm": diffusers.PNDMScheduler(**SCALED),
    "dpm-solver": diffusers.DPMSolverMultistepScheduler(**SCALED, prediction_type="v_prediction"),
}


def stored(scheduler):
    """The scheduler's configuration as its file states it."""
    return json.loads(scheduler.to_json_string())


@pytest.mark.parametrize("name", SCHEDULERS)
def test_noise_of_every_step_is_the_schedulers(name):
    scheduler = SCHEDULERS[name]
    schedule = read_process(stored(scheduler)).schedule
    kept = scheduler.alphas_cumprod.double()
    steps = len(kept)
    at = schedule.at(torch.arange(steps, dtype=torch.float64) / (steps - 1))
    torch.testing.assert_close(at.alpha**2, kept, rtol=2e-4, atol=1e-9)  # theirs are products in float32
    torch.testing.assert_close(at.sigma**2, 1 - kept, rtol=2e-4, atol=1e-7)
    assert schedule.network_time(torch.tensor(1.0)) == steps - 1
    assert (schedule.t_min, schedule.t_max) == (0.0, 1.0)


def test_zero_terminal_snr_ends_one_step_before_it():
    scheduler = diffusers.DDIMScheduler(**SCALED, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    process = read_process(stored(scheduler))
    schedule, prediction = process.schedule, process.prediction
    assert scheduler.alphas_cumprod[-1] == 0
    assert prediction == "v"
    assert schedule.t_max * 999 == pytest.approx(998)
    steps = torch.tensor([0, 400, 998])
    found = schedule.at(steps / 999).alpha ** 2
    torch.testing.assert_close(found, scheduler.alphas_cumprod[steps].double(), rtol=1e-3, atol=0)


def ideal_flow(scheduler, x0, noise):
    """A flow whose network answers what the scheduler would have it learn for one known sample."""
    process = read_process(stored(scheduler))
    schedule, prediction = process.schedule, process.prediction

    def network(x, time, inputs):
        match scheduler.config.prediction_type:
            case "epsilon":
                return noise
            case "sample":
                return x0
            case "v_prediction":
                return scheduler.get_velocity(x0, noise, time.round().long())

    return ProbabilityFlow(network, schedule, prediction)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("step", [0, 300, 999])
def test_predictions_mean_what_the_scheduler_means(prediction, step):
    scheduler = diffusers.DDPMScheduler(**SCALED, prediction_type=prediction)
    torch.manual_seed(step)
    x0, noise = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    flow = ideal_flow(scheduler, x0, noise)
    level = flow.schedule.at(step / 999)
    noised = scheduler.add_noise(x0, noise, torch.tensor([step, step]))
    u = flow.unit_state(noised, level, Condition())
    found_x0, found_noise = flow.denoise(u, level, Condition())
    r = float(level.r)
    torch.testing.assert_close(found_x0, x0, rtol=0, atol=1e-4 * max(1, r))
    torch.testing.assert_close(found_noise, noise, rtol=0, atol=1e-4 * max(1, 1 / r))


def test_flow_matching_is_rectified_flow_with_times_in_steps():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    process = read_process(stored(scheduler))
    schedule, prediction = process.schedule, process.prediction
    assert prediction == "velocity"
    x0, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    asked = []

    def network(x, time, inputs):
        asked.append(time)
        return noise - x0

    flow = ProbabilityFlow(network, schedule, prediction)
    step = scheduler.timesteps[700]
    noised = scheduler.scale_noise(x0, step[None].expand(2), noise)
    level = schedule.at(float(step) / 1000)
    found_x0, found_noise = flow.denoise(flow.unit_state(noised, level, Condition()), level, Condition())
    torch.testing.assert_close(found_x0, x0, rtol=0, atol=1e-5)
    torch.testing.assert_close(found_noise, noise, rtol=0, atol=1e-5)
    torch.testing.assert_close(asked[0], step.expand(2), rtol=1e-6, atol=0)
    assert (schedule.t_min, schedule.t_max) == (0.001, 1.0)


def test_dpm_solver_of_flow_matching_is_read_as_such():
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    process = read_process(stored(scheduler))
    schedule, prediction = process.schedule, process.prediction
    assert prediction == "velocity"
    assert float(schedule.alpha(0.25)) == 0.75


def test_ends_of_the_schedule_can_be_chosen():
    schedule = read_process(stored(SCHEDULERS["ddpm"]), t_min=1 / 999, t_max=981 / 999).schedule
    assert (schedule.t_min, schedule.t_max) == (1 / 999, 981 / 999)
    with pytest.raises(ValueError, match="t_min < t_max"):
        read_process(stored(SCHEDULERS["ddpm"]), t_min=0.5, t_max=0.4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "KarrasVeScheduler"}, "KarrasVeScheduler is not a scheduler of a diffusion"),
        ({"_class_name": None}, "None is not a scheduler of a diffusion"),
        ({"_class_name": "LCMScheduler", "beta_schedule": "linear"}, "LCMScheduler is not a scheduler"),
        ({"_class_name": "DDPMWuerstchenScheduler", "scaler": 2.0}, r"has scaler 2\.0; only 1 is known"),
        ({"_class_name": "FlowMatchLCMScheduler"}, "FlowMatchLCMScheduler is not a scheduler"),
        ({"beta_schedule": None}, "DDPMScheduler states no betas"),
        ({"beta_schedule": "zigzag"}, r"cannot read its noise process, \{'beta_schedule': 'zigzag'\}"),
        ({"beta_schedule": "linear", "prediction_type": "flow"}, "prediction_type 'flow'"),
        ({"beta_schedule": "linear", "timestep_type": "continuous"}, "timestep_type 'continuous'"),
    ],
)
def test_other_processes_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        read_process({"_class_name": "DDPMScheduler"} | config)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"])
def test_scalings_of_edm_make_a_denoiser(name):
    scheduler = getattr(diffusers, name)(sigma_min=0.01, sigma_max=20.0, sigma_data=0.6)
    process = read_process(stored(scheduler))
    told = []

    def network(x, time):
        told.append((x, time))
        return 0.3 * x

    x, sigma = torch.randn(2, 3, 4, 4), torch.tensor([0.5, 3.0])
    spread, shape = 0.6**2 + sigma**2, (-1, 1, 1, 1)
    scaled = x / spread.sqrt().reshape(shape)
    found = process.through(network, x, sigma)
    torch.testing.assert_close(told[0], (scaled, sigma.log() / 4))
    skip, out = 0.6**2 / spread, 0.6 * sigma / spread.sqrt()
    torch.testing.assert_close(found, skip.reshape(shape) * x + out.reshape(shape) * 0.3 * scaled)
    assert (process.prediction, process.network_time) == ("x0", "sigma")
    assert [float(process.schedule.sigma(t)) for t in (0.0, 1.0)] == pytest.approx([0.01, 20.0])


def test_wuerstchens_cosine_is_the_schedulers():
    scheduler = diffusers.DDPMWuerstchenScheduler()
    schedule = read_process(stored(scheduler)).schedule
    times = torch.linspace(0.02, 0.97, 7)
    kept = scheduler._alpha_cumprod(times, torch.device("cpu")).double()
    torch.testing.assert_close(schedule.alpha(times.double()) ** 2, kept, rtol=1e-5, atol=1e-9)
    ends = [float(schedule.alpha(t) ** 2) for t in (schedule.t_min, schedule.t_max)]
    assert ends == pytest.approx([0.9999, 0.0001])


def test_score_sde_is_variance_exploding():
    process = read_process(stored(diffusers.ScoreSdeVeScheduler(sigma_max=50.0)))
    assert (process.prediction, process.network_time) == ("score", "sigma")
    assert [float(process.schedule.sigma(t)) for t in (0.0, 1.0)] == pytest.approx([0.01, 50.0])


def test_the_shift_of_a_sampler_is_kept_and_moves_no_density():
    shifted, plain = (read_process(stored(diffusers.FlowMatchEulerDiscreteScheduler(shift=s))) for s in (3.0, 1.0))
    assert (shifted.schedule.shift, plain.schedule.shift) == (3.0, 1.0)
    assert float(shifted.schedule.sigma(0.3)) == float(plain.schedule.sigma(0.3))
    dynamic = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=1.15)
    assert read_process(stored(dynamic)).schedule.shift == pytest.approx(math.exp(1.15))
