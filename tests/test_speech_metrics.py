"""Word errors, mel-cepstral distortion and pitch error against counts and closed forms."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch import Tensor

from dmlik_pl.metrics import (
    LogF0RMSE,
    MelCepstralDistortion,
    WordErrorRate,
    log_f0_rmse,
    mel_cepstral_distortion,
    word_errors,
)
from dmlik_pl.metrics.cepstral import dtw_path, mel_cepstrum, sixteen_bit, warping
from dmlik_pl.metrics.pitch import pitch_and_cepstrum
from dmlik_pl.metrics.utterance_mean import UtteranceMean
from dmlik_pl.stats.significance import mean_with_error

RATE = 22050
DECIBEL = 10 / math.log(10) * math.sqrt(2)  # of one cepstral coefficient that differs by 1


def noise(samples: int, seed: int = 0, level: float = 0.05) -> Tensor:
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def voice(pitch: float, seconds: float = 0.8, rate: int = RATE) -> Tensor:
    """Pulses at a pitch through the formants of a vowel."""
    phase = np.arange(round(seconds * rate)) / rate * pitch
    wave = np.diff(np.floor(phase), prepend=0.0)
    for formant, width in ((700, 130), (1220, 70), (2600, 160)):
        radius = math.exp(-math.pi * width / rate)
        wave = lfilter([1 - radius], [1, -2 * radius * math.cos(2 * math.pi * formant / rate), radius**2], wave)
    return torch.from_numpy(0.5 * wave / np.abs(wave).max()).float()


class TestWordErrors:
    @pytest.mark.parametrize(
        ("reference", "hypothesis", "expected"),
        [
            ("the cat sat on the mat", "the cat sat on the mat", (0, 6)),
            ("the cat sat on the mat", "the cat sat mat", (2, 6)),
            ("the cat sat", "a cat sat down", (2, 3)),
            ("the cat", "", (2, 2)),
            ("", "the cat", (2, 0)),
            ("", "", (0, 0)),
        ],
    )
    def test_counts_substitutions_deletions_and_insertions(self, reference, hypothesis, expected) -> None:
        assert word_errors(reference, hypothesis) == expected

    def test_normalises_as_whisper_does(self) -> None:
        assert word_errors("It won't cost, um, twenty-one dollars", "it will not cost $21") == (0, 5)
        assert word_errors("Mr. Smith isn't here!", "mister smith is not here") == (0, 5)
        assert word_errors("room one two three", "room 123") == (0, 2)  # its numbers are joined
        assert word_errors("um", "uh hmm") == (0, 0)

    def test_british_and_american_spellings_are_one_word(self) -> None:
        assert word_errors("the colour grey", "the color gray") == (0, 3)


class TestWordErrorRate:
    references = ("dog house person guitar", "dog horse", "", "guitar house dog")
    hypotheses = ("dog house person", "dog dog horse", "horse", "guitar house dog")

    def test_is_the_corpus_rate_with_its_error(self) -> None:
        metric = WordErrorRate()
        metric.update(self.references, self.hypotheses)
        result = metric.compute()
        assert (float(result["errors"]), float(result["words"])) == (3, 9)
        assert float(result["wer"]) == pytest.approx(3 / 9)  # the mean of the utterances' rates would be infinite
        errors, words = np.array([1, 1, 1, 0]), np.array([4, 2, 0, 3])
        spread = np.sqrt(np.sum((errors - words / 3) ** 2) * 4 / 3) / 9
        assert float(result["standard_error"]) == pytest.approx(spread)

    def test_processes_add_up(self) -> None:
        whole, first, second = WordErrorRate(), WordErrorRate(), WordErrorRate()
        whole.update(self.references, self.hypotheses)
        first.update(self.references[:1], self.hypotheses[:1])
        second.update(self.references[1:], self.hypotheses[1:])
        first.merge_state(second)
        for key, value in whole.compute().items():
            assert float(first.compute()[key]) == pytest.approx(float(value)), key

    def test_no_reference_words_give_no_rate(self) -> None:
        metric = WordErrorRate()
        metric.update(["", ""], ["", "word"])
        assert math.isnan(metric.compute()["wer"])

    def test_counts_must_match(self) -> None:
        with pytest.raises(ValueError, match="2 references need as many hypotheses, got 1"):
            WordErrorRate().update(["a", "b"], ["a"])


class Given(UtteranceMean):
    def update(self, values: Tensor) -> None:
        self.add(values)


class TestUtteranceMean:
    def test_leaves_out_what_is_undefined_and_counts_it(self) -> None:
        values = torch.tensor([1.0, math.nan, 4.0, 2.5])
        parts = Given(), Given()
        parts[0].update(values[:2])
        parts[1].update(values[2:])
        parts[0].merge_state(parts[1])
        result = parts[0].compute()
        expected = mean_with_error(np.array([1.0, 4.0, 2.5]))
        assert float(result["mean"]) == pytest.approx(expected.value)
        assert float(result["standard_error"]) == pytest.approx(expected.standard_error)
        assert (float(result["count"]), float(result["undefined"])) == (3, 1)


class TestWarpingPath:
    def test_has_the_least_total_distance(self) -> None:
        generator = np.random.default_rng(3)
        first, second = generator.standard_normal((6, 2)), generator.standard_normal((5, 2))
        rows, columns = dtw_path(first, second)
        assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, 5, 4)
        steps = set(zip(np.diff(rows), np.diff(columns), strict=True))
        assert steps <= {(0, 1), (1, 0), (1, 1)}
        distances = np.linalg.norm(first[:, None] - second[None], axis=-1)
        assert distances[rows, columns].sum() == pytest.approx(self.least(distances))

    def least(self, distances: np.ndarray) -> float:
        """The least total over all monotonic paths, every one of them tried."""

        def to(row: int, column: int) -> float:
            before = [(row - 1, column), (row, column - 1), (row - 1, column - 1)]
            ways = [to(*cell) for cell in before if min(cell) >= 0]
            return distances[row, column] + (min(ways) if ways else 0.0)

        return to(distances.shape[0] - 1, distances.shape[1] - 1)


class TestMelCepstralDistortion:
    def test_equal_signals_have_none(self) -> None:
        wave = voice(120)
        assert mel_cepstral_distortion(wave, wave.clone(), RATE) == 0.0

    @pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100, 48000])
    def test_gain_changes_the_first_coefficient_alone(self, rate) -> None:
        wave = noise(12000)
        distortion = mel_cepstral_distortion(wave, 0.8 * wave, rate)
        assert distortion == pytest.approx(DECIBEL * abs(math.log(0.8)), rel=1e-3)

    @pytest.mark.parametrize("rate", [16000, 22050])
    def test_filter_of_one_warped_delay_changes_the_second(self, rate) -> None:
        _, alpha = warping(rate)
        wave = noise(2**14)
        delay = torch.exp(-2j * torch.pi * torch.fft.rfftfreq(len(wave)))
        response = torch.exp(0.3 * (delay - alpha) / (1 - alpha * delay))
        filtered = torch.fft.irfft(torch.fft.rfft(wave) * response, len(wave))
        assert mel_cepstral_distortion(wave, filtered, rate) == pytest.approx(DECIBEL * 0.3, rel=0.03)

    def test_orders_and_frames_are_those_of_espnet(self) -> None:
        orders = {rate: mel_cepstrum(sixteen_bit(noise(4000)), rate).shape for rate in (16000, 22050, 48000)}
        assert orders == {16000: (12, 24), 22050: (12, 35), 48000: (12, 40)}  # 1 + (4000 - 1024) // 256 frames
        assert [warping(rate)[1] for rate in (16000, 22050, 24000, 44100, 48000)] == [0.42, 0.45, 0.46, 0.53, 0.55]

    def test_alignment_forgives_a_pause_that_is_longer(self) -> None:
        first, second = voice(120, 0.4), noise(9000, level=0.2)
        short = torch.cat([first, noise(4096, seed=1, level=0.001), second])
        long = torch.cat([first, noise(4096 + 5120, seed=1, level=0.001), second])
        aligned = mel_cepstral_distortion(short, long, RATE)
        unaligned = mel_cepstral_distortion(short, torch.cat([second, first]), RATE)
        assert aligned < 4 < 10 < unaligned

    def test_full_scale_of_one_hides_differences_in_quiet_frames(self) -> None:
        wave = noise(12000, level=1e-4)
        expected = DECIBEL * math.log(2)
        assert mel_cepstral_distortion(wave, 2 * wave, RATE) == pytest.approx(expected, rel=0.15)
        assert mel_cepstral_distortion(wave, 2 * wave, RATE, int16_scale=False) < 0.3 * expected

    def test_16_bits_are_cut_off_at_full_scale(self) -> None:
        samples = sixteen_bit(torch.tensor([-2.0, -1.0, 0.0, 1.6 / 32768, 1.0]))
        assert samples.tolist() == [-32768, -32768, 0, 2, 32767]

    @pytest.mark.parametrize(
        ("wave", "rate", "message"),
        [
            (torch.zeros(1023), RATE, "1023 samples is shorter than one frame of 1024"),
            (torch.zeros(2, 4000), RATE, r"one channel \[N\], got \[2, 4000\]"),
            (torch.full((4000,), math.nan), RATE, "not finite"),
            (torch.zeros(4000), 8000, "no mel-cepstrum settings for 8000 Hz; known are 16000, 22050"),
        ],
        ids=["short", "stereo", "nan", "rate"],
    )
    def test_bad_waves_are_refused(self, wave, rate, message) -> None:
        with pytest.raises(ValueError, match=message):
            mel_cepstral_distortion(wave, wave, rate)

    def test_missing_package_names_the_extra(self, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "pysptk", None)
        with pytest.raises(ModuleNotFoundError, match=r"mel-cepstrum needs pysptk.*dmlik-pl\[speech\]"):
            mel_cepstral_distortion(noise(4000), noise(4000), RATE)

    def test_metric_is_the_mean_over_utterances(self) -> None:
        wave = noise(6000)
        metric = MelCepstralDistortion(RATE)
        metric.update([wave], [0.8 * wave])
        metric.update([wave], [wave])
        result = metric.compute()
        half = 0.5 * DECIBEL * abs(math.log(0.8))
        assert float(result["mean"]) == pytest.approx(half, rel=1e-3)
        assert float(result["standard_error"]) == pytest.approx(half, rel=1e-3)  # of two values, 0 and twice the mean


class TestLogF0RMSE:
    def test_equal_pitch_has_no_error(self) -> None:
        wave = voice(150)
        assert log_f0_rmse(wave, wave.clone(), RATE) == 0.0

    @pytest.mark.parametrize("rate", [16000, 22050, 24000])
    def test_known_ratio_of_pitches(self, rate) -> None:
        error = log_f0_rmse(voice(120, rate=rate), voice(132, rate=rate), rate)
        assert error == pytest.approx(math.log(1.1), rel=0.02)

    def test_low_voices_keep_their_pitch(self) -> None:
        assert log_f0_rmse(voice(80), voice(100), RATE) == pytest.approx(math.log(1.25), rel=0.02)

    def test_pitch_in_hertz(self) -> None:
        for expected in (80.0, 150.0, 390.0):
            pitch, _ = pitch_and_cepstrum(voice(expected), RATE)
            assert np.median(pitch[pitch > 0]) == pytest.approx(expected, rel=0.01)

    def test_lowest_pitch_can_be_lowered(self) -> None:
        pitch, _ = pitch_and_cepstrum(voice(60), RATE, f_min=40.0)
        assert np.median(pitch[pitch > 0]) == pytest.approx(60, rel=0.01)
        pitch, _ = pitch_and_cepstrum(voice(60), RATE)
        assert pitch[pitch > 0].min() > 69

    def test_no_common_voiced_frame_is_undefined_and_counted(self) -> None:
        assert math.isnan(log_f0_rmse(voice(120), torch.zeros(12000), RATE))
        metric = LogF0RMSE(RATE)
        metric.update([voice(120), voice(120)], [torch.zeros(12000), voice(132)])
        result = metric.compute()
        assert float(result["mean"]) == pytest.approx(math.log(1.1), rel=0.02)
        assert (float(result["count"]), float(result["undefined"])) == (1, 1)

    def test_unknown_rate_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no mel-cepstrum settings for 11025 Hz"):
            LogF0RMSE(11025)


class TestPitchTrack:
    @pytest.mark.parametrize("hop", [120, 256])
    def test_frames_are_a_hop_apart(self, hop: int) -> None:
        """The pitch of a glide tells when each frame is."""
        seconds, low, high = 0.8, 100.0, 200.0
        time = np.arange(round(seconds * RATE)) / RATE
        phase = low * time + (high - low) / (2 * seconds) * time**2
        pulses = np.diff(np.floor(phase), prepend=0)
        pitch, cepstrum = pitch_and_cepstrum(torch.from_numpy(0.9 * pulses).float(), RATE, hop=hop)
        assert len(pitch) == len(cepstrum) == len(time) // hop + 1
        middle = np.flatnonzero(pitch > 0)
        middle = middle[(middle * hop > 0.2 * len(time)) & (middle * hop < 0.8 * len(time))]
        expected = low + (high - low) * middle * hop / len(time)
        np.testing.assert_allclose(pitch[middle], expected, rtol=0.01)

    def test_highest_pitch_can_be_lowered(self) -> None:
        pitch, _ = pitch_and_cepstrum(voice(300), RATE, f_max=250.0)
        assert pitch.max() <= 250 * 1.01
        assert log_f0_rmse(voice(300), voice(330), RATE, f_max=400.0) == pytest.approx(math.log(1.1), rel=0.02)
