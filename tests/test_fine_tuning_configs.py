"""The configurations of fine-tuning through their command line, with a monitor that looks at few samples."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from tiny_models import make_tiny_sdxl

from dmlik_pl.cli import CONFIGS
from dmlik_pl.data.drawings import DrawingImages
from dmlik_pl.data.held_out import held_out_rank
from dmlik_pl.models import StableDiffusionXL
from dmlik_pl.models.lora import LORA_FILE
from train import cli_main


def small(config: str, folder: Path, **model) -> str:
    """A configuration whose monitor measures two samples on a coarse grid, and whose files go into a folder."""
    settings = yaml.safe_load((CONFIGS / config).read_text())
    trainer = settings["trainer"]
    trainer |= {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    trainer["logger"]["init_args"]["save_dir"] = str(folder)
    (monitor,) = (each["init_args"] for each in trainer["callbacks"] if "LikelihoodMonitor" in each["class_path"])
    monitor |= {"samples": 2, "elbo_draws": 2}
    monitor["solver"]["init_args"]["nodes"] = 7
    settings["model"]["init_args"] |= {"output": str(folder / "model"), "warmup_steps": 1, **model}
    path = folder / config
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def fit(config: str, *options: str):
    cli = cli_main(["fit", f"--config={config}", "--trainer.accelerator=cpu", *options])
    return cli, pd.read_csv(Path(cli.trainer.log_dir) / "metrics.csv")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawings")
    sizes = ("--data.train_size=48", "--data.val_size=2", "--data.batch_size=16", "--trainer.max_epochs=2")
    cli, log = fit(small("shapes_finetune.yaml", folder, learning_rate=1e-3), *sizes)
    return folder, cli, log


def test_the_shapes_model_moves_towards_drawings(drawn):
    folder, _, log = drawn
    bpd = log["val/drawings/bpd"].dropna()
    assert len(bpd) == 3 and bpd.iloc[-1] < bpd.iloc[0]  # before training, and after each epoch
    change = log["val/drawings/bpd_change"].dropna().iloc[-1]
    assert change == pytest.approx(bpd.iloc[-1] - bpd.iloc[0], abs=1e-6)
    assert {"val/photos/bpd", "val/drawings/guidance_gap", "val/drawings/elbo"} <= set(log.columns)
    assert {"val/drawings/loss", "val/photos/loss", "train/loss"} <= set(log.columns)
    tuned, shipped = StableDiffusionXL(str(folder / "model")), StableDiffusionXL("shapes-sdxl")
    assert torch.equal(tuned.vae.encoder.conv_in.weight, shipped.vae.encoder.conv_in.weight)
    assert not torch.equal(tuned.unet.conv_in.weight, shipped.unet.conv_in.weight)
    fast = 10000.0 ** (-torch.arange(32) / 32) > 0.2
    assert tuned.unet.time_embedding.linear_1.weight[:, fast.repeat(2)].abs().max() == 0


def test_the_export_is_the_checkpoint_with_the_fewest_bits(drawn):
    folder, cli, _ = drawn
    keeper = cli.trainer.checkpoint_callback
    assert keeper.monitor == "val/drawings/bpd"
    best = torch.load(keeper.best_model_path, weights_only=True)["state_dict"]
    exported = StableDiffusionXL(str(folder / "model")).state_dict()
    assert all(torch.equal(exported[name.removeprefix("diffusion.")], weight) for name, weight in best.items())
    assert {name.split(".")[1] for name in best} == {"unet"}


def test_sdxl_is_fine_tuned_by_low_rank_changes_on_sketches(tmp_path):
    for domain in ("sketch", "photo"):
        for label in ("dog", "horse"):
            folder = tmp_path / "pacs" / domain / label
            folder.mkdir(parents=True)
            for number in range(20):
                Image.new("RGB", (16, 16), (255 - 10 * number, 40, 90)).save(folder / f"{number:03d}.png")
    source = make_tiny_sdxl(tmp_path / "sdxl")
    cli, log = fit(
        small("sdxl_finetune.yaml", tmp_path),
        f"--model.diffusion.init_args.path={source}",
        f"--data.images.init_args.root={tmp_path / 'pacs'}",
        "--data.images.init_args.size=16",
        "--data.held_out=0.2",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=4",
        "--trainer.accumulate_grad_batches=2",
    )
    assert cli.trainer.global_step == 4 and cli.trainer.precision == "bf16-mixed"
    assert {"val/sketches/bpd", "val/photos/bpd", "val/sketches/loss"} <= set(log.columns)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [LORA_FILE]
    fused = StableDiffusionXL(str(source), lora=str(tmp_path / "model"))
    plain = StableDiffusionXL(str(source))
    image = DrawingImages("test", 1)[0].image[None]
    assert torch.equal(fused.to_latent(image, ["a"]), plain.to_latent(image, ["a"]))
    changed = [
        name for name, weight in fused.unet.named_parameters() if not weight.equal(plain.unet.get_parameter(name))
    ]
    assert changed and all("attentions" in name and ".to_" in name for name in changed)


def test_sdxl_is_fine_tuned_on_images_of_ones_own(tmp_path):
    (block,) = re.findall(r"```yaml\n(data:.*?)```", (CONFIGS.parent / "docs" / "finetuning.md").read_text(), re.DOTALL)
    images = tmp_path / "images"
    (images / "dogs").mkdir(parents=True)
    rows = []
    for number in range(30):
        Image.new("RGB", (20, 16), (255 - 8 * number, 40, 90)).save(images / "dogs" / f"{number:03d}.png")
        rows += [f"dogs/{number:03d}.png,a {word} of a dog" for word in ("photo", "sketch")]
    (images / "dogs" / "004.png").write_text("no image")
    (images / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    path = Path(small("sdxl_finetune.yaml", tmp_path))
    settings = yaml.safe_load(path.read_text()) | yaml.safe_load(block)
    settings["trainer"]["callbacks"][-1]["init_args"]["monitor"] = "val/images/bpd"
    path.write_text(yaml.safe_dump(settings))
    cli, log = fit(
        str(path),
        f"--model.diffusion.init_args.path={make_tiny_sdxl(tmp_path / 'sdxl')}",
        f"--data.images.init_args.root={images}",
        "--data.images.init_args.size=16",
        "--data.held_out=0.2",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=4",
        "--trainer.accumulate_grad_batches=2",
    )
    held = {name for name in (f"dogs/{number:03d}.png" for number in range(30)) if held_out_rank(name) < 0.2}
    assert {name.partition("#")[0] for name in cli.datamodule.sample_ids()} == held
    assert len(cli.datamodule.sample_ids()) == 2 * len(held) and cli.trainer.global_step == 4
    assert log["val/images/bpd"].dropna().between(2, 8).all() and (tmp_path / "model" / LORA_FILE).is_file()


def test_missing_models_and_images_are_told(tmp_path):
    with pytest.raises(ValueError, match="hf download stabilityai/stable-diffusion-xl-base"):
        fit(small("sdxl_finetune.yaml", tmp_path), "--model.diffusion.init_args.local_files_only=true")
    source = make_tiny_sdxl(tmp_path / "sdxl")
    with pytest.raises(FileNotFoundError, match="PACS is expected as"):
        fit(
            small("sdxl_finetune.yaml", tmp_path),
            f"--model.diffusion.init_args.path={source}",
            f"--data.images.init_args.root={tmp_path / 'none'}",
        )
