"""Noise schedules against their definitions, published numbers and finite differences."""

import math

import pytest
import torch

from dmlik_pl.flow import VE, Cosine, DiscreteVP, LinearVP, RectifiedFlow

DDPM = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
SCHEDULES = {
    "vp": LinearVP(),
    "grad_tts": LinearVP(0.05, 20.0),
    "sdxl": DiscreteVP.scaled_linear(),
    "ddpm": DiscreteVP(DDPM),
    "linear": DiscreteVP(DDPM, interpolation="linear"),
    "ve": VE(),
    "cosine": Cosine(),
    "rectified": RectifiedFlow(),
}
EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def times(schedule, count=257):
    return torch.linspace(schedule.t_min, schedule.t_max, count, dtype=torch.float64)[:-1]


@EVERY
def test_log_snr_is_that_of_alpha_and_sigma_and_falls(schedule):
    t = times(schedule)
    log_snr = schedule.log_snr(t)
    torch.testing.assert_close(log_snr, 2 * (schedule.alpha(t) / schedule.sigma(t)).log(), rtol=1e-9, atol=1e-9)
    assert bool((log_snr.diff() < 0).all())


@EVERY
def test_time_inverts_log_snr(schedule):
    t = times(schedule)
    torch.testing.assert_close(schedule.time(schedule.log_snr(t)), t, rtol=1e-9, atol=1e-12)


@EVERY
def test_a_level_found_by_log_snr_or_angle_is_the_same(schedule):
    t = times(schedule)
    level = schedule.at(t)
    for found in (schedule.at_log_snr(schedule.log_snr(t)), schedule.at_angle(level.angle)):
        torch.testing.assert_close(found.r, level.r, rtol=1e-9, atol=0)
        torch.testing.assert_close(found.alpha**2 + found.sigma**2, level.scale**2, rtol=1e-9, atol=0)


def test_interpolation_between_steps_is_by_name():
    """Linear is linear in log sigma, as diffusers' samplers interpolate; the spline is smooth, and 3 % away from it."""
    schedules = {name: DiscreteVP(DDPM, interpolation=name) for name in ("spline", "linear")}
    assert SCHEDULES["ddpm"].interpolation == "spline" and SCHEDULES["vp"].interpolation is None
    steps, middle = (torch.arange(3.0, dtype=torch.float64) / 999, torch.tensor([0.5, 1.5], dtype=torch.float64) / 999)
    log_r = {name: -0.5 * schedule.log_snr(torch.cat([steps, middle])) for name, schedule in schedules.items()}
    torch.testing.assert_close(log_r["linear"][:3], log_r["spline"][:3], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        log_r["linear"][3:], (log_r["linear"][:2] + log_r["linear"][1:3]) / 2, rtol=0, atol=1e-12
    )
    assert 0.02 < float((log_r["spline"] - log_r["linear"])[3]) < 0.1
    with pytest.raises(ValueError, match=r"interpolation='cubic' is unknown: take one of \['spline', 'linear'\]"):
        DiscreteVP([0.1, 0.2], interpolation="cubic")


@EVERY
def test_rates_are_derivatives(schedule):
    t, step = times(schedule, 98)[1:], 1e-6  # between the steps of discrete ones
    for rate, scale in zip(schedule.rates(t), (schedule.alpha, schedule.sigma), strict=True):
        difference = (scale(t + step) - scale(t - step)) / (2 * step)
        torch.testing.assert_close(rate, difference, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["vp", "grad_tts", "sdxl", "ddpm"])
def test_variance_is_preserved(name):
    schedule = SCHEDULES[name]
    level = schedule.at(times(schedule))
    torch.testing.assert_close(level.scale, torch.ones_like(level.t), rtol=1e-12, atol=0)


def test_linear_vp_is_its_integral():
    schedule, t = LinearVP(0.05, 20.0), 0.37
    grid = torch.linspace(0, t, 100_001, dtype=torch.float64)
    noise = torch.trapezoid(0.05 + 19.95 * grid, grid)
    assert float(schedule.alpha(t)) == pytest.approx(math.exp(-0.5 * float(noise)), rel=1e-9)
    assert float(schedule.sigma(t)) == pytest.approx(math.sqrt(1 - math.exp(-float(noise))), rel=1e-9)


def test_linear_vp_keeps_its_digits_near_the_data():
    assert float(LinearVP().sigma(1e-12)) == pytest.approx(math.sqrt(0.1 * 1e-12), rel=1e-6)


def test_sdxl_has_its_published_noise_levels():
    schedule = DiscreteVP.scaled_linear()
    assert float(schedule.at(0.0).r) == pytest.approx(0.02917, abs=1e-5)
    assert float(schedule.at(1.0).r) == pytest.approx(14.6146, abs=1e-4)
    assert float(schedule.network_time(torch.tensor(1.0))) == 999


def test_discrete_steps_are_met_exactly():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cumprod(1 - betas, 0)
    schedule = DiscreteVP(betas)
    steps = torch.arange(1000, dtype=torch.float64) / 999
    torch.testing.assert_close(schedule.alpha(steps), alpha_bar.sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.sigma(steps), (1 - alpha_bar).sqrt(), rtol=1e-10, atol=0)


def test_discrete_time_is_continuous_between_steps():
    schedule = DiscreteVP.scaled_linear()
    between = float(schedule.at(500.5 / 999).r)
    assert float(schedule.at(500 / 999).r) < between < float(schedule.at(501 / 999).r)
    assert float(schedule.network_time(schedule.time(schedule.log_snr(500.5 / 999)))) == pytest.approx(500.5, abs=1e-9)


def squared_cosine_betas(steps=1000):
    alpha_bar = torch.cos((torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def zero_terminal_snr_betas():
    root = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alpha_bar = root**2
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


@pytest.mark.parametrize("betas", [squared_cosine_betas(), zero_terminal_snr_betas()], ids=["cosine", "zero-snr"])
def test_awkward_discrete_schedules_still_fall(betas):
    schedule = DiscreteVP(betas)
    t = torch.linspace(0, schedule.t_max, 50_001, dtype=torch.float64)
    log_snr = schedule.log_snr(t)
    assert bool((log_snr.diff() < 0).all())
    torch.testing.assert_close(schedule.time(log_snr), t, rtol=0, atol=1e-12)


def test_a_schedule_without_signal_at_its_end_stops_one_step_before():
    schedule = DiscreteVP(zero_terminal_snr_betas())
    assert schedule.t_max == pytest.approx(998 / 999)
    assert math.isfinite(float(schedule.at(schedule.t_max).r))


def test_a_schedule_that_does_not_lose_signal_is_refused():
    with pytest.raises(ValueError, match="log-SNR of a noise schedule must fall"):
        DiscreteVP([0.1, 0.0, 0.1])


def test_known_ends():
    assert float(VE(0.01, 50).at(1.0).r) == pytest.approx(50)
    assert float(VE(0.01, 50).at(0.0).r) == pytest.approx(0.01)
    assert float(RectifiedFlow().at(0.25).r) == pytest.approx(1 / 3)
    for schedule in (RectifiedFlow(), Cosine()):
        end = schedule.at(1.0)
        assert float(end.alpha) == 0
        assert math.isinf(float(end.r))
        assert float(end.angle) == pytest.approx(math.pi / 2)
    assert float(Cosine().alpha(0.0)) == pytest.approx(1, rel=1e-12)
