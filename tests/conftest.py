"""What every test starts from."""

import json
from pathlib import Path

import lightning.pytorch  # noqa: F401  # first, as evaluate.py says
import pytest
import torch
from nbest_lists import write_made_lists

from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.results import kinds

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Two test processes on two cores: a thread each."""
    torch.set_num_threads(1)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def short_fit(tmp_path):
    """Options that make an epoch of a very small network of the training of digits."""
    few = {
        "model.init_args.output": tmp_path / "model",
        "model.init_args.unet": json.dumps({"block_out_channels": [8, 16]}),
        "model.init_args.validation_draws": 2,
        "trainer.max_steps": 18,
        "trainer.check_val_every_n_epoch": 1,
        "trainer.limit_val_batches": 1,
        "trainer.logger.init_args.save_dir": tmp_path,
    }
    return [f"--{name}={value}" for name, value in few.items()]


@pytest.fixture
def declared(monkeypatch):
    """Declares kinds of studies for one test."""

    def declare(*declarations):
        for kind in declarations:
            monkeypatch.setitem(kinds._declared, kind.name, kind)

    return declare


@pytest.fixture(scope="session")
def made_lists(tmp_path_factory):
    """A file of the n-best lists whose statistics are known, see `nbest_lists`."""
    return write_made_lists(tmp_path_factory.mktemp("lists") / "made.csv.gz")


def random_covariances(components: int, dims: int, generator: torch.Generator, spread: float = 1.5) -> torch.Tensor:
    """Covariances with random axes and log-variances within +-spread, [K, D, D]."""
    white = torch.randn(components, dims, dims, dtype=torch.float64, generator=generator)
    bases = torch.linalg.qr(white).Q
    log_variances = spread * (2 * torch.rand(components, dims, dtype=torch.float64, generator=generator) - 1)
    return torch.einsum("kij,kj,klj->kil", bases, log_variances.exp(), bases)


@pytest.fixture(scope="session")
def mixture():
    """Three components that do not commute, in eight dimensions, float64."""
    generator = torch.Generator().manual_seed(1)
    means = 1.5 * torch.randn(3, 8, dtype=torch.float64, generator=generator)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return GaussianMixture(means, random_covariances(3, 8, generator), weights)


@pytest.fixture(scope="session")
def gaussian():
    """One correlated Gaussian in eight dimensions, float64."""
    generator = torch.Generator().manual_seed(2)
    mean = torch.randn(1, 8, dtype=torch.float64, generator=generator)
    return GaussianMixture(mean, random_covariances(1, 8, generator))


@pytest.fixture(scope="session")
def diagonal():
    """Two components with diagonal covariances in eight dimensions: the model that can be masked."""
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(2, 8, dtype=torch.float64, generator=generator)
    variances = (3 * torch.rand(2, 8, dtype=torch.float64, generator=generator) - 1.5).exp()
    return GaussianMixture(means, torch.diag_embed(variances))


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    """Folders of tiny pipelines by what makes them; each is made once."""
    from tiny_pipelines import write

    made = {}

    def folder(make):
        if make not in made:
            made[make] = write(make, tmp_path_factory.mktemp(make.__name__))
        return made[make]

    return folder
