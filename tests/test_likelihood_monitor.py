"""The curves of exact likelihoods over a training, on a model of which every likelihood is known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger
from shifted import DIMS, Shifted, exact_bits, loader, values
from torch import Tensor, nn
from torch.utils.data import DataLoader

from dmlik_pl.callbacks import LikelihoodMonitor
from dmlik_pl.flow import Exact, LogLikelihood, Multistep, TorchDiffEq, elbo, log_likelihood
from dmlik_pl.modules.training.offers import LikelihoodProblem

SOLVER = Multistep(nodes=9)
COST = 2 * 2 * 9  # of a sample: forward and backward at each node, with and without the condition


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def watch(samples: int = 3, **options) -> LikelihoodMonitor:
    return LikelihoodMonitor(**{"samples": samples, "solver": SOLVER, "elbo_draws": 0} | options)


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
    model: Shifted, monitor: LikelihoodMonitor, epochs: int, *callbacks: Callback, data=None, ckpt_path=None, **options
) -> tuple[Trainer, Curve]:
    curve = Curve()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        **{"enable_checkpointing": False} | quiet | options,
        callbacks=[monitor, *callbacks, curve],
    )
    loaders = {"val_dataloaders": loader()} if data is None else data
    trainer.fit(model, loader(4, 4), **loaders, ckpt_path=ckpt_path)
    return trainer, curve


def two_domains() -> dict:
    return {"val_dataloaders": {"drawings": loader(), "photos": loader(5, 2, shift=-0.5)}}


def direct(model: Shifted, count: int = 6) -> tuple[LogLikelihood, LogLikelihood]:
    """Condition and alternative of the first samples by the function itself."""
    (problem,) = model.likelihood_problems(next(iter(loader(8, 8))), count)
    options = {"solver": SOLVER, "sample_ids": problem.sample_ids, "seed": 5}
    own, free = (
        log_likelihood(problem.flow, problem.x, c, **options) for c in (problem.condition, problem.alternative)
    )
    return own, free


def test_the_numbers_are_those_of_the_function():
    model = Shifted(error=0.2)
    _, curve = fit(model, watch(6, seed=5, elbo_draws=8, gain="text_gain"), 1)
    found, other = direct(model)
    unit = 6 * DIMS * math.log(2)
    assert curve["val/bpd"][0] == pytest.approx(float(found.bpd.mean()), rel=1e-6)
    assert curve["val/bpd_probe_error"][0] == pytest.approx(
        float(found.integral.variance.sum().sqrt()) / unit, rel=1e-6
    )
    assert curve["val/bpd_sampling_error"][0] == pytest.approx(float(found.bpd.std()) / math.sqrt(6), rel=1e-6)
    grid = float(found.discretisation.abs().sum()) / unit
    assert curve["val/bpd_grid_error"][0] == pytest.approx(grid, rel=1e-6)
    sampled = max(curve["val/bpd_sampling_error"][0], curve["val/bpd_probe_error"][0])
    assert curve["val/bpd_standard_error"][0] == pytest.approx(math.hypot(sampled, grid), rel=1e-6)
    assert curve["val/bpd_unconditional"][0] == pytest.approx(float(other.bpd.mean()), rel=1e-6)
    paired = found.log_p - other.log_p
    assert curve["val/text_gain"][0] == pytest.approx(float(paired.sum()) / unit, rel=1e-6)
    variance = (found.integral - other.integral).variance.sum()
    assert curve["val/text_gain_probe_error"][0] == pytest.approx(float(variance.sqrt()) / unit, rel=1e-6)
    assert curve["val/text_gain_sampling_error"][0] == pytest.approx(
        float((paired / DIMS / math.log(2)).std()) / math.sqrt(6), rel=1e-6
    )
    (problem,) = model.likelihood_problems(next(iter(loader(8, 8))), 6)
    bound = elbo(problem.flow, problem.x, problem.condition, draws=8, sample_ids=problem.sample_ids, seed=5)
    assert curve["val/elbo"][0] == pytest.approx(float(bound.bpd.mean()), rel=1e-6)
    assert curve["val/elbo_probe_error"][0] == pytest.approx(
        float(bound.standard_error.square().sum().sqrt()) / unit, rel=1e-6
    )
    assert (curve["val/bpd_failed"], curve["val/bpd_samples"]) == ([0], [6])
    assert curve["val/monitor_nfe"] == [2 * 6 * (COST + 8)], "before training and after the first epoch"


def test_the_curve_does_not_move_when_the_weights_do_not():
    _, curve = fit(Shifted(rate=0.0), watch(5, elbo_draws=4), 3)
    spent = curve["val/monitor_nfe"]
    assert spent == [spent[0], 1.5 * spent[0], 2 * spent[0]], "each costs the same, the one before training too"
    for row in curve.rows:
        row.pop("val/monitor_nfe")
    assert curve.rows[0] == curve.rows[1] == curve.rows[2]
    assert curve["val/bpd_change"] == curve["val/bpd_change_probe_error"] == curve["val/bpd_change_z"] == [0, 0, 0]


def test_a_better_model_has_fewer_bits_and_gains_more_from_its_condition():
    _, curve = fit(Shifted(error=1.0, rate=0.2), watch(5), 4)
    assert curve["val/bpd"] == sorted(curve["val/bpd"], reverse=True)
    assert curve["val/guidance_gap"] == sorted(curve["val/guidance_gap"])
    assert curve["val/bpd"][0] - curve["val/bpd"][-1] > 0.1


def test_the_change_counts_from_before_the_first_step():
    _, curve = fit(Shifted(error=1.0, rate=0.2), watch(5, solver=Multistep(33), divergence=Exact()), 2)
    for epoch, error in enumerate((0.6, 0.36)):
        change = exact_bits(error, 5) - exact_bits(1.0, 5)
        assert curve["val/bpd_change"][epoch] == pytest.approx(float(change.mean()), rel=0.01)
        assert curve["val/bpd_change_sampling_error"][epoch] == pytest.approx(float(change.std()) / 5**0.5, rel=0.01)
        assert curve["val/bpd_change_probe_error"][epoch] == 0


def test_last_values_are_repeated_between_measurements():
    _, curve = fit(Shifted(error=1.0, rate=0.1), watch(every_n_validations=2), 5)
    first, repeated, second, again, third = curve["val/bpd"]
    assert first == repeated > second == again > third


def test_every_loader_has_curves_of_its_own():
    model = Shifted(error=1.0, rate=0.2)
    _, curve = fit(model, watch(4, solver=Multistep(33), divergence=Exact()), 2, data=two_domains())
    for epoch, error in enumerate((0.6, 0.36)):
        drawings, photos = exact_bits(error, 4), exact_bits(error, 4, shift=-0.5)
        assert curve["val/drawings/bpd"][epoch] == pytest.approx(float(drawings.mean()), rel=0.01)
        assert curve["val/photos/bpd"][epoch] == pytest.approx(float(photos.mean()), rel=0.01)
    assert curve["val/drawings/bpd_change"][1] < 0 and curve["val/photos/bpd_change"][1] < 0
    assert curve["val/monitor_nfe"] == [2 * 8 * 2 * 33 * 5, 3 * 8 * 2 * 33 * 5]
    assert not any(name.startswith("val/bpd") or "dataloader" in name for name in curve.rows[0])


def test_names_come_from_the_data_module():
    class Data(LightningDataModule):
        validation_names = ("new", "old")

        def train_dataloader(self):
            return loader(4, 4)

        def val_dataloader(self):
            return [loader(), loader(5, 2)]

    def fit_on(data: LightningDataModule) -> Curve:
        curve = Curve()
        options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = Trainer(max_epochs=1, accelerator="cpu", callbacks=[watch(2), curve], **options)
        trainer.fit(Shifted(), datamodule=data)
        return curve

    assert {"val/new/bpd", "val/old/bpd"} <= set(fit_on(Data()).rows[0])
    Data.validation_names = ("new",)
    with pytest.raises(ValueError, match="2 validation loaders need as many different names"):
        fit_on(Data())


def test_without_validation_data_there_is_nothing_to_watch():
    with pytest.raises(ValueError, match="validation loader"):
        fit(Shifted(), watch(), 1, limit_val_batches=0)


def test_it_drives_checkpoints(tmp_path):
    keeper = ModelCheckpoint(tmp_path, "{epoch}", monitor="val/drawings/bpd", save_top_k=1)
    options = {"enable_checkpointing": True, "data": two_domains()}
    model = Shifted(error=-1.0, rate=1.2)  # ever further off: the first epoch is the best
    fit(model, watch(), 3, keeper, **options)
    assert Path(keeper.best_model_path).name == "epoch=0.ckpt"
    keeper = ModelCheckpoint(tmp_path / "better", "{epoch}", monitor="val/drawings/bpd", save_top_k=1)
    fit(Shifted(error=1.0, rate=0.2), watch(), 3, keeper, **options)
    assert Path(keeper.best_model_path).name == "epoch=2.ckpt"


def test_it_stops_a_training_that_gets_worse():
    stopper = EarlyStopping("val/photos/bpd", patience=2)
    trainer, _ = fit(Shifted(error=-0.9, rate=0.2), watch(), 9, stopper, data=two_domains())
    assert trainer.current_epoch == 3, "photos have a shift of -0.5: the best epoch, and two that are worse"


@pytest.mark.parametrize("monitor_first", [True, False], ids=["before", "after"])
def test_averaged_weights_are_measured(monitor_first):
    model, monitor, average = Shifted(1.0, rate=0.2), watch(6, seed=5), EMAWeightAveraging(decay=0.5)
    order = (monitor, average) if monitor_first else (average, monitor)
    _, curve = fit(model, order[0], 2, order[1])
    # 1, 0.6, 0.36: the average after the second step of (0.6, 0.36) with a decay of 0.5
    assert model.error.item() == pytest.approx(0.48)
    found, _ = direct(model)
    assert curve["val/bpd"][-1] == pytest.approx(float(found.bpd.mean()), rel=1e-6)


def test_a_resumed_fit_keeps_the_start_of_the_first(tmp_path):
    keeper = ModelCheckpoint(tmp_path, save_last=True)
    options = {"enable_checkpointing": True, "default_root_dir": tmp_path / "first"}
    _, whole = fit(Shifted(1.0, 0.2), watch(every_n_validations=3), 4)
    _, curve = fit(Shifted(1.0, 0.2), watch(every_n_validations=3), 1, keeper, **options)
    torch.load(keeper.last_model_path, weights_only=True)
    again = {"ckpt_path": keeper.last_model_path, "default_root_dir": tmp_path / "second"}
    _, resumed = fit(Shifted(1.0, 0.2), watch(every_n_validations=3), 4, **again)
    assert resumed["val/bpd"][:2] == curve["val/bpd"] * 2, "what was found last is repeated until the next one is due"
    assert resumed.rows == whole.rows[1:], "the change counts from the first fit's start, and so does the cost"
    table = pd.read_csv(tmp_path / "second" / "likelihood.csv")
    assert table["step"].tolist() == [0, 1, 4]


def test_a_fit_resumed_with_another_grid_starts_anew(tmp_path):
    keeper = ModelCheckpoint(tmp_path, save_last=True)
    fit(Shifted(1.0, 0.2), watch(), 1, keeper, enable_checkpointing=True)
    monitor = watch(solver=Multistep(8))
    with pytest.warns(UserWarning, match="are taken from here on"):
        _, curve = fit(Shifted(1.0, 0.2), monitor, 2, ckpt_path=keeper.last_model_path)
    _, fresh = fit(Shifted(0.6, 0.2), watch(solver=Multistep(8)), 1)
    assert curve["val/bpd_change"][-1] == pytest.approx(fresh["val/bpd_change"][0])


def test_a_second_fit_has_a_start_of_its_own():
    monitor = watch()
    _, first = fit(Shifted(1.0, 0.2), monitor, 1)
    _, second = fit(Shifted(1.0, 0.2), monitor, 1)
    assert first.rows == second.rows


def test_as_many_samples_are_taken_as_the_budget_allows(caplog):
    for name in ("lightning.pytorch", "lightning.fabric"):  # which other tests may have silenced
        caplog.set_level("INFO", logger=name)
    budget = 2 * 3 * (COST + 4) + 1
    _, curve = fit(Shifted(), watch(5, elbo_draws=4, max_nfe=budget), 1, data=two_domains())
    assert curve["val/drawings/bpd_samples"] == curve["val/photos/bpd_samples"] == [3]
    assert curve["val/monitor_nfe"] == [2 * (budget - 1)]
    told = [record.message for record in caplog.records if "likelihood monitor" in record.message]
    assert len(told) == 1 and "3 of 5 samples" in told[0] and f"{COST + 4} + {COST + 4} network" in told[0]


def test_a_budget_below_one_sample_is_refused():
    with pytest.raises(ValueError, match=f"max_nfe={2 * COST - 1} is less than .* raise it to {2 * COST} or more"):
        fit(Shifted(), watch(max_nfe=2 * COST - 1), 1, data=two_domains())


def test_a_solver_that_chooses_its_steps_stops_when_the_budget_is_spent(tmp_path):
    solver = TorchDiffEq("bosh3", rtol=0.1, atol=0.1)
    _, free = fit(Shifted(alternative=False), watch(3, solver=solver), 1, data=two_domains())
    one = free["val/monitor_nfe"][0] / 2 / 6
    monitor = watch(3, solver=solver, max_nfe=int(2.5 * one))
    _, curve = fit(Shifted(alternative=False), monitor, 1, data=two_domains())
    assert curve["val/drawings/bpd_samples"] == [2] and curve["val/photos/bpd_samples"] == [1]
    assert curve["val/monitor_nfe"][0] / 2 < 3.5 * one


def test_a_sample_without_a_likelihood_is_counted_and_left_out():
    with pytest.warns(UserWarning, match="1 of 5 samples have no likelihood"):
        _, curve = fit(Shifted(broken="sample-1"), watch(5), 1)
    assert curve["val/bpd_failed"] == [1] and math.isfinite(curve["val/bpd"][0])
    assert math.isfinite(curve["val/bpd_change"][0])


def test_without_an_alternative_there_is_no_gap():
    _, curve = fit(Shifted(alternative=False), watch(2), 1)
    names = ["bpd", "bpd_change"]
    names = [
        f"{name}{suffix}"
        for name in names
        for suffix in ("", *(f"_{part}_error" for part in ("standard", "probe", "sampling", "grid")))
    ]
    expected = {f"val/{name}" for name in [*names, "bpd_change_z", "bpd_failed", "bpd_samples", "monitor_nfe"]}
    assert set(curve.rows[0]) == expected


class Single(Shifted):
    """In single precision, with a layer that automatic casts would round, and dropout that must be off."""

    def __init__(self) -> None:
        super().__init__(error=0.2)
        self.float()
        self.layer = nn.Linear(DIMS, DIMS, bias=False)
        nn.init.eye_(self.layer.weight)
        self.dropout = nn.Dropout(0.5)
        self.modes: list[bool] = []

    def likelihood_problems(self, batch: Tensor, limit: int) -> list[LikelihoodProblem]:
        self.modes.append(self.dropout.training)
        (problem,) = super().likelihood_problems(batch.float(), limit)
        known = problem.flow.network

        def network(x: Tensor, time: Tensor, inputs: dict) -> Tensor:
            return known(self.dropout(self.layer(x)), time, inputs)

        return [LikelihoodProblem(replace(problem.flow, network=network), *list(vars(problem).values())[1:])]


def test_mixed_precision_does_not_touch_the_likelihood():
    (_, plain), (_, mixed) = (fit(Single(), watch(3), 1, precision=precision) for precision in ("32", "bf16-mixed"))
    assert mixed["val/bpd"] == plain["val/bpd"]
    model = Single().eval()
    (problem,) = model.likelihood_problems(next(iter(loader())), 3)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = log_likelihood(problem.flow, problem.x, problem.condition, solver=SOLVER).bpd.mean()
    assert abs(float(rounded) - plain["val/bpd"][0]) > 1e-4, "a cast would have shown"


def test_dropout_is_off_and_on_again():
    model = Single()
    fit(model, watch(2), 1)
    assert len(model.modes) > 1 and not any(model.modes)
    assert model.dropout.training


def test_training_draws_the_same_random_numbers_when_it_is_watched():
    class Drawing(Shifted):
        def __init__(self) -> None:
            super().__init__()
            self.drawn: list[float] = []

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            self.drawn.append(float(torch.rand(())))
            return super().training_step(batch, batch_idx)

    def drawn(*callbacks: Callback) -> list[float]:
        torch.manual_seed(3)
        model = Drawing()
        quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
        trainer = Trainer(max_epochs=2, accelerator="cpu", callbacks=list(callbacks), **quiet)
        trainer.fit(model, loader(4, 2, shuffle=True), loader())
        return model.drawn

    assert drawn(watch(2)) == drawn()


def test_all_measurements_are_in_the_table_the_logger_and_the_figure(tmp_path):
    logger = CSVLogger(tmp_path, name="log")
    fit(Shifted(1.0, 0.2), watch(4, elbo_draws=4), 2, data=two_domains(), logger=logger)
    table = pd.read_csv(Path(logger.log_dir) / "likelihood.csv")
    assert table["loader"].tolist() == ["drawings", "photos"] * 3
    assert table["step"].tolist() == [0, 0, 1, 1, 2, 2]
    assert table["bpd_change"].isna().tolist() == [True] * 2 + [False] * 4
    logged = pd.read_csv(Path(logger.log_dir) / "metrics.csv")
    drawings = table[table["loader"] == "drawings"]
    assert logged["val/drawings/bpd"].dropna().tolist() == pytest.approx(drawings["bpd"].tolist(), rel=1e-6)
    assert logged.loc[logged["val/drawings/bpd"].notna(), "step"].tolist() == [0, 0, 1]
    change = drawings["bpd"].iloc[2] - drawings["bpd"].iloc[0]
    assert drawings["bpd_change"].iloc[2] == pytest.approx(change, rel=1e-6)
    assert (Path(logger.log_dir) / "likelihood.png").stat().st_size > 10_000
    assert not list(tmp_path.glob("likelihood*"))


def test_the_figure_goes_to_every_logger_that_shows_pictures(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("dmlik_pl.callbacks.likelihood_curve.log_figure", lambda *given: shown.append(given))
    loggers = [DummyLogger(), CSVLogger(tmp_path)]
    fit(Shifted(), watch(2), 1, logger=loggers)
    ((logger, name, figure, step),) = shown
    assert (logger, name, step) == (loggers[0], "val/likelihood", 1)
    assert len(figure.axes[0].lines[0].get_xdata()) == 2
    assert (tmp_path / "likelihood.png").exists(), "the first logger has no folder of its own"


class Told(Callback):
    """Writes what the first process logged."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.file.write_text(json.dumps({name: float(value) for name, value in trainer.callback_metrics.items()}))


def test_two_processes_find_what_one_finds(tmp_path):
    def find(*callbacks: Callback, **options) -> Curve:
        monitor = watch(7, max_nfe=5 * (COST + 4) + 2, elbo_draws=4)
        return fit(Shifted(error=0.2), monitor, 1, *callbacks, num_sanity_val_steps=0, **options)[1]

    alone = find()
    assert alone["val/bpd_samples"] == [5]
    find(Told(tmp_path / "told.json"), devices=2, strategy="ddp_fork")
    together = json.loads((tmp_path / "told.json").read_text())
    assert together == pytest.approx(alone.rows[0], rel=1e-6)


def test_more_samples_than_two_processes_have_are_each_counted_once(tmp_path):
    told, data = Told(tmp_path / "told.json"), {"val_dataloaders": loader(5, 2)}
    fit(Shifted(error=0.2), watch(9), 1, told, num_sanity_val_steps=0, devices=2, strategy="ddp_fork", data=data)
    assert json.loads(told.file.read_text())["val/bpd_samples"] == 5


def test_a_training_without_likelihoods_is_refused():
    class Plain(Shifted):
        likelihood_problems = None

    with pytest.raises(TypeError, match="likelihood_problems"):
        fit(Plain(), watch(2), 1)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        LikelihoodMonitor(samples=0)
    with pytest.raises(ValueError, match="elbo_draws=1"):
        LikelihoodMonitor(elbo_draws=1)


class Listed(Shifted):
    """Poses no problem of a sample that cannot be measured, as a text encoder does of a text that is too long."""

    def __init__(self, *unfit: int, solver_fails: bool = False, **options) -> None:
        super().__init__(**options)
        self.unfit, self.solver_fails = set(unfit), solver_fails

    def likelihood_problems(self, batch: "Rows", limit: int) -> list[LikelihoodProblem]:
        numbers = [int(row[0]) for row in batch.rows[:limit]]
        found = self.unfit.intersection(numbers)
        if found and not self.solver_fails:
            raise RuntimeError(f"the text of sample-{min(found)} is too long")
        (problem,) = super().likelihood_problems(batch.rows, limit)
        if not found:
            return [problem]
        return [replace(problem, flow=replace(problem.flow, network=refuse))]


def refuse(x: Tensor, time: Tensor, inputs: object) -> Tensor:
    raise KeyError("no such weight")


class Rows:
    """A batch that knows its samples' names, and of which some can be taken."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.sample_id = [f"sample-{int(row[0])}" for row in rows]

    def select(self, index: list[int]) -> "Rows":
        return Rows(self.rows[list(index)])


def named(count: int, together: int) -> dict:
    collate = {"collate_fn": lambda rows: Rows(torch.stack(rows))}
    return {"val_dataloaders": DataLoader(values(count), together, **collate)}


@pytest.mark.parametrize("solver_fails", [False, True])
def test_one_sample_never_ends_a_training(solver_fails):
    with pytest.warns(UserWarning, match="1 of 5 samples have no likelihood"):
        _, curve = fit(Listed(1, solver_fails=solver_fails), watch(5), 2, data=named(8, 1))
    assert curve["val/bpd_failed"] == [1, 1] and curve["val/bpd_samples"] == [4, 4]


def test_a_sample_that_cannot_be_posed_fails_without_its_neighbours():
    with pytest.warns(UserWarning, match=r"\(sample-2: the text of sample-2 is too long\)"):
        _, curve = fit(Listed(2), watch(5), 1, data=named(8, 4))
    others = DataLoader(values(8)[[0, 1, 3, 4]], 8)
    _, alone = fit(Shifted(), watch(5), 1, data={"val_dataloaders": others})
    assert curve["val/bpd"] == pytest.approx(alone["val/bpd"], rel=1e-9)


def test_what_every_sample_meets_stops_the_training_at_its_start():
    with pytest.raises(ValueError, match="loader '' was measured: the text of sample-0 is too long"):
        fit(Listed(*range(8)), watch(3), 1, data=named(8, 4))


def test_a_later_measurement_of_nothing_ends_no_training():
    class Worse(Listed):
        def on_train_epoch_start(self) -> None:
            self.unfit = set(range(8))

    _, curve = fit(Worse(), watch(3), 2, data=named(8, 4))
    assert curve["val/bpd_failed"] == [3, 3] and curve["val/bpd_samples"] == [0, 0]
    assert all(map(math.isnan, curve["val/bpd"]))


def test_a_figure_that_cannot_be_drawn_is_a_warning(monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("Expected end of text, found '$'")

    monkeypatch.setattr("dmlik_pl.callbacks.likelihood_curve.monitor_figure", broken)
    with pytest.warns(UserWarning, match="likelihoods cannot be drawn"):
        fit(Shifted(), watch(2), 1)
    assert len(pd.read_csv("likelihood.csv")) == 2


class Positions(Single):
    """Names its samples by their places in the batch, as one is tempted to."""

    def likelihood_problems(self, batch, limit):
        (problem,) = super().likelihood_problems(batch, limit)
        return [replace(problem, sample_ids=[f"sample-{b}" for b in range(len(problem.x))])]


def test_names_that_repeat_between_batches_are_told_before_anything_is_measured():
    monitor = watch(6)
    with pytest.raises(ValueError, match=r"two samples.* are called 'sample-0': names key the probes.*position in the"):
        fit(Positions(), monitor, 1)
    assert monitor._curve.nfe == 0
