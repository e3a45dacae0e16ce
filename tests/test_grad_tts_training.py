"""The training of Grad-TTS: the official recipe, its command line, and the model that ships with the package."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import yaml
from lightning import Trainer
from safetensors.torch import load_file

from dmlik_pl.callbacks import Synthesis
from dmlik_pl.cli import CONFIGS
from dmlik_pl.data.ljspeech import LJSpeech
from dmlik_pl.data.speech import collate_training
from dmlik_pl.data.spoken import SPOKEN_VOCABULARY, Spoken
from dmlik_pl.flow import Multistep, log_likelihood
from dmlik_pl.metrics.recognition import WordLoop
from dmlik_pl.metrics.word_error import word_errors
from dmlik_pl.models.grad_tts import TextToSpeech, text_free_mean
from dmlik_pl.modules.training.grad_tts import GradTTSTraining
from dmlik_pl.modules.training.times import even_share
from dmlik_pl.plain_text import file_stem
from dmlik_pl.shipped import ASSETS
from dmlik_pl.speech.audio import write
from train import cli_main

TINY = {
    "n_spks": 2,
    "spk_emb_dim": 8,
    "n_enc_channels": 16,
    "filter_channels": 16,
    "filter_channels_dp": 16,
    "n_enc_layers": 1,
    "dec_dim": 8,
    "pe_scale": 20,
}
SOLVER = Multistep(nodes=9)
SHIPPED_BITS = -0.15  # per dimension, of the first 96 frames of the test data under the shipped model


def tiny(output: str = "unused", **options) -> GradTTSTraining:
    torch.manual_seed(0)
    return GradTTSTraining(output, TINY, **options)


@pytest.fixture(autouse=True, scope="module")
def few_steps():
    """A spectrogram of few steps is as good to a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dmlik_pl.modules.training.grad_tts.SPEAKING_STEPS", 4)
        yield


@pytest.fixture(scope="module")
def data():
    return Spoken(train_size=8, validation_size=4, test_size=8, train_batch_size=4, voices=["en-us", "en-us+f2"])


@pytest.fixture(scope="module")
def batch(data):
    return next(iter(data.val_dataloader()))


def quiet_trainer(folder: Path, **options) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    return Trainer(
        default_root_dir=folder, **quiet | {"enable_checkpointing": False, "num_sanity_val_steps": 0} | options
    )


def fit(folder: Path, *options: str) -> tuple[object, pd.DataFrame]:
    """Run the command line on a tiny network, with short looks at it and averaged weights."""
    config = yaml.safe_load((CONFIGS / "grad_tts_spoken.yaml").read_text())
    callbacks = config["trainer"]["callbacks"]
    monitor = callbacks[0]
    monitor["init_args"]["samples"] = 1
    monitor["init_args"]["solver"]["init_args"]["nodes"] = 9
    average = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}
    config["trainer"]["callbacks"] = [*callbacks, average]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    cli = cli_main(
        [
            "fit",
            f"--config={folder / 'config.yaml'}",
            f"--model.output={folder / 'model'}",
            f"--model.network={TINY}",
            "--data.train_size=16",
            "--data.validation_size=4",
            "--trainer.check_val_every_n_epoch=1",
            "--trainer.log_every_n_steps=1",
            "--trainer.enable_model_summary=false",
            f"--trainer.logger.init_args.save_dir={folder}",
            *options,
        ]
    )
    return cli, pd.read_csv(Path(cli.trainer.logger.log_dir) / "metrics.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    cli, log = fit(folder, "--trainer.max_steps=8", "--model.encoder_steps=3", "--model.warmup_steps=2")
    return folder, cli, log


def test_the_command_trains_watches_and_exports(trained):
    folder, cli, log = trained
    losses = log["train/loss"].dropna()
    assert losses.iloc[2] < losses.iloc[0]
    assert log["train/diffusion"].notna().sum() == 5, "three of eight steps train the encoder alone"
    total = log[["val/duration", "val/prior", "val/diffusion"]].sum(axis=1)[log["val/loss"].notna()]
    assert np.allclose(total, log["val/loss"].dropna(), rtol=1e-5)
    assert log["val/bpd"].notna().any() and log["val/text_gain"].notna().any()
    assert list(Path(cli.trainer.log_dir).glob("speech/*/audio-*.wav"))
    model = TextToSpeech(str(folder / "model"))
    for name, value in cli.model.grad_tts.state_dict().items():
        assert torch.equal(model.grad_tts.state_dict()[name], value)
    assert 0.01 < model.duration_deviation < 10
    assert model.grad_tts.decoder.estimator.pe_scale == 20 and model.grad_tts.n_spks == 2


def test_averaged_weights_are_exported(trained):
    folder, cli, _ = trained
    (last,) = Path(cli.trainer.log_dir).glob("checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    name = "decoder.estimator.final_conv.weight"
    exported = load_file(folder / "model" / "model.safetensors")[name]
    assert torch.equal(exported, checkpoint["state_dict"][f"grad_tts.{name}"])
    assert not torch.equal(exported, checkpoint["current_model_state"][f"grad_tts.{name}"])


def test_a_fit_goes_on_where_it_stopped(trained, tmp_path):
    _, cli, log = trained
    last = Path(cli.trainer.log_dir) / "checkpoints" / "last.ckpt"
    again, more = fit(tmp_path, "--trainer.max_steps=10", f"--ckpt_path={last}", "--model.encoder_steps=3")
    assert again.trainer.global_step == 10 and more["step"].min() >= log["step"].max()
    moments = again.trainer.optimizers[0].state[again.model.grad_tts.encoder.emb.weight]
    assert int(moments["step"]) == 10


def test_the_official_recipe_runs_on_few_short_files_one_of_them_missing(data, tmp_path):
    root, utterances = tmp_path / "LJSpeech-1.1", data.speech_set("train")
    (root / "wavs").mkdir(parents=True)
    lines = [f"LJ-{index}|{utterances[index].text}|{utterances[index].text}" for index in range(6)]
    (root / "metadata.csv").write_text("\n".join(lines))
    for index in range(6):
        write(root / "wavs" / f"LJ-{index}.wav", utterances[index].audio[:22050])  # shorter than any segment
    held_out = LJSpeech(str(root), validation_size=1, test_size=1)
    (root / "wavs" / f"{held_out.speech_set('train').sample_ids[0]}.wav").unlink()
    settings = {
        "model.output": tmp_path / "model",
        "model.network": TINY | {"n_spks": 1},
        "data.root": root,
        "data.validation_size": 1,
        "data.test_size": 1,
        "data.num_workers": 0,
        "trainer.max_epochs": 2,
        "trainer.check_val_every_n_epoch": 1,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        "trainer.logger.init_args.save_dir": tmp_path,
    }
    with pytest.warns(UserWarning, match="1 of 4 utterances"):
        cli = cli_main(
            ["fit", "--config=grad_tts_ljspeech.yaml", *(f"--{key}={value}" for key, value in settings.items())]
        )
    assert cli.trainer.global_step == 2
    scores = cli.trainer.checkpoint_callback.best_k_models  # by bits per dimension, measured in both epochs
    assert len(scores) == 2 and all(torch.isfinite(score) for score in scores.values())
    assert TextToSpeech(str(tmp_path / "model")).grad_tts.n_spks == 1


def test_the_default_recipe_is_the_official_one(data, tmp_path):
    model = GradTTSTraining("unused", {"n_enc_layers": 1, "filter_channels": 8, "dec_dim": 8})
    assert model.segment_frames == 172 and model.grad_tts.decoder.estimator.pe_scale == 1000
    model.trainer = quiet_trainer(tmp_path)
    configured = model.configure_optimizers()
    (group,) = configured["optimizer"].param_groups
    assert type(configured["optimizer"]) is torch.optim.Adam and len(group["params"]) == len(list(model.parameters()))
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-4, (0.9, 0.999), 1e-8, 0)
    for _ in range(5):
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert group["lr"] == 1e-4


def test_encoder_and_decoder_are_clipped_apart_and_speakers_not_at_all():
    model = tiny()
    model.log_dict = lambda *_, **__: None
    optimiser = torch.optim.Adam(model.parameters())
    parts = (model.grad_tts.encoder, model.grad_tts.decoder, model.grad_tts.spk_emb)
    for part, size in zip(parts, (3.0, 0.5, 70.0), strict=True):
        count = sum(weight.numel() for weight in part.parameters())
        for weight in part.parameters():
            weight.grad = torch.full_like(weight, size / math.sqrt(count))
    model.configure_gradient_clipping(optimiser)
    norms = [torch.cat([weight.grad.flatten() for weight in part.parameters()]).norm().item() for part in parts]
    assert norms == pytest.approx([1.0, 0.5, 70.0], rel=1e-4)


def test_a_second_clipping_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="gradient_clip_val null"):
        quiet_trainer(tmp_path, max_steps=1, gradient_clip_val=1.0).fit(tiny(str(tmp_path / "m")), data)


def test_dropout_is_active_in_training_and_not_in_validation(batch):
    model = tiny()
    times, noise = torch.full((len(batch),), 0.5), torch.zeros_like(batch.mel)

    def encoder_loss() -> float:
        return model.losses(batch, time=times, noise=noise)["prior"].item()

    assert model.train() and encoder_loss() != encoder_loss()
    assert model.eval() and encoder_loss() == encoder_loss()


@torch.no_grad()
def test_validation_losses_move_with_the_weights_alone(data, tmp_path):
    model = tiny()
    trainer = quiet_trainer(tmp_path)
    first, second = (trainer.validate(model, data, verbose=False) for _ in range(2))
    assert first == second and first[0]["val/diffusion"] > 0
    model.grad_tts.decoder.estimator.final_conv.bias.add_(1)
    moved = trainer.validate(model, data, verbose=False)
    assert moved[0]["val/diffusion"] != first[0]["val/diffusion"] and moved[0]["val/prior"] == first[0]["val/prior"]


@pytest.mark.parametrize("count", [1, 2])
def test_few_utterances_and_short_ones_are_trained_on(data, count):
    batch = collate_training([data.speech_set("train")[i] for i in range(count)])
    model = tiny()
    longest = batch.mel.shape[-1]
    for segment in (64, longest, longest + 4, 4 * longest, None):
        losses = model.losses(batch, segment=segment)
        assert all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(value) for value in model.encoder_losses(batch).values())


def test_encoder_losses_are_those_of_whole_utterances(batch):
    model = tiny().eval()
    whole, alone = model.losses(batch), model.encoder_losses(batch)
    for name in ("duration", "prior"):
        assert alone[name].item() == pytest.approx(whole[name].item(), rel=1e-5)


def test_a_broken_utterance_leaves_the_weights_as_they_are(data, tmp_path):
    utterances = [data.speech_set("train")[i] for i in range(4)]
    spoiled = collate_training(utterances)
    spoiled.mel[1, 3, 5] = torch.nan
    model = tiny(str(tmp_path / "model"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(UserWarning, match="gradients are not finite"):
        quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(
            model, torch.utils.data.DataLoader([spoiled], batch_size=None)
        )
    assert model.left_out == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert TextToSpeech(str(tmp_path / "model")).duration_deviation > 0  # without validation data, the default


def test_even_times_are_uniform_each_and_spread_together():
    draws = torch.stack([even_share(4) for _ in range(2000)])
    assert torch.allclose(draws.mean(0), torch.full((4,), 0.5), atol=0.03)
    assert torch.allclose(draws.sort(1).values.diff(dim=1), torch.full((), 0.25), atol=1e-6)


def test_ragged_segments_end_up_to_three_frames_behind_their_utterance():
    module = tiny(ragged_share=0.5)
    lengths, segment = torch.tensor([200, 131, 64, 40]).repeat(500), 64
    offsets = module._ragged_offsets(lengths, segment).reshape(500, 4)
    beyond = offsets - (torch.tensor([200, 131, 64, 40]) - segment).clamp(min=0)
    assert (offsets >= 0).all() and beyond.max() == 3
    assert (beyond[:, 2:] <= 0).all()  # nothing to cut, nothing to choose
    for column in (0, 1):
        share = float((beyond[:, column] > 0).double().mean())
        assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 500)
    assert (tiny(ragged_share=1.0)._ragged_offsets(lengths[:2], segment) - lengths[:2] + segment > 0).all()


def test_padded_frames_of_a_ragged_segment_are_in_no_loss(batch):
    module = tiny().eval()
    found = module.align(batch)
    start = batch.mel_lengths - 62  # 62 real frames, 2 padded ones
    one = module.grad_tts.compute_loss(
        batch.tokens, batch.token_lengths, batch.mel, batch.mel_lengths, batch.speaker, 64, offsets=start
    )
    error, real = 0.0, 0
    for b, first in enumerate(start.tolist()):
        last = int(batch.mel_lengths[b])
        mu = (found.mu[b] @ found.path[b])[:, first:last]
        error += float((0.5 * ((batch.mel[b, :, first:last] - mu) ** 2 + math.log(2 * math.pi))).sum())
        real += last - first
    assert real == 62 * len(batch)
    assert float(one.prior.detach()) == pytest.approx(error / (80 * real), rel=1e-5)


def test_fine_tuning_starts_from_given_weights(trained):
    folder, cli, _ = trained
    model = GradTTSTraining("unused", weights=str(folder / "model"), network={"pe_scale": 5})
    start = cli.model.grad_tts.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in model.grad_tts.state_dict().items())
    assert model.grad_tts.decoder.estimator.pe_scale == 5
    assert all(weight.requires_grad for weight in model.grad_tts.parameters())


def test_likelihood_problems_do_not_depend_on_neighbours(data, batch, tmp_path):
    model = tiny().eval()
    problem = model.likelihood_problems(batch, 10)[1]
    alone = collate_training([data.speech_set("validation")[1]])
    other = model.likelihood_problems(alone, 1)[0]
    options = {"solver": SOLVER, "sample_ids": problem.sample_ids}
    found = [log_likelihood(p.flow, p.x, p.condition, **options) for p in (problem, other)]
    assert torch.equal(found[0].log_p, found[1].log_p)
    # The same by the exported model, step by step.
    model.trainer = quiet_trainer(tmp_path)
    model.duration_deviation = lambda: None
    model.export(tmp_path)
    utterance, loaded = data.speech_set("validation")[1], TextToSpeech(str(tmp_path))
    mu = loaded.align(utterance.tokens, utterance.mel, "search", utterance.speaker).mu
    for mean, condition in ((mu, problem.condition), (text_free_mean(mu), problem.alternative)):
        again = loaded.condition([mean], [utterance.speaker])
        assert torch.allclose(again.inputs["mu"], condition.inputs["mu"], atol=1e-5)
    again = log_likelihood(loaded.flow(), loaded.pad(utterance.mel), loaded.condition([mu], [1]), **options)
    assert again.log_p.item() == pytest.approx(found[0].log_p.item(), rel=1e-6)
    assert int(again.dims) == 80 * utterance.mel.shape[1]


def test_speech_is_kept_where_there_is_no_logger(data, batch, tmp_path):
    callback = Synthesis(every_n_epochs=1, samples=2)
    quiet_trainer(tmp_path, callbacks=[callback]).validate(tiny().eval(), data, verbose=False)
    kept = {str(path.relative_to(tmp_path / "speech")) for path in tmp_path.rglob("speech/*/*")}
    parts = ("alignment-000000.png", "spectrograms-000000.png", "audio-000000.wav")
    assert kept == {f"{file_stem(name)}/{part}" for name in batch.sample_id[:2] for part in parts}
    wave, rate = soundfile.read(tmp_path / "speech" / file_stem(batch.sample_id[0]) / "audio-000000.wav")
    assert rate == 22050 and len(wave) == 256 * int(batch.mel_lengths[0])


@torch.no_grad()
def test_speech_examples_follow_the_reference(batch):
    model = tiny().eval()
    first, second = (model.speech_examples(batch, 2, seed=0) for _ in range(2))
    assert torch.equal(first[1].wave, second[1].wave)
    assert not torch.equal(first[0].decoder, model.speech_examples(batch, 1, seed=1)[0].decoder)
    for example, length in zip(first, batch.mel_lengths, strict=False):
        assert example.reference.shape == example.encoder.shape == example.decoder.shape == (80, length)
        assert int(example.durations.sum()) == length


def test_a_missing_model_to_fine_tune_is_named():
    with pytest.raises(FileNotFoundError, match="no Grad-TTS at 'nonesuch'"):
        GradTTSTraining("unused", weights="nonesuch")


@torch.no_grad()
def test_the_shipped_model_speaks_its_texts_in_both_voices():
    folder = ASSETS / "spoken-grad-tts"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    model, recogniser = TextToSpeech("spoken-grad-tts"), WordLoop(SPOKEN_VOCABULARY)
    data = Spoken(test_size=4).test_set()
    torch.manual_seed(0)
    errors, words = 0, 0
    for index in range(4):
        utterance = data[index]
        spoken = model.synthesise(utterance.tokens, utterance.speaker, steps=10, temperature=1.5)
        (heard,) = recogniser.transcribe([model.vocode(spoken)], model.rate)
        wrong, count = word_errors(utterance.text, heard)
        errors, words = errors + wrong, words + count
    assert errors / words <= 0.1


def test_the_shipped_model_hears_its_text_and_its_voice():
    model, utterance = TextToSpeech("spoken-grad-tts"), Spoken(test_size=1).test_set()[0]
    mel = utterance.mel[:, :96]
    mu = model.align(utterance.tokens, utterance.mel, "search", utterance.speaker).mu[:, :96]
    found, without_text, other_voice = (
        log_likelihood(
            model.flow(),
            model.pad(mel),
            model.condition([mean], [speaker]),
            solver=Multistep(nodes=25),
            sample_ids=[utterance.sample_id],
        )
        for mean, speaker in ((mu, 0), (text_free_mean(mu), 0), (mu, 1))
    )
    assert utterance.speaker == 0
    assert found.bpd.item() == pytest.approx(SHIPPED_BITS, abs=0.05)
    for other, least in ((without_text, 0.2), (other_voice, 0.05)):
        gain, error = (value.item() / found.dims.item() / math.log(2) for value in found.minus(other))
        assert gain - 3 * error > least
