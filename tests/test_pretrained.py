"""The one loader: a component is what it is taken for, whole, or refused by name."""

import ast
import json
import logging
import shutil
from pathlib import Path

import diffusers.utils
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from test_recognition import TestWav2Vec2 as TinyWav2Vec2
from test_recognition import TestWhisper as TinyWhisper
from tiny_models import make_tiny_clip, make_tiny_ddpm, make_tiny_sd, make_tiny_sdxl
from tiny_speech import make_tiny_xvector

from dmlik_pl.metrics import CLIPEncoder
from dmlik_pl.metrics.recognition import Wav2Vec2, Whisper
from dmlik_pl.metrics.speaker import XVector
from dmlik_pl.models import PixelDiffusion, StableDiffusion, StableDiffusionXL
from dmlik_pl.modules.training.diffusion import load_vae

ROOT = Path(__file__).parents[1]
COMPONENTS = ["unet", "vae", "text_encoder", "text_encoder_2"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def weights_of(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def change_weights(folder: Path, change) -> str:
    """Apply a change to the weights of a component; returns the name of the tensor it was told of."""
    file = weights_of(folder)
    tensors = load_file(file)
    name = sorted(tensors)[3]
    change(tensors, name)
    save_file(tensors, file, metadata={"format": "pt"})
    return name


def change_json(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_there_is_no_other_loader():
    """Every `from_pretrained` of the package is called by `dmlik_pl.pretrained`, that of its own classes apart."""
    own, found = {"CLIPEncoder"}, []
    files = [*ROOT.glob("dmlik_pl/**/*.py"), *ROOT.glob("callbacks/*.py"), ROOT / "evaluate.py", ROOT / "train.py"]
    assert len(files) > 100
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            named = isinstance(node, ast.Attribute) and node.attr in ("from_pretrained", "from_single_file")
            hidden = isinstance(node, ast.Constant) and node.value in ("from_pretrained", "from_single_file")
            if hidden or (named and not (isinstance(node.value, ast.Name) and node.value.id in own)):
                found.append(str(file.relative_to(ROOT)))
    assert set(found) == {"dmlik_pl/pretrained/networks.py", "dmlik_pl/pretrained/processors.py"}


@pytest.mark.parametrize("accelerate", [True, False])
@pytest.mark.parametrize("component", COMPONENTS)
def test_weights_must_fit_without_remainder(folder, component, accelerate, monkeypatch):
    monkeypatch.setattr(diffusers.utils, "is_accelerate_available", lambda: accelerate)
    whole = shutil.copytree(folder / component, folder / "whole")
    changes = {
        "1 missing: NAME": lambda tensors, name: tensors.pop(name),
        "1 not wanted: surplus.weight": lambda tensors, name: tensors.update({"surplus.weight": torch.zeros(2)}),
        "1 of another shape: NAME [7] for [": lambda tensors, name: tensors.update({name: torch.zeros(7)}),
    }
    for fault, change in changes.items():
        shutil.copytree(whole, folder / component, dirs_exist_ok=True)
        name = change_weights(folder / component, change)
        with pytest.raises(ValueError, match=f"the weights in .*/{component} are not those of a ") as caught:
            StableDiffusionXL(str(folder))
        # transformers 5 has dropped a prefix of the names in files of CLIPTextModel
        assert any(
            fault.replace("NAME", known) in str(caught.value) for known in (name, name.removeprefix("text_model."))
        )


def test_counters_and_old_names_of_weights_are_no_faults(folder):
    """Old files hold `position_ids`, and call the VAE's attention by other names."""
    expected = StableDiffusionXL(str(folder))
    change_weights(folder / "text_encoder", lambda t, _: t.update({"embeddings.position_ids": torch.arange(12)[None]}))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors, _):
        for name in [name for name in tensors if "attentions" in name]:
            called = name
            for new, before in old.items():
                called = called.replace(new, before)
            tensors[called] = tensors.pop(name)
        assert any(".query." in name for name in tensors)

    change_weights(folder / "vae", rename)
    model = StableDiffusionXL(str(folder))
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert model.to_latent(images, ["a"]).equal(expected.to_latent(images, ["a"]))
    assert (
        model.condition(["a photo of a dog"])
        .inputs["text"]
        .equal(expected.condition(["a photo of a dog"]).inputs["text"])
    )


def put_clap(folder: Path) -> None:
    from transformers import ClapTextConfig, ClapTextModelWithProjection

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = ClapTextConfig(**sizes, vocab_size=100, projection_dim=16, max_position_embeddings=20)
    ClapTextModelWithProjection(config).save_pretrained(folder)


def put_t5(folder: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    T5EncoderModel(T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, vocab_size=100)).save_pretrained(
        folder
    )


@pytest.mark.parametrize(("put", "name"), [(put_clap, "ClapTextModelWithProjection"), (put_t5, "T5EncoderModel")])
@pytest.mark.parametrize("component", ["text_encoder", "text_encoder_2"])
def test_other_text_encoders_are_refused_by_name(folder, component, put, name):
    shutil.rmtree(folder / component)
    put(folder / component)
    with pytest.raises(ValueError, match=rf"{component} holds a {name}, but a CLIPTextModel\w* is wanted"):
        StableDiffusionXL(str(folder))
    change_json(folder / component / "config.json", architectures=None)
    with pytest.raises(ValueError, match=r"config.json is of model_type '(clap_text_model|t5)', and a CLIPTextModel"):
        StableDiffusionXL(str(folder))


def test_the_index_counts_too(folder):
    index = folder / "model_index.json"
    change_json(index, text_encoder=["transformers", "T5EncoderModel"])
    with pytest.raises(ValueError, match="text_encoder holds a T5EncoderModel, but a CLIPTextModel is wanted"):
        StableDiffusionXL(str(folder))
    change_json(index, text_encoder=["transformers", "CLIPTextModel"], vae=["diffusers", "AutoencoderTiny"])
    with pytest.raises(ValueError, match="vae holds a AutoencoderTiny, but a AutoencoderKL is wanted"):
        StableDiffusionXL(str(folder))


def test_a_text_encoder_with_a_projection_is_one_without(folder, original):
    """Its projection is not used; one without cannot take the place of one that is."""
    for name in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / name)
        shutil.copytree(folder / f"{name}_2", folder / name)
    text = StableDiffusionXL(str(folder)).condition(["a photo of a dog"]).inputs["text"]
    torch.testing.assert_close(text[..., :16], text[..., 16:])
    shutil.rmtree(folder / "text_encoder_2")
    shutil.copytree(original / "text_encoder", folder / "text_encoder_2")
    with pytest.raises(ValueError, match="holds a CLIPTextModel, but a CLIPTextModelWithProjection is wanted"):
        StableDiffusionXL(str(folder))
    change_json(folder / "text_encoder_2" / "config.json", architectures=["CLIPTextModelWithProjection"])
    with pytest.raises(ValueError, match=r"1 missing: text_projection\.weight"):
        StableDiffusionXL(str(folder))


@pytest.mark.parametrize("component", COMPONENTS)
def test_damaged_files_are_named(folder, component):
    file, config = weights_of(folder / component), folder / component / "config.json"
    content, text = file.read_bytes(), config.read_text()
    damages = {
        rf"cannot read .*{file.name}: it is damaged or cut short \(.*\): get it again": content[: len(content) // 2],
        rf"cannot read .*{file.name}: it is damaged or cut short": b"",
        rf"cannot read .*{file.name}: it is a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid x",
    }
    for message, damaged in damages.items():
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            StableDiffusionXL(str(folder))
    file.write_bytes(content)
    for damaged, message in ((text[:60], "is not JSON, or cut short"), ("[]", "is not a JSON object")):
        config.write_text(damaged)
        with pytest.raises(ValueError, match=rf"{component}/config\.json {message}"):
            StableDiffusionXL(str(folder))


def test_settings_that_the_library_does_not_know_are_refused(folder):
    config = folder / "vae" / "config.json"
    change_json(config, decay=0.999, optimization_step=7, tiles=None, wavelets=False, _name_or_path="somewhere")
    StableDiffusionXL(str(folder))
    change_json(config, wavelets=True)
    with pytest.raises(ValueError, match=r"vae/config\.json sets wavelets, which AutoencoderKL of this diffusers"):
        StableDiffusionXL(str(folder))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("class_embed_type", "timestep"),
        ("num_class_embeds", 10),
        ("encoder_hid_dim", 8),
        ("encoder_hid_dim_type", "text_image_proj"),
        ("time_embedding_type", "fourier"),
        ("attention_type", "gated"),
        ("dual_cross_attention", True),
        ("addition_embed_type", "image"),
    ],
)
def test_networks_that_want_more_than_they_would_be_told_are_refused(tmp_path, setting, value):
    folder = make_tiny_sd(tmp_path)
    change_json(folder / "unet" / "config.json", **{setting: value})
    with pytest.raises(ValueError, match=rf"conditioned on what it would not be given \({setting}: {value!r}\)"):
        StableDiffusion(str(folder))


@pytest.mark.parametrize(("setting", "value"), [("class_embed_type", "identity"), ("time_embedding_type", "fourier")])
def test_pixel_networks_too(tmp_path, setting, value):
    folder = make_tiny_ddpm(tmp_path)
    change_json(folder / "unet" / "config.json", **{setting: value})
    with pytest.raises(ValueError, match=rf"would not be given \({setting}: {value!r}\)"):
        PixelDiffusion(str(folder))


def test_components_of_different_models_are_refused(folder):
    from diffusers import UNet2DConditionModel

    config = folder / "unet" / "config.json"
    change_json(config, cross_attention_dim=24)
    UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(config)).save_pretrained(folder / "unet")
    with pytest.raises(ValueError, match="attends to 24 values per token, and its text encoders give 32"):
        StableDiffusionXL(str(folder))


@pytest.mark.parametrize(
    ("file", "changes", "sign"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "its folder names a LCMScheduler"),
        ("scheduler/scheduler_config.json", {"_class_name": "TCDScheduler"}, "its folder names a TCDScheduler"),
        ("model_index.json", {"scheduler": ["diffusers", "LCMScheduler"]}, "its folder names a LCMScheduler"),
        ("model_index.json", {"_class_name": "LatentConsistencyModelPipeline"}, "names a LatentConsistencyModel"),
        ("unet/config.json", {"time_cond_proj_dim": 256}, "time_cond_proj_dim: 256"),
        ("unet/config.json", {"_name_or_path": "stabilityai/sdxl-turbo"}, "'stabilityai/sdxl-turbo' has 'turbo'"),
        ("model_index.json", {"_name_or_path": "/c/models--ByteDance--SDXL-Lightning/snapshots/0/unet"}, "'Lightning'"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"},
            "timestep_spacing 'trailing'",
        ),
    ],
)
def test_distilled_models_are_refused(folder, file, changes, sign):
    change_json(folder / file, **changes)
    with pytest.raises(ValueError, match=rf"distilled to sample in few steps \(.*{sign}.*no p\(x\|y\)"):
        StableDiffusionXL(str(folder))


def test_only_a_models_own_name_says_that_it_is_distilled(original, tmp_path):
    for name in ("sd-turbo", "LCM_Dreamshaper_v7", "Hyper-SDXL"):
        with pytest.raises(ValueError, match="in its name"):
            StableDiffusionXL(str(shutil.copytree(original, tmp_path / name)))
    for name in ("lightning/model", "turbocharged", "hyper-realistic"):
        folder = shutil.copytree(original, tmp_path / name)
        change_json(folder / "unet" / "config.json", _name_or_path="/x/lightning_logs/version_0/unet")
        assert StableDiffusionXL(str(folder)).space == "VAE latents times 0.7"


@pytest.mark.parametrize("component", ["tokenizer", "tokenizer_2"])
def test_tokenizers_are_what_they_are_taken_for(folder, component):
    settings, vocabulary = folder / component / "tokenizer_config.json", folder / component / "tokenizer.json"
    text = vocabulary.read_text()
    vocabulary.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=rf"cannot read a CLIPTokenizer from .*{component}"):
        StableDiffusionXL(str(folder))
    vocabulary.unlink()  # without it transformers makes up a vocabulary of two tokens
    message = (
        rf"cannot read {component} of .*: no CLIPTokenizer in .*needs tokenizer.json, or vocab.json with merges.txt"
    )
    with pytest.raises(FileNotFoundError, match=message):
        StableDiffusionXL(str(folder))
    (folder / component / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=message):
        StableDiffusionXL(str(folder))
    vocabulary.write_text(text)
    change_json(settings, tokenizer_class="T5Tokenizer")
    with pytest.raises(ValueError, match=rf"{component} holds a T5Tokenizer, but a CLIPTokenizer is wanted"):
        StableDiffusionXL(str(folder))


def test_components_without_the_variant_are_read_plain(folder, caplog):
    """As many folders on the hub are: only the large networks are there in half precision."""
    for component in ("unet", "text_encoder_2"):
        file = weights_of(folder / component)
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    with caplog.at_level(logging.WARNING, "dmlik_pl"):
        model = StableDiffusionXL(str(folder), variant="fp16")
    said = [record.getMessage() for record in caplog.records]
    assert [
        f"{folder / name} has no weights of variant 'fp16': the plain ones are read" for name in ("vae", "text_encoder")
    ] == said
    assert model.space == "VAE latents times 0.7"
    weights_of(folder / "vae").unlink()
    with pytest.raises(FileNotFoundError, match=r"cannot read vae .* it needs \*\.fp16\.safetensors, and holds"):
        StableDiffusionXL(str(folder), variant="fp16")
    file = weights_of(folder / "unet")
    shutil.copy(file, file.with_name("diffusion_pytorch_model.bf16.safetensors"))
    file.write_bytes(b"")  # a damaged variant that is not read is no fault of the others
    with pytest.raises(FileNotFoundError, match="cannot read vae"):
        StableDiffusionXL(str(folder), variant="bf16")


class TestMetrics:
    """Encoders of metrics go through the same loader."""

    whisper = TinyWhisper.__dict__["folder"]
    wav2vec2 = TinyWav2Vec2.__dict__["folder"]

    @pytest.fixture
    def clip(self, tmp_path):
        return make_tiny_clip(tmp_path / "clip")

    def test_clip_with_a_tensor_missing(self, clip):
        assert CLIPEncoder.from_pretrained(clip).num_features == 16
        name = change_weights(clip, lambda tensors, name: tensors.pop(name))
        with pytest.raises(ValueError, match=rf"are not those of a CLIPModel .*1 missing: {name}"):
            CLIPEncoder.from_pretrained(clip)

    def test_clip_cut_short(self, clip):
        file = weights_of(clip)
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(ValueError, match=r"cannot read .*model\.safetensors: it is damaged or cut short"):
            CLIPEncoder.from_pretrained(clip)

    def test_others_as_clip(self, clip, tmp_path):
        put_clap(tmp_path / "clap")
        with pytest.raises(ValueError, match="clap holds a ClapTextModelWithProjection, but a CLIPModel is wanted"):
            CLIPEncoder.from_pretrained(tmp_path / "clap")
        change_json(clip / "processor_config.json", processor_class="ClapProcessor")
        with pytest.raises(ValueError, match="clip holds a ClapProcessor, but a CLIPProcessor is wanted"):
            CLIPEncoder.from_pretrained(clip)
        (clip / "config.json").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"no CLIP model at .*\(no config.json in .*hf download openai/clip"
        ):
            CLIPEncoder.from_pretrained(clip)

    def test_speech_models(self, tmp_path, tmp_path_factory):
        make_tiny_xvector(tmp_path)
        assert XVector(tmp_path).rate == 16000
        with pytest.raises(
            ValueError, match="holds a WavLMForXVector, but a WhisperForConditionalGeneration is wanted"
        ):
            Whisper(tmp_path)
        name = change_weights(tmp_path, lambda tensors, name: tensors.pop(name))
        with pytest.raises(ValueError, match=rf"are not those of a WavLMForXVector .*1 missing: {name}"):
            XVector(tmp_path)
        whisper = TinyWhisper.folder.__wrapped__(None, tmp_path_factory)
        name = change_weights(whisper, lambda tensors, name: tensors.pop(name))
        with pytest.raises(ValueError, match=rf"1 missing: {name}"):
            Whisper(whisper)

    def test_a_mask_of_training_may_be_missing(self, tmp_path_factory):
        """As it is in facebook/wav2vec2-base-960h."""
        folder = TinyWav2Vec2.folder.__wrapped__(None, tmp_path_factory)
        expected = Wav2Vec2(folder).model.lm_head.weight
        tensors = load_file(weights_of(folder))
        del tensors["wav2vec2.masked_spec_embed"]
        save_file(tensors, weights_of(folder), metadata={"format": "pt"})
        assert Wav2Vec2(folder).model.lm_head.weight.equal(expected)


def test_the_trained_vae_is_read_by_the_same_loader(folder):
    assert load_vae(str(folder / "vae")).config.scaling_factor == 0.7
    change_weights(folder / "vae", lambda tensors, name: tensors.pop(name))
    with pytest.raises(ValueError, match="are not those of a AutoencoderKL"):
        load_vae(str(folder / "vae"))


class TestWithoutANetwork:
    """A hub id fails at once with one message: no retries, and no waiting."""

    @pytest.fixture(autouse=True)
    def unreachable(self, tmp_path, monkeypatch):
        """A hub at an address where nothing listens, and a sleep that fails the test."""
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))

    @pytest.mark.parametrize("offline", [True, False])
    @pytest.mark.parametrize("load", [CLIPEncoder.from_pretrained, Whisper, XVector, StableDiffusionXL])
    def test_hub_ids_fail_fast(self, load, offline, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        reason = "local_files_only or HF_HUB_OFFLINE forbids" if offline else "the hub did not give it"
        with pytest.raises(FileNotFoundError, match=rf"'someone/something'(.|\n)*does not hold it, and {reason}"):
            load("someone/something", local_files_only=False)

    def test_the_cache_is_enough(self, tmp_path, caplog):
        snapshot = tmp_path / "hub" / "models--someone--clip" / "snapshots" / ("a" * 40)
        make_tiny_clip(snapshot)
        (tmp_path / "hub" / "models--someone--clip" / "refs").mkdir()
        (tmp_path / "hub" / "models--someone--clip" / "refs" / "main").write_text("a" * 40)
        with caplog.at_level(logging.WARNING, "dmlik_pl"):
            assert CLIPEncoder.from_pretrained("someone/clip").num_features == 16
        assert "someone/clip is read from the local cache" in caplog.text
