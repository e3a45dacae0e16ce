"""Likelihoods of Grad-TTS against those of the official code's equations, and what they may not depend on."""

from dataclasses import dataclass

import pytest
import torch
from grad_tts_goldens import INDEX, load, state_file
from torch import Tensor

from dmlik_pl.flow import (
    Condition,
    Exact,
    GaussianPrior,
    Hutchinson,
    LinearVP,
    TorchDiffEq,
    bits_per_dim,
    log_likelihood,
)
from dmlik_pl.models import TextToSpeech
from dmlik_pl.models.grad_tts import text_free_mean

T_MIN = 1e-5


@dataclass(frozen=True)
class GivenProbe(Hutchinson):
    """One probe that is told, [B, ...]."""

    probe: Tensor | None = None

    def __call__(self, field, u, probes, nfe):
        return super().__call__(field, u, self.probe[None].to(u), nfe)


def model_of(name):
    setting = INDEX["likelihood"][name]
    return TextToSpeech(str(state_file(setting["model"])), pe_scale=setting["pe_scale"]).double()


def utterance(golden, b):
    """State, condition and probe of one utterance, in float64, padded as in its batch."""
    mu, mask = golden["in.mu"][b : b + 1].double(), golden["in.mask"][b : b + 1] > 0
    inputs = {"mu": mu, "mask": mask}
    if "in.spk" in golden:
        inputs["speaker"] = golden["in.spk"][b : b + 1]
    condition = Condition(inputs, mean=mu, mask=mask.expand_as(mu))
    return golden["in.x0"][b : b + 1].double(), condition, golden["in.eps"][b : b + 1]


def assert_golden(name, b, bits):
    """Every term of one utterance's likelihood, to within a number of bits per dimension."""
    setting, golden = INDEX["likelihood"][name], load(f"likelihood_{name}")
    adaptive = setting["steps"] is None
    solver = TorchDiffEq(
        setting["method"],
        "t",
        scale="solver",
        max_nfe=100_000,
        **({"rtol": setting["rtol"], "atol": setting["atol"]} if adaptive else {"steps": setting["steps"]}),
    )
    x, condition, probe = utterance(golden, b)
    model = model_of(name)
    result = log_likelihood(model.flow(), x, condition, t=T_MIN, solver=solver, divergence=GivenProbe(probe=probe))
    assert float(result.dims) == float(golden["out.dims"][b]) == 80 * int(golden["in.lengths"][b])
    assert float(result.bpd) == pytest.approx(float(golden["out.bpd"][b]), abs=bits)
    assert float(bits_per_dim(result.prior, result.dims)) == pytest.approx(
        float(bits_per_dim(golden["out.prior_logp"][b], result.dims)), abs=bits
    )
    torch.testing.assert_close(result.latent, golden["out.x_T"][b : b + 1], rtol=0, atol=max(1e-9, 1e2 * bits))
    if not adaptive:
        assert result.nfe.forward == int(golden["out.nfe"])


def test_fixed_steps_of_a_whole_utterance():
    assert_golden("multi_euler", 0, 1e-10)


@pytest.mark.parametrize("name", ["single_euler", "single_midpoint", "single_rk4", "multi_euler"])
def test_fixed_steps_of_a_padded_utterance(name):
    assert_golden(name, 1, 1e-10)


def test_adaptive_steps():
    assert_golden("multi_dopri5_pe1", 1, 1e-6)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "b"),
    [
        ("single_dopri5_pe1", 0),
        ("single_dopri5_pe1", 1),
        ("multi_dopri5_pe1", 0),
        ("single_euler", 0),
        ("single_midpoint", 0),
        ("single_rk4", 0),
        ("multi_midpoint", 0),
        ("multi_midpoint", 1),
        ("multi_rk4", 0),
        ("multi_rk4", 1),
        ("single_dopri5", 0),
        ("single_dopri5", 1),
    ],
)
def test_the_remaining_goldens(name, b):
    """With the time scale of 1000 a random network oscillates in time: thousands of evaluations."""
    assert_golden(name, b, 1e-5)


def test_exact_trace_at_a_time_of_the_path():
    r"""tr d/dx [beta / 2 (mu - x - s)] of the official equations, by the flow's trace and back to the clock t."""
    k, golden, model = 3, load("likelihood_single_exact"), model_of("single_exact")
    _, condition, probe = utterance(golden, 0)
    x, t = golden["out.x_path"][k : k + 1], golden["out.grid"][k]
    for divergence, expected in ((Exact(chunk=16), "trace"), (GivenProbe(probe=probe), "probe")):
        level = model.schedule.at(t)
        u = model.flow().unit_state(x, level, condition)
        _, traces = divergence(lambda v, at=level: model.flow().velocity(v, at, condition), u, None, Counter())
        d_alpha, d_sigma = model.schedule.rates(t)
        cos, sin = level.alpha / level.scale, level.sigma / level.scale
        d_angle, d_scale = (cos * d_sigma - sin * d_alpha) / level.scale, cos * d_alpha + sin * d_sigma
        total = d_angle * traces.values[0, 0] + 640 * d_scale / level.scale
        assert float(total) == pytest.approx(float(golden[f"out.{expected}_path"][k]), rel=1e-6)


@dataclass
class Counter:
    """What a divergence counts its calls with."""

    forward: int = 0
    vjp: int = 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_exact_likelihood():
    golden, model = load("likelihood_single_exact"), model_of("single_exact")
    x, condition, _ = utterance(golden, 0)
    solver = TorchDiffEq("euler", "t", steps=8, scale="solver")
    result = log_likelihood(model.flow(), x, condition, t=T_MIN, solver=solver, divergence=Exact(chunk=16))
    assert float(result.log_p - result.prior) == pytest.approx(float(golden["out.exact_div"]), rel=1e-6)
    assert float(result.log_p) == pytest.approx(float(golden["out.exact_loglik"]), rel=1e-6)
    assert float(result.bpd) == pytest.approx(float(golden["out.exact_bpd"]), abs=1e-6)


def test_probes_of_the_exact_golden():
    golden, model = load("likelihood_single_exact"), model_of("single_exact")
    x, condition, probe = utterance(golden, 0)
    solver = TorchDiffEq("euler", "t", steps=8, scale="solver")
    result = log_likelihood(model.flow(), x, condition, t=T_MIN, solver=solver, divergence=GivenProbe(probe=probe))
    assert float(result.log_p) == pytest.approx(float(golden["out.probe_loglik"]), rel=1e-9)


def test_the_prior_is_centred_on_the_mean(generator):
    """N(mu, I) over x_T, over real frames only."""
    mu, x = 3 * torch.randn(2, 1, 80, 8, dtype=torch.float64, generator=generator)
    mask = (torch.arange(8) < 5).expand_as(mu)
    schedule = LinearVP(0.05, 20.0)
    level = schedule.at(1.0)
    u = (x - (1 - level.alpha) * mu) / level.scale
    expected = torch.distributions.Normal(mu, 1.0).log_prob(x)[mask].sum()
    actual = GaussianPrior("total").log_prob(u, level, mask, mu)
    torch.testing.assert_close(actual[0], expected, rtol=1e-10, atol=0)


@pytest.fixture(scope="module")
def speech():
    """The model of four speakers in float32, with the time scale on which it is smooth."""
    return TextToSpeech(str(state_file("multi")), pe_scale=1)


def test_a_likelihood_does_not_depend_on_its_neighbours(speech, generator):
    """Each utterance is padded to its own multiple of 4, in batches of one such length or alone."""
    frames, speakers = [5, 8, 6, 3], [0, 3, 1, 2]
    mus = [torch.randn(80, length, generator=generator) for length in frames]
    mels = [torch.randn(80, length, generator=generator) for length in frames]
    flow, ids = speech.flow(), ["a", "b", "c", "d"]

    def measure(chosen):
        x = torch.cat([speech.pad(mels[i]) for i in chosen])
        condition = speech.condition([mus[i] for i in chosen], [speakers[i] for i in chosen])
        return log_likelihood(flow, x, condition, sample_ids=[ids[i] for i in chosen])

    together = measure([0, 1, 2])
    assert together.dims.tolist() == [80 * 5, 80 * 8, 80 * 6]
    for i in range(3):
        alone = measure([i])
        assert float(alone.bpd) == pytest.approx(float(together.bpd[i]), abs=1e-6)
        assert float(alone.bpd_standard_error) == pytest.approx(float(together.bpd_standard_error[i]), abs=1e-6)
    with pytest.raises(ValueError, match=r"different padded lengths, \[4, 8\] frames"):
        speech.condition([mus[0], mus[3]], [0, 1])


def test_padded_frames_have_no_part_in_a_likelihood(speech, generator):
    """Neither the state nor the mean there: what they hold may be anything."""
    mu, mel = torch.randn(2, 80, 6, generator=generator)
    condition, x = speech.condition([mu], [2]), speech.pad(mel)
    result = log_likelihood(speech.flow(), x, condition)
    filled = x + 5 * ~condition.mask
    again = log_likelihood(speech.flow(), filled, condition)
    torch.testing.assert_close(again.log_p, result.log_p, rtol=1e-6, atol=1e-4)
    assert float(result.dims) == 480
    assert not condition.mask[..., 6:].any()
    assert condition.mask[..., :6].all()
    latent = torch.distributions.Normal(mu.double(), 1.0).log_prob(result.latent[0, :, :6].double()).sum()
    assert float(result.prior) == pytest.approx(float(latent), rel=1e-6)


def test_the_gain_of_the_text_is_paired(speech, generator):
    """The same probes with and without text: their noise cancels in the difference."""
    mu, mel = torch.randn(80, 12, generator=generator).cumsum(1), torch.randn(80, 12, generator=generator)
    without = text_free_mean(mu)
    torch.testing.assert_close(without, mu.mean(1)[:, None].expand(80, 12))
    results = [
        log_likelihood(speech.flow(), speech.pad(mel), speech.condition([given], [1]), sample_ids=["a"])
        for given in (mu, without)
    ]
    gain, error = results[0].minus(results[1])
    assert float(gain) == pytest.approx(float(results[0].log_p - results[1].log_p))
    assert 0 < float(error) < float(results[0].standard_error + results[1].standard_error)
