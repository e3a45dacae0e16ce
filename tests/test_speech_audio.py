"""Waves in files, their log-mel spectrograms, and the synthesiser of the spoken corpus."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from dmlik_pl.speech.audio import length, read, remarks, resample, write
from dmlik_pl.speech.espeak import Espeak
from dmlik_pl.speech.mel import LogMel

GOLDEN = load_file(Path(__file__).parent / "goldens" / "mel.safetensors")
WAVES = sorted(name.removeprefix("in.") for name in GOLDEN if name.startswith("in."))


def tone(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * math.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("name", WAVES)
def test_log_mels_are_the_official_ones(name):
    mel, expected = LogMel()(GOLDEN[f"in.{name}"]), GOLDEN[f"out.{name}"]
    assert mel.shape == expected.shape
    # Beside a loud band, float32 leaves a silent one uncertain by what the transform rounds off.
    loudest = expected.exp().amax(dim=0)
    assert ((mel.exp() - expected.exp()).abs() / loudest).max() < 1e-6
    assert (mel - expected).norm() / expected.norm() < 2.5e-5


def test_window_and_filters_are_the_official_ones():
    log_mel = LogMel()
    assert torch.equal(log_mel.window, GOLDEN["out.hann_window"])
    assert torch.allclose(log_mel.filters, GOLDEN["out.mel_basis"], rtol=1e-6, atol=1e-9)
    assert not log_mel.state_dict()  # nothing that a checkpoint would have to hold


def test_a_log_mel_is_the_one_of_its_definition():
    wave = torch.from_numpy(np.random.default_rng(0).normal(size=1000) * 0.1)
    mirrored = np.pad(wave.numpy(), 384, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(1024) / 1024)
    frames = [mirrored[start : start + 1024] * window for start in range(0, len(mirrored) - 1023, 256)]
    magnitude = np.sqrt(np.abs(np.fft.rfft(frames)) ** 2 + 1e-9)
    expected = np.log(np.maximum(GOLDEN["out.mel_basis"].double().numpy() @ magnitude.T, 1e-5))
    assert np.allclose(LogMel()(wave).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("samples", "frames"), [(385, 1), (511, 1), (512, 2), (767, 2), (768, 3), (44_101, 172)])
def test_frames_are_counted_for_odd_lengths_too(samples, frames):
    log_mel = LogMel()
    wave = torch.linspace(-0.5, 0.5, samples)
    assert log_mel.frames(samples) == frames
    assert log_mel(wave).shape == (80, frames)
    assert torch.allclose(log_mel(wave.expand(2, 3, -1))[1, 2], log_mel(wave), atol=1e-6)


@pytest.mark.parametrize("samples", [0, 1, 384])
def test_a_wave_too_short_to_be_mirrored_is_refused(samples):
    with pytest.raises(ValueError, match=f"a wave of {samples} samples is too short .*: 385 at least"):
        LogMel()(torch.zeros(samples))


def test_bands_beyond_half_the_rate_are_refused():
    with pytest.raises(ValueError, match="8000 Hz is beyond half the sample rate, 4000 Hz"):
        LogMel(rate=8000)


def test_a_file_is_read_as_it_was_written(tmp_path):
    wave = torch.from_numpy(tone(440, 22_050)).float()
    write(tmp_path / "a.wav", wave)
    assert (read(tmp_path / "a.wav") - wave).abs().max() < 2 / 32768
    stretch = read(tmp_path / "a.wav", start=0.1, stop=0.2)
    assert torch.equal(stretch, read(tmp_path / "a.wav")[2205:4410])
    assert read(tmp_path / "a.wav", start=0.4, stop=0.59).shape == (11_025 - 8820,)
    write(tmp_path / "loud.wav", torch.tensor([2.0, -2.0]))
    assert soundfile.read(tmp_path / "loud.wav")[0].tolist() == pytest.approx([1.0, -1.0], abs=1e-4)


def test_another_rate_is_an_error_unless_the_change_is_asked_for(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(440, 16_000), 16_000)
    with pytest.raises(ValueError, match=r"a\.flac has 16000 Hz, 22050 Hz expected.*resample: true"):
        read(path)
    with pytest.raises(ValueError, match="has 16000 Hz"):
        length(path)
    wave = read(path, resample=True, start=0.1, stop=0.4)
    assert abs(len(wave) - 6615) <= 1
    assert abs(length(path, resample=True, start=0.1, stop=0.4) - len(wave)) <= 1
    middle = wave[1000:5410].numpy()  # 88 periods
    assert np.abs(np.fft.rfft(middle)).argmax() == 88
    assert np.abs(middle).max() == pytest.approx(0.5, abs=2e-3)


def test_resampling_keeps_leading_dimensions_and_what_has_the_rate_already():
    waves = torch.randn(2, 3, 1600)
    changed = resample(waves, 16_000, 22_050)
    assert changed.shape == (2, 3, 2205)
    assert torch.allclose(changed[1, 2], resample(waves[1, 2], 16_000, 22_050), atol=1e-6)
    assert resample(waves, 16_000, 16_000) is waves


def test_files_that_are_missing_empty_damaged_or_of_two_channels_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no audio file .*gone\.wav"):
        read(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"text\.wav cannot be read as audio"):
        read(tmp_path / "text.wav")
    soundfile.write(tmp_path / "two.wav", np.zeros((100, 2)), 22_050)
    with pytest.raises(ValueError, match=r"two\.wav has 2 channels, 1 expected"):
        read(tmp_path / "two.wav")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 22_050)
    with pytest.raises(ValueError, match=r"none\.wav has no samples from 0 s to its end"):
        read(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="finite"):
        write(tmp_path / "nan.wav", torch.tensor([math.nan]))


CONTAINERS = {
    "a.wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "wide.wav": ("WAVEX", "PCM_24"),
    "long.wav": ("RF64", "PCM_16"),
    "a.sph": ("NIST", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "a.aiff": ("AIFF", "PCM_16"),
    "a.au": ("AU", "PCM_16"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
    "a.w64": ("W64", "PCM_16"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_that_was_cut_is_refused_at_every_length(name, tmp_path):
    path = tmp_path / name
    samples = 0.1 * np.random.default_rng(0).normal(size=4 * 22_050)
    kind, subtype = CONTAINERS[name]
    soundfile.write(path, samples, 22_050, subtype, format=kind)
    whole = path.read_bytes()
    assert abs(len(read(path)) - len(samples)) < 2000  # lossy formats pad
    for share in (0.3, 0.5, 0.8, 0.98):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=rf"{name}.* (is cut|is damaged|cannot be read as audio)"):
            read(path)
    path.write_bytes(whole[: len(whole) // 2])
    if name.endswith((".wav", ".sph", ".aiff", ".au", ".w64")):
        told = r"is cut: its header promises (4\.00|3\.99) s, it holds (2\.00|1\.99) s"
        for look in (read, length):
            with pytest.raises(ValueError, match=told):
                look(path)


def test_a_header_that_knows_no_length_promises_none(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440, 22_050), 22_050)
    content = path.read_bytes()
    place = content.index(b"data") + 4
    for size in (b"\xff\xff\xff\xff", b"\x00\xf0\xff\x7f"):  # as ffmpeg and sox write to a pipe
        path.write_bytes(content[:place] + size + content[place + 4 :])
        assert len(read(path)) == 11_025


def test_a_stretch_must_lie_in_its_file(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(440, 22_050, 2.0), 22_050)
    assert len(read(tmp_path / "a.wav", start=1.0, stop=2.09)) == 22_050
    with pytest.raises(ValueError, match=r"a\.wav ends at 2\.00 s, and 1 s to 3\.5 s are wanted"):
        read(tmp_path / "a.wav", start=1.0, stop=3.5)
    with pytest.raises(ValueError, match=r"ends at 2\.00 s"):
        length(tmp_path / "a.wav", start=1.0, stop=3.5)


@pytest.mark.parametrize(
    ("wave", "told"),
    [
        (100 * tone(440, 22_050), r"reaches 50 times full scale, which is 1: scale its samples to \[-1, 1\]"),
        (32767 * tone(440, 22_050), r"reaches 1\.64e\+04 times full scale"),
        ((100 * tone(440, 22_050)).clip(-1, 1), r"is clipped: 99 % of its samples are at full scale"),
        (np.zeros(11_025), r"is silent: each of its 11025 samples is 0"),
        (np.full(11_025, 0.25), r"is silent: each of its 11025 samples is 0\.25"),
        (np.where(np.arange(11_025) == 7, np.nan, 0.1), "has samples that are not finite"),
        (np.where(np.arange(11_025) == 7, np.inf, 0.1), "has samples that are not finite"),
    ],
    ids=["loud", "integers", "clipped", "silent", "constant", "nan", "infinite"],
)
def test_samples_that_are_no_speech_are_refused(wave, told, tmp_path):
    soundfile.write(tmp_path / "a.wav", wave, 22_050, "FLOAT")
    with pytest.raises(ValueError, match=rf"a\.wav {told}"):
        read(tmp_path / "a.wav")


def test_what_is_odd_about_a_wave_is_said():
    wave = torch.from_numpy(tone(440, 22_050))
    assert remarks(wave) == ""
    assert remarks(2.4 * wave).startswith("peaks at 1.20 of full scale; ") and "are clipped" in remarks(2.4 * wave)
    few = wave.clone()
    few[:110] = 1.0
    assert remarks(few) == "1.0 % of its samples are clipped"
    assert remarks(wave / 1000) == "very quiet, root mean square 0.0004 of full scale"


def test_espeak_says_the_same_whatever_it_said_before():
    espeak = Espeak()
    first = {voice: espeak.speak("dolphin guitar", voice) for voice in ("en-us", "en-us+f2", "en-us+klatt2")}
    espeak.speak("a long sentence in between, to move its state", "en-us+whisper", 300, 80)
    for voice in reversed(first):
        assert torch.equal(espeak.speak("dolphin guitar", voice), first[voice]), voice
    assert 0.5 < len(first["en-us"]) / 22_050 < 2.5
    assert not torch.equal(first["en-us"], first["en-us+f2"])
    assert 0.1 < first["en-us"].abs().max() < 1


def test_espeak_says_the_same_in_another_process():
    code = (
        "from hashlib import sha256; from dmlik_pl.speech.espeak import Espeak\n"
        "print(sha256(Espeak().speak('castle window', 'en-us+f2').numpy().tobytes()).hexdigest())"
    )
    from hashlib import sha256

    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert sha256(Espeak().speak("castle window", "en-us+f2").numpy().tobytes()).hexdigest() == other


def test_espeak_obeys_speed_and_pitch():
    espeak = Espeak()
    slow, fast = (len(espeak.speak("dolphin guitar castle", words_per_minute=rate)) for rate in (120, 240))
    assert slow > 1.5 * fast
    assert not torch.equal(espeak.speak("guitar", pitch=30), espeak.speak("guitar", pitch=70))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hello", "nobody"), "knows no voice 'nobody'"),
        (("", "en-us"), "is silent for"),
        (("hello", "en-us", 10), "words_per_minute must be 80 to 450"),
        (("hello", "en-us", 175, 101), "pitch must be 0 to 100"),
    ],
    ids=["voice", "text", "speed", "pitch"],
)
def test_espeak_refuses_what_it_cannot_say(arguments, message):
    with pytest.raises(ValueError, match=message):
        Espeak().speak(*arguments)
