"""Pipelines in diffusers' folder layout: where they are found, and what to say when they are not."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dmlik_pl.shipped import ASSETS, locate

__all__ = ["Dtype", "PipelineFolder", "find_pipeline", "write_pipeline"]


Dtype = Literal["float32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True)
class PipelineFolder:
    """A folder with one subfolder a component, as `save_pretrained` of any diffusers pipeline makes it.

    Attributes:
        path: The folder.
        index: Its model_index.json: which components there are, and the pipeline's own settings.
        variant: Infix of the weight files to read, e.g. "fp16"; None for the plain ones.
    """

    path: Path
    index: dict[str, Any]
    variant: str | None = None

    def config(self, component: str) -> dict[str, Any]:
        """The configuration of a component that has no weights, e.g. the scheduler."""
        return _read_json(self.path / component / f"{component}_config.json")

    def model(self, kind: Any, component: str, dtype: str) -> Any:
        """A component with weights, from safetensors only.

        Args:
            kind: Its class, of diffusers or transformers.
            component: Name of its subfolder.
            dtype: Its floating point type, whatever the type that is stored.

        Raises:
            FileNotFoundError: If the subfolder has no such weights.
        """
        options: dict[str, Any] = {"variant": self.variant, "use_safetensors": True, "local_files_only": True}
        if kind.__module__.startswith("diffusers"):
            from diffusers.utils import is_accelerate_available

            options |= {"torch_dtype": getattr(torch, dtype), "low_cpu_mem_usage": is_accelerate_available()}
        else:
            options["dtype"] = getattr(torch, dtype)
        folder = self.path / component
        try:
            with _no_progress_bars():
                return kind.from_pretrained(folder, **options)
        except OSError as error:
            wanted = f"*.{self.variant}.safetensors" if self.variant else "*.safetensors"
            held = sorted(file.name for file in folder.glob("*")) if folder.is_dir() else "no such folder"
            raise FileNotFoundError(
                f"cannot read {component} of the model in {self.path}: it needs config.json and {wanted} in {folder}, "
                f"which holds {held}. Another precision may be there under another `variant`; weights in pickle files "
                "(.bin, .ckpt) are never read: convert them with `save_pretrained(..., safe_serialization=True)`"
            ) from error

    def tokenizer(self, component: str) -> Any:
        """A CLIP tokenizer."""
        from transformers import CLIPTokenizer

        try:
            return CLIPTokenizer.from_pretrained(self.path / component, local_files_only=True)
        except (OSError, TypeError) as error:
            raise FileNotFoundError(f"no tokenizer in {self.path / component}: {error}") from error


def find_pipeline(
    path: str,
    components: Sequence[str],
    example: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
) -> PipelineFolder:
    """Find a pipeline on disk, among the models that ship with the package, or on the Hugging Face hub.

    Args:
        path: A folder, the name of a shipped model (e.g. "shapes-sdxl"), or a hub id (e.g. "owner/name").
        components: Components that it must have.
        example: Hub id of a model of this kind, for messages.
        revision: Branch, tag or commit on the hub.
        variant: Infix of the weight files, e.g. "fp16".
        local_files_only: Take hub models from the local cache only, as HF_HUB_OFFLINE=1 does for all.

    Raises:
        FileNotFoundError: If there is none, with how to get it.
        ValueError: If what is found is of another kind.
    """
    folder = Path(locate(Path(path).expanduser()))
    if folder.is_file():
        raise ValueError(
            f"{folder} is a single file, and a folder in diffusers' layout is wanted: convert it once with "
            "`Pipeline.from_single_file(...).save_pretrained(folder)` of diffusers"
        )
    if not folder.is_dir():
        folder = _from_hub(path, example, revision, variant, local_files_only)
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"{folder} holds no diffusers pipeline: it has no model_index.json")
    index = _read_json(folder / "model_index.json")
    held = {name for name, origin in index.items() if isinstance(origin, list) and origin[0] is not None}
    if missing := [name for name in components if name not in held]:
        raise ValueError(
            f"{folder} holds a {index.get('_class_name')} with {sorted(held)}, without {missing}, which this kind of "
            "model needs: dmlik_pl.models has StableDiffusionXL, StableDiffusion and PixelDiffusion"
        )
    return PipelineFolder(folder, index, variant)


def write_pipeline(
    folder: Path, parts: Mapping[str, Any], scheduler: Mapping[str, Any], index: Mapping[str, Any]
) -> None:
    """Write a pipeline as a folder in diffusers' layout.

    Args:
        folder: The folder; it is made, and files of the same names are overwritten.
        parts: Models and tokenizers by the names of their subfolders.
        scheduler: Content of scheduler_config.json.
        index: Content of the model_index.json that it was read from; components that are not written are left out.
    """
    with _no_progress_bars():
        for name, part in parts.items():
            part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    written = {*parts, "scheduler"}
    kept = {name: value for name, value in index.items() if name in written or not isinstance(value, list)}
    absent = {name: [None, None] for name in index.keys() - kept.keys()}
    asked = {"requires_safety_checker": False} if "safety_checker" in absent else {}
    _write_json(folder / "model_index.json", {**kept, **absent, **asked})


def _from_hub(path: str, example: str, revision: str | None, variant: str | None, local_files_only: bool) -> Path:
    """Download what the pipeline needs, unless the local cache has it."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path) or Path(path).parent.is_dir():
        raise FileNotFoundError(_how_to_get(path, "there is no such folder", example, variant))
    from diffusers import DiffusionPipeline
    from huggingface_hub.errors import HfHubHTTPError

    unused = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
    try:
        folder = DiffusionPipeline.download(
            path, revision=revision, variant=variant, use_safetensors=True, local_files_only=local_files_only, **unused
        )
    except (OSError, HfHubHTTPError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        reason = f"it is no folder, and the Hugging Face hub or its local cache did not give it ({reason})"
        raise FileNotFoundError(_how_to_get(path, reason, path, variant)) from error
    return Path(folder)


def _how_to_get(path: str, reason: str, hub_id: str, variant: str | None) -> str:
    shipped = sorted(folder.name for folder in ASSETS.glob("*") if (folder / "model_index.json").is_file())
    target = f"models/{hub_id.split('/')[-1]}"
    files = ("*.json", "*.txt", f"*/*model.{variant}.safetensors" if variant else "*/*model.safetensors")
    include = " ".join(f"--include '{pattern}'" for pattern in files)
    return (
        f"no model at {path!r}: {reason}.\n"
        f"Where there is a network, get one with\n"
        f"    hf download {hub_id} --local-dir {target} {include}\n"
        f"and name its folder with\n"
        f"    --model.diffusion.init_args.path {target}\n"
        f"Models that ship with the package are named without a folder: {', '.join(shipped)}."
    )


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar for every text encoder."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"no {file.name} in {file.parent}")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
