"""Networks of diffusers and transformers, whole and of the class that is asked for.

`from_pretrained` of these libraries draws what a file lacks at random and leaves what it cannot place, with a warning.
Here the class that a folder names is compared with the one that is wanted, and every weight must find its place.
"""

import inspect
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dmlik_pl.pretrained.files import first_line, quiet, read_json, refuse_damaged

__all__ = ["check_class", "load_model"]

_logger = logging.getLogger(__name__)

LISTED = 5
# Counters, and masks of training alone: neither their absence nor their presence changes an output.
_HARMLESS = r"(.*\.)?(position_ids|masked_spec_embed)"
# What a class may be read from beside itself, and which of its weights are then left over.
_SUPERSETS = {"CLIPTextModel": ({"CLIPTextModelWithProjection"}, r"text_projection\.weight")}
# Written into the configurations of networks that were averaged in training.
_AVERAGING = {
    *("decay", "min_decay", "inv_gamma", "power"),
    *("optimization_step", "update_after_step", "use_ema_warmup"),
}


def load_model(
    kind: Any,
    folder: Path,
    *,
    dtype: str | None = None,
    variant: str | None = None,
    safetensors_only: bool = False,
    named: Sequence[str] = (),
) -> Any:
    """A model from a local folder.

    Args:
        kind: Its class, of diffusers or transformers; of an `AutoModelFor...` the class that the folder names.
        folder: The folder with config.json and the weights.
        dtype: Floating point type, whatever the type that is stored; that of the file, or float32, by default.
        variant: Infix of the weight files, e.g. "fp16"; where only plain ones are there, those are read.
        safetensors_only: Refuse torch's own files too, which are else read as weights alone.
        named: Classes by which the folder around this one calls it.

    Raises:
        FileNotFoundError: If configuration or weights are not there.
        ValueError: If the folder names another class, or a weight is missing, not wanted, misshapen or damaged.
    """
    config = read_json(folder / "config.json")
    if not kind.__name__.startswith("AutoModel"):  # one that chooses by the configuration is compared afterwards
        check_class(kind, config, folder, named)
    options: dict[str, Any] = {
        "variant": _variant_at_hand(folder, variant, safetensors_only),
        "local_files_only": True,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are in the report, which lists all faults together
    }
    if safetensors_only:
        options["use_safetensors"] = True
    of_diffusers = hasattr(kind, "load_config")  # its pipelines bring models in the layout of transformers too
    if of_diffusers:
        from diffusers.utils import is_accelerate_available

        _check_fields(kind, config, folder)
        options["low_cpu_mem_usage"] = is_accelerate_available()
    if dtype is not None:
        options["torch_dtype" if of_diffusers else "dtype"] = getattr(torch, dtype)
    try:
        with quiet():
            model, report = kind.from_pretrained(folder, **options)
    except Exception as error:  # whatever a library makes of a file that is not what it expects
        raise ValueError(f"cannot read a {kind.__name__} from {folder}: {first_line(error)}") from error
    check_class(type(model), config, folder, named)
    _check_report(model, report, folder)
    return model


def check_class(kind: Any, config: Mapping[str, Any], folder: Path, named: Sequence[str] = ()) -> None:
    """Compare a class with what a folder's config.json, and the folder around it, say.

    Raises:
        ValueError: If they name another, and not one of which this class is a part.
    """
    accepted = {kind.__name__} | _SUPERSETS.get(kind.__name__, (set(), ""))[0]
    stated = {*named, *(config.get("architectures") or [])}
    if "_class_name" in config:
        stated.add(str(config["_class_name"]))
    if others := sorted(stated - accepted):
        raise ValueError(f"{folder} holds a {', '.join(others)}, but a {kind.__name__} is wanted")
    wanted = getattr(getattr(kind, "config_class", None), "model_type", None)
    if wanted is not None and (found := config.get("model_type", wanted)) != wanted:
        raise ValueError(f"{folder / 'config.json'} is of model_type {found!r}, and a {kind.__name__} is {wanted!r}")


def _check_fields(kind: Any, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse settings that the installed diffusers does not know: it would leave them out without a word."""
    known = {*inspect.signature(kind.__init__).parameters, *_AVERAGING}
    unknown = {key: value for key, value in config.items() if key not in known and not key.startswith("_")}
    if switched := sorted(key for key, value in unknown.items() if value not in (None, False)):
        raise ValueError(
            f"{folder / 'config.json'} sets {', '.join(switched)}, which {kind.__name__} of this diffusers does not "
            "know: what these do would be missing from the network"
        )


def _variant_at_hand(folder: Path, variant: str | None, safetensors_only: bool) -> str | None:
    """The variant to read, once its files, or plain ones instead, are found and whole."""
    weights: dict[str | None, list[Path]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        infix = re.sub(r"-\d+-of-\d+", "", file.name.removesuffix(".safetensors")).partition(".")[2]
        weights.setdefault(infix or None, []).append(file)
    if variant is not None and variant not in weights and None in weights:
        _logger.warning("%s has no weights of variant %r: the plain ones are read", folder, variant)
        variant = None
    _refuse_missing_shards(folder, variant)
    for file in weights.get(variant, []):
        refuse_damaged(file)
    pickled = not safetensors_only and any(folder.glob("pytorch_model*.bin"))
    if variant not in weights and not pickled:
        wanted = f"*.{variant}.safetensors" if variant else "*.safetensors"
        advice = "Weights in pickle files (.bin, .ckpt) are not read: convert them with "
        advice += "`save_pretrained(..., safe_serialization=True)`"
        if weights:
            advice = f"Another precision is there: set variant to {' or '.join(map(str, weights))}"
        raise FileNotFoundError(
            f"no weights in {folder}: it needs {wanted}, and holds {sorted(file.name for file in folder.iterdir())}. "
            f"{advice}"
        )
    return variant


def _refuse_missing_shards(folder: Path, variant: str | None) -> None:
    """Compare the weights of several files with their index, which a broken download leaves without some of them."""
    for index in folder.glob("*.safetensors.index*.json"):
        if (index.name.partition(".index")[2].removesuffix(".json").strip(".") or None) != variant:
            continue
        named = set(read_json(index).get("weight_map", {}).values())
        if missing := [name for name in named if not (folder / name).is_file()]:
            raise FileNotFoundError(
                f"{index} names {len(named)} files of weights, of which {len(missing)} are not there: "
                f"{_listed(missing)}. The download is not complete: start it again, it goes on where it stopped"
            )


def _check_report(model: Any, report: Mapping[str, Any], folder: Path) -> None:
    """Refuse a model of which a weight was drawn at random, left out or cut to shape."""
    kind = type(model).__name__
    spare = re.compile("|".join(filter(None, (_HARMLESS, _SUPERSETS.get(kind, (set(), ""))[1]))))
    found = {
        "missing": [name for name in report["missing_keys"] if not re.fullmatch(_HARMLESS, name)],
        "not wanted": [name for name in report["unexpected_keys"] if not spare.fullmatch(name)],
        "of another shape": [
            f"{name} {list(held)} for {list(wanted)}" for name, held, wanted in report["mismatched_keys"]
        ],
    }
    faults = [f"{len(names)} {verb}: {_listed(names)}" for verb, names in found.items() if names]
    faults += [str(message) for message in report.get("error_msgs", [])]
    if faults:
        raise ValueError(f"the weights in {folder} are not those of a {kind} by its config.json: {'; '.join(faults)}")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return ", ".join(ordered[:LISTED]) + rest
