"""Likelihoods of hypotheses against a model of which every likelihood is known; lists with and without audio."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from served import batches
from torch import Tensor
from toy_speech import BANDS, ToySpeech, make_utterances

from dmlik_pl.data.nbest import ListBatch, StoredLists
from dmlik_pl.data.speech import UtteranceBatch
from dmlik_pl.flow import Exact, Hutchinson, LogLikelihood, Multistep
from dmlik_pl.flow.integral import TraceIntegral
from dmlik_pl.metrics.recogniser import Hypothesis, Recogniser
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.results.rescoring.summaries import strategies
from dmlik_pl.results.tables import make_tables
from dmlik_pl.speech.audio import write
from dmlik_pl.speech.mel import LogMel
from dmlik_pl.speech.nbest import NBestColumns, NBestLists, check
from dmlik_pl.speech.text import EnglishFrontEnd
from dmlik_pl.stats.reliability import reliability_summary
from dmlik_pl.studies import Estimator, Rescoring, SpeechModel, StoredRescoring

TEXTS = ("window castle", "guitar", "window dolphin window castle")
FRAMES = (34, 35, 82)  # blanks between symbols: 2 n + 1 tokens
EXACT = Estimator(solver=Multistep(65), divergence=Exact(), double=True)
GAUSSIAN = Estimator(solver=Multistep(9), divergence=Hutchinson(2, "gaussian"), double=True)
NATS = 0.05


class Parrot(Recogniser):
    """Says the same for every wave."""

    rate = 22_050

    def __init__(self, *said: tuple[str, float], parts: bool = False) -> None:
        super().__init__()
        self.said = [Hypothesis(text, score, {"ctc": score - 1} if parts else {}) for text, score in said]

    def transcribe_one(self, wave: Tensor) -> str:
        return self.said[0].text

    def hypotheses_of_one(self, wave: Tensor, n: int) -> list[Hypothesis]:
        return self.said[:n]


@pytest.fixture(scope="module")
def model() -> ToySpeech:
    return ToySpeech()


def utterances(model: ToySpeech, *index: int) -> UtteranceBatch:
    return make_utterances(model, [TEXTS[i] for i in index], [FRAMES[i] for i in index])


def rows_of(
    study: Rescoring, model: ToySpeech, batch: UtteranceBatch | ListBatch, estimator: Estimator
) -> pd.DataFrame:
    outcomes = study.measure(model, batch, estimator)
    return pd.DataFrame([row for outcome in outcomes for row in outcome.rows])


@pytest.mark.parametrize("policy", ["search", "durations"])
def test_scores_are_the_closed_form_likelihoods(model: ToySpeech, policy: str) -> None:
    batch, front_end = utterances(model, 0, 2), EnglishFrontEnd()
    parrot = Parrot(("window castle", 3.0), ("windows castle", 2.5), ("castle", 2.0))
    frame = rows_of(Rescoring(policy, parrot), model, batch, EXACT)
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    assert frame["sample_id"].tolist() == ["toy-0"] * 3 + ["toy-1"] * 3
    assert frame["row"].tolist() == [1, 2, 3] * 2
    assert (frame["excluded"] == "").all()
    assert frame["score_acoustic"].tolist() == [3.0, 2.5, 2.0] * 2
    assert frame["errors"].tolist() == [0, 1, 1, 2, 3, 3] and frame["words"].tolist() == [2, 2, 2, 4, 4, 4]
    for row in frame.itertuples():
        mel = batch.mel[batch.sample_id.index(row.sample_id)]
        own = model.align(front_end(row.hypothesis), mel, policy)
        assert row.score_likelihood == pytest.approx(model.log_prob(mel, own.mu, 1.0, r_min), abs=NATS)
        average = own.mu.mean(1, keepdim=True).expand_as(own.mu)
        assert row.score_unconditional == pytest.approx(model.log_prob(mel, average, 1.0, r_min), abs=NATS)
        assert row.score_duration == own.duration_log_p
        assert row.repeat_likelihood == row.score_likelihood and row.standard_error_likelihood == 0
        assert row.dims == BANDS * mel.shape[1] and row.frames == mel.shape[1]
        assert (row.alignment, row.protocol, row.recogniser, row.density) == (policy, "repaired", "Parrot", "p(x|y)")
    for _, part in frame.groupby("sample_id"):
        assert part["behind"].tolist() == pytest.approx(
            (part["score_likelihood"].max() - part["score_likelihood"]).tolist()
        )
    assert frame.loc[0, "score_likelihood"] == frame[frame["sample_id"] == "toy-0"]["score_likelihood"].max()


def test_probes_are_shared_within_a_list_and_new_in_the_repetition(model: ToySpeech) -> None:
    """The toy's Jacobian does not depend on the text: shared probes leave no noise in any difference."""
    batch = utterances(model, 0)
    parrot = Parrot(("window castle", 3.0), ("windows castle", 2.5), ("castle", 2.0))
    same_grid = Estimator(solver=GAUSSIAN.solver, divergence=Exact(), double=True)
    noisy, exact = (rows_of(Rescoring(recogniser=parrot), model, batch, e) for e in (GAUSSIAN, same_grid))
    for name in ("score_likelihood", "repeat_likelihood", "score_unconditional"):
        centred = noisy[name] - noisy[name].mean()
        np.testing.assert_allclose(centred, exact[name] - exact[name].mean(), atol=1e-6)
        assert (noisy[name] - exact[name]).abs().min() > 0.5  # the noise itself is there
    shift = noisy["repeat_likelihood"] - noisy["score_likelihood"]
    assert shift.abs().min() > 0.1 and np.ptp(shift) < 1e-6
    assert noisy["standard_error_likelihood"].max() < 1e-6 and noisy["behind_standard_error"].max() < 1e-6
    assert set(noisy["probe_count"]) == {2}


def test_published_probes_are_not_shared(model: ToySpeech) -> None:
    batch = utterances(model, 1)
    stored = pd.DataFrame(
        {
            "row": [1, 2, 3],
            "sample_id": "toy-0",
            "reference": "guitar",
            "hypothesis": ["guitar", "guitar", "castle"],
            "score_acoustic": [3.0, 2.0, 1.0],
        }
    )
    lists = ListBatch(["toy-0"], [check(stored)], batch.mel, [0])
    repaired = rows_of(Rescoring(), model, lists, GAUSSIAN)
    assert repaired["score_likelihood"][0] == repaired["score_likelihood"][1]  # one text, one likelihood
    published = rows_of(Rescoring(protocol="published"), model, lists, GAUSSIAN)
    assert not {"score_unconditional", "score_duration", "repeat_likelihood"} & set(published.columns)
    assert published["standard_error_likelihood"].isna().all()  # of one probe for the whole path
    assert published["solver"].str.contains("dopri5").all() and published["solver"].str.contains("1e-05").all()
    assert published["r_min"].iloc[0] == pytest.approx(float(model.schedule.at(1e-8).r), rel=1e-6)
    assert set(published["protocol"]) == {"published"} and set(published["probe_count"]) == {1}
    # Rademacher probes are exact for the toy's Jacobian, which is a multiple of the identity.
    truth = model.log_prob(batch.mel[0], model.align(EnglishFrontEnd()("guitar"), batch.mel[0], "search").mu, 1.0, 0.0)
    assert published["score_likelihood"].tolist()[:2] == pytest.approx([truth, truth], abs=NATS)
    assert [way.name for way in strategies(NBestLists.from_records(published))][:3] == [
        "acoustic",
        "likelihood",
        "random (one draw)",
    ]


def test_probes_of_published_rows_are_keyed_by_the_row(model: ToySpeech, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, asked = utterances(model, 1), []
    parrot = Parrot(("guitar", 3.0), ("castle", 2.0))
    original = Estimator.log_likelihood

    def listen(self, flow, x, condition, sample_ids, rivals=None):
        asked.append(list(sample_ids))
        return original(self, flow, x, condition, sample_ids, rivals)

    monkeypatch.setattr(Estimator, "log_likelihood", listen)
    rows_of(Rescoring(recogniser=parrot, protocol="published"), model, batch, GAUSSIAN)
    rows_of(Rescoring(recogniser=parrot), model, batch, GAUSSIAN)
    assert asked == [["0/toy-0", "1/toy-0"], ["toy-0"] * 4, ["again/toy-0"] * 2]


def test_what_cannot_be_scored_is_named(model: ToySpeech) -> None:
    batch = utterances(model, 1)
    parrot = Parrot(
        ("guitar", 5.0),
        ("window dolphin window castle", 4.0),
        ("guitar ☃☂", 3.0),
        ("", 2.0),
        ("castle", math.nan),
    )
    frame = rows_of(Rescoring(recogniser=parrot), model, batch, GAUSSIAN)
    first, long, snow, empty, nan = frame["excluded"]
    assert first == ""
    assert long.startswith("alignment impossible: ") and long.endswith("35 frames")
    assert snow == "no token for '☃☂'"
    assert (empty, nan) == ("empty hypothesis", "acoustic score is not a finite number")
    assert frame["score_likelihood"].notna().tolist() == [True, False, False, False, False]
    assert frame["errors"].notna().tolist() == [True, False, False, False, False]
    assert frame["behind"][0] == 0
    tables = {table.name: table for table in make_tables({"rescoring": frame.assign(kind="rescoring")})}
    assert len(tables["rescoring_excluded"].raw) == 4


def test_an_utterance_of_which_nothing_is_heard_is_counted(model: ToySpeech) -> None:
    frame = rows_of(Rescoring(recogniser=Parrot()), model, utterances(model, 0), GAUSSIAN)
    assert frame["excluded"].tolist() == ["empty hypothesis"]
    assert frame["score_likelihood"].isna().all()


def test_a_hypothesis_without_likelihood_fails_alone(model: ToySpeech, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = utterances(model, 0)
    original = ToySpeech.align

    def broken(self, tokens, mel, policy, speaker=0):
        aligned = original(self, tokens, mel, policy, speaker)
        if len(tokens) < 20:
            aligned.mu = aligned.mu * torch.nan
        return aligned

    monkeypatch.setattr(ToySpeech, "align", broken)
    parrot = Parrot(("window castle", 3.0), ("castle", 2.0))
    frame = rows_of(Rescoring(recogniser=parrot), model, batch, GAUSSIAN)
    assert frame["excluded"][0] == "" and frame["excluded"][1].startswith("no likelihood: ")
    assert np.isfinite(frame["score_likelihood"][0]) and math.isnan(frame["score_likelihood"][1])


def test_parts_of_a_score_are_scores_of_their_own(model: ToySpeech) -> None:
    parrot = Parrot(("guitar", 5.0), ("castle", 4.0), parts=True)
    frame = rows_of(Rescoring(recogniser=parrot, unconditional=False), model, utterances(model, 1), GAUSSIAN)
    assert frame["score_ctc"].tolist() == [4.0, 3.0]
    assert {"ctc", "likelihood", "acoustic + w ctc"} <= {way.name for way in strategies(NBestLists.from_records(frame))}
    assert "score_unconditional" not in frame


def test_neighbours_and_pieces_change_nothing(model: ToySpeech) -> None:
    batch = utterances(model, 0, 1)
    study = Rescoring(recogniser=Parrot(("guitar", 3.0), ("castle", 2.0), ("window", 1.0)))
    together = study.measure(model, batch, GAUSSIAN)
    alone = [study.measure(model, batch.select([b]), GAUSSIAN)[0] for b in range(2)]
    assert [outcome.rows for outcome in together] == [outcome.rows for outcome in alone]
    pieces = study.measure(model, batch, Estimator(GAUSSIAN.solver, GAUSSIAN.divergence, double=True, max_batch=2))
    for left, right in zip(together, pieces, strict=True):
        assert [row["score_likelihood"] for row in left.rows] == pytest.approx(
            [row["score_likelihood"] for row in right.rows], abs=1e-9
        )


def test_reliability_of_shared_probes_is_measured_by_repetition(model: ToySpeech) -> None:
    study = Rescoring(recogniser=Parrot(("guitar", 3.0), ("castle", 2.0), ("window", 1.0)))
    lists = NBestLists.from_records(rows_of(study, model, utterances(model, 0, 1), GAUSSIAN))
    summary = reliability_summary(lists).set_index(["score", "route"])
    repeat = summary.loc["likelihood", "repeat"]
    assert repeat["reliability"] == pytest.approx(1.0, abs=1e-6) and repeat["ordered_alike"] == 1
    assert summary.loc[("likelihood", "standard error"), "reliability"] == pytest.approx(1.0, abs=1e-6)


def test_standard_errors_are_those_of_what_is_not_shared(model: ToySpeech) -> None:
    """Scores that share part of their noise: the rest is what the errors say, as large as it was made."""
    generator = torch.Generator().manual_seed(3)
    count, nodes, draws, own = 6, 2000, 4, 0.5
    shared = 100 * torch.randn(nodes, draws, 1, generator=generator, dtype=torch.float64)
    values = shared + own * torch.randn(nodes, draws, count, generator=generator, dtype=torch.float64)
    weights = torch.ones(nodes, dtype=torch.float64)
    zeros = torch.zeros(count, dtype=torch.float64)
    result = LogLikelihood(
        log_p=zeros,
        prior=zeros,
        integral=TraceIntegral(values, weights, torch.linspace(-3, 3, nodes).double()),
        scale=zeros,
        discretisation=zeros,
        rounding=zeros,
        dims=zeros,
        latent=zeros,
        calls=torch.zeros(count, 3, dtype=torch.long),
        density="p(x|y)",
        r=0.0,
        r_max=1.0,
        failures=[None] * count,
        short=[None] * count,
    )
    expected = own * math.sqrt(nodes / draws)
    assert Rescoring()._standard_errors(result).mean() == pytest.approx(expected, rel=0.03)
    assert result.standard_error.min() > 100 * expected
    assert Rescoring(protocol="published")._standard_errors(result).equal(result.standard_error)
    assert Rescoring()._standard_errors(result.select([0])).isnan().all()


def test_the_toy_is_asked_for_what_a_speech_model_has(model: ToySpeech) -> None:
    assert isinstance(model, SpeechModel)
    with pytest.raises(ValueError, match=r"model.studies.r: Rescoring cannot measure without a model"):
        Evaluation(None, {"r": Rescoring()})
    with pytest.raises(ValueError, match="nothing to do"):
        Evaluation(model)
    assert Evaluation(None, {"r": StoredRescoring()}).diffusion is None
    with pytest.raises(ValueError, match="have no n-best lists: give the study a recogniser"):
        Rescoring().measure(model, utterances(model, 0), GAUSSIAN)
    with pytest.raises(ValueError, match="StoredRescoring measures a batch of n-best lists"):
        StoredRescoring().measure(None, utterances(model, 0), GAUSSIAN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of four utterances: two with audio, one without, one at the wrong rate."""
    root = tmp_path_factory.mktemp("lists")
    rows = [
        {"utterance_id": name, "reference": "guitar", "hypothesis": text, "am_score": score}
        for name in ("a", "b", "silent", "slow")
        for text, score in (("guitar", 2.0), ("castle", 1.0))
    ]
    pd.DataFrame(rows).to_csv(root / "lists.csv", index=False)
    (root / "wavs").mkdir()
    generator = torch.Generator().manual_seed(0)
    for name, rate in (("a", 22_050), ("b", 22_050), ("slow", 16_000)):
        write(root / "wavs" / f"{name}.wav", 0.1 * torch.randn(9000, generator=generator), rate)
    return root


def lists_of(folder: Path, **options) -> StoredLists:
    columns = NBestColumns(scores={"acoustic": "am_score"})
    return StoredLists(str(folder / "lists.csv"), columns, audio=str(folder / "wavs"), **options)


def test_lists_meet_their_recordings(folder: Path) -> None:
    (batch,) = batches(lists_of(folder))
    assert batch.sample_id == ["a", "b", "silent"] and len(batch) == 3
    assert batch.mel[0].shape == (80, LogMel().frames(9000)) and batch.mel[2].shape == (80, 0)
    assert batch.lists[2]["excluded"].tolist() == ["no audio file"] * 2
    assert (batch.lists[0]["excluded"] == "").all() and batch.lists[0]["errors"].tolist() == [0, 1]
    (failure,) = batch.failures
    assert failure.sample_id == "slow" and "16000 Hz, 22050 Hz expected" in failure.error
    (resampled,) = batches(lists_of(folder, resample=True))
    assert len(resampled) == 4 and resampled.mel[3].shape[1] == pytest.approx(9000 * 22_050 / 16_000 / 256, abs=1)
    picked = batch.select([2, 0])
    assert picked.sample_id == ["silent", "a"] and torch.equal(picked.mel[1], batch.mel[0]) and not picked.failures
    (short,) = batches(lists_of(folder, max_seconds=0.1))
    assert "0.4 s are longer than max_seconds, 0.1" in short.failures[0].error


def test_a_recording_that_is_odd_is_said_and_one_that_is_damaged_fails_alone(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lists"
    shutil.copytree(folder, copy)

    def stamps() -> list[str]:
        data = lists_of(copy).test_set()
        return [data.stamp(index) for index in range(4)]

    first = stamps()
    write(copy / "wavs" / "a.wav", 1e-4 * torch.randn(9000))
    content = (copy / "wavs" / "b.wav").read_bytes()
    (copy / "wavs" / "b.wav").write_bytes(content[: len(content) // 2])
    (batch,) = batches(lists_of(copy))
    assert batch.sample_id == ["a", "silent"] and batch.select([1, 0]).converted[0] == ""
    assert batch.converted[0].startswith("very quiet, root mean square 0.0001")
    assert "b.wav is cut: its header promises 0.41 s, it holds 0.20 s" in batch.failures[0].error
    second = stamps()
    assert [old != new for old, new in zip(first, second, strict=True)] == [True, True, False, False]
    (copy / "lists.csv").write_text((copy / "lists.csv").read_text().replace("silent,guitar,castle", "silent,guitar,a"))
    assert [old != new for old, new in zip(second, stamps(), strict=True)] == [False, False, True, False]


def test_an_utterance_without_audio_is_kept_with_its_reason(folder: Path, model: ToySpeech) -> None:
    (batch,) = batches(lists_of(folder))
    batch.mel = [mel[:BANDS] for mel in batch.mel]
    evaluation = Evaluation(model, {"rescoring": Rescoring()}, solver=Multistep(9))
    found = {outcome.sample_id: outcome for _, outcome in evaluation.test_step(batch, 0)}
    assert "16000 Hz" in str(found["slow"].error)
    assert [row["excluded"] for row in found["silent"].rows] == ["no audio file"] * 2
    assert [row["excluded"] for row in found["a"].rows] == ["", ""]
    assert all(np.isfinite(row["score_likelihood"]) for row in found["a"].rows)


def test_lists_without_any_recording_are_an_error(folder: Path, tmp_path: Path) -> None:
    data = lists_of(folder)
    data.audio = tmp_path
    with pytest.raises(ValueError, match="none of 8 hypotheses is usable: 8 × no audio file"):
        data.test_set()
