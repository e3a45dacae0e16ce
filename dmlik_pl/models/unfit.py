"""What a folder says of itself that keeps a likelihood from being what it is called.

A network that expects more conditions than it would get is scored under a condition that nobody chose. One that was
distilled into few steps is no longer the score of a diffusion, and its probability flow is not that of the model it
came from.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["DISTILLED", "few_step_name", "refuse_distilled", "refuse_other_inputs"]

DISTILLED = ", of a model distilled to few steps, whose field was not trained as a score"
"""What every table says beside the space of such a model."""

# Beside x_t and time, with the value that asks for no input. Text and sizes of the image are each model's own matter.
_INPUTS: dict[str, Any] = {
    "class_embed_type": None,
    "num_class_embeds": None,
    "class_embeddings_concat": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "time_cond_proj_dim": None,
    "time_embedding_type": "positional",
    "attention_type": "default",
    "dual_cross_attention": False,
    "addition_embed_type": None,
}
_FEW_STEP_CLASSES = re.compile(r"(FlowMatch)?(LCM|TCD|SCM|CMStochasticIterative)Scheduler|.*Consistency.*Pipeline")
_FEW_STEP_NAMES = re.compile(
    r"(?<![a-z])(turbo|lightning|lcm|tcd|pcm|dmd2?|schnell|hyper[-_]?sd(xl)?)(?![a-z])", re.IGNORECASE
)


def refuse_other_inputs(config: Mapping[str, Any], folder: Path, fed: tuple[str, ...] = ()) -> None:
    """Refuse a U-Net that is conditioned on more than it would be given.

    Args:
        config: Content of its config.json.
        folder: Where it is, for the message.
        fed: Settings of inputs that the model does tell it.

    Raises:
        ValueError: If it is; the message names the settings.
    """
    asked = {name: config.get(name, plain) for name, plain in _INPUTS.items() if name not in fed}
    if others := {name: value for name, value in asked.items() if value != _INPUTS[name]}:
        settings = ", ".join(f"{name}: {value!r}" for name, value in others.items())
        hint = ". Use dmlik_pl.models.StableDiffusionXL" if others.get("addition_embed_type") == "text_time" else ""
        raise ValueError(
            f"the U-Net in {folder} is conditioned on what it would not be given ({settings}): its likelihoods would "
            f"be those of another condition{hint}"
        )


def few_step_name(name: str) -> str | None:
    """The word by which the name of a file, folder or hub model says that it samples in few steps; None without one.

    Of a path, only what the model itself is called counts: its last part, or a hub model's folder in the cache.
    """
    parts = [part for part in Path(name).parts if part not in ("unet", "scheduler")]
    called = [*parts[-1:], *(part for part in parts if part.startswith("models--"))]
    return next((found[0] for part in called if (found := _FEW_STEP_NAMES.search(part))), None)


def refuse_distilled(folder: Any, name: str) -> None:
    """Refuse a pipeline that was distilled to sample in few steps.

    Args:
        folder: The pipeline, a :class:`~dmlik_pl.models.folder.PipelineFolder`.
        name: What the user called it.

    Raises:
        ValueError: If there is a sign of that; the message says which.
    """
    if sign := _sign_of_distillation(folder, name):
        raise ValueError(
            f"{folder.path} holds a model that was distilled to sample in few steps ({sign}). It is no longer the "
            "score of a diffusion, so that its probability flow gives no p(x|y): use the model it was distilled from, "
            "or set distilled to true to measure what its flow gives, which every table then says"
        )


def _sign_of_distillation(folder: Any, name: str) -> str | None:
    index = folder.index
    scheduler, unet, transformer = (_config(folder, part) for part in ("scheduler", "unet", "transformer"))
    classes = [index.get("_class_name"), scheduler.get("_class_name"), *(index.get("scheduler") or [])]
    if found := [kind for kind in classes if _FEW_STEP_CLASSES.fullmatch(str(kind))]:
        return f"its folder names a {found[0]}"
    if (width := unet.get("time_cond_proj_dim")) is not None:
        return f"its U-Net is told the guidance weight, time_cond_proj_dim: {width}"
    for source in (name, *(str(config.get("_name_or_path", "")) for config in (index, unet, transformer, scheduler))):
        if word := few_step_name(source):
            return f"{source!r} has {word!r} in its name"
    spacing = (scheduler.get("timestep_spacing"), bool(scheduler.get("rescale_betas_zero_snr")))
    if scheduler.get("_class_name") == "EulerAncestralDiscreteScheduler" and spacing == ("trailing", False):
        return "EulerAncestralDiscreteScheduler with timestep_spacing 'trailing', as SD-Turbo and SDXL-Turbo have it"
    unshifted = not scheduler.get("use_dynamic_shifting") and scheduler.get("shift", 1.0) == 1
    if transformer.get("guidance_embeds") is False and index.get("_class_name") == "FluxPipeline" and unshifted:
        return "its times are not shifted and it is told no guidance, as FLUX.1-schnell has it"
    return None


def _config(folder: Any, component: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = folder.config(component) if folder.holds(component) else {}
    except FileNotFoundError:  # told of when the component is read
        return {}
    return config
