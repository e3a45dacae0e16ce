"""The exact likelihood of validation data as a curve over epochs."""

import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.functional import pad

from dmlik_pl.flow import Condition, Divergence, LogLikelihood, Multistep, Solver, log_likelihood
from dmlik_pl.modules.training.offers import LikelihoodProblem, OffersLikelihoods

__all__ = ["LikelihoodMonitor"]

COLUMNS = ("dims", "nats", "variance", "gain", "gain_variance")  # of a sample: bits per dimension are of minus log p


class LikelihoodMonitor(Callback):
    """Measures bits per dimension on the first samples of the validation data, every few epochs.

    Samples, probes and time grid are the same in every epoch and on any number of processes: the curve shows the model
    and not the noise. Samples weigh as much as they have dimensions. It measures while batches are validated, when a
    callback that averages weights has put the average in place. Logged are

    - `name`, bits per dimension;
    - `name`_probe_error, its standard error over probes: how far off it is for these samples;
    - `name`_sampling_error, its standard error over samples: how far other samples would have moved it;
    - `gain`, where the training offers an alternative condition: by how much the bits per dimension of the alternative
      exceed those of the condition, on the same probes, with the same two errors of this paired difference;
    - `name`_failed, how many samples have no likelihood; they are in none of the above.

    In epochs between measurements the last values are logged again, so that `ModelCheckpoint` and `EarlyStopping` can
    be told `monitor: val/bpd`; the patience of the latter then counts validations, not measurements.

    Args:
        every_n_epochs: Epochs from one measurement to the next; the first is at the first validation.
        samples: Number of samples, the first ones of the validation data.
        solver: How the flow is integrated; :class:`Multistep` by default.
        divergence: How its divergence is estimated; one fresh Rademacher probe a node by default.
        seed: Seed of the probes.
        name: Name of the logged bits per dimension.
        gain: Name of the logged difference to the alternative condition.
    """

    def __init__(
        self,
        every_n_epochs: int = 1,
        samples: int = 16,
        solver: Solver | None = None,
        divergence: Divergence | None = None,
        seed: int = 0,
        name: str = "val/bpd",
        gain: str = "val/text_gain",
    ) -> None:
        if every_n_epochs < 1 or samples < 1:
            raise ValueError(f"every_n_epochs={every_n_epochs} and samples={samples} must be at least 1")
        self.every_n_epochs = every_n_epochs
        self.samples = samples
        self.solver = Multistep() if solver is None else solver
        self.divergence = divergence
        self.seed = seed
        self.name = name
        self.gain = gain
        self._last_epoch: int | None = None
        self._last: dict[str, float] = {}
        self._left = 0
        self._rows: list[Tensor] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make sure that there is something to measure.

        Raises:
            TypeError: If the training offers no likelihoods.
        """
        if not isinstance(pl_module, OffersLikelihoods):
            raise TypeError(
                f"{type(pl_module).__name__} has no `likelihood_problems(batch, limit)`, which says what to measure"
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take this process's share of the samples, if a measurement is due: the samples go round the processes."""
        share = len(range(trainer.global_rank, self.samples, trainer.world_size))
        self._left = share if self._due(trainer) else 0
        self._rows = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure the samples of a batch that belong to the subset."""
        if self._left == 0 or dataloader_idx > 0:
            return
        assert isinstance(pl_module, OffersLikelihoods)
        for problem in pl_module.likelihood_problems(batch, self._left):
            self._rows.append(self._measure(problem))
            self._left -= len(problem.sample_ids)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join what all processes found and log it; where nothing is due, log what was found last."""
        if self._due(trainer):
            self._last = self._summary(self._of_all_processes(trainer, pl_module))
            self._last_epoch = trainer.current_epoch
        if not trainer.sanity_checking:
            pl_module.log_dict(self._last, sync_dist=True)

    def _due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        return self._last_epoch is None or trainer.current_epoch >= self._last_epoch + self.every_n_epochs

    def _measure(self, problem: LikelihoodProblem) -> Tensor:
        """A row of `COLUMNS` for each sample, float64."""
        found = self._log_likelihood(problem, problem.condition)
        columns = [found.dims, -found.log_p, found.integral.variance]
        if problem.alternative is None:
            columns += [torch.full_like(found.log_p, math.nan)] * 2
        else:
            other = self._log_likelihood(problem, problem.alternative)
            columns += [found.log_p - other.log_p, (found.integral - other.integral).variance]
        return torch.stack([column.double().cpu() for column in columns], 1)

    def _log_likelihood(self, problem: LikelihoodProblem, condition: Condition) -> LogLikelihood:
        return log_likelihood(
            problem.flow,
            problem.x,
            condition,
            solver=self.solver,
            divergence=self.divergence,
            sample_ids=problem.sample_ids,
            seed=self.seed,
            on_failure="record",
        )

    def _of_all_processes(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Tensor]:
        """The columns of all samples, each [N]."""
        rows = torch.cat([torch.zeros(0, len(COLUMNS), dtype=torch.float64), *self._rows])
        if trainer.world_size > 1:  # every process hands over as many rows; those without dimensions are none
            rows = pad(rows, (0, 0, 0, -(-self.samples // trainer.world_size) - len(rows)))
            rows = trainer.strategy.all_gather(rows.to(pl_module.device)).flatten(0, 1).cpu()
        return dict(zip(COLUMNS, rows[rows[:, 0] > 0].unbind(1), strict=True))

    def _summary(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """The numbers to log."""
        fine = columns["nats"].isfinite()
        failed = int((~fine).sum())
        if failed:
            rank_zero_warn(f"{failed} of {len(fine)} samples have no likelihood: {self.name} is that of the others")
        kept = {name: values[fine] for name, values in columns.items()}
        summary = bits(self.name, kept["nats"], kept["variance"], kept["dims"])
        if bool(kept["gain"].isfinite().any()):
            summary |= bits(self.gain, kept["gain"], kept["gain_variance"], kept["dims"])
        return summary | {f"{self.name}_failed": float(failed)}

    def state_dict(self) -> dict[str, Any]:
        """Return what the next validations repeat after a resume."""
        return {"last_epoch": self._last_epoch, "last": self._last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what an earlier fit found last."""
        self._last_epoch, self._last = state_dict["last_epoch"], state_dict["last"]


def bits(name: str, nats: Tensor, variance: Tensor, dims: Tensor) -> dict[str, float]:
    """Bits per dimension of N samples together, with the errors that probes and the choice of samples leave.

    Args:
        name: What they are called.
        nats: Of each sample, [N].
        variance: Variance of these over probes, nats^2, [N].
        dims: Dimensions of each, [N].
    """
    unit = float(dims.sum()) * math.log(2)
    # Of a ratio of two sums, each sample moves the ratio by what it has more than its dimensions' worth.
    residual = nats - nats.sum() / dims.sum() * dims
    return {
        name: float(nats.sum()) / unit if len(nats) else math.nan,
        f"{name}_probe_error": math.sqrt(float(variance.sum())) / unit if len(nats) else math.nan,
        f"{name}_sampling_error": float(residual.std()) * math.sqrt(len(nats)) / unit if len(nats) > 1 else math.nan,
    }
