"""The evidence lower bound against its own closed form, by quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from dmlik_pl.flow import (
    VE,
    Bound,
    Condition,
    Cosine,
    DiscreteVP,
    Exact,
    LinearVP,
    Multistep,
    Noising,
    ProbabilityFlow,
    elbo,
    log_likelihood,
)
from dmlik_pl.flow.noising import Draws

SDXL = DiscreteVP.scaled_linear()


def analytic_bound(gaussian, schedule, x):
    """The bound of one Gaussian, term by term along its axes, the integral over log r by quadrature."""
    low, high = (float(schedule.at(t).r) for t in (schedule.t_min, schedule.t_max))
    variance = gaussian.variances[0].numpy()
    along = torch.einsum("ji,bj->bi", gaussian.bases[0], x - gaussian.means)[0].numpy()

    def error(r):
        """E |eps - eps_hat|^2: the denoiser shrinks by v / (v + r^2), x0_hat - x = (v r eps - r^2 d) / (v + r^2)."""
        return float(np.sum((r**2 * along**2 + variance**2) / (variance + r**2) ** 2))

    dims = len(variance)
    data = -0.5 * dims * math.log(2 * math.pi * low**2) - 0.5 * error(low)
    centred = x[0].numpy() / math.sqrt(1 + high**2)
    spread = high**2 / (1 + high**2)
    divergence = 0.5 * float(np.sum(centred**2)) + 0.5 * dims * (spread - 1 - math.log(spread))
    integral, _ = quad(lambda u: error(math.exp(u)), math.log(low), math.log(high), epsabs=1e-10, limit=500)
    return data - divergence - integral


@pytest.mark.parametrize("schedule", [LinearVP(), SDXL], ids=["vp", "sdxl"])
def test_the_bound_is_the_analytic_one(gaussian, generator, schedule):
    x = gaussian.sample(1, generator)
    truth = analytic_bound(gaussian, schedule, x)
    bound = elbo(
        gaussian.flow(schedule), x.expand(64, 8), gaussian.condition(torch.zeros(64, 8, dtype=torch.float64)), draws=256
    )
    error = bound.value.std() / 8
    assert float((bound.value.mean() - truth).abs()) < 3 * float(error)
    assert float(error) < 0.3


def test_it_bounds_the_likelihood_and_is_tight_for_an_exact_score(mixture, generator):
    """An exact score leaves the gap of the discrete ends only: KL between the ends' posteriors and their models."""
    x = mixture.sample(64, generator)
    flow, condition = mixture.flow(LinearVP()), mixture.condition(torch.zeros_like(x))
    bound = elbo(flow, x, condition, draws=256)
    exact = log_likelihood(flow, x, condition, solver=Multistep(97), divergence=Exact()).log_p
    gap = exact - bound.value
    error = float(gap.std()) / 8
    assert float(gap.mean()) > -3 * error
    assert float(gap.mean()) < 0.1 + 3 * error


def test_a_worse_score_lowers_the_bound(gaussian, generator):
    x = gaussian.sample(32, generator)
    condition, flow = gaussian.condition(torch.zeros_like(x)), gaussian.flow(SDXL)
    worse = ProbabilityFlow(lambda x, t, y: 0.5 * flow.network(x, t, y), SDXL)
    exact = gaussian.log_prob(x, r=float(SDXL.at(0.0).r))
    gaps = [float((exact - elbo(model, x, condition, draws=128).value).mean()) for model in (flow, worse)]
    assert gaps[1] > gaps[0] + 1


@pytest.mark.parametrize("draws", [8, 32])
def test_its_standard_error_covers(mixture, generator, draws):
    x = mixture.sample(1, generator)
    flow = mixture.flow(SDXL)
    many = elbo(flow, x.expand(64, 8), mixture.condition(torch.zeros(64, 8, dtype=torch.float64)), draws=256, seed=99)
    bound = elbo(flow, x.expand(200, 8), mixture.condition(torch.zeros(200, 8, dtype=torch.float64)), draws=draws)
    deviation = bound.value - many.value.mean()
    covered = (deviation.abs() < 1.96 * bound.standard_error).double().mean()
    assert 0.9 <= float(covered) <= 0.99
    assert float((bound.standard_error**2).mean().sqrt()) == pytest.approx(float(deviation.std()), rel=0.3)


def test_importance_sampling_is_unbiased(mixture, generator):
    """Few draws have the mean of many."""
    x = mixture.sample(1, generator).expand(300, 8)
    flow, condition = mixture.flow(LinearVP()), mixture.condition(torch.zeros(300, 8, dtype=torch.float64))
    few, many = (elbo(flow, x, condition, draws=draws).value for draws in (16, 256))
    assert float((few.mean() - many.mean()).abs()) < 3 * float((few.var() / 300 + many.var() / 300).sqrt())
    assert float(many.std()) < float(few.std()) / 3


def test_conditions_share_their_noise(mixture, generator):
    """The difference of two conditions is far less noisy than either."""
    x = mixture.sample(1, generator).expand(100, 8)
    flow = mixture.flow(SDXL)
    shifts = [torch.full((100, 8), value, dtype=torch.float64) for value in (0.0, 0.2)]
    first, second = (elbo(flow, x, mixture.condition(shift), draws=32).value for shift in shifts)
    assert float((first - second).std()) < 0.35 * float(first.std())


def test_it_belongs_to_the_sample(mixture, generator):
    x = mixture.sample(5, generator)
    flow, names = mixture.flow(SDXL), ["a", "b", "c", "d", "e"]
    whole = elbo(flow, x, mixture.condition(torch.zeros_like(x)), draws=8, sample_ids=names)
    part = elbo(flow, x[[3, 1]], mixture.condition(torch.zeros_like(x[:2])), draws=8, sample_ids=["d", "b"])
    torch.testing.assert_close(part.value, whole.value[[3, 1]], rtol=1e-12, atol=1e-12)
    other = elbo(flow, x, mixture.condition(torch.zeros_like(x)), draws=8, sample_ids=names, seed=1)
    assert float((other.value - whole.value).abs().min()) > 1e-6
    assert whole.nfe.forward == 8
    assert elbo(mixture.flow(SDXL, guidance=2.0), x, mixture.condition(torch.zeros_like(x)), draws=8).nfe.forward == 16


def test_masked_dimensions_change_nothing(diagonal, generator):
    x, filling = diagonal.sample(2, generator), torch.randn(2, 8, dtype=torch.float64, generator=generator)
    mask = torch.arange(8)[None] < torch.tensor([6, 3])[:, None]
    condition = diagonal.condition(torch.zeros_like(x), mean=torch.ones_like(x), mask=mask)
    values = [elbo(diagonal.flow(LinearVP()), torch.where(mask, x, a * filling), condition) for a in (0.0, 50.0)]
    torch.testing.assert_close(values[0].value, values[1].value, rtol=1e-12, atol=1e-12)
    assert values[0].dims.tolist() == [6, 3]
    torch.testing.assert_close(values[0].bpd, -values[0].value / (values[0].dims * math.log(2)))


def test_infinite_noise_has_a_bound_too(mixture, generator):
    x = mixture.sample(32, generator)
    condition = mixture.condition(torch.zeros_like(x))
    flow = mixture.flow(Cosine(), "v")
    bound = elbo(flow, x, condition, draws=128)
    gap = mixture.log_prob(x, r=float(flow.schedule.at(flow.schedule.t_min).r)) - bound.value
    assert -3 * float(gap.std()) / 32**0.5 < float(gap.mean()) < 0.2 + 3 * float(gap.std()) / 32**0.5


def test_impossible_requests_are_refused():
    flow = ProbabilityFlow(lambda x, t, y: x, SDXL)
    with pytest.raises(ValueError, match="draws >= 2"):
        elbo(flow, torch.zeros(2, 3), draws=1)
    with pytest.raises(ValueError, match="1 sample ids for a batch of 2"):
        elbo(flow, torch.zeros(2, 3), Condition(), sample_ids=["a"])


@pytest.mark.parametrize("masked", [False, True])
def test_without_errors_of_the_network_the_ends_are_left_in_closed_form(generator, masked):
    """Noise that ends at r = 2 still knows the data: KL(N(cos x, sin^2) | N(0, 1)) is far from zero."""
    x = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    mask = torch.arange(5)[None] < torch.tensor([5, 3, 1])[:, None] if masked else None
    real = torch.ones_like(x) if mask is None else mask.double()
    flow, condition = ProbabilityFlow(lambda x, t, y: x, VE(0.05, 2.0)), Condition(mask=mask)
    noising = Noising.keyed(flow, x, mask, draws=4)
    bound = Bound.of(flow, x, condition, noising, predicted=noising.noises)
    cos2, sin2 = 1 / 5, 4 / 5
    divergence = 0.5 * (real * (cos2 * x**2 + sin2 - 1 - math.log(sin2))).sum(1)
    data = -real.sum(1) * (math.log(0.05) + 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(bound.value, data - divergence, rtol=1e-10, atol=1e-10)
    assert float(divergence[0]) > 0.1
    torch.testing.assert_close(bound.standard_error, torch.zeros(3, dtype=torch.float64))


def test_its_standard_error_by_hand():
    """Successive differences 1 and 2; a mean square of two has 2 (n - 1)^2 / (3 n - 4) = 8 / 5 degrees of freedom."""
    draws = Draws(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64))
    widened = stats.t.ppf(0.975, 8 / 5) / stats.norm.ppf(0.975)
    assert float(draws.standard_error) == pytest.approx(math.sqrt((1 + 4) / (2 * 2) / 3) * widened, rel=1e-9)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_degrees_of_freedom_of_successive_differences(count):
    """Those of a quadratic form of white noise, tr(A)^2 / tr(A^2) (Satterthwaite)."""
    steps = np.diff(np.eye(count), axis=0)
    form = steps.T @ steps
    freedom = np.trace(form) ** 2 / np.trace(form @ form)
    draws = torch.from_numpy(np.random.default_rng(0).normal(size=(count, 1)))
    plain = math.sqrt(float((draws.diff(dim=0) ** 2).sum()) / np.trace(form) / count)
    widened = stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    assert float(Draws(draws).standard_error) == pytest.approx(plain * widened, rel=1e-6)
