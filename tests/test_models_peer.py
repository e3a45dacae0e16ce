"""SDXL's likelihood against an independent computation, straight on its U-Net, in the variables of k-diffusion."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from tiny_models import make_tiny_sdxl
from torchdiffeq import odeint

from dmlik_pl.flow import TorchDiffEq, draw, log_likelihood
from dmlik_pl.models import StableDiffusionXL

TOLERANCE = 1e-6  # dopri5's 1e-5 leaves 1e-3 bits/dim on a random network, whichever variable it runs in


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


def peer_bits_per_dim(unet, x, text, pooled, null_text, null_pooled, guidance, probe, data_variance, ends):
    """-log2 p(x) / D of one sample x [1, C, H, W], by dopri5 in sigma."""
    betas = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
    kept = np.cumprod(1 - betas)
    log_snr = np.log(kept / (1 - kept))
    curve = CubicSpline(np.arange(1000), log_snr)
    sigma_min, sigma_max = np.exp(-log_snr[list(ends)] / 2)
    sizes = torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]])

    def step_of(sigma):
        wanted = -2 * math.log(min(max(sigma, sigma_min * (1 + 1e-12)), sigma_max * (1 - 1e-12)))
        return brentq(lambda step: float(curve(step)) - wanted, 0, 999, xtol=1e-10)

    def eps(z, sigma):
        scaled, step = z / math.sqrt(sigma**2 + 1), torch.tensor([step_of(sigma)])
        told = {"text_embeds": pooled, "time_ids": sizes}
        conditional = unet(scaled, step, encoder_hidden_states=text, added_cond_kwargs=told).sample
        if guidance == 1:
            return conditional
        told = {"text_embeds": null_pooled, "time_ids": sizes}
        null = unet(scaled, step, encoder_hidden_states=null_text, added_cond_kwargs=told).sample
        return null + guidance * (conditional - null)

    def rates(sigma, state):
        with torch.enable_grad():
            z = state[0].detach().requires_grad_()
            noise = eps(z, float(sigma))
            (product,) = torch.autograd.grad(noise, z, probe)
        return noise.detach(), (product * probe).sum()

    sigmas = torch.tensor([sigma_min, sigma_max], dtype=torch.float64)
    start = (x, torch.zeros((), dtype=torch.float64))
    z, trace = odeint(rates, start, sigmas, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")
    prior = torch.distributions.Normal(0.0, math.sqrt(sigma_max**2 + data_variance)).log_prob(z[-1]).sum()
    return -float(prior + trace[-1]) / (x.numel() * math.log(2))


@pytest.mark.parametrize(
    ("prior", "data_variance", "guidance", "clock", "ends"),
    [("total", 1.0, 1.0, "t", (0, 999)), ("noise", 0.0, 3.0, "log_snr", (1, 751))],
)
def test_likelihood_equals_an_independent_computation(folder, prior, data_variance, guidance, clock, ends):
    model = StableDiffusionXL(str(folder), dtype="float64", prior=prior, t_min=ends[0] / 999, t_max=ends[1] / 999)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = model.to_latent(images.double(), ["one"])
    condition = model.condition(["a photo of a red cube"])
    solver = TorchDiffEq("dopri5", clock, rtol=TOLERANCE, atol=TOLERANCE)
    found = log_likelihood(model.flow(guidance), x, condition, solver=solver, sample_ids=["one"], seed=4)
    probe = draw("rademacher", x, ["one"], seed=4, probes=1)[0]
    embeddings = [branch[name].double() for branch in (condition.inputs, condition.null) for name in ("text", "pooled")]
    wanted = peer_bits_per_dim(model.unet, x, *embeddings, guidance, probe, data_variance, ends)
    assert float(found.bpd) == pytest.approx(wanted, abs=1e-4)
    sigma = {0: 0.02917, 1: 0.04131, 751: 4.117, 999: 14.615}  # of SDXL
    assert found.r == pytest.approx(sigma[ends[0]], abs=1e-5)
    assert found.r_max == pytest.approx(sigma[ends[1]], abs=1e-3)
