"""A pipeline of diffusers put together from parts that were looked at one by one."""

import importlib
import inspect
from importlib.util import find_spec
from typing import Any

from torch import nn

from dmlik_pl.models.folder import LoadedPipeline, PipelineFolder
from dmlik_pl.pretrained.files import first_line, quiet

__all__ = ["assemble"]

_LIBRARIES = ("diffusers", "transformers")


def assemble(folder: PipelineFolder, dtypes: dict[str, str], unused: tuple[str, ...] = ()) -> Any:
    """The pipeline of a folder, every part loaded by the one loader of the package and of the class that it names.

    Args:
        folder: The folder, or a pipeline in memory, which is handed back with its parts cast.
        dtypes: Floating point types of the parts that are not float32.
        unused: Components that are left out.

    Raises:
        FileNotFoundError: If weights or files of a part are missing.
        ValueError: If a part is damaged, of a class that no pipeline is made of, or does not fit the others.
    """
    import diffusers

    name = str(folder.index["_class_name"])
    with quiet():  # imports what it is made of
        kind = type(folder.pipeline) if isinstance(folder, LoadedPipeline) else getattr(diffusers, name)
    if kind.__module__.startswith("diffusers.utils.dummy"):
        needed = [package for package in kind._backends if find_spec(package) is None]
        raise ValueError(f"a {name} needs {', '.join(needed)}, not installed: pip install {' '.join(needed)}")
    known = inspect.signature(kind.__init__).parameters
    parts = {}
    for part in known:
        origin = folder.index.get(part)
        if isinstance(origin, list | tuple):
            wanted = part not in unused and folder.holds(part)
            parts[part] = _part(folder, part, origin, dtypes.get(part, "float32")) if wanted else None
    if isinstance(folder, LoadedPipeline):
        return folder.pipeline
    settings = {key: value for key, value in folder.index.items() if key in known and key not in parts}
    try:
        with quiet():
            return kind(**parts, **settings)
    except (ImportError, TypeError, ValueError) as error:
        raise ValueError(f"cannot make a {name} of the parts in {folder.path}: {first_line(error)}") from error


def _part(folder: PipelineFolder, part: str, origin: Any, dtype: str) -> Any:
    kind = _class_of(folder, part, *map(str, origin))
    if issubclass(kind, nn.Module):
        return folder.model(kind, part, dtype)
    if hasattr(kind, "from_config"):
        with quiet():
            return kind.from_config(folder.config(part))
    return folder.tokenizer(part, kind)


def _class_of(folder: PipelineFolder, part: str, library: str, name: str) -> Any:
    """The class that a folder names for a part, if it is one of the libraries' own."""
    import diffusers

    module: Any
    if library in _LIBRARIES:
        module = importlib.import_module(library)
    else:  # a part that comes with one kind of pipeline alone
        pipelines: Any = importlib.import_module("diffusers.pipelines")
        module = getattr(pipelines, library, None) if library.isidentifier() else None
    kind = getattr(module, name, None) or getattr(diffusers, name, None)  # it may have moved since
    if not inspect.isclass(kind):
        raise ValueError(f"{folder.path} names {library}.{name} for its {part}, which the installed {library} has not")
    if issubclass(kind, nn.Module) or hasattr(kind, "from_config") or "Tokenizer" in kind.__name__:
        return kind
    raise ValueError(f"{folder.path} names {library}.{name} for its {part}, which is no part of a pipeline")
