"""The studies of speech against a model of which every likelihood is known."""

import math

import pytest
import torch
from scipy.stats import norm
from toy_speech import BANDS, Loudness, ToySpeech, make_utterances

from dmlik_pl.flow import Exact, Hutchinson, LogLikelihood, Multistep, log_likelihood
from dmlik_pl.metrics.cepstral import mel_cepstral_distortion
from dmlik_pl.metrics.word_error import word_errors
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.speech.text import EnglishFrontEnd
from dmlik_pl.speech.text.symbols import BLANK
from dmlik_pl.studies import Estimator, SpeechModel, SpeechSweep, TextGain, TimeSweep
from dmlik_pl.studies.speech_sweep import side_by_side
from dmlik_pl.studies.text_gain import shuffle_words

TEXTS = ("window castle", "guitar", "window dolphin window castle")
FRAMES = (22, 15, 41)  # none a multiple of 4
TIMES = [1.0, 0.5, 0.1, 0.0]
DEAF = {"cepstral_distortion": False, "log_f0": False}
NATS = 0.02  # what a grid of 65 nodes leaves of 3 * 41 dimensions


def exact_estimator(nodes: int = 65) -> Estimator:
    return Estimator(solver=Multistep(nodes), divergence=Exact(), double=True)


@pytest.fixture(scope="module")
def model() -> ToySpeech:
    return ToySpeech()


def test_the_toy_is_a_speech_model(model: ToySpeech) -> None:
    assert isinstance(model, SpeechModel)
    with pytest.raises(ValueError, match=r"model.studies.sweep: TimeSweep cannot measure ToySpeech"):
        Evaluation(model, {"sweep": TimeSweep()})


def test_data_and_samples_have_their_closed_form_densities(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS, FRAMES)
    outcomes = SpeechSweep(times=TIMES, alignment="durations", **DEAF).measure(model, batch, exact_estimator())
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    for b, outcome in enumerate(outcomes):
        data, vocoded, *samples = outcome.rows
        mu = model.align(batch.tokens[b], batch.mel[b], "durations").mu
        assert [row["stage"] for row in outcome.rows] == ["data", "vocoded"] + ["sample"] * 4
        assert [row["time"] for row in samples] == TIMES
        assert {row["dims"] for row in outcome.rows} == {BANDS * FRAMES[b]}  # real frames only
        assert data["log_p"] == pytest.approx(model.log_prob(batch.mel[b], mu, 1.0, r_min), abs=NATS)
        assert data["bpd_marginal"] == data["bpd"]
        assert vocoded["log_p"] is None and vocoded["bpd"] is None
        # The flow of a Gaussian scales x - mu; at t = 1 that is the noise itself, which the name of the sample keys.
        bits = BANDS * FRAMES[b] * math.log(2)
        noise_energy = None
        for row in samples:
            level = model.schedule.at(max(row["time"], model.schedule.t_min))
            alpha, sigma = float(level.alpha), float(level.sigma)
            spread = math.hypot(alpha * 0.6, sigma)
            energy = -row["bpd_marginal"] * bits + bits / math.log(2) * math.log(spread * math.sqrt(2 * math.pi))
            noise_energy = energy if noise_energy is None else noise_energy
            assert energy == pytest.approx(noise_energy, abs=NATS)  # |eps|^2 / 2 is that of the one trajectory
            as_data = noise_energy * (spread / math.hypot(0.6, r_min)) ** 2
            constant = BANDS * FRAMES[b] * math.log(math.hypot(0.6, r_min) * math.sqrt(2 * math.pi))
            assert row["log_p"] == pytest.approx(as_data - constant, abs=0.1)
        assert -1.5 < noise_energy / (BANDS * FRAMES[b]) < -0.2


def test_the_paper_asks_at_nine_times() -> None:
    shown = [f"{time:.2f}" for time in SpeechSweep().times]
    assert shown == ["1.00", "0.88", "0.75", "0.62", "0.50", "0.38", "0.25", "0.12", "0.00"]
    for times in ([0.0, 1.0], [1.0, 1.0], [], [1.5, 0.0]):
        with pytest.raises(ValueError, match="fall strictly"):
            SpeechSweep(times=times)


def test_gain_of_the_text_is_the_closed_form_difference(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS, FRAMES)
    outcomes = TextGain().measure(model, batch, exact_estimator())
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    for b, outcome in enumerate(outcomes):
        tokens, mel = batch.tokens[b], batch.mel[b]
        shuffled = shuffle_words(tokens, batch.sample_id[b])
        alternatives = ["mean"] if shuffled is None else ["mean", "shuffled"]
        found = [(row["alignment"], row["alternative"]) for row in outcome.rows]
        assert found == [(policy, other) for policy in ("search", "durations") for other in alternatives]
        for row in outcome.rows:
            own = model.align(tokens, mel, row["alignment"])
            text = model.log_prob(mel, own.mu, 1.0, r_min)
            if row["alternative"] == "mean":
                other_mu, other_log_p = own.mu.mean(1, keepdim=True).expand_as(own.mu), None
            else:
                other = model.align(shuffled, mel, row["alignment"])
                other_mu, other_log_p = other.mu, other.duration_log_p
            expected = text - model.log_prob(mel, other_mu, 1.0, r_min)
            assert row["gain"] == pytest.approx(expected, abs=NATS)
            assert row["log_p"] == pytest.approx(text, abs=NATS)
            assert row["bpd_alternative"] - row["bpd"] == pytest.approx(row["gain"] / row["dims"] / math.log(2))
            assert row["duration_log_p"] == own.duration_log_p
            assert row["duration_log_p_alternative"] == other_log_p
            assert row["gain_standard_error"] == 0 and row["decided"]
            assert row["frames"] == FRAMES[b] and row["voice"] == ("low", "high")[b % 2]
    assert len(outcomes[1].rows) == 2  # one word has no other order


def test_gain_is_paired_on_the_same_probes(model: ToySpeech) -> None:
    """The toy's Jacobian does not depend on the text: what probes add to both cancels, whatever they are."""
    batch = make_utterances(model, TEXTS[:1], FRAMES[:1])
    gaussian = Estimator(solver=Multistep(17), divergence=Hutchinson(2, "gaussian"), double=True)
    (outcome,) = TextGain(alternatives=["mean"]).measure(model, batch, gaussian)
    for row in outcome.rows:
        assert row["standard_error"] > 0.1  # each likelihood alone is uncertain
        assert row["gain_standard_error"] < 1e-6 and row["decided"]


def test_an_uncertain_gain_is_undecided(model: ToySpeech) -> None:
    study = TextGain()
    result = log_likelihood(
        model.flow(),
        torch.zeros(2, BANDS, 4, dtype=torch.float64),
        model.condition([torch.zeros(BANDS, 4).double(), torch.full((BANDS, 4), 0.01).double()], [0, 0]),
        divergence=Hutchinson(2, "gaussian"),
        sample_ids=["one", "another"],  # their own probes each
    )
    row = study._gain(result.select([0]), result.select([1]))
    assert row["gain_standard_error"] > abs(row["gain"]) / 1.96 and not row["decided"]
    just = 2 * norm.cdf(abs(row["gain"]) / row["gain_standard_error"]) - 1  # the confidence at which it is decided
    for confidence, decided in ((0.99 * just, True), (1.01 * just, False)):
        study = TextGain(confidence=confidence)
        assert study._gain(result.select([0]), result.select([1]))["decided"] == decided
    assert TextGain().threshold == pytest.approx(1.959964)
    assert isinstance(result, LogLikelihood)


@pytest.mark.parametrize(
    "study", [SpeechSweep(times=[1.0, 0.0], recogniser=Loudness(), **DEAF), TextGain()], ids=["sweep", "gain"]
)
def test_neighbours_in_a_batch_change_nothing(study: SpeechSweep | TextGain, model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS, FRAMES)
    estimator = Estimator(solver=Multistep(9), double=True)
    together = study.measure(model, batch, estimator)
    for b, outcome in enumerate(together):
        (alone,) = study.measure(model, batch.select([b]), estimator)
        assert alone.rows == outcome.rows


def test_likelihoods_do_not_depend_on_how_many_go_through_the_network_at_once(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS[2:], FRAMES[2:])
    for study in (SpeechSweep(times=TIMES, **DEAF), TextGain()):
        (whole,) = study.measure(model, batch, Estimator(solver=Multistep(9), double=True))
        (pieces,) = study.measure(model, batch, Estimator(solver=Multistep(9), double=True, max_batch=2))
        for left, right in zip(whole.rows, pieces.rows, strict=True):
            assert left.get("gain", left["log_p"]) == pytest.approx(right.get("gain", right["log_p"]), abs=1e-9)


def test_durations_of_the_model_give_samples_a_length_of_their_own(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS[:1], FRAMES[:1])
    (outcome,) = SpeechSweep(times=[1.0, 0.0], durations="model", **DEAF).measure(model, batch, exact_estimator(17))
    data, vocoded, *samples = outcome.rows
    frames = 3 * len(batch.tokens[0])
    assert data["dims"] == vocoded["dims"] == BANDS * FRAMES[0] and data["frames"] == FRAMES[0]
    assert {row["dims"] for row in samples} == {BANDS * frames} and frames != FRAMES[0]
    assert outcome.sound["t0"].shape == (256 * frames,)
    assert {row["durations"] for row in outcome.rows} == {"model"}
    assert data["duration_log_p"] != samples[0]["duration_log_p"] == model.predict(batch.tokens[0]).duration_log_p


def test_what_is_heard_of_each_stage(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS[2:], FRAMES[2:])
    (outcome,) = SpeechSweep(times=[1.0, 0.0], recogniser=Loudness()).measure(model, batch, exact_estimator(17))
    data, vocoded, noise, sample = outcome.rows
    assert set(outcome.sound) == {"source", "vocoded", "t0"} and outcome.rate == 22_050
    for row, name in ((data, "source"), (vocoded, "vocoded"), (sample, "t0")):
        wave = outcome.sound[name]
        assert row["transcript"] == Loudness().transcribe_one(wave)
        assert (row["word_errors"], row["words"]) == word_errors(batch.text[0], row["transcript"])
        assert row["cepstral_distortion"] == pytest.approx(mel_cepstral_distortion(batch.audio[0], wave, 22_050))
    assert data["cepstral_distortion"] == 0 and data["words"] == 4
    assert noise["cepstral_distortion"] > sample["cepstral_distortion"] > 0
    assert {row["recogniser"] for row in outcome.rows} == {"Loudness"}
    assert {row["speaker_encoder"] for row in outcome.rows} == {None}
    assert {row["vocoder"] for row in outcome.rows} == {"Hum"}


def test_pitch_without_a_voiced_frame_is_not_an_agreement(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS[:1], FRAMES[:1])
    batch.audio[0] = torch.full_like(batch.audio[0], 1e-4)
    (outcome,) = SpeechSweep(times=[1.0, 0.0]).measure(model, batch, exact_estimator(9))
    assert [row["log_f0_rmse"] for row in outcome.rows] == [None] * 4


def test_the_picture_holds_encoder_stages_and_recording(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS[:1], FRAMES[:1])
    (outcome,) = SpeechSweep(times=TIMES, **DEAF).measure(model, batch, exact_estimator(9))
    assert outcome.picture is not None and outcome.picture.shape == (3, BANDS, 6 * FRAMES[0])
    panels = outcome.picture.split(FRAMES[0], -1)
    mel = batch.mel[0]
    assert torch.equal(panels[-1], side_by_side([mel]))
    brightness = panels[-1].sum(0).flip(0)
    assert brightness.flatten()[mel.argmax()] == brightness.max()  # low bands below
    wider = side_by_side([mel, torch.zeros(BANDS, 30)])
    assert wider.shape[-1] == 60 and bool((wider[..., FRAMES[0] : 30] == 1).all())


def test_one_bad_utterance_among_many_fails_alone(model: ToySpeech) -> None:
    texts = ("window castle", "window dolphin window castle", "guitar", "castle")
    batch = make_utterances(model, texts, (22, 9, 15, 18))  # the second has more tokens than frames
    batch.mel[3][:, 4] = torch.nan
    studies = {"sweep": SpeechSweep(times=[1.0, 0.0], **DEAF), "gain": TextGain()}
    evaluation = Evaluation(model, studies, solver=Multistep(9), double=True)
    outcomes = evaluation.test_step(batch, 0)
    for name in studies:
        found = {outcome.sample_id: outcome for study, outcome in outcomes if study == name}
        assert [key for key, outcome in sorted(found.items()) if outcome.error is None] == ["toy-0", "toy-2"]
        assert "alignment impossible: " in str(found["toy-1"].error) and "NaN" in str(found["toy-3"].error)
        assert found["toy-1"].rows == found["toy-3"].rows == []
        assert found["toy-0"].rows


def test_shuffling_keeps_words_whole_and_depends_on_the_name_alone() -> None:
    front_end = EnglishFrontEnd()
    tokens = front_end("window castle dolphin guitar!")
    shuffled = shuffle_words(tokens, "a")
    assert shuffled is not None and not torch.equal(shuffled, tokens)
    assert torch.equal(shuffled, shuffle_words(tokens, "a"))
    assert shuffled.sort().values.equal(tokens.sort().values) and bool((shuffled[::2] == BLANK).all())
    assert shuffled[-2] == tokens[-2] == front_end("!")[1]  # the mark that ends the text still does
    orders = {tuple(shuffle_words(tokens, f"name {i}").tolist()) for i in range(300)}
    assert len(orders) == math.factorial(4) - 1  # every order but the text's own
    words = {tuple(front_end(word)[1::2].tolist()) for word in ("window", "castle", "dolphin")}
    plain = EnglishFrontEnd(blanks=False)
    (swapped,) = {tuple(shuffle_words(plain("window castle"), f"{i}").tolist()) for i in range(9)}
    assert swapped == tuple(plain("castle window").tolist()) and len(words) == 3


@pytest.mark.parametrize("text", ["window", "window window", "window!"])
def test_words_without_another_order_are_not_shuffled(text: str) -> None:
    assert shuffle_words(EnglishFrontEnd()(text), "a") is None


def test_settings_of_the_gain_are_checked() -> None:
    for wrong in ({"alignments": []}, {"alternatives": ["mean", "mean"]}):
        with pytest.raises(ValueError, match="one or more different values"):
            TextGain(**wrong)


def test_the_published_protocol_scores_padding_and_names_what_it_does(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS[:1], FRAMES[:1])
    batch.audio[0] = torch.full_like(batch.audio[0], 1e-4)
    study = SpeechSweep(times=[1.0, 0.0], alignment="durations", protocol="published")
    (outcome,) = study.measure(model, batch, exact_estimator())
    data, _, noise, sample = outcome.rows
    # 22 frames are padded to 24: zeros under a mean of zero.
    padded = [
        model.pad(value)[0] for value in (batch.mel[0], model.align(batch.tokens[0], batch.mel[0], "durations").mu)
    ]
    r_min = float(model.schedule.at(model.schedule.t_min).r)
    expected = model.log_prob(*padded, 1.0, r_min)
    assert data["log_p"] == pytest.approx(expected, abs=NATS)
    assert data["dims"] == BANDS * 22
    assert data["bpd"] == pytest.approx(-expected / (BANDS * 22 * math.log(2)), abs=1e-3)
    assert data["bpd_marginal"] is None and noise["bpd"] > sample["bpd"]
    assert [row["log_f0_rmse"] for row in outcome.rows] == [0.0] * 4  # where the repaired protocol has no value
    assert data["protocol"] == "published" and "probes of its own" in data["deviations"]


def test_stages_share_probes_unless_published(model: ToySpeech) -> None:
    batch = make_utterances(model, TEXTS[:1], FRAMES[:1])
    noisy = Estimator(solver=Multistep(9), divergence=Hutchinson(1, "gaussian"), double=True)
    terms = {}
    for protocol in ("repaired", "published"):
        study = SpeechSweep(times=[1.0, 0.0], protocol=protocol, **DEAF)
        rows = study.measure(model, batch, noisy)[0].rows
        terms[protocol] = {row["divergence_term"] for row in rows if row["log_p"] is not None}
    # The toy's trace is the same everywhere: what differs is the probes.
    assert len({round(term, 6) for term in terms["repaired"]}) == 1
    assert len({round(term, 6) for term in terms["published"]}) == 3
