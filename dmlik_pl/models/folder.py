"""Pipelines in diffusers' folder layout: where they are found, and what to say when they are not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dmlik_pl.models.unfit import refuse_distilled
from dmlik_pl.pretrained import from_hub, is_hub_id, load_model, load_processor
from dmlik_pl.pretrained.files import quiet, read_json
from dmlik_pl.shipped import ASSETS, resolved

__all__ = ["Dtype", "LoadedPipeline", "PipelineFolder", "find_pipeline", "read_index", "write_pipeline"]


Dtype = Literal["float32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True)
class PipelineFolder:
    """A folder with one subfolder per component, as `save_pretrained` of any diffusers pipeline makes it.

    Attributes:
        path: The folder.
        index: Its model_index.json: which components there are, and the pipeline's own settings.
        variant: Infix of the weight files to read, e.g. "fp16"; None for the plain ones.
    """

    path: Path
    index: dict[str, Any]
    variant: str | None = None

    def config(self, component: str) -> dict[str, Any]:
        """The configuration of a component, with weights or without.

        Raises:
            FileNotFoundError: If it has none.
            ValueError: If it is damaged.
        """
        own = self.path / component / f"{component}_config.json"
        with self._reading(component):
            return read_json(own if component == "scheduler" else self.path / component / "config.json")

    def model(self, kind: Any, component: str, dtype: str) -> Any:
        """A component with weights, from safetensors only, whole and of the class that is asked for.

        Args:
            kind: Its class, of diffusers or transformers.
            component: Name of its subfolder.
            dtype: Its floating point type, whatever the type that is stored.

        Raises:
            FileNotFoundError: If the subfolder has no such weights.
            ValueError: If it holds another model, or a damaged one.
        """
        named = [str(self.index[component][1])]
        options: dict[str, Any] = {"dtype": dtype, "variant": self.variant, "safetensors_only": True, "named": named}
        with self._reading(component):
            return load_model(kind, self.path / component, **options)

    def tokenizer(self, component: str, kind: Any = None) -> Any:
        """A tokenizer.

        Args:
            component: Name of its subfolder.
            kind: Its class, of transformers; CLIP's by default.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is of another kind, or damaged.
        """
        from transformers import CLIPTokenizer

        with self._reading(component):
            return load_processor(kind or CLIPTokenizer, self.path / component, [str(self.index[component][1])])

    def holds(self, component: str) -> bool:
        """Whether a component is there: pipelines may have some of them or not."""
        origin = self.index.get(component)
        return isinstance(origin, list | tuple) and len(origin) == 2 and all(origin)

    @contextmanager
    def _reading(self, component: str) -> Iterator[None]:
        """Add the name of the model to the error of a missing component."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"cannot read {component} of the model in {self.path}: {error}") from error


@dataclass(frozen=True)
class LoadedPipeline(PipelineFolder):
    """A pipeline that is in memory already; its components are shared with whoever made it.

    Attributes:
        pipeline: The `DiffusionPipeline`.
    """

    pipeline: Any = None

    def config(self, component: str) -> dict[str, Any]:  # noqa: D102
        part = getattr(self.pipeline, component)
        held = part.config.to_dict() if hasattr(part.config, "to_dict") else dict(part.config)
        return {**held, "_class_name": type(part).__name__}

    def model(self, kind: Any, component: str, dtype: str) -> Any:  # noqa: D102
        part, wanted = self._part(kind, component), getattr(torch, dtype)
        if part.dtype == wanted:
            return part
        with quiet():
            return part.to(wanted)

    def tokenizer(self, component: str, kind: Any = None) -> Any:  # noqa: D102
        from transformers import CLIPTokenizer

        return self._part(kind or CLIPTokenizer, component)

    def _part(self, kind: Any, component: str) -> Any:
        part = getattr(self.pipeline, component)
        if not isinstance(part, kind):
            raise ValueError(
                f"the {component} of the {type(self.pipeline).__name__} is a {type(part).__name__}, and a "
                f"{kind.__name__} is wanted"
            )
        return part


def find_pipeline(
    path: Any,
    components: Sequence[str],
    example: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
    distilled: bool = False,
) -> PipelineFolder:
    """Find a pipeline in memory, on disk, among the models that ship with the package, or on the Hugging Face hub.

    Args:
        path: A folder, the name of a shipped model (e.g. "shapes-sdxl"), a hub id (e.g. "owner/name"), or a
            `DiffusionPipeline`.
        components: Components that it must have.
        example: Hub id of a model of this kind, for messages.
        revision: Branch, tag or commit on the hub.
        variant: Infix of the weight files, e.g. "fp16".
        local_files_only: Take hub models from the local cache only, as HF_HUB_OFFLINE=1 does for all.
        distilled: Whether a model that was distilled to sample in few steps is wanted all the same.

    Raises:
        FileNotFoundError: If there is none, with how to get it.
        ValueError: If what is found is of another kind.
    """
    folder = read_index(path, example, revision=revision, variant=variant, local_files_only=local_files_only)
    if missing := [name for name in components if not folder.holds(name)]:
        held = sorted(name for name in folder.index if folder.holds(name))
        raise ValueError(
            f"{folder.path} holds a {folder.index.get('_class_name')} with {held}, without {missing}, which this kind "
            "of model needs: dmlik_pl.load picks the class that a folder needs"
        )
    if not distilled:
        refuse_distilled(folder, str(path) if isinstance(path, str) else "")
    return folder


def read_index(
    path: Any,
    example: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
) -> PipelineFolder:
    """What is at a path, with its model_index.json, whatever pipeline that is; arguments as of :func:`find_pipeline`.

    Raises:
        FileNotFoundError: If there is none, with how to get it.
        ValueError: If it is a single file, or its index is damaged.
    """
    if not isinstance(path, str | Path):
        return _in_memory(path)
    path = str(path)
    if is_hub_id(path):
        folder = _from_hub(path, revision, variant, local_files_only)
    elif (found := resolved(path)) is None:
        raise FileNotFoundError(_how_to_get(path, "there is no such folder", example, variant))
    elif found.is_file():
        raise ValueError(
            f"{found} is a single file, and a folder in diffusers' layout is wanted: convert it once with "
            "`Pipeline.from_single_file(...).save_pretrained(folder)` of diffusers"
        )
    else:
        folder = found
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"{folder} holds no diffusers pipeline: it has no model_index.json")
    index = read_json(folder / "model_index.json")
    if not isinstance(index.get("_class_name"), str):
        raise ValueError(f"{folder / 'model_index.json'} does not say which pipeline it is of: it has no _class_name")
    return PipelineFolder(folder, index, variant)


def _in_memory(pipeline: Any) -> LoadedPipeline:
    import diffusers

    kind: Any = diffusers.DiffusionPipeline
    if not isinstance(pipeline, kind):
        raise ValueError(
            f"a model is a folder, a hub id or a DiffusionPipeline, got a {type(pipeline).__name__}: a network of "
            "your own becomes a ProbabilityFlow, see docs/own-network.md"
        )
    name = str(pipeline.config.get("_name_or_path") or type(pipeline).__name__)
    return LoadedPipeline(Path(name), {**pipeline.config, "_class_name": type(pipeline).__name__}, None, pipeline)


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
    with quiet():
        for name, part in parts.items():
            part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    written = {*parts, "scheduler"}
    kept = {name: value for name, value in index.items() if name in written or not isinstance(value, list)}
    absent = {name: [None, None] for name in index.keys() - kept.keys()}
    asked = {"requires_safety_checker": False} if "safety_checker" in absent else {}
    _write_json(folder / "model_index.json", {**kept, **absent, **asked})


def _from_hub(path: str, revision: str | None, variant: str | None, local_files_only: bool) -> Path:
    """Download what the pipeline needs, unless the local cache has it."""

    def download() -> str:
        from diffusers import DiffusionPipeline

        unused = {"safety_checker": None, "feature_extractor": None, "image_encoder": None}
        folder: str = DiffusionPipeline.download(
            path, revision=revision, variant=variant, use_safetensors=True, **unused
        )
        return folder

    try:
        return from_hub(path, download, revision, local_files_only)
    except FileNotFoundError as error:
        raise FileNotFoundError(_how_to_get(path, str(error), path, variant)) from error


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


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
