"""The exact likelihood of validation data as a curve over a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from dmlik_pl.callbacks.fixed_samples import FixedSamples
from dmlik_pl.callbacks.likelihood_curve import LikelihoodCurve
from dmlik_pl.callbacks.likelihood_findings import Findings, gathered
from dmlik_pl.flow import Divergence, Hutchinson, Multistep, Solver
from dmlik_pl.modules.training.likelihoods import Measured, cost, cost_is_fixed, measure, of_state, summary, to_state
from dmlik_pl.modules.training.offers import OffersLikelihoods
from dmlik_pl.ranges import at_least, seeds
from dmlik_pl.studies import Estimator

__all__ = ["LikelihoodMonitor"]


class LikelihoodMonitor(Callback):
    """Measures bits per dimension on the first samples of every validation loader, and how training changes them.

    It measures before training and every few validations. Samples, probes, time grid and noise are the same every time
    and on any number of processes: the curve shows the model and not the noise. Samples weigh as much as they have
    dimensions. Automatic casts to a lower precision are off, and a callback that averages weights has put the average
    in place. The names of what is logged begin with ``val/``, or with ``val/NAME/`` if the validation loaders
    have names (`validation_names` of the data module, or the keys of a dictionary of loaders):

    - ``bpd``, bits per dimension of the samples under their condition;
    - ``bpd_unconditional`` and `gain`, where the training offers an alternative condition, such as the empty prompt:
      its bits per dimension, and by how much they exceed those of the condition on the same probes;
    - ``elbo``, bits per dimension by the evidence lower bound: as high as ``bpd``, up to its noise, for a network whose
      prediction is the score of a density, and of another density for one whose prediction is not;
    - ``bpd_change``, the difference to the measurement before training, sample by sample on the same probes, and
      ``bpd_change_z``, its ratio to its error over samples;
    - each of these (but the last) with ``_standard_error``, its total error, and the parts of it: ``_probe_error``,
      over probes (of ``elbo``: over noise and levels), which says how far off it is for these samples;
      ``_sampling_error``, over samples, which says how far other samples would have moved it, probes included; and
      ``_grid_error`` (not of ``elbo``), by the time grid;
    - ``bpd_samples`` and ``bpd_failed``, how many samples these numbers are of, and how many have no likelihood, for
      any reason; only if the first measurement finds none at all, the fit ends;
    - ``val/monitor_nfe``, network evaluations that the monitor has cost so far, on all processes together.

    In validations between measurements the last values are logged again, so that `ModelCheckpoint` and `EarlyStopping`
    can take ``monitor: val/bpd`` or ``val/NAME/bpd``; the patience of the latter then counts validations, not
    measurements. The measurement before training goes to the loggers alone. All measurements are in ``likelihood.csv``
    in the log folder, one row per measurement and loader; at the end of the fit ``likelihood.png`` shows them, to the
    loggers too. A resumed fit continues with the first fit's samples, start and curve.

    Args:
        every_n_validations: Validations from one measurement to the next; the first is always measured.
        samples: Number of samples, the first ones of each loader.
        solver: How the flow is integrated; :class:`Multistep` by default.
        divergence: How its divergence is estimated; one fresh Rademacher probe per node by default.
        seed: Seed of the probes, and of the bound's noise.
        elbo_draws: Noise levels of the evidence lower bound, each one network evaluation per sample; 0 leaves it out.
        max_nfe: Bound on the network evaluations of one measurement, forward passes and derivatives together, over all
            loaders and processes: of each loader as many samples are taken as fit. A solver that chooses its own steps
            has no known cost: there a process stops when its share is spent, with at most one sample too many. None
            sets no bound.
        gain: Name of the difference to the alternative condition.
    """

    def __init__(
        self,
        every_n_validations: int = 1,
        samples: int = 16,
        solver: Solver | None = None,
        divergence: Divergence | None = None,
        seed: int = 0,
        elbo_draws: int = 32,
        max_nfe: int | None = None,
        gain: str = "guidance_gap",
    ) -> None:
        at_least(1, every_n_validations=every_n_validations, samples=samples, max_nfe=max_nfe)
        seeds(seed=seed)
        if elbo_draws < 0 or elbo_draws == 1:
            raise ValueError(f"elbo_draws={elbo_draws} must be 0, for no bound, or at least 2, for one with an error")
        self.every_n_validations = every_n_validations
        self.samples = samples
        self.estimator = Estimator(
            solver=Multistep() if solver is None else solver,
            divergence=Hutchinson() if divergence is None else divergence,
            seed=seed,
            rounding_every=0,
        )
        self.elbo_draws = elbo_draws
        self.max_nfe = max_nfe
        self.gain = gain
        self._forget()

    def _forget(self) -> None:
        self._validations = 0
        self._start: dict[str, Measured] = {}
        self._curve = LikelihoodCurve()
        self._found: Findings | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make sure that there is something to measure.

        Raises:
            TypeError: If the training offers no likelihoods.
        """
        if not isinstance(pl_module, OffersLikelihoods):
            raise TypeError(
                f"{type(pl_module).__name__} has no `likelihood_problems(batch, limit)`, which says what to measure"
            )
        if stage == "fit":
            self._forget()  # a resumed fit loads its state after this

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the samples; measure them before training, unless this fit resumes an earlier one."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)
        with isolate_rng(), measuring(pl_module):
            self._fixed = FixedSamples(trainer, pl_module, self.samples)
            self._count = self._affordable(trainer)
            if self._start:
                return
            self._start, failures = self._joined(trainer, self._measure(trainer))
        self._note(trainer, self._start, failures)
        for logger in trainer.loggers:
            logger.log_metrics(self._curve.last() | {"epoch": trainer.current_epoch}, trainer.global_step)
            logger.save()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measure at the first batch of a validation, if one is due: averaged weights are in place by now."""
        if self._due(trainer) and self._found is None:
            with measuring(pl_module):
                self._found = self._measure(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join what all processes found and log it; where nothing is due, log what was found last."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        if self._due(trainer):
            self._note(trainer, *self._joined(trainer, self._found or Findings()))
            self._found = None
        self._validations += 1
        pl_module.log_dict(self._curve.last(), sync_dist=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curve, for the log folder and for the loggers; the export of the weights comes after this."""
        try:
            self._curve.draw(trainer, self._folder, self.gain)
        except Exception as error:
            rank_zero_warn(
                f"the figure of likelihoods cannot be drawn (the numbers are in {self._folder}/likelihood.csv): {error}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit continues with: plain numbers and tensors."""
        start = {
            name: {"sample_ids": found.sample_ids, "dims": found.dims, "likelihood": to_state(found.condition)}
            for name, found in self._start.items()
        }
        own = {"settings": self._settings, "validations": self._validations, "start": start}
        return own | {"rows": self._curve.rows, "nfe": self._curve.nfe}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up an earlier fit's start and curve; of another grid or other probes only the curve."""
        self._validations = state_dict["validations"]
        self._curve = LikelihoodCurve(state_dict["rows"], state_dict["nfe"])
        if state_dict["settings"] != self._settings:
            rank_zero_warn(
                f"the resumed fit measured with {state_dict['settings']}, this one with "
                f"{self._settings}: changes of bits per dimension are taken from here on"
            )
            return
        for name, each in state_dict["start"].items():
            found = of_state(each["likelihood"])
            self._start[name] = Measured(each["sample_ids"], each["dims"], found, None, None, 0)

    @property
    def _settings(self) -> str:
        """What two measurements must share to be paired."""
        return f"{self.estimator.solver}, {self.estimator.divergence}, seed {self.estimator.seed}"

    def _due(self, trainer: Trainer) -> bool:
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        return fitting and self._validations % self.every_n_validations == 0

    def _affordable(self, trainer: Trainer) -> int:
        """How many samples of each loader a measurement takes.

        Raises:
            ValueError: If the budget is less than what one sample of each loader costs.
        """
        if self.max_nfe is None or not cost_is_fixed(self.estimator.solver):
            return self.samples
        own = {
            name: 0 if first is None else cost(first, self.estimator, self.elbo_draws)
            for name, first in self._fixed.first.items()
        }
        costs = [max(each) for each in zip(*(costs.values() for costs in gathered(trainer, own)), strict=True)]
        count = min(self.samples, self.max_nfe // max(1, sum(costs)))
        price = f"{' + '.join(map(str, costs))} network evaluations for a sample of each validation loader"
        if count == 0:
            raise ValueError(
                f"max_nfe={self.max_nfe} is less than the {price}: raise it to {sum(costs)} or more, or lower the "
                "solver's nodes or elbo_draws"
            )
        rank_zero_info(
            f"The likelihood monitor measures {count} of {self.samples} samples per loader: {price}, "
            f"of max_nfe={self.max_nfe}"
        )
        return count

    def _measure(self, trainer: Trainer) -> Findings:
        """What this process finds for its share of the samples, as far as the budget reaches."""
        budget = (
            None if self.max_nfe is None or cost_is_fixed(self.estimator.solver) else self.max_nfe / trainer.world_size
        )
        posed = {name: self._fixed.posed(name, self._count) for name in self._fixed}
        problems = {name: each.problems for name, each in posed.items()}
        if budget is not None:
            problems = {name: [single for each in own for single in each.apart()] for name, own in problems.items()}
        found = Findings({name: [] for name in posed}, {name: dict(each.failures) for name, each in posed.items()})
        turns = chain.from_iterable(zip_longest(*([(name, each) for each in own] for name, own in problems.items())))
        for name, problem in filter(None, turns):
            if budget is not None and found.nfe >= budget:
                if not self._curve.rows:
                    rank_zero_info(f"max_nfe={self.max_nfe} is enough for {found.count} samples")
                break
            found.measure(partial(measure, estimator=self.estimator, elbo_draws=self.elbo_draws), name, problem)
        return found

    def _joined(self, trainer: Trainer, own: Findings) -> tuple[dict[str, Measured], dict[str, dict[str, str]]]:
        """What all processes found together, and why other samples failed, by loader.

        Raises:
            ValueError: If the first measurement finds nothing: then a setting is wrong, and not the samples.
        """
        found = own.of_all(trainer, self._fixed)
        empty = [name for name, parts in found.parts.items() if not parts]
        if empty and not self._curve.rows:
            reason = next(iter(found.failures[empty[0]].values()), "is it empty?")
            raise ValueError(f"no sample of the validation loader {empty[0]!r} was measured: {reason}")
        return {name: Measured.cat(parts) for name, parts in found.parts.items() if parts}, found.failures

    def _note(self, trainer: Trainer, found: dict[str, Measured], failures: dict[str, dict[str, str]]) -> None:
        """Sum up a measurement."""
        self._curve.nfe += sum(each.nfe for each in found.values())
        numbers = {}
        for name, failed in failures.items():
            if name in found:
                start = None if found is self._start else self._start.get(name)
                numbers[name] = summary(found[name], start, self.gain)
            else:
                numbers[name] = self._curve.nothing(name)
            numbers[name]["bpd_failed"] += len(failed)
            if count := int(numbers[name]["bpd_failed"]):
                of = f"of {name} " if name else ""
                told = "".join(f" ({sample}: {reason})" for sample, reason in list(failed.items())[:1])
                size = count + int(numbers[name]["bpd_samples"])
                rank_zero_warn(f"{count} of {size} samples {of}have no likelihood{told}: the numbers are of the others")
        self._curve.add(trainer, self._folder, numbers)


@contextmanager
def measuring(module: LightningModule) -> Iterator[None]:
    """Without dropout, and in the precision of weights and state rather than that of automatic casts."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.inference_mode(False), torch.autocast(module.device.type, enabled=False):
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
