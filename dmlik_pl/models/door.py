"""The one door: from a folder to a likelihood with its error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from dmlik_pl.flow import Divergence, LogLikelihood, Solver, Target
from dmlik_pl.flow import log_likelihood as likelihood_of
from dmlik_pl.flow.target import batches
from dmlik_pl.models.base import ADAPTERS, ImageModel
from dmlik_pl.models.folder import Dtype, read_index
from dmlik_pl.models.likelihoods import Likelihoods
from dmlik_pl.ranges import at_least

__all__ = ["FromFolder", "load", "log_likelihood"]

_EXAMPLE = "stabilityai/stable-diffusion-xl-base-1.0"


def load(path: Any, **settings: Any) -> Any:
    """A diffusers pipeline as a model, of the class that it needs.

    Args:
        path: A folder in diffusers' layout, the name of a shipped model (e.g. "shapes-sdxl"), a hub id (e.g.
            "owner/name"), or a `DiffusionPipeline`. The parts of a pipeline are shared: its network keeps its type,
            text encoders and autoencoder are cast to float32, and none asks for gradients any more.
        **settings: Of the class that is picked, e.g. `dtype`, `variant`, `revision`, `t_min`; see docs/models.md.

    Returns:
        The model, one of :mod:`dmlik_pl.models`.

    Raises:
        FileNotFoundError: If there is none, with how to get it.
        ValueError: If it is of a kind that no class is there for, is damaged, or does not know a setting.
    """
    finding = {name: settings[name] for name in ("revision", "variant", "local_files_only") if name in settings}
    folder = read_index(path, _EXAMPLE, **finding)
    name = str(folder.index.get("_class_name"))
    if name not in ADAPTERS:
        raise ValueError(
            f"{folder.path} holds a {name}, which no class is there for. Supported are {', '.join(sorted(ADAPTERS))}. "
            "For another, write a file such as dmlik_pl/models/adapters/sd3.py: a subclass of PipelineModel with "
            f"pipelines = ({name!r},) and the members _embed (a prompt to embeddings, by the pipeline's encode_prompt) "
            "and network (x_t, time and embeddings to the network's output); import it before loading"
        )
    if not isinstance(path, str | Path):
        settings = {"dtype": _dtype_of(path), **settings}
    kind: Any = ADAPTERS[name].suited(folder.index)
    try:
        return kind(path if not isinstance(path, Path) else str(path), **settings)
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise ValueError(f"{kind.__name__}, the class of a {name}, has no such setting: {error}") from error
        raise


def _dtype_of(pipeline: Any) -> str:
    """Floating point type of a pipeline's network."""
    networks = (getattr(pipeline, name, None) for name in ("transformer", "unet", "prior", "decoder"))
    return next((str(network.dtype).removeprefix("torch.") for network in networks if network is not None), "float32")


class FromFolder(ImageModel):
    """The model in a folder, whichever it is: what is made is of the class that its pipeline needs.

    Args:
        path: A folder in diffusers' layout, the name of a shipped model, or a hub id.
        revision: Branch, tag or commit of a hub model.
        variant: Infix of the weight files to read, e.g. "fp16".
        dtype: Floating point type of the network. State and log-density keep theirs.
        local_files_only: Take hub models from the local cache only; HF_HUB_OFFLINE=1 is respected anyway.
        prior: Density at the noise end: ``total`` is N(0, 1 + r_max^2), ``noise`` N(0, r_max^2).
        t_min: Time in [0, 1] at which data are read; the schedule's first step by default.
        t_max: Time in [0, 1] at which the prior is evaluated; the schedule's last step by default.
        distilled: Take a model that was distilled to sample in few steps, whose field was not trained as a score.
        options: Further settings of the class that is picked, by name, such as negative_prompt or truncate.
    """

    def __new__(  # noqa: D102
        cls,
        path: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: Dtype = "float32",
        local_files_only: bool = False,
        prior: Literal["total", "noise"] = "total",
        t_min: float | None = None,
        t_max: float | None = None,
        distilled: bool = False,
        options: dict[str, Any] | None = None,
    ) -> Any:
        given = {"revision": revision, "variant": variant, "t_min": t_min, "t_max": t_max}
        given = {name: value for name, value in given.items() if value is not None}
        if distilled:  # some kinds of models have no such relatives, and no such setting
            given["distilled"] = distilled
        return load(path, dtype=dtype, local_files_only=local_files_only, prior=prior, **given, **(options or {}))


FromFolder.__abstractmethods__ = frozenset()  # command lines ask for a class that could have instances


def log_likelihood(
    model: ImageModel,
    images: Any,
    prompts: str | Sequence[str] | Tensor | None = None,
    *,
    guidance: float = 1.0,
    sample_ids: Sequence[str] | None = None,
    solver: Solver | None = None,
    divergence: Divergence | None = None,
    seed: int = 0,
    max_batch: int = 4,
    rounding: bool | None = None,
    target: float | None = None,
    max_nfe: int | None = None,
) -> Likelihoods:
    """The exact log-likelihood of images under their prompts, with its error.

    Args:
        model: A model, as :func:`load` gives it.
        images: A tensor [B, C, H, W] in [-1, 1], one or several images of PIL, or one or several names of image files;
            for a model of sounds waves [B, C, N] in [-1, 1] at its rate, or names of sound files.
        prompts: One prompt for all images, or one per image; None for a model without any, and with ``guidance=0``.
            Embeddings [B, E], or [1, E] for all, for a model that is conditioned on them.
        guidance: w of Eq. 10 of Cross and Ragni: 1 is p(x|y), 0 is p(x), anything else a guided flow's density.
        sample_ids: Names of the images, which key the probes; file names, or numbers, by default.
        solver: How the flow is integrated; 33 nodes of :class:`~dmlik_pl.flow.Multistep` by default.
        divergence: How traces are taken; one fresh probe per node by default.
        seed: Seed of the probes.
        max_batch: Images that go through the network at once; no result depends on it.
        rounding: Whether to measure by one more solve what the last digits of the images do to a likelihood; by default
            of guided flows, which amplify them.
        target: The error that each likelihood may have, bits per dimension, e.g. 0.01, in place of nodes and probes.
        max_nfe: Network evaluations of one likelihood, derivatives among them, that the target may cost.

    Returns:
        The likelihoods; ``print`` shows them, ``to_pandas`` hands them over, ``result`` has every term.

    Raises:
        ValueError: If images or prompts do not fit the model, or are of different numbers.
        SolverError: If an image has no likelihood.
    """
    at_least(1, max_batch=max_batch)
    model.refuse_half_on(model.device)
    given, ids = model.read(images, sample_ids)
    embedded = isinstance(prompts, Tensor)
    said = [prompts] * len(ids) if isinstance(prompts, str) else [] if embedded else list(prompts or ())
    if said and len(said) != len(ids):
        raise ValueError(f"{len(said)} prompts were given for {len(ids)} images: give one for all, or one per image")
    x = model.to_latent(given, ids).to(model.device)
    asked: Any = prompts if embedded else said or ""
    condition = model.condition_of(given, asked).spread(x)
    if not (said or embedded) and condition.inputs is not None and guidance != 0:
        raise ValueError(f"a {type(model).__name__} is conditioned on prompts: give them, or guidance=0 for p(x)")
    flow = model.flow(guidance)
    shaken = guidance not in (0, 1) if rounding is None else rounding
    aim = None if target is None else Target(target, max_nfe=max_nfe)
    pieces = batches(range(len(ids)) if aim is None else ids, max_batch)
    parts: list[LogLikelihood] = []
    for some in pieces:
        keys = [ids[b] for b in some]
        again = range(len(keys)) if shaken else ()
        parts.append(
            likelihood_of(
                flow,
                x[some],
                condition.select(some),
                solver=solver,
                divergence=divergence,
                sample_ids=keys,
                seed=seed,
                rounding=again,
                target=aim,
                max_batch=max_batch,
            )
        )
    order = [b for some in pieces for b in some]
    result = LogLikelihood.cat(parts).select(sorted(range(len(order)), key=order.__getitem__))
    return Likelihoods(result, ids, said, model.space)
