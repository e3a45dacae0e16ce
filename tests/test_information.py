"""Mutual information by the I-MMSE integral against the log-densities and divergences of Gaussians."""

import math

import pytest
import torch
from torch import Tensor

from dmlik_pl.flow import Bound, Information, LinearVP, Noising, ProbabilityFlow, elbo, pointwise_information
from dmlik_pl.models.closed_form import GaussianMixture

SCHEDULE = LinearVP()
DIMS = 3
WITHIN = torch.diag(torch.tensor([0.3, 0.1, 0.5], dtype=torch.float64))
BETWEEN = torch.tensor([[0.5, 0.2, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.3]], dtype=torch.float64)


def gaussian(covariance: Tensor) -> GaussianMixture:
    return GaussianMixture(torch.zeros(1, DIMS, dtype=torch.float64), covariance[None])


def zeros(count: int) -> Tensor:
    return torch.zeros(count, DIMS, dtype=torch.float64)


def information(x: Tensor, given: Tensor, draws: int, seed: int = 0) -> Information:
    """Of x, N(0, WITHIN + BETWEEN), and its mean y = given: p(x|y) is N(y, WITHIN)."""
    conditional, marginal = gaussian(WITHIN), gaussian(WITHIN + BETWEEN)
    noising = Noising.keyed(conditional.flow(SCHEDULE), x, draws=draws, seed=seed)
    return Information.of(
        noising,
        noising.predict(conditional.flow(SCHEDULE), x, conditional.condition(given)),
        noising.predict(marginal.flow(SCHEDULE), x, marginal.condition(zeros(len(x)))),
    )


@pytest.mark.parametrize("shift", [0.0, 0.6, -1.5], ids=["near", "off", "far"])
def test_the_standard_form_is_the_pointwise_log_ratio(shift: float, generator: torch.Generator) -> None:
    """For a condition that is true and for those that are not."""
    x = gaussian(WITHIN).sample(1, generator) + 0.4
    given = zeros(300) + 0.4 + shift
    truth = float(gaussian(WITHIN).log_prob(x, given[:1]) - gaussian(WITHIN + BETWEEN).log_prob(x))
    found = information(x.expand(300, DIMS), given, draws=96).standard
    error = float(found.value.std()) / math.sqrt(300)
    assert error < 0.05 + 0.01 * abs(truth)
    assert float(found.value.mean()) == pytest.approx(truth, abs=3.5 * error)
    assert float((found.standard_error**2).mean().sqrt()) == pytest.approx(float(found.value.std()), rel=0.3)


def test_the_standard_form_holds_for_components_of_a_mixture(generator: torch.Generator) -> None:
    """The condition names the component: densities are not Gaussian without it."""
    means = torch.tensor([[0.8, 0.0, -0.2], [-0.8, 0.3, 0.2]], dtype=torch.float64)
    covariances = torch.stack([WITHIN, 0.5 * WITHIN])
    mixture = GaussianMixture(means, covariances)
    first = GaussianMixture(means[:1], covariances[:1])
    x = mixture.sample(1, generator)
    many = x.expand(300, DIMS)
    noising = Noising.keyed(mixture.flow(SCHEDULE), many, draws=96)
    found = Information.of(
        noising,
        noising.predict(first.flow(SCHEDULE), many, first.condition(zeros(300))),
        noising.predict(mixture.flow(SCHEDULE), many, mixture.condition(zeros(300))),
    ).standard
    truth = float(first.log_prob(x) - mixture.log_prob(x))
    assert float(found.value.mean()) == pytest.approx(truth, abs=3.5 * float(found.value.std()) / math.sqrt(300))


def test_the_orthogonal_form_is_the_divergence_on_average_over_the_condition(generator: torch.Generator) -> None:
    """KL(N(y, W) | N(0, W + B)), closed form."""
    y, total = torch.tensor([[0.5, -0.7, 0.2]], dtype=torch.float64), WITHIN + BETWEEN
    ratio = torch.linalg.solve(total, WITHIN)
    quadratic = float(y @ torch.linalg.solve(total, y[0]))
    truth = 0.5 * (float(torch.trace(ratio)) - DIMS + quadratic - float(torch.logdet(ratio)))
    x = gaussian(WITHIN).sample(2000, generator) + y
    found = information(x, y.expand(2000, DIMS), draws=24)
    for form in (found.orthogonal, found.standard):
        assert float(form.value.mean()) == pytest.approx(truth, abs=3.5 * float(form.value.std()) / math.sqrt(2000))
    assert float(found.orthogonal.draws.min()) >= 0
    assert float(found.orthogonal.value.std()) < 0.6 * float(found.standard.value.std())


def test_the_orthogonal_form_is_the_mutual_information_on_average_over_both(generator: torch.Generator) -> None:
    y = gaussian(BETWEEN).sample(2000, generator)
    x = gaussian(WITHIN).sample(2000, generator) + y
    truth = 0.5 * float(torch.logdet(WITHIN + BETWEEN) - torch.logdet(WITHIN))
    found = information(x, y, draws=24).orthogonal.value
    assert float(found.mean()) == pytest.approx(truth, abs=3.5 * float(found.std()) / math.sqrt(2000))


def test_one_pass_gives_the_bound_too(generator: torch.Generator) -> None:
    """On the same draws the standard form is the difference of two bounds, to rounding."""
    model = gaussian(WITHIN)
    x = model.sample(5, generator)
    shift = zeros(5) + 0.3
    flow, condition = model.flow(SCHEDULE), model.condition(shift)
    found, nfe = pointwise_information(flow, x, condition, draws=12, seed=4)
    bounds = [elbo(model.flow(SCHEDULE, guidance=w), x, condition, draws=12, seed=4) for w in (1.0, 0.0)]
    torch.testing.assert_close(found.standard.draws, bounds[0].draws - bounds[1].draws, rtol=1e-9, atol=1e-9)
    assert nfe.forward == 24 == sum(bound.nfe.forward for bound in bounds)
    noising = Noising.keyed(flow, x, draws=12, seed=4)
    again = Bound.of(flow, x, condition, noising, noising.predict(flow, x, condition))
    assert torch.equal(again.draws, bounds[0].draws)


def test_guidance_stretches_what_the_condition_moves(generator: torch.Generator) -> None:
    model = gaussian(WITHIN)
    x, condition = model.sample(4, generator), model.condition(zeros(4) + 0.5)
    plain, _ = pointwise_information(model.flow(SCHEDULE), x, condition, draws=8)
    guided, nfe = pointwise_information(model.flow(SCHEDULE, guidance=3.0), x, condition, draws=8)
    torch.testing.assert_close(guided.orthogonal.draws, 9 * plain.orthogonal.draws)
    assert nfe.forward == 24  # both branches of guidance, and the one without a condition


def test_draws_belong_to_the_sample_and_the_stage(generator: torch.Generator) -> None:
    x, flow = gaussian(WITHIN).sample(3, generator), gaussian(WITHIN).flow(SCHEDULE)
    whole = Noising.keyed(flow, x, draws=6, sample_ids=["a", "b", "c"])
    part = Noising.keyed(flow, x[[2]], draws=6, sample_ids=["c"])
    assert torch.equal(part.noises, whole.select([2]).noises) and torch.equal(part.log_r, whole.select([2]).log_r)
    later = Noising.keyed(flow, x, draws=6, sample_ids=["a", "b", "c"], stage=1)
    assert not torch.isin(later.noises, whole.noises).any()
    assert not torch.isin(later.log_r[1:], whole.log_r).any()  # many a first one lies at the least noise
    assert (whole.log_snr.diff(dim=0) <= 0).all()


def test_masked_dimensions_say_nothing(generator: torch.Generator) -> None:
    model = gaussian(WITHIN)  # diagonal, so that dimensions can be left out
    mask = torch.tensor([[True, True, False]]).expand(2, DIMS)
    x = model.sample(2, generator)
    forms = []
    for filling in (0.0, 50.0):
        condition = model.condition(zeros(2) + 0.3, mask=mask)
        found, _ = pointwise_information(model.flow(SCHEDULE), torch.where(mask, x, filling), condition, draws=8)
        forms.append(torch.stack([found.standard.value, found.orthogonal.value]))
    torch.testing.assert_close(forms[0], forms[1], rtol=1e-12, atol=1e-12)


def test_information_needs_a_model_without_the_condition() -> None:
    from dmlik_pl.flow import Condition

    flow = ProbabilityFlow(lambda x, t, y: x, SCHEDULE)
    with pytest.raises(ValueError, match="unconditional branch"):
        pointwise_information(flow, torch.zeros(2, 3), Condition(torch.zeros(2, 3)), draws=4)
