"""Fine-tuning: what is trained, what a checkpoint and an export hold, and that it goes on where it stopped."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from scipy.stats import binom
from tiny_models import SCALED_LINEAR, make_tiny_sd, make_tiny_sdxl

from dmlik_pl.callbacks import ExponentialAverage
from dmlik_pl.data.base import Failure, collate
from dmlik_pl.data.drawings import DrawingImages
from dmlik_pl.data.resumable import ResumableLoader
from dmlik_pl.flow import Multistep, log_likelihood
from dmlik_pl.models import StableDiffusion, StableDiffusionXL
from dmlik_pl.models.lora import LORA_FILE
from dmlik_pl.modules.training.adapter import LoRA
from dmlik_pl.modules.training.fine_tuning import FineTuning
from dmlik_pl.modules.training.loss_weight import MinSNR, NoiseError, VelocityError, output_weight
from dmlik_pl.modules.training.offers import OffersLikelihoods
from dmlik_pl.records.run import run_folder

FEW = {"solver": Multistep(nodes=9)}
SMALL = LoRA(rank=2, alpha=4.0)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return make_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return make_tiny_sd(tmp_path_factory.mktemp("sd"), scheduler={"prediction_type": "v_prediction"})


@pytest.fixture(scope="module")
def batch():
    data = DrawingImages("train", 8)
    return collate([data[index] for index in range(8)])


def tuned(folder, output="unused", kind=StableDiffusionXL, **options) -> FineTuning:
    torch.manual_seed(0)
    return FineTuning(kind(str(folder)), str(output), warmup_steps=1, **{"learning_rate": 1e-2, **options})


def fit(model: FineTuning, steps: int, *callbacks, ckpt_path=None, **options) -> Trainer:
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger", "enable_checkpointing"), False)
    trainer = Trainer(max_steps=steps, accelerator="cpu", callbacks=list(callbacks), **quiet | options)
    loader = ResumableLoader(DrawingImages("train", 12), 2, seed=0)  # 6 batches an epoch
    trainer.fit(model, loader, ckpt_path=ckpt_path)
    return trainer


def shaken(model: FineTuning) -> FineTuning:
    """With low-rank weights that are not zero."""
    generator = torch.Generator().manual_seed(7)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


def output(model, batch) -> torch.Tensor:
    """The network's output for given latents, without any randomness."""
    diffusion = getattr(model, "diffusion", model)
    x = torch.randn(len(batch), 4, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return diffusion.network(x, torch.linspace(1, 998, len(batch)), diffusion.condition(batch.prompt).inputs)


def test_min_snr_weights_are_those_of_the_formula():
    snr = torch.tensor([0.01, 1.0, 5.0, 20.0, 1000.0])
    noise = output_weight(MinSNR(5.0), "epsilon", snr)
    velocity = output_weight(MinSNR(5.0), "v", snr)
    assert noise.tolist() == pytest.approx([1.0, 1.0, 1.0, 0.25, 0.005])
    assert velocity.tolist() == pytest.approx([0.01 / 1.01, 1 / 2, 5 / 6, 5 / 21, 5 / 1001])
    assert output_weight(MinSNR(5.0), "x0", snr).tolist() == pytest.approx([0.01, 1.0, 5.0, 5.0, 5.0])
    with pytest.raises(ValueError, match="gamma"):
        MinSNR(0.0)


def test_plain_errors_weigh_their_own_prediction_evenly():
    snr = torch.tensor([0.01, 1.0, 100.0])
    assert output_weight(NoiseError(), "epsilon", snr).tolist() == pytest.approx([1.0] * 3)
    assert output_weight(VelocityError(), "v", snr).tolist() == pytest.approx([1.0] * 3)
    assert output_weight(NoiseError(), "v", snr).tolist() == pytest.approx([0.01 / 1.01, 0.5, 100 / 101])


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0", "velocity"])
def test_weights_of_all_predictions_are_one_loss(prediction):
    """The same error of the denoised data costs the same, whatever the network predicts."""
    time = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    straight = prediction == "velocity"
    alpha, sigma = (1 - time, time) if straight else (torch.cos(time), torch.sin(time))
    snr = (alpha / sigma).square()
    noisy, data = torch.randn(2, 3, dtype=torch.float64)

    def network_output(denoised):
        noise = (noisy - alpha * denoised) / sigma
        return {
            "epsilon": noise,
            "x0": denoised,
            "v": alpha * noise - sigma * denoised,
            "velocity": noise - denoised,
        }[prediction]

    error = (network_output(data + 0.3) - network_output(data)).square()
    assert torch.allclose(output_weight(MinSNR(2.0), prediction, snr) * error, snr.clamp(max=2.0) * 0.09)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("weight", [None, MinSNR(5.0), VelocityError()], ids=["plain", "min-snr", "v"])
def test_the_loss_is_that_of_the_library(sdxl, batch, tmp_path, kind, weight):
    folder = make_tiny_sdxl(tmp_path, scheduler={"prediction_type": kind})
    model = tuned(folder, loss_weight=weight, log_snr_share=0.0)
    with torch.no_grad():
        found = model.loss(model.latents(batch), model.condition(batch), torch.Generator().manual_seed(5))
    # The same draws, and diffusers' own scheduler and pipeline, at the nearest whole steps.
    random = torch.Generator().manual_seed(5)
    time = (torch.rand((), generator=random) + torch.arange(8) / 8) % 1
    torch.rand(8, generator=random), torch.rand(8, generator=random)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    scheduler = DDPMScheduler(**SCALED_LINEAR, prediction_type=kind)
    steps = (999 * time).round().long()
    with torch.no_grad():
        data = pipeline.vae.encode(batch.image).latent_dist.mode() * 0.7
        noise = torch.randn(data.shape, generator=random)
        text, _, pooled, _ = pipeline.encode_prompt(batch.prompt, do_classifier_free_guidance=False)
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]]).expand(8, -1)}
        guess = pipeline.unet(scheduler.add_noise(data, noise, steps), steps, text, added_cond_kwargs=added).sample
        wanted = noise if kind == "epsilon" else scheduler.get_velocity(data, noise, steps)
        error = (guess - wanted).square().mean((1, 2, 3))
    snr = scheduler.alphas_cumprod[steps] / (1 - scheduler.alphas_cumprod[steps])
    data_weight = {None: snr, MinSNR(5.0): snr.clamp(max=5.0), VelocityError(): snr + 1}[weight]
    wanted = error * data_weight / (snr if kind == "epsilon" else snr + 1)
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=1e-3)  # half a step at most
    assert (found - wanted).abs().mean() < 0.005 * wanted.mean()


def test_low_rank_weights_change_nothing_before_they_are_trained(sdxl, batch):
    plain = output(StableDiffusionXL(str(sdxl)), batch)
    assert torch.equal(output(tuned(sdxl, lora=SMALL), batch), plain)
    assert not torch.equal(output(shaken(tuned(sdxl, lora=SMALL)), batch), plain)


def test_only_what_is_trained_has_gradients(sdxl, batch):
    low = shaken(tuned(sdxl, lora=SMALL))
    low.loss(low.latents(batch), low.condition(batch), torch.Generator().manual_seed(0)).mean().backward()
    with_gradient = {name for name, weight in low.named_parameters() if weight.grad is not None}
    assert with_gradient == {name for name, _ in low.named_parameters() if ".lora_" in name}
    assert len(with_gradient) > 20
    whole = tuned(sdxl)
    assert all(weight.requires_grad == name.startswith("diffusion.unet.") for name, weight in whole.named_parameters())


@pytest.mark.parametrize(("lora", "share"), [(None, 0.95), (SMALL, 0.995)], ids=["whole", "low-rank"])
def test_a_few_steps_lower_the_loss(sdxl, batch, lora, share):
    model = tuned(sdxl, lora=lora)
    optimiser = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=5e-3)
    losses = []
    for _ in range(10):
        loss = model.loss(model.latents(batch), model.condition(batch), torch.Generator().manual_seed(0)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < share * losses[0]


def test_a_remembered_latent_is_of_the_image_as_it_is_now(sdxl, batch):
    model = tuned(sdxl)
    model.training_latents(batch)
    other = replace(batch, image=batch.image.flip(0))
    torch.testing.assert_close(model.training_latents(other), model.latents(other))
    assert not torch.equal(model.training_latents(other), model.training_latents(batch))


def test_a_sample_that_cannot_be_encoded_is_left_out_alone(sdxl, batch):
    model = tuned(sdxl)
    odd = replace(batch, prompt=[*batch.prompt[:-1], "word " * 500], failures=[Failure("bad", "reason")])
    model.log = lambda *arguments, **options: None
    with pytest.warns(UserWarning) as told:
        loss = model.training_step(odd, 0)
    told = " ".join(str(each.message) for each in told)
    assert "left out of training: bad: reason" in told and f"left out of training: {batch.sample_id[-1]}: " in told
    sound = tuned(sdxl)
    sound.log = model.log
    assert loss.item() == pytest.approx(sound.training_step(batch.select(range(7)), 0).item())


def test_a_fit_ends_if_nothing_of_the_first_batches_can_be_trained_on(sdxl, batch):
    model = tuned(sdxl)
    model.log = lambda *arguments, **options: None
    none = replace(batch, prompt=["word " * 500] * 8)
    with pytest.warns(UserWarning, match="left out of training"):
        for _ in range(2):
            loss = model.training_step(none, 0)
            loss.backward()
            assert loss.item() == 0
            assert all(not weight.grad.any() for weight in model.parameters() if weight.requires_grad)
        with pytest.raises(ValueError, match="no sample of the first 3 batches can be trained on"):
            model.training_step(none, 0)
    later = tuned(sdxl)
    later.log = model.log
    later.training_step(batch, 0)
    with pytest.warns(UserWarning, match="left out of training"):
        assert [later.training_step(none, 0).item() for _ in range(4)] == [0.0] * 4


def test_conditions_drop_to_the_models_null_branch(sdxl, batch, monkeypatch):
    model = tuned(sdxl, condition_dropout=0.25)
    seen = []

    def record(x, time, inputs):
        seen.append(inputs)
        return torch.zeros_like(x)

    monkeypatch.setattr(model.diffusion, "network", record)
    latents, condition, random = model.latents(batch), model.condition(batch), torch.Generator().manual_seed(0)
    for _ in range(100):
        model.loss(latents, condition, random, model.condition_dropout)
    dropped = torch.stack([(inputs["pooled"] == 0).all(1) for inputs in seen])
    assert torch.equal(dropped, torch.stack([(inputs["text"] == 0).flatten(1).all(1) for inputs in seen]))
    low, high = binom.interval(0.999, dropped.numel(), 0.25)
    assert low <= dropped.sum() <= high
    kept = (~dropped[0]).nonzero()[0].item()
    assert torch.equal(seen[0]["text"][kept], condition.inputs["text"][kept])
    seen.clear()
    model.loss(latents, condition, random)
    assert not (seen[0]["pooled"] == 0).all(1).any()


def test_mixed_precision_encodes_in_full_precision_and_trains(sdxl, batch, tmp_path):
    model = tuned(sdxl, tmp_path, lora=SMALL, gradient_checkpointing=True)
    before = [weight.clone() for weight in model.parameters() if weight.requires_grad]
    fit(model, 6, precision="bf16-mixed")
    after = [weight for weight in model.parameters() if weight.requires_grad]
    assert all(weight.dtype == torch.float32 for weight in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    fresh = StableDiffusionXL(str(sdxl))
    plain = fresh.to_latent(batch.image, batch.sample_id)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.latents(batch), plain)
    for prompt in batch.prompt:
        kept = model.diffusion._embeddings[f"prompt {prompt}"]["text"]  # as the training met it
        assert torch.equal(kept, fresh.condition([prompt]).inputs["text"])


def test_gradient_checkpointing_changes_no_gradient_and_no_likelihood(sdxl, batch):
    few = batch.select([0, 1])
    found = []
    for checkpointing in (False, True):
        model = shaken(tuned(sdxl, lora=SMALL, gradient_checkpointing=checkpointing))
        model.loss(model.latents(few), model.condition(few), torch.Generator().manual_seed(0)).mean().backward()
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        (problem,) = model.likelihood_problems(few, 2)
        bpd = log_likelihood(problem.flow, problem.x, problem.condition, sample_ids=problem.sample_ids, **FEW).bpd
        found.append((gradient, bpd))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=1e-6 * float(found[0][0].abs().max()) + 1e-7)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("lora", "average", "stop"),
    [(None, True, 4), (SMALL, True, 6), (SMALL, False, 4)],
    ids=["whole-averaged-within-an-epoch", "low-rank-averaged-after-an-epoch", "low-rank-plain-within-an-epoch"],
)
def test_a_resumed_fit_ends_where_one_without_a_stop_ends(sdxl, tmp_path, lora, average, stop):
    def callbacks():
        return [ExponentialAverage(decay=0.5)] if average else []

    whole = tuned(sdxl, tmp_path / "whole", lora=lora)
    fit(whole, 8, *callbacks())
    first = tuned(sdxl, tmp_path / "first", lora=lora)
    keeper = ModelCheckpoint(tmp_path, "half", every_n_train_steps=stop)
    # stopped by hand: the schedule of its learning rate is that of the whole fit
    first.on_train_batch_end = lambda *_: setattr(first.trainer, "should_stop", first.global_step >= stop)
    fit(first, 8, keeper, *callbacks(), enable_checkpointing=True)
    assert first.global_step == stop
    second = tuned(sdxl, tmp_path / "second", lora=lora)
    fit(second, 8, *callbacks(), ckpt_path=tmp_path / "half.ckpt")
    assert second.global_step == 8
    for name, weight in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name
        assert not torch.equal(first.state_dict()[name], weight), name


def test_checkpoints_hold_what_is_trained_and_refuse_other_fits(sdxl, tmp_path):
    keeper = ModelCheckpoint(tmp_path, "low", every_n_train_steps=1)
    model = tuned(sdxl, tmp_path / "out", lora=SMALL)
    average = ExponentialAverage(decay=0.9)
    fit(model, 1, keeper, average, enable_checkpointing=True)
    held = torch.load(tmp_path / "low.ckpt", weights_only=True)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert held["state_dict"].keys() == trained.keys() == held["current_model_state"].keys()
    count = sum(weight.numel() for weight in trained.values())
    assert (tmp_path / "low.ckpt").stat().st_size < 4 * 4 * count + 300 * len(trained) * 8 + 50_000
    with pytest.raises(ValueError, match="other settings"):
        fit(tuned(sdxl, tmp_path / "other"), 2, ckpt_path=tmp_path / "low.ckpt")
    with pytest.raises(ValueError, match="other settings"):
        fit(tuned(sdxl, tmp_path / "other", lora=LoRA(rank=3)), 2, ckpt_path=tmp_path / "low.ckpt")


def test_an_average_shares_the_frozen_weights_and_leaves_them_alone(sdxl, tmp_path):
    model, average, seen = tuned(sdxl, tmp_path, lora=SMALL), ExponentialAverage(decay=0.9), []
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    take = model.on_train_batch_end  # the average is taken after this
    model.on_train_batch_end = lambda *_: (
        seen.append({name: weight.clone() for name, weight in model.named_parameters() if weight.requires_grad})
        or take(*_)
    )
    fit(model, 8, average)
    mine, theirs = dict(model.named_parameters()), dict(average._average_model.module.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all((mine[name] is theirs[name]) != weight.requires_grad for name, weight in mine.items())
    for name, weight in mine.items():
        if not weight.requires_grad:
            assert torch.equal(weight, before[name])
    wanted = seen[0]
    for weights in seen[1:]:
        wanted = {name: 0.9 * old + 0.1 * weights[name] for name, old in wanted.items()}
    for name, value in wanted.items():
        torch.testing.assert_close(mine[name].data, value.data, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="decay"):
        ExponentialAverage(decay=1.0)


@pytest.mark.parametrize("kind", [StableDiffusionXL, StableDiffusion])
def test_the_whole_export_is_the_averaged_network(sdxl, sd, batch, tmp_path, kind):
    source = sdxl if kind is StableDiffusionXL else sd
    model = tuned(source, tmp_path / "out", kind)
    fit(model, 3, ExponentialAverage(decay=0.5))
    loaded = kind(str(tmp_path / "out"))
    assert torch.equal(output(loaded, batch), output(model, batch))
    assert not torch.equal(output(loaded, batch), output(kind(str(source)), batch))
    assert loaded.scheduler == kind(str(source)).scheduler and loaded.prediction == model.diffusion.prediction
    pipeline = (StableDiffusionXLPipeline if kind is StableDiffusionXL else StableDiffusionPipeline).from_pretrained(
        tmp_path / "out"
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(batch.prompt[0], num_inference_steps=5, height=16, width=16, output_type="np")
    assert picture.images.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("kind", [StableDiffusionXL, StableDiffusion])
def test_exported_low_rank_weights_make_the_trained_network(sdxl, sd, batch, tmp_path, kind):
    source = sdxl if kind is StableDiffusionXL else sd
    model = shaken(tuned(source, tmp_path, kind, lora=SMALL))
    model.export(tmp_path)
    trained = output(model, batch)
    fused = kind(str(source), lora=str(tmp_path))
    assert output(kind(str(source)), batch).sub(trained).abs().max() > 0.05
    torch.testing.assert_close(output(fused, batch), trained, rtol=0, atol=1e-5)
    assert not any(".lora_" in name for name, _ in fused.named_parameters())
    assert not any(weight.requires_grad for weight in fused.parameters())
    pipeline = (StableDiffusionXLPipeline if kind is StableDiffusionXL else StableDiffusionPipeline).from_pretrained(
        source
    )
    pipeline.load_lora_weights(tmp_path)
    model.diffusion.unet = pipeline.unet
    torch.testing.assert_close(output(model, batch), trained, rtol=0, atol=1e-5)


def test_low_rank_files_of_other_tools_are_read(sdxl, batch, tmp_path):
    model = shaken(tuned(sdxl, lora=SMALL))
    named = {}
    for name, value in get_peft_model_state_dict(model.diffusion.unet).items():
        layer, _, part = name.partition(".lora_")
        layer = f"lora_unet_{layer.replace('.', '_')}"
        named |= {f"{layer}.lora_{'down' if part[0] == 'A' else 'up'}.weight": value}
        named |= {f"{layer}.alpha": torch.tensor(SMALL.alpha)}
    save_file(named, tmp_path / "other.safetensors")
    fused = StableDiffusionXL(str(sdxl), lora=str(tmp_path / "other.safetensors"))
    torch.testing.assert_close(output(fused, batch), output(model, batch), rtol=0, atol=1e-5)


def test_low_rank_files_that_are_absent_or_do_not_fit_are_told(sdxl, tmp_path):
    def load(path):
        return StableDiffusionXL(str(sdxl), lora=str(path))

    with pytest.raises(FileNotFoundError, match=f"no LoRA weights at .*nowhere.*{LORA_FILE}"):
        load(tmp_path / "nowhere")
    tuned(sdxl, lora=SMALL).export(tmp_path)
    weights = load_file(tmp_path / LORA_FILE)
    some = next(iter(weights))
    for name, spoiled, told in (
        ("shape", {**weights, some: torch.zeros(2, 77)}, "size mismatch"),
        ("place", {**weights, some.replace("to_", "from_"): weights[some] + 1}, "have a place"),
        ("text", {**weights, f"text_encoder.{some}": weights[some] + 1}, "text_encoder"),
        ("none", {"weight": torch.zeros(1)}, "does not fit"),
    ):
        save_file(spoiled, tmp_path / f"{name}.safetensors")
        with pytest.raises(ValueError, match=told):
            load(tmp_path / f"{name}.safetensors")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot read .*empty\.safetensors: it is damaged or cut short"):
        load(tmp_path / "empty.safetensors")


def test_a_run_knows_the_low_rank_weights_it_used(sdxl, tmp_path):
    settings = {"model": {"diffusion": {"init_args": {"path": "shapes-sdxl", "lora": str(tmp_path / "lora")}}}}
    tuned(sdxl, lora=SMALL).export(tmp_path / "lora")
    first = run_folder(tmp_path, "run", settings)
    assert run_folder(tmp_path, "run", settings) == first
    shaken(tuned(sdxl, lora=LoRA(rank=3))).export(tmp_path / "lora")
    assert run_folder(tmp_path, "run", settings) != first


def test_without_peft_the_extra_is_named(sdxl, monkeypatch):
    monkeypatch.setattr("dmlik_pl.models.lora.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"dmlik-pl\[finetune\]"):
        tuned(sdxl, lora=SMALL)


def test_half_precision_weights_are_refused_as_a_whole_and_fine_below_low_rank_ones(sdxl, batch):
    half = StableDiffusionXL(str(sdxl), dtype="bfloat16")
    with pytest.raises(ValueError, match="bf16-mixed"):
        FineTuning(half, "unused")
    model = FineTuning(half, "unused", lora=SMALL)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    loss = model.loss(model.latents(batch), model.condition(batch), torch.Generator().manual_seed(0)).mean()
    loss.backward()
    assert math.isfinite(loss.item())


def test_likelihoods_are_those_of_the_model_and_of_its_empty_prompt(sdxl, batch):
    model = tuned(sdxl, lora=SMALL)
    assert isinstance(model, OffersLikelihoods)
    (problem,) = model.likelihood_problems(batch, 3)
    assert list(problem.sample_ids) == batch.sample_id[:3]
    fresh = StableDiffusionXL(str(sdxl))
    x = fresh.to_latent(batch.image[:3], batch.sample_id[:3])
    assert torch.equal(problem.x, x)
    options = {"sample_ids": batch.sample_id[:3], **FEW}
    wanted = log_likelihood(fresh.flow(), x, fresh.condition(batch.prompt[:3]), **options)
    found = log_likelihood(problem.flow, problem.x, problem.condition, **options)
    assert torch.equal(found.log_p, wanted.log_p)
    empty = log_likelihood(problem.flow, problem.x, problem.alternative, **options)
    free = log_likelihood(fresh.flow(0.0), x, fresh.condition(batch.prompt[:3]), **options)
    torch.testing.assert_close(empty.bpd, free.bpd, rtol=0, atol=1e-6)
    assert (empty.bpd - found.bpd).abs().max() > 1e-4
    assert [len(p.sample_ids) for p in model.likelihood_problems(batch, 99)] == [8]


def test_shares_that_are_none_are_refused(sdxl):
    with pytest.raises(ValueError, match="condition_dropout"):
        tuned(sdxl, condition_dropout=1.5)
    with pytest.raises(ValueError, match="rank"):
        LoRA(rank=0)
