"""Side measures that cannot be taken are missing for their sample, and nothing else is."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_adaptation import Colour
from test_studies import CANDIDATES, exact_estimator, make_batch
from torch import Tensor, nn
from toy import ToyModel
from toy_speech import Loudness, ToySpeech, make_utterances

from dmlik_pl.flow import Exact, Multistep
from dmlik_pl.results.page.caveats import find_caveats
from dmlik_pl.results.prompt_accuracy.summaries import accuracy_summary, class_average_summary
from dmlik_pl.results.speech_sweep.summaries import speech_sweep_summary
from dmlik_pl.results.tables import make_tables
from dmlik_pl.results.time_sweep.summaries import sweep_summary
from dmlik_pl.speech.audio import write
from dmlik_pl.studies import Adaptation, Estimator, Outcome, PromptAccuracy, SpeechSweep, TimeSweep, prompt_accuracy
from dmlik_pl.studies.aside import Aside
from dmlik_pl.studies.prompt_likelihoods import Likelihoods
from dmlik_pl.studies.reference_voice import ReferenceVoice

TEXTS = ("window castle", "guitar")
FRAMES = (22, 16)


class Eye(nn.Module):
    """Sees how bright an image is; reads no prompt that says "large"."""

    def images(self, images: Tensor) -> Tensor:
        bright = images.float().mean((1, 2, 3))
        return torch.stack([bright, (1 - bright.square()).sqrt()], 1)

    def prompts(self, prompts: Sequence[str]) -> Tensor:
        if unread := [prompt for prompt in prompts if "large" in prompt]:
            raise ValueError(f"the prompt {unread[0]!r} is too long")
        return torch.tensor([[1.0, 0.0]]).expand(len(prompts), 2)

    def forward(self, images: Tensor) -> Tensor:
        if bool(((images - self.bad).abs().flatten(1).amax(1) < 1e-5).any()):
            raise RuntimeError("no features")
        return images.flatten(1)[:, :4]

    bad = torch.tensor(math.inf)


def frame_of(kind: str, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    rows = [{"sample_id": one.sample_id, "kind": kind} | row for one in outcomes for row in one.rows]
    return pd.DataFrame(rows)


def missing(row: dict) -> dict[str, str]:
    return json.loads(row.get("missing") or "{}")


class TestAside:
    def test_all_together_if_that_works(self) -> None:
        asked: list[list[int]] = []
        aside = Aside("abc")
        assert aside.take("size", lambda some: asked.append(some) or [2 * each for each in some], [1, 2, 3]) == [
            2,
            4,
            6,
        ]
        assert asked == [[1, 2, 3]] and aside.columns(0) == {}

    def test_one_by_one_if_not(self, caplog: pytest.LogCaptureFixture) -> None:
        aside = Aside(["a", "b", "c", "d"])
        inverse = aside.take("inverse of a test", lambda some: [1 / each for each in some], [1, 0, None, 4])
        assert inverse == [1.0, None, None, 0.25]
        assert [missing(aside.columns(k)) for k in range(4)] == [{}, {"inverse of a test": "division by zero"}, {}, {}]
        aside.take("inverse of a test", lambda some: [1 / each for each in some], [0, 0, 0, 0])
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert told == ["inverse of a test of b is missing: division by zero (further ones are counted)"]

    def test_one_item_and_a_reason_of_one_s_own(self) -> None:
        aside = Aside("ab")
        assert aside.one("CLIP score", 1, lambda: 7) == 7
        assert aside.one("CLIP score", 1, lambda: json.loads("")) is None
        aside.leave_out("ELBO", 1, "not finite")
        assert list(missing(aside.columns(1))) == ["CLIP score", "ELBO"]

    @pytest.mark.parametrize("error", [ModuleNotFoundError("pip install it"), torch.OutOfMemoryError("too much")])
    def test_what_is_no_sample_s_fault_is_raised(self, error: Exception) -> None:
        def fail(some: list[int]) -> list[int]:
            raise error

        with pytest.raises(type(error)):
            Aside("ab").take("pitch", fail, [1, 2])


class TestImages:
    def test_a_clip_that_cannot_read_a_prompt_leaves_the_likelihood(self) -> None:
        model, batch = ToyModel(), make_batch(ToyModel())
        study = TimeSweep([1.0, 0.0])
        plain = study.measure(model, batch, exact_estimator())
        study.encoder = Eye()
        seen = study.measure(model, batch, exact_estimator())
        for name, one, other in zip(batch.prompt, plain, seen, strict=True):
            assert other.error is None and [row["log_p"] for row in other.rows] == [row["log_p"] for row in one.rows]
            unread = "large" in name
            assert [row["clip"] is None for row in other.rows] == [unread] * 3
            reasons = {"CLIP score": f"the prompt {name!r} is too long"} if unread else {}
            assert all(missing(row) == reasons for row in other.rows)
        (alone,) = study.measure(model, batch.select([1 if "small" in batch.prompt[1] else 0]), exact_estimator())
        same = next(one for one in seen if one.sample_id == alone.sample_id)
        assert [row["clip"] for row in alone.rows] == pytest.approx([row["clip"] for row in same.rows])
        frame = frame_of("time_sweep", seen)
        summary = sweep_summary(frame)
        read = sum("small" in name for name in batch.prompt)
        assert summary["clip_n"].tolist() == [read] * 3 and summary["bpd_n"].tolist() == [len(seen)] * 3
        (table, *_) = make_tables({"sweep": frame})
        lost = len(seen) - read
        assert table.notes[-1] == f"CLIP score missing for {lost} of {len(seen)} samples."
        [caveat] = [one for one in find_caveats({"sweep": frame}) if one.topic == "missing"]
        assert caveat.severity == "caution" and "the prompt 'dark large' is too long (" in caveat.text

    def test_features_of_one_image_that_fail_leave_the_distance_of_the_others(self) -> None:
        model, batch = ToyModel(), make_batch(ToyModel())
        study, eye = TimeSweep([1.0, 0.0]), Eye()
        study.features = eye
        study.features.bad = (0.5 * batch.image[2] + 0.5).clamp(0, 1)
        seen = study.measure(model, batch, exact_estimator())
        frame = frame_of("time_sweep", seen)
        assert [list(missing(one.rows[0])) for one in seen[:4]] == [[], [], ["image features"], []]
        summary = sweep_summary(frame)
        assert summary["fid_n"].tolist() == [len(seen) - 1] * 3 and np.isfinite(summary["fid"]).all()

    def test_pixels_that_cannot_be_scored_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from dmlik_pl.studies.stages import StagedBatch

        through = StagedBatch.through_pixels

        def broken(self: StagedBatch, stages: object) -> list[Tensor]:
            latents = through(self, stages)
            latents[1][0] = math.nan
            return latents

        monkeypatch.setattr(StagedBatch, "through_pixels", broken)
        outcomes = TimeSweep([1.0, 0.0], pixels=True).measure(ToyModel(), make_batch(ToyModel()), exact_estimator())
        assert list(missing(outcomes[0].rows[0])) == ["BPD pixels"] and not missing(outcomes[1].rows[0])
        assert all(one.error is None for one in outcomes)
        assert sweep_summary(frame_of("time_sweep", outcomes))["bpd_pixels_n"].tolist()[1] == len(outcomes) - 1


class TestPrompts:
    template = "{tone} {size}"

    def test_clip_reads_what_it_can(self) -> None:
        batch = make_batch(ToyModel())
        study = PromptAccuracy(self.template, CANDIDATES)
        study.encoder = Eye()
        outcomes = study.measure(ToyModel(), batch, exact_estimator())
        rows = [row for one in outcomes for row in one.rows]
        for row in rows:
            # Of prompts that differ in size one is always large; those that differ in tone are if the image is.
            assert row["clip_scores"] is None or row["attribute"] == "tone"
            assert (row["clip_correct"] is None) == (row["clip_scores"] is None) and row["correct"] in (True, False)
        read = sum("small" in prompt for prompt in batch.prompt)
        frame = frame_of("prompt_accuracy", outcomes)
        summary = accuracy_summary(frame).set_index("attribute")
        assert summary["clip_n"].to_dict() == {"tone": read, "size": 0}
        assert summary["n"].to_dict() == dict.fromkeys(("tone", "size"), len(outcomes))
        averages = class_average_summary(frame).set_index("attribute")
        assert np.isfinite(averages.loc["tone", "clip"]) and np.isnan(averages.loc["size", "clip"])
        assert "CLIP score missing for" in make_tables({"prompts": frame})[0].notes[-1]

    def test_a_bound_that_fails_leaves_the_likelihood(self, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = make_batch(ToyModel()).select([0])
        study = PromptAccuracy(self.template, CANDIDATES, elbo_draws=4)
        [plain] = study.measure(ToyModel(), batch, exact_estimator())

        def fail(*_: object) -> None:
            raise ValueError("noise of the bound overflows")

        monkeypatch.setattr(prompt_accuracy, "take_bounds", fail)
        [outcome] = study.measure(ToyModel(), batch, exact_estimator())
        assert [row["scores"] for row in outcome.rows] == [row["scores"] for row in plain.rows]
        assert all(missing(row) == {"ELBO": "noise of the bound overflows"} for row in outcome.rows)
        assert all(row["elbo_correct"] is None for row in outcome.rows)

    def test_a_bound_that_is_not_finite_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        batch = make_batch(ToyModel())
        found = prompt_accuracy.take_bounds

        def spoilt(*arguments: object) -> object:
            bounds = found(*arguments)
            places = [k for k, (sample, _) in enumerate(bounds.contest.entries) if sample == 1]
            draws = bounds.first.draws.clone()
            draws[:, places] = math.nan
            return replace(bounds, first=replace(bounds.first, draws=draws))

        monkeypatch.setattr(prompt_accuracy, "take_bounds", spoilt)
        outcomes = PromptAccuracy(self.template, CANDIDATES, elbo_draws=4).measure(ToyModel(), batch, exact_estimator())
        assert [one.error for one in outcomes] == [None] * len(batch)
        assert [list(missing(one.rows[0])) for one in outcomes[:3]] == [[], ["ELBO"], []]
        assert outcomes[1].rows[0]["elbo_correct"] is None and outcomes[0].rows[0]["elbo_correct"] is not None

    def test_an_empty_prompt_that_fails_leaves_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Likelihoods, "failure_of_empty", lambda self, sample: "NaN" if sample == 0 else None)
        study = PromptAccuracy(self.template, CANDIDATES, empty_prompt=True)
        outcomes = study.measure(ToyModel(), make_batch(ToyModel()), exact_estimator())
        assert missing(outcomes[0].rows[0]) == {"empty prompt": "NaN"} and outcomes[0].rows[0]["null_margin"] is None
        assert outcomes[0].rows[0]["scores"] and outcomes[1].rows[0]["null_margin"] is not None


class Deaf(Loudness):
    """Fails on waves that are quieter than it can hear."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.least = least

    def transcribe_one(self, wave: Tensor) -> str:
        if float(wave.abs().max()) < self.least:
            raise RuntimeError("nothing heard")
        return super().transcribe_one(wave)


class TestSpeech:
    @staticmethod
    def estimator() -> Estimator:
        return Estimator(solver=Multistep(17), divergence=Exact(), double=True)

    def test_a_recogniser_that_fails_on_one_recording(self) -> None:
        model = ToySpeech()
        batch = make_utterances(model, TEXTS, FRAMES)
        batch.audio[1] = 1e-6 * batch.audio[1]
        study = SpeechSweep([1.0, 0.0], recogniser=Deaf(1e-3), cepstral_distortion=False, log_f0=False)
        plain = SpeechSweep([1.0, 0.0], cepstral_distortion=False, log_f0=False).measure(model, batch, self.estimator())
        outcomes = study.measure(model, batch, self.estimator())
        assert [[row["log_p"] for row in one.rows] for one in outcomes] == [[r["log_p"] for r in p.rows] for p in plain]
        assert [missing(row) for row in outcomes[1].rows] == [{"WER": "nothing heard"}, {}, {}, {}]
        assert outcomes[1].rows[0]["transcript"] is None and outcomes[0].rows[0]["words"] == 2
        frame = frame_of("speech_sweep", outcomes)
        assert speech_sweep_summary(frame)["words"].tolist() == [2, 3, 3, 3]
        (table, *_) = make_tables({"speech": frame})
        assert "over all 2 to 3 words" in table.legend["WER %"] and "WER missing for 1 of 2 samples." in table.notes

    def test_a_vocoder_that_fails_leaves_the_likelihood_and_the_other_waves(self) -> None:
        class Mute(ToySpeech):
            """Speaks no spectrogram of pure noise."""

            def vocode(self, mel: Tensor) -> Tensor:
                if float(mel.std()) > 0.9:
                    raise RuntimeError("no voice")
                return super().vocode(mel)

        batch = make_utterances(ToySpeech(), TEXTS[:1], FRAMES[:1])
        study = SpeechSweep([1.0, 0.0], recogniser=Loudness(), speaker_encoder=Colour(), cepstral_distortion=False)
        [outcome] = study.measure(Mute(), batch, self.estimator())
        assert outcome.error is None and len(outcome.rows) == 4
        lost = [missing(row) == {"vocoded speech": "no voice"} for row in outcome.rows]
        assert not lost[0] and any(lost)
        for row, gone in zip(outcome.rows, lost, strict=True):
            assert (row["words"] is None) == (row["speaker_similarity"] is None) == gone
        assert "source" in outcome.sound and len(outcome.sound) == 3 - lost[1] - lost[3]
        frame = frame_of("speech_sweep", [outcome])
        assert "undefined" not in {one.topic for one in find_caveats({"speech": frame})}

    def test_a_recording_without_a_voice_leaves_the_errors(self) -> None:
        class Hoarse(Colour):
            def embed_one(self, wave: Tensor) -> Tensor:
                if float(wave.abs().max()) < 1e-3:
                    raise ValueError("no speech in it")
                return super().embed_one(wave)

        model = ToySpeech()
        batch = make_utterances(model, TEXTS, FRAMES)
        batch.audio[0] = 1e-6 * batch.audio[0]
        study = SpeechSweep(
            [0.0], recogniser=Loudness(), speaker_encoder=Hoarse(), cepstral_distortion=False, log_f0=False
        )
        outcomes = study.measure(model, batch, self.estimator())
        assert all(list(missing(row)) == ["ASV"] for row in outcomes[0].rows), "nothing to compare with"
        assert not any(missing(row) for row in outcomes[1].rows)
        assert [row["words"] for row in outcomes[0].rows] == [2] * 3

    def test_adaptation_keeps_what_can_be_measured(self) -> None:
        model = ToySpeech()
        batch = make_utterances(model, TEXTS, FRAMES)
        batch.audio[1] = 1e-6 * batch.audio[1]
        study = Adaptation(
            recogniser=Deaf(1e-3), speaker_encoder=Colour(), solvers={"A": Multistep(9)}, paths=[("A", "A")]
        )
        outcomes = study.measure(model, batch, self.estimator())
        assert [one.error for one in outcomes] == [None, None]
        by_stage = {row["stage"]: row for row in outcomes[1].rows}
        assert missing(by_stage["data"]) == {"WER": "nothing heard"} and not missing(by_stage["adapted"])
        assert by_stage["data"]["log_p"] is not None and by_stage["adapted"]["words"] == 1
        assert by_stage["data"]["source_similarity"] == pytest.approx(1)
        tables = {table.name: table for table in make_tables({"adaptation": frame_of("adaptation", outcomes)})}
        assert "over all 2 to 3 words" in tables["adaptation"].legend["WER %"]
        assert "WER missing for 1 of 2 samples." in tables["adaptation_paired"].notes

    def test_a_reference_voice_is_that_of_the_recordings_that_can_be_read(self, tmp_path: Path) -> None:
        for number in range(3):
            write(tmp_path / f"{number}.wav", 0.1 * torch.sin(torch.arange(4000) * (0.02 + 0.03 * number)), 22_050)
        (tmp_path / "1.wav").write_bytes(b"RIFF")
        assert ReferenceVoice(str(tmp_path)).heard_by(Colour()).size == 2
