"""The sweep over time, guidance, size and reconstruction, against models of which every likelihood is known."""

import math
import re
from collections.abc import Sequence

import pytest
import torch
from test_studies import exact_estimator, make_batch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from toy import ToyModel

from dmlik_pl.data.base import Batch
from dmlik_pl.flow import Exact, Multistep, Purpose, log_likelihood, noise, reconstruct, trajectory
from dmlik_pl.models.closed_form import GaussianMixture
from dmlik_pl.studies import Estimator, Outcome, TimeSweep
from dmlik_pl.studies.stages import resample

TIMES = [1.0, 0.5, 0.1, 0.0]
BITS = 4 * math.log(2)  # nats of one bit per dimension


class GaussianToyModel(ToyModel):
    """A single Gaussian N(c, 0.16). Its guided flow is that of N(w c, 0.16), so that guidance is closed form too."""

    def __init__(self) -> None:
        super().__init__()
        eye = torch.eye(4, dtype=torch.float64)
        self.mixture = GaussianMixture(torch.zeros(1, 4, dtype=torch.float64), 0.16 * eye[None])
        self.largest = 0

    def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        self.largest = max(self.largest, len(x))
        return super().network(x, time, inputs)


class PoolingToyModel(ToyModel):
    """Images of any size, whose latents are their means over quarters."""

    def to_latent(self, images: Tensor, sample_ids: Sequence[str]) -> Tensor:
        return super().to_latent(adaptive_avg_pool2d(images, 2), sample_ids)


def cell(study: TimeSweep, label: str, model: ToyModel, batch: Batch, estimator: Estimator) -> list[Outcome]:
    return study.parts()[label](model, batch, estimator)


def column(outcomes: list[Outcome], name: str) -> Tensor:
    """One value per sample and stage, [B, 1 + T]."""
    return torch.tensor([[row[name] for row in outcome.rows] for outcome in outcomes], dtype=torch.float64)


def states(model: ToyModel, batch: Batch, guidance: float, nodes: int, times: Sequence[float] = TIMES) -> list[Tensor]:
    """x_t by hand, from the noise that the names key."""
    latent = noise(batch.image.double(), batch.sample_id, seed=0, purpose=Purpose.LATENT)
    flow = model.flow(guidance)
    start = flow.state(latent, flow.schedule.at(flow.schedule.t_max), model.condition(batch.prompt))
    return trajectory(flow, start, model.condition(batch.prompt), times=times, solver=Multistep(nodes)).states


class TestDensities:
    @pytest.mark.parametrize("guidance", [1.0, 3.0])
    def test_both_are_those_of_a_gaussian(self, guidance: float) -> None:
        model = GaussianToyModel()
        batch = make_batch(model)
        outcomes = TimeSweep(TIMES, guidance=guidance).measure(model, batch, exact_estimator(65))
        centre = guidance * model.shift(batch.prompt)
        r_min = float(model.schedule.at(model.schedule.t_min).r)
        path = [batch.image.double(), *states(model, batch, guidance, 65)]
        as_data = [model.mixture.log_prob(x.flatten(1), centre, r_min) for x in path]
        assert torch.allclose(column(outcomes, "log_p"), torch.stack(as_data, 1), rtol=5e-4, atol=5e-3)
        marginals = [as_data[0]]
        for time, x in zip(TIMES, path[1:], strict=True):
            level = model.schedule.at(max(time, model.schedule.t_min))
            alpha, sigma = float(level.alpha), float(level.sigma)
            marginals.append(model.mixture.log_prob(x.flatten(1), centre, sigma, scale=alpha))
        assert torch.allclose(column(outcomes, "bpd_marginal"), -torch.stack(marginals, 1) / BITS, rtol=5e-4, atol=2e-3)
        assert column(outcomes, "sigma")[0].tolist() == pytest.approx(
            [r_min, *(float(model.schedule.at(max(time, model.schedule.t_min)).r) for time in TIMES)]
        )

    def test_of_one_trajectory_through_a_mixture(self) -> None:
        model = ToyModel()
        batch = make_batch(model)
        outcomes = TimeSweep(TIMES).measure(model, batch, exact_estimator(65))
        r_min = float(model.schedule.at(model.schedule.t_min).r)
        for b, outcome in enumerate(outcomes):
            data, *samples = outcome.rows
            assert data["stage"] == "data" and data["time"] is None
            exact = float(model.mixture.log_prob(batch.image[b].reshape(1, 4), model.shift([batch.prompt[b]]), r_min))
            assert data["log_p"] == pytest.approx(exact, abs=2e-2)
            assert [row["time"] for row in samples] == TIMES
            assert data["tone"] == batch.attributes["tone"][b] and data["density"] == "p(x|y)"
            # At the end of the trajectory both densities are that of a sample of the model.
            assert samples[-1]["bpd_marginal"] == pytest.approx(samples[-1]["bpd"], abs=0.02)
            assert samples[0]["bpd"] > data["bpd"]

    def test_marginal_is_the_density_at_that_time(self) -> None:
        model = ToyModel()
        batch = make_batch(model)
        outcomes = TimeSweep(times=[1.0, 0.4]).measure(model, batch, exact_estimator(65))
        state = states(model, batch, 1.0, 65, [1.0, 0.4])[1]
        again = log_likelihood(
            model.flow(), state, model.condition(batch.prompt), t=0.4, solver=Multistep(65), divergence=Exact()
        )
        assert torch.allclose(column(outcomes, "bpd_marginal")[:, 2], again.bpd, atol=2e-3)


class TestCells:
    def test_labels_hold_every_value_of_every_axis(self) -> None:
        assert list(TimeSweep().parts()) == ["guidance=1,size=data"]
        study = TimeSweep(guidance=[1, 7.5], sizes=[512, 1024], reconstruct=[False, True])
        assert list(study.parts()) == [
            *("guidance=1,size=512", "guidance=1,size=512,reconstructed"),
            *("guidance=1,size=1024", "guidance=1,size=1024,reconstructed"),
            *("guidance=7.5,size=512", "guidance=7.5,size=512,reconstructed"),
            *("guidance=7.5,size=1024", "guidance=7.5,size=1024,reconstructed"),
        ]
        assert list(TimeSweep(guidance=7.0, sizes=[1024], reconstruct=True).parts()) == [
            "guidance=7,size=1024,reconstructed"
        ]
        assert all(re.fullmatch(r"[A-Za-z0-9_.=,-]+", label) for label in study.parts())
        assert set(study.axes) == {"guidance", "sizes", "reconstruct"}

    def test_start_from_the_same_noise_and_are_measured_apart(self) -> None:
        model = ToyModel()
        batch, estimator = make_batch(model), Estimator(solver=Multistep(17), double=True)
        study = TimeSweep(TIMES, guidance=[1.0, 3.0], reconstruct=[False, True])
        plain, plain_again, guided, _ = study.parts()
        found = {label: cell(study, label, model, batch, estimator) for label in study.parts()}
        prior = {label: column(found[label], "bpd_marginal")[:, 1] for label in (plain, guided)}
        assert torch.equal(prior[plain], prior[guided])
        for a, b in zip(found[plain], found[guided], strict=True):
            assert a.picture is not None and b.picture is not None and a.picture.shape == (1, 2, 2 * 5)
            assert torch.equal(a.picture[..., :4], b.picture[..., :4])  # data and noise
            assert not torch.equal(a.picture[..., 4:], b.picture[..., 4:])
        assert column(found[guided], "guidance").unique().item() == 3
        assert found[guided][0].rows[0]["density"] == "guided flow at w=3"
        assert [row["reconstructed"] for row in found[plain_again][0].rows] == [True] * 5
        together = study.measure(model, batch, estimator)
        for b, outcome in enumerate(together):
            assert outcome.rows == [row for outcomes in found.values() for row in outcomes[b].rows]
            assert outcome.sample_id == batch.sample_id[b] and outcome.error is None
        # One value of a list is the same part as that value alone.
        alone = TimeSweep(TIMES, guidance=3.0).measure(model, batch, estimator)
        assert [outcome.rows for outcome in alone] == [outcome.rows for outcome in found[guided]]

    def test_a_sample_without_result_fails_alone(self) -> None:
        model = ToyModel(broken=["toy-2"])
        study = TimeSweep([1.0, 0.0], reconstruct=[False, True])
        for label in study.parts():
            outcomes = cell(study, label, model, make_batch(model), exact_estimator(17))
            assert [outcome.error is None for outcome in outcomes] == [True, True, False, True, True, True]
            assert "NaN" in str(outcomes[2].error) and outcomes[2].rows == []
            assert column(outcomes[:2] + outcomes[3:], "bpd").isfinite().all()

    def test_no_more_than_asked_for_go_through_the_network_at_once(self) -> None:
        model = GaussianToyModel()
        batch = make_batch(model).select([0, 1])
        study = TimeSweep([0.5], guidance=3.0, reconstruct=[False, True], pixels=True)
        few, many = (Estimator(solver=Multistep(9), double=True, max_batch=size) for size in (2, 64))
        for label in study.parts():
            model.largest = 0
            pieces = cell(study, label, model, batch, few)
            assert model.largest == 2 * 2  # both branches of guidance
            whole = cell(study, label, model, batch, many)
            assert model.largest == 2 * len(pieces[0].rows) * 2
            for name in ("bpd", "bpd_pixels"):
                assert torch.allclose(column(pieces, name), column(whole, name), atol=1e-9)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            *(({"times": times}, "fall strictly") for times in ([0.0, 1.0], [1.0, 1.0], [], [1.5, 0.0])),
            ({"guidance": [3.0, 3.0]}, "guidance must be one value or several different ones"),
            ({"sizes": []}, "sizes must be"),
            ({"protocol": "published", "pixels": True}, "leave `pixels` out"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, arguments: dict[str, object], told: str) -> None:
        with pytest.raises(ValueError, match=told):
            TimeSweep(**arguments)  # type: ignore[arg-type]


class TestReconstruction:
    def test_is_the_same_up_to_the_error_of_the_solver(self) -> None:
        model = ToyModel()
        batch = make_batch(model)
        study = TimeSweep([0.1, 0.0], reconstruct=[False, True])
        plain, again = (cell(study, label, model, batch, exact_estimator(65)) for label in study.parts())
        assert column(again, "round_trip").max() < 1e-3
        assert column(again, "round_trip_pixels").max() < 0.05
        assert torch.allclose(column(plain, "bpd"), column(again, "bpd"), atol=1e-3)
        for a, b in zip(plain, again, strict=True):
            assert all(row["round_trip"] is None and row["round_trip_pixels"] is None for row in a.rows)
            assert all(row["bpd_marginal"] is None for row in b.rows)

    def test_replaces_everything_that_is_measured(self) -> None:
        model = ToyModel()
        batch, estimator = make_batch(model), exact_estimator(9)  # coarse on purpose
        features = torch.nn.Flatten()
        study = TimeSweep([0.5, 0.0], guidance=3.0, reconstruct=True, pixels=True, features=features)
        outcomes = study.measure(model, batch, estimator)
        flow, condition = model.flow(3.0), model.condition(batch.prompt)
        stages = [batch.image.double(), *states(model, batch, 3.0, 9, [0.5, 0.0])]
        for stage, x in enumerate(stages):
            own = reconstruct(flow, x, condition, solver=estimator.solver)
            exact = log_likelihood(flow, own, condition, solver=estimator.solver, divergence=Exact())
            assert torch.allclose(column(outcomes, "log_p")[:, stage], exact.log_p, atol=1e-9)
            distance = (own - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)
            assert distance.max() > 1e-3
            assert torch.allclose(column(outcomes, "round_trip")[:, stage], distance, atol=1e-12)
            before, after = model.to_image(x), model.to_image(own)
            levels = 255 * (after - before).flatten(1).norm(dim=1) / 2
            assert torch.allclose(column(outcomes, "round_trip_pixels")[:, stage], levels, atol=1e-9)
            again = model.to_latent(2 * (255 * after).round() / 255 - 1, batch.sample_id)
            exact = log_likelihood(flow, again, condition, solver=estimator.solver, divergence=Exact())
            assert torch.allclose(column(outcomes, "bpd_pixels")[:, stage], exact.bpd, atol=1e-9)
            for b, outcome in enumerate(outcomes):
                grey = outcome.rows[stage]["feature"]
                assert grey == pytest.approx(after[b].expand(3, -1, -1).flatten().tolist(), abs=1e-6)
                assert outcome.picture is not None and outcome.picture.shape == (1, 4, 6)
                shown = outcome.picture[..., 2 * stage : 2 * stage + 2]
                assert torch.allclose(shown, torch.cat([before[b], after[b]], -2))


class TestPixels:
    def test_score_the_8_bit_image_encoded_again(self) -> None:
        model = ToyModel()
        batch, estimator = make_batch(model), Estimator(solver=Multistep(17), double=True)
        outcomes = TimeSweep([0.1, 0.0], pixels=True).measure(model, batch, estimator)
        flow, condition = model.flow(), model.condition(batch.prompt)
        for stage, x in enumerate([batch.image.double(), *states(model, batch, 1.0, 17, [0.1, 0.0])]):
            levels = (255 * model.to_image(x)).round()
            again = model.to_latent(2 * levels / 255 - 1, batch.sample_id)
            exact = log_likelihood(
                flow, again, condition, solver=estimator.solver, divergence=estimator.divergence,
                sample_ids=batch.sample_id,
            )  # fmt: skip
            assert torch.allclose(column(outcomes, "bpd_pixels")[:, stage], exact.bpd, atol=1e-9)
            error = column(outcomes, "bpd_pixels_standard_error")[:, stage]
            assert torch.allclose(error, exact.bpd_standard_error, atol=1e-12)
        assert not torch.allclose(column(outcomes, "bpd_pixels"), column(outcomes, "bpd"), atol=1e-4)

    def test_are_left_out_unless_asked_for(self) -> None:
        model = ToyModel()
        for outcome in TimeSweep([0.5]).measure(model, make_batch(model), exact_estimator(9)):
            assert all(row["bpd_pixels"] is None and row["bpd_pixels_standard_error"] is None for row in outcome.rows)


class TestSize:
    def test_data_are_made_smaller(self) -> None:
        model = PoolingToyModel()
        small = make_batch(model)
        fine = interpolate(small.image, scale_factor=4, mode="bicubic").float()
        batch = Batch(small.sample_id, fine, small.prompt, small.attributes)
        study = TimeSweep([0.5], sizes=[4, 8])
        found = [cell(study, label, model, batch, exact_estimator(33)) for label in study.parts()]
        assert [column(outcomes, "size").unique().item() for outcomes in found] == [4, 8]
        r_min = float(model.schedule.at(model.schedule.t_min).r)
        shift = model.shift(batch.prompt)
        for size, outcomes in zip((4, 8), found, strict=True):
            seen = adaptive_avg_pool2d(resample(fine, size), 2).flatten(1).double()
            exact = model.mixture.log_prob(seen, shift, r_min)
            assert torch.allclose(column(outcomes, "log_p")[:, 0], exact, atol=2e-2)
        native = TimeSweep([0.5]).measure(model, batch, exact_estimator(33))
        assert [outcome.rows for outcome in native] == [outcome.rows for outcome in found[1]]
        # What is sampled is another thing than what the data look like: the same noise at the same latent size.
        assert torch.equal(column(found[0], "log_p")[:, 1], column(found[1], "log_p")[:, 1])

    def test_resampling_averages_what_a_smaller_image_cannot_show(self) -> None:
        board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
        grey = resample(board.expand(2, 3, 32, 32), 16)
        assert grey.shape == (2, 3, 16, 16) and grey.abs().max() < 0.02
        ramp = torch.linspace(-1, 1, 64).expand(1, 1, 64, 64)
        half = resample(ramp, 32)
        assert torch.allclose(half[..., 2:-2], ramp.unfold(-1, 2, 2).mean(-1)[:, :, ::2, 2:-2], atol=1.01 / 255)
        assert half.max() <= 1 and half.min() >= -1
        levels = 127.5 * (half + 1)
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        assert resample(ramp, 64) is ramp

    @pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 3, 64, 48)])
    def test_data_are_never_made_larger(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="largest of `sizes`"):
            resample(torch.zeros(shape), 32)


class TestPublished:
    def test_cells_are_those_of_a_study_each(self) -> None:
        model = PoolingToyModel()
        small = make_batch(model)
        fine = interpolate(small.image, scale_factor=2).float()
        batch = Batch(small.sample_id, fine, small.prompt, small.attributes)
        study = TimeSweep([0.5], guidance=[1.0, 3.0], sizes=[2], reconstruct=[False, True], protocol="published")
        found = {label: cell(study, label, model, batch, exact_estimator(9)) for label in study.parts()}
        alone = TimeSweep([0.5], guidance=3.0, reconstruct=True, protocol="published")
        coarse = Batch(batch.sample_id, resample(fine, 2), batch.prompt, batch.attributes)
        rows = [outcome.rows for outcome in alone.measure(model, coarse, exact_estimator(9))]
        assert rows == [outcome.rows for outcome in found["guidance=3,size=2,reconstructed"]]
        for label, outcomes in found.items():
            assert torch.allclose(column(outcomes, "bpd"), -column(outcomes, "log_p") / (4 * math.log(2)))
            said = outcomes[0].rows[0]["deviations"]
            assert ("by likelihood only" in said) == label.endswith(",reconstructed")
            assert all(row["bpd_marginal"] is None and row["round_trip_pixels"] is None for row in outcomes[0].rows)
            assert all((row["round_trip"] is None) != row["reconstructed"] for row in outcomes[0].rows)
