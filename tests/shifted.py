"""A training of which every likelihood is known, for the tests of what watches trainings."""

import math

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dmlik_pl.flow import LinearVP
from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.modules.training.offers import LikelihoodProblem

DIMS, TRUTH = 4, 0.5
MEANS = torch.tensor([[-0.6, 0.0, 0.3, 0.0], [0.6, 0.2, -0.3, 0.0]], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.3, 0.1, 0, 0], [0.1, 0.2, 0, 0], [0, 0, 0.3, 0.1], [0, 0, 0.1, 0.4]], dtype=torch.float64)
SCHEDULE = LinearVP(beta_max=30.0)


def mixture(shift: float = 0.0) -> GaussianMixture:
    return GaussianMixture(MEANS + shift, COVARIANCE.expand(2, DIMS, DIMS))


class Shifted(LightningModule):
    """Knows the data up to a shift, whose error is its one weight; each step takes the error times 1 - 2 rate."""

    def __init__(
        self, error: float = 1.0, rate: float = 0.0, broken: str | None = None, alternative: bool = True, guidance=1.0
    ):
        super().__init__()
        self.mixture = mixture()
        self.error = nn.Parameter(torch.tensor(error, dtype=torch.float64))
        self.rate, self.broken, self.alternative, self.guidance = rate, broken, alternative, guidance

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.error.double().square()

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.error], lr=self.rate)

    def likelihood_problems(self, batch: Tensor, limit: int) -> list[LikelihoodProblem]:
        """Each sample is its own number followed by its values."""
        names = [f"sample-{int(row[0])}" for row in batch[:limit]]
        x = batch[:limit, 1:].to(self.error.dtype)
        if self.broken in names:
            x[names.index(self.broken)] = math.nan
        shift = (TRUTH + self.error).expand(len(x), DIMS)
        flow = self.mixture.flow(SCHEDULE, "v", guidance=self.guidance)
        free = self.mixture.condition(torch.zeros_like(x)) if self.alternative else None
        return [LikelihoodProblem(flow, x, self.mixture.condition(shift), names, free)]


def values(count: int = 8, shift: float = TRUTH) -> Tensor:
    """The first samples of data whose shift is TRUTH or another, each behind its number, [count, 1 + DIMS]."""
    drawn = mixture(shift).sample(32, torch.Generator().manual_seed(0))[:count]
    return torch.cat([torch.arange(count)[:, None], drawn], 1)


def loader(count: int = 8, size: int = 3, shift: float = TRUTH, **options) -> DataLoader:
    return DataLoader(values(count, shift), batch_size=size, **options)


def exact_bits(error: float, count: int, shift: float = TRUTH, conditional: bool = True) -> Tensor:
    """Bits per dimension of the first samples of a loader in closed form, [count]."""
    known = torch.full((count, DIMS), TRUTH + error if conditional else 0.0, dtype=torch.float64)
    return -mixture().log_prob(values(count, shift)[:, 1:], known) / DIMS / math.log(2)
