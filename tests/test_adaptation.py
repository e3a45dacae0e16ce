"""Adaptation through the flow against a model of which every likelihood and every way is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_speech import tiny_network
from torch import Tensor
from toy_speech import BANDS, DEVIATION, Loudness, ToySpeech, make_utterances

from dmlik_pl.data.speech import Failure, Utterance, UtteranceBatch
from dmlik_pl.flow import Exact, Hutchinson, Multistep, SolverError, TorchDiffEq, decode, encode, log_likelihood
from dmlik_pl.flow.mid_time import MidTimeEuler
from dmlik_pl.metrics.speaker import SpeakerEncoder
from dmlik_pl.metrics.word_error import word_errors
from dmlik_pl.models import TextToSpeech
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.speech.audio import write
from dmlik_pl.studies import Adaptation, Estimator
from dmlik_pl.studies.blur import Blur
from dmlik_pl.studies.flow_paths import Route, find_routes, follow
from dmlik_pl.studies.reference_voice import ReferenceVoice

TEXTS = ("window castle", "guitar", "window dolphin window castle")
FRAMES = (22, 15, 41)  # none a multiple of 4
TIGHT = TorchDiffEq("dopri5", rtol=1e-7, atol=1e-7)


class Colour(SpeakerEncoder):
    """The loudness of a wave, its roughness, and a constant."""

    rate = 22_050

    def embed_one(self, wave: Tensor) -> Tensor:
        return torch.stack([wave.abs().mean(), wave.diff().abs().mean(), torch.tensor(0.1)])


@dataclass
class Corpus:
    """Three recordings of a speaker; those at the broken positions cannot be read."""

    broken: tuple[int, ...] = (1,)
    sample_ids: tuple[str, ...] = ("a", "b", "c")

    def __getitem__(self, index: int) -> Utterance | Failure:
        name = self.sample_ids[index]
        if index in self.broken:
            return Failure(name, "no audio file")
        wave = 0.1 * torch.sin(torch.arange(4000) * (0.02 + 0.03 * index))
        return Utterance(name, "", torch.zeros(1), wave, torch.zeros(80, 1))


class Data:
    """Speech data around such a set."""

    def __init__(self, *broken: int) -> None:
        self.recordings = Corpus(broken)

    def sample_ids(self) -> list[str]:
        return list(self.recordings.sample_ids)

    def test_set(self) -> Corpus:
        return self.recordings


def estimator(nodes: int = 65, **options: Any) -> Estimator:
    return Estimator(solver=Multistep(nodes), divergence=Exact(), double=True, **options)


@pytest.fixture(scope="module")
def model() -> ToySpeech:
    return ToySpeech()


@pytest.fixture(scope="module")
def batch(model: ToySpeech) -> UtteranceBatch:
    return make_utterances(model, TEXTS, FRAMES)


def growth(model: ToySpeech) -> float:
    """Factor between x_0 - mu and x_T - mu: the flow of a Gaussian keeps the place within its spread."""
    low, high = (model.schedule.at(t) for t in (model.schedule.t_min, model.schedule.t_max))
    return math.hypot(float(high.alpha) * DEVIATION, float(high.sigma)) / math.hypot(DEVIATION, float(low.r))


def rows_of(outcome: Any, stage: str) -> list[dict[str, Any]]:
    return [row for row in outcome.rows if row["stage"] == stage]


class TestBlur:
    @pytest.mark.parametrize(("edges", "mode"), [("symmetric", "reflect"), ("mirrored", "mirror")])
    @pytest.mark.parametrize(("kernel", "sigma"), [(5, 1.0), (9, 2.0), (3, 0.1)])
    def test_is_a_truncated_gaussian(self, edges, mode, kernel, sigma, generator) -> None:
        mel = torch.randn(12, 17, dtype=torch.float64, generator=generator)
        places = np.arange(kernel) - kernel // 2
        weights = np.exp(-(places**2) / (2 * sigma**2))
        expected = mel.numpy()
        for axis in (0, 1):
            expected = ndimage.correlate1d(expected, weights / weights.sum(), axis, mode=mode)
        assert np.abs(Blur(kernel, sigma)(mel, edges).numpy() - expected).max() < 1e-12

    def test_loses_nothing_at_the_edges_and_takes_nothing_in(self, generator) -> None:
        mel = torch.randn(7, 9, dtype=torch.float64, generator=generator) - 8
        for blur in (Blur(), Blur(9, 3.0), Blur(21, 8.0)):  # the last is wider than the spectrogram
            constant = torch.full((7, 9), -11.5, dtype=torch.float64)
            assert (blur(constant) + 11.5).abs().max() < 1e-12
            assert float(blur(mel).sum()) == pytest.approx(float(mel.sum()), abs=1e-10)
        assert abs(float(Blur()(mel, "mirrored").sum() - mel.sum())) > 0.1  # the published edges do not keep it
        assert torch.equal(Blur(1)(mel), mel)
        spread = Blur(5, 2.0)(mel).std() / mel.std()
        assert 0.1 < spread < 0.6

    @pytest.mark.parametrize(("kernel", "sigma"), [(4, 1.0), (0, 1.0), (5, 0.0)])
    def test_refuses_what_is_no_blur(self, kernel, sigma) -> None:
        with pytest.raises(ValueError, match=r"odd kernel and a sigma above 0, got kernel="):
            Blur(kernel, sigma)


class TestMidTimeEuler:
    def test_takes_the_steps_of_the_official_sampler(self, generator) -> None:
        model = TextToSpeech.wrap(tiny_network(2), t_min=1e-7).eval()
        mu = torch.randn(80, 14, generator=generator)
        condition = model.condition([mu], [1])
        latent = condition.mean + torch.randn(condition.mean.shape, generator=generator)
        found = decode(model.flow(), latent, condition, solver=MidTimeEuler(7))
        speaker = model.grad_tts.embed_speaker(torch.tensor([1]))
        mask = condition.inputs["mask"].float()
        official = model.grad_tts.decoder.reverse_diffusion(latent, mask, condition.mean, 7, spk=speaker)
        assert found[..., :14].std() > 0.5
        assert (found - official)[..., :14].abs().max() < 1e-4

    def test_is_of_first_order_both_ways(self, model, batch) -> None:
        mel, mu = batch.mel[0].double(), Blur()(batch.mel[0].double())
        condition, x = model.condition([mu], [0]), model.pad(mel)
        exact = mu + growth(model) * (mel - mu)
        errors = {}
        for steps in (100, 200):
            there = encode(model.flow(), x, condition, solver=MidTimeEuler(steps))[0, :, :22]
            back = decode(model.flow(), model.pad(exact), condition, solver=MidTimeEuler(steps))[0, :, :22]
            errors[steps] = [float((there - exact).abs().max()), float((back - mel).abs().max())]
        for coarse, fine in zip(errors[100], errors[200], strict=True):
            assert 1e-4 < fine < 0.02 and 1.8 < coarse / fine < 2.3

    def test_likelihoods_converge_and_have_errors(self, model, batch) -> None:
        mel, mu = batch.mel[0].double(), Blur()(batch.mel[0].double())
        condition, r_min = model.condition([mu], [0]), float(model.schedule.at(model.schedule.t_min).r)
        exact = model.log_prob(mel, mu, 1.0, r_min)
        results = [
            log_likelihood(model.flow(), model.pad(mel), condition, solver=MidTimeEuler(steps), divergence=Exact())
            for steps in (100, 200)
        ]
        coarse, fine = (abs(float(result.log_p[0]) - exact) for result in results)
        assert fine < 4.0 and coarse / fine > 1.6 and results[0].nfe.forward == 100
        rough = Hutchinson(2, "gaussian")
        noisy = log_likelihood(model.flow(), model.pad(mel), condition, solver=MidTimeEuler(200), divergence=rough)
        assert 0.1 < float(noisy.standard_error[0]) < 2
        assert abs(float(noisy.log_p[0] - results[1].log_p[0])) < 5 * float(noisy.standard_error[0])

    def test_needs_a_step(self) -> None:
        with pytest.raises(ValueError, match="at least one step"):
            MidTimeEuler(0)


class TestWays:
    def test_routes_of_the_paper_and_of_the_grid(self) -> None:
        solvers = {"Euler": MidTimeEuler(), "RK45": TIGHT}
        paper = [("stochastic", 1, "Euler"), ("RK45", 1, "Euler"), ("RK45", 1, "RK45")]
        assert find_routes("paper", solvers, 1) == [Route(*route) for route in paper]
        grid = {(route.forward, route.reverse) for route in find_routes("grid", solvers, 0)}
        forwards = ("stochastic", "prior", "Euler", "RK45")
        assert grid == {(forward, reverse) for forward in forwards for reverse in solvers}
        chosen = find_routes([("none", "none"), ("RK45", "none"), ("RK45", "none")], solvers, 0)
        assert chosen == [Route("RK45", 0, "none")]
        with pytest.raises(ValueError, match=r"unknown path \[RK45, Heun\].*solvers are Euler, RK45"):
            find_routes([("RK45", "Heun")], solvers, 0)
        with pytest.raises(ValueError, match="cannot be called prior"):
            find_routes("grid", {"prior": TIGHT}, 0)

    def test_the_stochastic_draw_has_its_law_and_forgets_the_recording(self, model) -> None:
        copies, frames = 4000, 4
        mel = torch.linspace(-9, 3, BANDS * frames, dtype=torch.float64).reshape(1, BANDS, frames)
        mu = mel + 1
        conditions = {0: model.condition([mu[0]] * copies, [0] * copies)}
        names = [f"utterance {i}" for i in range(copies)]

        def draws(x: Tensor, forward: str) -> Tensor:
            routes = [Route(forward, 0, "none")]
            x = x.expand(copies, -1, -1)
            latents, arrived = follow(model, conditions, x, names, routes, 0, {}, estimator())
            assert torch.equal(latents[forward, 0], arrived[routes[0]])
            return latents[forward, 0]

        level = model.schedule.at(model.schedule.t_max)
        alpha, sigma = float(level.alpha), float(level.sigma)
        found = draws(mel, "stochastic")
        expected = alpha * mel[0] + (1 - alpha) * mu[0]
        assert (found.mean(0) - expected).abs().max() < 5 * sigma / math.sqrt(copies)
        assert (found.var(0) - sigma**2).abs().max() < 5 * math.sqrt(2 / copies)
        correlation = torch.corrcoef(found.flatten(1).T).fill_diagonal_(0)
        assert correlation.abs().max() < 5 / math.sqrt(copies)
        # Another recording with this name and mean: nearly the same latent, where the flow would keep the difference.
        other = draws(mel + 5, "stochastic")
        assert torch.allclose(other - found, torch.full_like(found, 5 * alpha)) and 5 * alpha < 0.01
        assert torch.equal(draws(mel + 5, "prior"), draws(mel, "prior"))
        assert (draws(mel, "prior") - mu).var() == pytest.approx(1, abs=0.03)
        assert torch.equal(draws(mel, "none")[0], mel[0])

    def test_the_flow_keeps_all_of_the_recording(self, model) -> None:
        mel = torch.randn(1, BANDS, 8, dtype=torch.float64)
        mu = torch.zeros_like(mel)
        conditions, routes = {0: model.condition([mu[0]], [0])}, [Route("RK45", 0, "RK45")]
        found = [follow(model, conditions, x, ["a"], routes, 0, {"RK45": TIGHT}, estimator()) for x in (mel, mel + 5)]
        difference = found[1][0]["RK45", 0] - found[0][0]["RK45", 0]
        assert torch.allclose(difference, torch.full_like(mel, 5 * growth(model)), atol=1e-4)
        assert (found[0][1][routes[0]] - mel).abs().max() < 1e-5

    def test_small_batches_give_the_same(self, model) -> None:
        mels = torch.randn(3, BANDS, 8, dtype=torch.float64)
        conditions = {0: model.condition(list(mels / 2), [0] * 3)}
        routes, solvers = [Route("M", 0, "M"), Route("stochastic", 0, "M")], {"M": Multistep(17)}
        one, all_ = (
            follow(model, conditions, mels, list("abc"), routes, 0, solvers, estimator(max_batch=size))[1]
            for size in (1, 64)
        )
        assert all(torch.allclose(one[route], all_[route], atol=1e-12) for route in routes)


def test_rows_have_their_closed_form_likelihoods(model: ToySpeech, batch: UtteranceBatch) -> None:
    study = Adaptation(solvers={"Euler": MidTimeEuler(50), "RK45": TIGHT})
    outcomes = study.measure(model, batch, estimator())
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    for b, outcome in enumerate(outcomes):
        mel = batch.mel[b].double()
        mu = Blur()(batch.mel[b]).double()
        bits = BANDS * FRAMES[b] * math.log(2)
        stages = ["data", "vocoded"] + ["adapted"] * 3 + ["round trip"] * 2
        assert [row["stage"] for row in outcome.rows] == stages
        data, vocoded, stochastic, mixed, same, *_ = outcome.rows
        ways = [(row["forward"], row["reverse"]) for row in (data, vocoded, stochastic, mixed, same)]
        assert ways == [("none", "none")] * 2 + [("stochastic", "Euler"), ("RK45", "Euler"), ("RK45", "RK45")]
        assert data["bpd"] == pytest.approx(-model.log_prob(mel, mu, 1.0, r_min) / bits, abs=1e-3)
        assert data["bpd_own_mean"] == data["bpd"] and vocoded["bpd"] is None and data["bpd_change"] is None
        # What the draw becomes is known: a place in N(mu, deviation^2), the noise being keyed by the utterance's name.
        assert {row["dims"] for row in outcome.rows} == {BANDS * FRAMES[b]}
        for row in (stochastic, mixed, same):
            assert row["bpd_change"] == pytest.approx(row["bpd"] - data["bpd"], abs=1e-9)
        entropy = (0.5 + math.log(DEVIATION * math.sqrt(2 * math.pi))) / math.log(2)
        spread = (stochastic["latent_rms"] ** 2 - 1) / (2 * math.log(2))
        assert stochastic["bpd"] == pytest.approx(entropy + spread, abs=0.03)
        assert same["bpd"] == pytest.approx(data["bpd"], abs=1e-3)
        assert same["latent_rms"] == pytest.approx(growth(model) * float((mel - mu).square().mean().sqrt()), rel=1e-4)


def test_an_adapted_mel_is_scored_under_its_own_blur_too(model: ToySpeech, batch: UtteranceBatch) -> None:
    """With the latent as it is for what comes out, everything is known."""
    study = Adaptation(solvers={"RK45": TIGHT}, paths=[("RK45", "none")])
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    (outcome,) = study.measure(model, batch.select([2]), estimator())
    (row,) = rows_of(outcome, "adapted")
    mu = Blur()(batch.mel[2]).double()
    latent = mu + growth(model) * (batch.mel[2].double() - mu)
    bits = BANDS * FRAMES[2] * math.log(2)
    assert row["bpd"] == pytest.approx(-model.log_prob(latent, mu, 1.0, r_min) / bits, abs=2e-3)
    assert row["bpd_own_mean"] == pytest.approx(-model.log_prob(latent, Blur()(latent), 1.0, r_min) / bits, abs=2e-3)
    assert abs(row["bpd_own_mean"] - row["bpd"]) > 0.05


def test_round_trips_return_the_recording_as_far_as_their_solver_can(model: ToySpeech, batch: UtteranceBatch) -> None:
    loose = TorchDiffEq("dopri5", rtol=1e-2, atol=1e-2)
    solvers = {"tight": TIGHT, "loose": loose, "Euler": MidTimeEuler(50), "multistep": Multistep(33)}
    study = Adaptation(solvers=solvers, paths=[("tight", "Euler"), ("Euler", "Euler")])
    for outcome in study.measure(model, batch, estimator(9)):
        trips = {row["forward"]: row for row in rows_of(outcome, "round trip")}
        assert set(trips) == set(solvers)
        assert all(row["forward"] == row["reverse"] and row["bpd"] is None for row in trips.values())
        assert trips["tight"]["change_rms"] < 1e-5 and trips["tight"]["change_max"] < 1e-5
        assert 1e-3 < trips["Euler"]["change_rms"] < 0.05 and trips["multistep"]["change_rms"] < 2e-3
        assert trips["tight"]["change_rms"] < trips["loose"]["change_rms"] < 0.1
        mixed, euler = rows_of(outcome, "adapted")
        assert euler["change_rms"] == trips["Euler"]["change_rms"]  # the same way
        # Forward Euler's error is not undone by its way back, so half of it is left by the exact way forward.
        assert 0.2 < mixed["change_rms"] / euler["change_rms"] < 0.8
        assert trips["Euler"]["forward_solver"] == "mid-time Euler in t (50 steps)"


def test_the_change_is_relative_to_the_spectrogram(model: ToySpeech, batch: UtteranceBatch) -> None:
    study = Adaptation(solvers={"RK45": TIGHT}, paths=[("prior", "none")])
    (outcome,) = study.measure(model, batch.select([0]), estimator(9))
    (row,) = rows_of(outcome, "adapted")
    mel, mu = batch.mel[0].double(), Blur()(batch.mel[0]).double()
    assert row["latent_rms"] == pytest.approx(1, abs=0.3)
    assert row["change_rms"] == pytest.approx(
        math.sqrt(row["latent_rms"] ** 2 + float((mu - mel).square().mean())) / float(mel.std(correction=0)), rel=0.2
    )
    assert row["change_max"] > row["change_rms"] * float(mel.std(correction=0))


def test_the_change_of_likelihood_is_paired_on_the_same_probes(model: ToySpeech, batch: UtteranceBatch) -> None:
    """The toy's Jacobian depends on no state: what probes add to both cancels, whatever they are."""
    gaussian = Estimator(solver=Multistep(17), divergence=Hutchinson(2, "gaussian"), double=True)
    (outcome,) = Adaptation(solvers={"RK45": TIGHT}, paths=[("stochastic", "RK45")]).measure(
        model, batch.select([0]), gaussian
    )
    (row,) = rows_of(outcome, "adapted")
    assert row["bpd_standard_error"] > 1e-3 and row["bpd_own_mean_standard_error"] > 1e-3
    assert row["bpd_change_standard_error"] < 1e-9 < abs(row["bpd_change"])


def test_every_blur_has_its_rows(model: ToySpeech, batch: UtteranceBatch) -> None:
    blurs = [Blur(), Blur(3, 2.0)]
    study = Adaptation(blurs=blurs, solvers={"RK45": TIGHT, "Euler": MidTimeEuler(9)}, paths="grid")
    (outcome,) = study.measure(model, batch.select([1]), estimator(9))
    assert [row["mean"] for row in outcome.rows] == ["blur 5×5, σ 1"] * 12 + ["blur 3×3, σ 2"] * 12
    alone = [
        Adaptation(blurs=[blur], solvers=dict(study.solvers), paths="grid").measure(
            model, batch.select([1]), estimator(9)
        )[0]
        for blur in blurs
    ]
    for row, other in zip(outcome.rows, alone[0].rows + alone[1].rows, strict=True):
        for name, value in row.items():
            expected = other[name]
            assert value == (pytest.approx(expected, rel=1e-6) if isinstance(value, float) else expected), name
    assert outcome.picture is not None and outcome.picture.shape == (3, BANDS, (1 + 4 + 8 + 1) * 15)
    assert len(outcome.sound) == 2 + 8  # of the first blur
    with pytest.raises(ValueError, match="one or more different"):
        Adaptation(blurs=[Blur(), Blur()])


def test_neighbours_in_a_batch_change_nothing(model: ToySpeech, batch: UtteranceBatch) -> None:
    study = Adaptation(
        solvers={"Euler": MidTimeEuler(9), "RK45": TIGHT}, recogniser=Loudness(), speaker_encoder=Colour()
    )
    few = Estimator(solver=Multistep(9), double=True)
    for b, outcome in enumerate(study.measure(model, batch, few)):
        (alone,) = study.measure(model, batch.select([b]), few)
        assert alone.rows == outcome.rows


def write_voice(folder: Path, tones: Sequence[float], rate: int = 22_050) -> list[Tensor]:
    waves = [0.2 * torch.sin(torch.arange(5000) * tone) for tone in tones]
    for i, wave in enumerate(waves):
        (folder / "more").mkdir(parents=True, exist_ok=True)
        write(folder / "more" / f"recording-{i}.wav", wave, rate)
    return waves


def test_voices_are_compared_with_the_mean_of_the_reference(
    model: ToySpeech, batch: UtteranceBatch, tmp_path: Path
) -> None:
    waves = write_voice(tmp_path / "speaker", (0.02, 0.05, 0.3))
    study = Adaptation(
        solvers={"Euler": MidTimeEuler(9), "RK45": TIGHT},
        recogniser=Loudness(),
        speaker_encoder=Colour(),
        reference=str(tmp_path / "speaker"),
    )
    (outcome,) = study.measure(model, batch.select([2]), estimator(9))
    vectors = Colour().embed(waves, 22_050).double()
    direction = vectors.mean(0) / vectors.mean(0).norm()
    names = ["source", "vocoded", "stochastic-Euler", "RK45-Euler", "RK45-RK45"]
    assert list(outcome.sound) == names and outcome.rate == 22_050
    source = Colour().embed([outcome.sound["source"]], 22_050)[0].double()
    for row, name in zip(outcome.rows, names, strict=False):
        vector = Colour().embed([outcome.sound[name]], 22_050)[0].double()
        assert row["speaker_similarity"] == pytest.approx(float(vector @ direction), abs=1e-4)
        assert row["source_similarity"] == pytest.approx(float(vector @ source), abs=1e-4)
        assert row["transcript"] == Loudness().transcribe_one(outcome.sound[name])
        assert (row["word_errors"], row["words"]) == word_errors(batch.text[2], row["transcript"])
    others = [vectors[[j for j in range(3) if j != i]].sum(0) for i in range(3)]
    own = np.mean([float(vectors[i] @ others[i] / others[i].norm()) for i in range(3)])
    assert {row["reference_size"] for row in outcome.rows} == {3}
    assert outcome.rows[0]["reference_similarity"] == pytest.approx(own, abs=1e-4)
    assert {(row["reference"], row["speaker_encoder"], row["vocoder"]) for row in outcome.rows} == {
        ("speaker", "Colour", "Hum")
    }
    assert {row["transcript"] for row in rows_of(outcome, "round trip")} == {None}


def test_reference_recordings_are_found_limited_and_counted(tmp_path: Path) -> None:
    write_voice(tmp_path / "voice", [0.02 * (i + 1) for i in range(7)], rate=16_000)
    assert len(ReferenceVoice(str(tmp_path / "voice")).waves()) == 7
    some = ReferenceVoice(str(tmp_path / "voice"), 3)
    assert [wave.shape[0] for wave in some.waves()] == [round(5000 * 22_050 / 16_000)] * 3
    assert some._names == ["more/recording-0.wav", "more/recording-2.wav", "more/recording-4.wav"]
    voice = ReferenceVoice(str(tmp_path / "voice"), 1).heard_by(Colour())
    assert voice.size == 1 and math.isnan(voice.own_similarity)
    with pytest.raises(FileNotFoundError, match=r"no reference voice in .*absent.*wav or flac"):
        Adaptation(reference=str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="at least 1"):
        Adaptation(reference=str(tmp_path / "voice"), reference_limit=0)


def test_speech_data_can_be_the_reference() -> None:
    reference = ReferenceVoice(Data(1))
    assert reference.name == "Data" and len(reference.waves()) == 2
    assert reference.heard_by(Colour()).size == 2
    assert len(ReferenceVoice(Data(1), 1).waves()) == 1
    with pytest.raises(ValueError, match="no recording of the reference voice, Data, can be used"):
        ReferenceVoice(Data(0, 1, 2)).heard_by(Colour())


def test_the_published_protocol_counts_padding_as_data(model: ToySpeech, batch: UtteranceBatch, tmp_path: Path) -> None:
    write_voice(tmp_path / "voice", (0.02, 0.05, 0.3))
    study = Adaptation(
        solvers={"RK45": TIGHT},
        paths=[("RK45", "RK45")],
        speaker_encoder=Colour(),
        reference=str(tmp_path / "voice"),
        protocol="published",
    )
    (outcome,) = study.measure(model, batch.select([0]), estimator())
    data, _, same, _ = outcome.rows
    padded = torch.nn.functional.pad(batch.mel[0], (0, 2))  # 22 frames to 24
    mu = Blur()(padded, "mirrored").double()
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    log_p = model.log_prob(padded, mu, 1.0, r_min)
    assert data["dims"] == BANDS * 24 and data["log_p"] == pytest.approx(log_p, abs=0.02)
    assert data["bpd"] == pytest.approx(-log_p / (BANDS * 22 * math.log(2)), abs=1e-3)
    assert same["bpd"] == pytest.approx(data["bpd"], abs=1e-3) and same["change_rms"] < 1e-5
    assert outcome.sound["RK45-RK45"].shape == (22 * 256,)
    assert {(row["reference_size"], row["protocol"]) for row in outcome.rows} == {(1, "published")}
    # The repaired blur knows nothing of the padding.
    (repaired,) = Adaptation(solvers={"RK45": TIGHT}, paths=[]).measure(model, batch.select([0]), estimator())
    assert abs(repaired.rows[0]["bpd"] - data["bpd"]) > 0.1 and repaired.rows[0]["dims"] == BANDS * 22


def test_another_speaker_may_lead_forward(batch: UtteranceBatch) -> None:
    class TwoSpeakers(ToySpeech):
        """The second speaker's spread is twice the first one's."""

        def network(self, x: Tensor, time: Tensor, inputs: dict[str, Tensor]) -> Tensor:
            spread = DEVIATION * inputs["speaker"].double()[:, None, None]
            level = self.schedule.at(time.double())
            variance = (level.alpha[:, None, None] * spread) ** 2 + level.sigma[:, None, None] ** 2
            return (-(x.double() - inputs["mu"]) / variance * inputs["mask"]).to(x)

        def condition(self, mu: Sequence[Tensor], speaker: Sequence[int]) -> Any:
            condition = super().condition(mu, speaker)
            return replace(condition, inputs=condition.inputs | {"speaker": torch.tensor(speaker)})

    study = Adaptation(solvers={"RK45": TIGHT}, paths=[("RK45", "RK45")], speaker=1, source_speaker=2)
    (outcome,) = study.measure(TwoSpeakers(), batch.select([0]), estimator())
    (row,), (trip,) = rows_of(outcome, "adapted"), rows_of(outcome, "round trip")
    assert (row["forward_speaker"], row["reverse_speaker"]) == (2, 1)
    assert (trip["forward_speaker"], trip["reverse_speaker"]) == (1, 1) and trip["change_rms"] < 1e-5
    mel, mu = batch.mel[0].double(), Blur()(batch.mel[0]).double()
    # The deviation from mu is that of the second speaker, and becomes that of the first: it is halved.
    expected = float((mel - mu).square().mean().sqrt()) / 2 / float(mel.std(correction=0))
    assert row["change_rms"] == pytest.approx(expected, rel=1e-3)


def test_what_cannot_be_measured_fails_alone(model: ToySpeech) -> None:
    batch = make_utterances(model, ("window castle", "guitar", "castle"), (22, 15, 18))
    batch.mel[1][:, 4] = torch.nan
    solvers = {"Euler": MidTimeEuler(9), "RK45": TIGHT}
    evaluation = Evaluation(model, {"adaptation": Adaptation(solvers=solvers)}, solver=Multistep(9), double=True)
    outcomes = [outcome for _, outcome in evaluation.test_step(batch, 0)]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert "NaN" in str(outcomes[1].error) and outcomes[1].rows == []
    assert {row["kind"] for row in outcomes[0].rows} == {"adaptation"}
    hurried = {"RK45": TorchDiffEq("dopri5", rtol=1e-9, atol=1e-9, max_nfe=20)}
    (outcome,) = Adaptation(solvers=hurried, paths=[]).measure(model, batch.select([0]), estimator(9))
    assert "had not converged after max_nfe=20" in str(outcome.error)
    with pytest.raises(SolverError):
        encode(model.flow(), model.pad(batch.mel[1]), model.condition([batch.mel[1]], [0]))
