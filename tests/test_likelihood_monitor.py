"""The curve of exact likelihoods over epochs, on a model of which every likelihood is known."""

import json
import math
from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks import LikelihoodMonitor
from dmlik_pl.flow import Hutchinson, LinearVP, LogLikelihood, Multistep, log_likelihood
from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.modules.training.offers import LikelihoodProblem

DIMS, TRUTH = 4, 0.5
SOLVER = Multistep(nodes=17)
COVARIANCE = torch.tensor([[0.3, 0.1, 0, 0], [0.1, 0.2, 0, 0], [0, 0, 0.3, 0.1], [0, 0, 0.1, 0.4]], dtype=torch.float64)
SCHEDULE = LinearVP(beta_max=30.0)


class Shifted(LightningModule):
    """Knows the data up to a shift, whose error is its one weight."""

    def __init__(self, error: float = 1.0, rate: float = 0.0, broken: str | None = None, alternative: bool = True):
        super().__init__()
        self.mixture = GaussianMixture(torch.zeros(1, DIMS, dtype=torch.float64), COVARIANCE[None])
        self.error = nn.Parameter(torch.tensor(error, dtype=torch.float64))
        self.rate, self.broken, self.alternative = rate, broken, alternative

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.error.square()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.error], lr=self.rate)

    def likelihood_problems(self, batch: Tensor, limit: int) -> list[LikelihoodProblem]:
        """Each sample is its own number followed by its values."""
        problems = []
        for row in batch[:limit]:
            name, x = f"sample-{int(row[0])}", row[None, 1:].clone()
            if name == self.broken:
                x = x * math.nan
            shift = (TRUTH + self.error).expand(1, DIMS)
            flow = self.mixture.flow(SCHEDULE, "v")
            free = self.mixture.condition(torch.zeros(1, DIMS, dtype=torch.float64)) if self.alternative else None
            problems.append(LikelihoodProblem(flow, x, self.mixture.condition(shift), [name], free))
        return problems


def loader(count: int = 8, size: int = 3) -> DataLoader:
    mixture = GaussianMixture(torch.full((1, DIMS), TRUTH, dtype=torch.float64), COVARIANCE[None])
    values = mixture.sample(count, torch.Generator().manual_seed(0))
    return DataLoader(torch.cat([torch.arange(count)[:, None], values], 1), batch_size=size)


class Curve(Callback):
    """What is logged after each validation."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.rows.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    def __getitem__(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]


def fit(
    model: Shifted, monitor: LikelihoodMonitor, epochs: int, *callbacks: Callback, **options
) -> tuple[Trainer, Curve]:
    curve = Curve()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        **{"enable_checkpointing": False} | quiet | options,
        callbacks=[monitor, *callbacks, curve],
    )
    trainer.fit(model, loader(4, 4), loader())
    return trainer, curve


def direct(model: Shifted, count: int = 6) -> tuple[LogLikelihood, LogLikelihood]:
    """Condition and alternative of the first samples by the function itself."""
    parts = []
    for batch in loader():
        for problem in model.likelihood_problems(batch, 3):
            options = {"solver": SOLVER, "sample_ids": problem.sample_ids, "seed": 5}
            parts.append(
                [
                    log_likelihood(problem.flow, problem.x, c, **options)
                    for c in (problem.condition, problem.alternative)
                ]
            )
    with_condition, without = zip(*parts[:count], strict=True)
    return LogLikelihood.cat(with_condition), LogLikelihood.cat(without)


def test_the_numbers_are_those_of_the_function():
    model = Shifted(error=0.2)
    _, curve = fit(model, LikelihoodMonitor(samples=6, solver=SOLVER, seed=5), 1)
    found, other = direct(model)
    unit = 6 * DIMS * math.log(2)
    assert curve["val/bpd"][0] == pytest.approx(float(found.bpd.mean()), rel=1e-6)
    assert curve["val/bpd_probe_error"][0] == pytest.approx(
        float(found.integral.variance.sum().sqrt()) / unit, rel=1e-6
    )
    assert curve["val/bpd_sampling_error"][0] == pytest.approx(float(found.bpd.std()) / math.sqrt(6), rel=1e-6)
    paired = found.log_p - other.log_p
    assert curve["val/guidance_gap"][0] == pytest.approx(float(paired.sum()) / unit, rel=1e-6)
    variance = (found.integral - other.integral).variance.sum()
    assert curve["val/guidance_gap_probe_error"][0] == pytest.approx(float(variance.sqrt()) / unit, rel=1e-6)
    assert curve["val/guidance_gap_sampling_error"][0] == pytest.approx(
        float((paired / DIMS / math.log(2)).std()) / math.sqrt(6), rel=1e-6
    )
    assert curve["val/bpd_failed"] == [0]


def test_bits_per_dim_are_right_within_their_error():
    model = Shifted(error=0.2)
    _, curve = fit(model, LikelihoodMonitor(samples=8, divergence=Hutchinson(probes=8)), 1)
    values = torch.cat(list(loader()))[:, 1:]
    exact = -model.mixture.log_prob(values, torch.full((8, DIMS), TRUTH + 0.2, dtype=torch.float64)).sum()
    assert (
        abs(curve["val/bpd"][0] - float(exact) / (8 * DIMS * math.log(2))) < 3 * curve["val/bpd_probe_error"][0] + 1e-3
    )


def test_the_curve_does_not_move_when_the_weights_do_not():
    _, curve = fit(Shifted(rate=0.0), LikelihoodMonitor(samples=5, solver=SOLVER), 3)
    assert len(curve.rows) == 3
    spent = curve["val/monitor_nfe"]
    assert spent == [spent[0], 1.5 * spent[0], 2 * spent[0]], "each costs the same, the one before training too"
    for row in curve.rows:
        row.pop("val/monitor_nfe")
    assert curve.rows[0] == curve.rows[1] == curve.rows[2]


def test_a_better_model_has_fewer_bits_and_gains_more_from_its_condition():
    _, curve = fit(Shifted(error=1.0, rate=0.2), LikelihoodMonitor(samples=5, solver=SOLVER), 4)
    assert curve["val/bpd"] == sorted(curve["val/bpd"], reverse=True)
    assert curve["val/guidance_gap"] == sorted(curve["val/guidance_gap"])
    assert curve["val/bpd"][0] - curve["val/bpd"][-1] > 0.1


def test_last_values_are_repeated_between_measurements():
    _, curve = fit(Shifted(error=1.0, rate=0.2), LikelihoodMonitor(every_n_validations=2, samples=3, solver=SOLVER), 5)
    first, repeated, second, again, third = curve["val/bpd"]
    assert first == repeated > second == again > third


def test_it_drives_checkpoints(tmp_path):
    keeper = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/bpd", save_top_k=1)
    options = {"enable_checkpointing": True}
    model = Shifted(error=-1.0, rate=1.2)  # ever further off: the first epoch is the best
    fit(model, LikelihoodMonitor(samples=3, solver=SOLVER), 3, keeper, **options)
    assert Path(keeper.best_model_path).name == "epoch=0.ckpt"
    keeper = ModelCheckpoint(tmp_path / "better", "{epoch}", monitor="val/bpd", save_top_k=1)
    fit(Shifted(error=1.0, rate=0.2), LikelihoodMonitor(samples=3, solver=SOLVER), 3, keeper, **options)
    assert Path(keeper.best_model_path).name == "epoch=2.ckpt"


def test_it_stops_a_training_that_gets_worse():
    monitor = LikelihoodMonitor(samples=3, solver=SOLVER)
    trainer, _ = fit(Shifted(error=-0.5, rate=1.2), monitor, 9, EarlyStopping("val/bpd", patience=2))
    assert trainer.current_epoch == 3  # the best, and two that are worse


@pytest.mark.parametrize("monitor_first", [True, False], ids=["before", "after"])
def test_averaged_weights_are_measured(monitor_first):
    model, monitor, average = (
        Shifted(1.0, rate=0.2),
        LikelihoodMonitor(samples=6, solver=SOLVER, seed=5),
        EMAWeightAveraging(decay=0.5),
    )
    order = (monitor, average) if monitor_first else (average, monitor)
    _, curve = fit(model, order[0], 2, order[1])
    # 1, 0.6, 0.36: the average after the second step of (0.6, 0.36) with a decay of 0.5
    assert model.error.item() == pytest.approx(0.48)
    found, _ = direct(model)
    assert curve["val/bpd"][-1] == pytest.approx(float(found.bpd.mean()), rel=1e-6)


def test_a_resumed_fit_repeats_what_was_found_last(tmp_path):
    keeper = ModelCheckpoint(tmp_path, save_last=True)
    options = {"enable_checkpointing": True}
    _, curve = fit(Shifted(1.0, 0.2), LikelihoodMonitor(3, samples=3, solver=SOLVER), 1, keeper, **options)
    monitor, again = LikelihoodMonitor(3, samples=3, solver=SOLVER), Curve()
    trainer = Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[monitor, again],
        enable_checkpointing=False,
    )
    trainer.fit(Shifted(1.0, 0.2), loader(4, 4), loader(), ckpt_path=keeper.last_model_path)
    assert again["val/bpd"][:2] == curve["val/bpd"] * 2 and again["val/bpd"][2] < curve["val/bpd"][0]


def test_a_sample_without_a_likelihood_is_counted_and_left_out():
    with pytest.warns(UserWarning, match="1 of 5 samples have no likelihood"):
        _, curve = fit(Shifted(broken="sample-1"), LikelihoodMonitor(samples=5, solver=SOLVER), 1)
    assert curve["val/bpd_failed"] == [1] and math.isfinite(curve["val/bpd"][0])


def test_without_an_alternative_there_is_no_gain():
    _, curve = fit(Shifted(alternative=False), LikelihoodMonitor(samples=2, solver=SOLVER), 1)
    assert sorted(curve.rows[0]) == ["val/bits", "val/bits_failed", "val/bits_probe_error", "val/bits_sampling_error"]


def test_samples_weigh_as_much_as_they_have_dimensions():
    from dmlik_pl.modules.training.likelihoods import bits

    nats, dims = torch.tensor([10.0, 60.0, 20.0]).double(), torch.tensor([10, 30, 20]).double()
    found = bits("b", nats, torch.tensor([1.0, 4.0, 4.0]), dims)
    assert found["b"] == pytest.approx(90 / 60 / math.log(2))
    assert found["b_probe_error"] == pytest.approx(3 / 60 / math.log(2))
    residual = torch.tensor([-5.0, 15.0, -10.0])
    assert found["b_sampling_error"] == pytest.approx(math.sqrt(3 * float((residual**2).sum()) / 2) / 60 / math.log(2))


class Told(Callback):
    """Writes what the first process logged."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.file.write_text(json.dumps({name: float(value) for name, value in trainer.callback_metrics.items()}))


def test_two_processes_find_what_one_finds(tmp_path):
    _, alone = fit(Shifted(error=0.2), LikelihoodMonitor(samples=5, solver=SOLVER), 1, num_sanity_val_steps=0)
    told = Told(tmp_path / "told.json")
    fit(
        Shifted(error=0.2),
        LikelihoodMonitor(samples=5, solver=SOLVER),
        1,
        told,
        num_sanity_val_steps=0,
        devices=2,
        strategy="ddp_fork",
    )
    together = json.loads(told.file.read_text())
    assert together == pytest.approx(alone.rows[0], rel=1e-6)


def test_a_training_without_likelihoods_is_refused():
    class Plain(Shifted):
        likelihood_problems = None

    with pytest.raises(TypeError, match="likelihood_problems"):
        fit(Plain(), LikelihoodMonitor(samples=2), 1)
    with pytest.raises(ValueError, match="samples=0"):
        LikelihoodMonitor(samples=0)
