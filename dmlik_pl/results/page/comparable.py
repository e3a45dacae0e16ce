"""Whether a run is of what a published table is of: numbers of other data, models or spaces are no comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dmlik_pl.records.frames import column
from dmlik_pl.results.paper import Printed
from dmlik_pl.shipped import ASSETS

__all__ = ["check_space", "differences"]


def check_space(frame: pd.DataFrame, printed: Printed) -> None:
    """Refuse records whose densities are of another space altogether.

    Args:
        frame: The records of a study.
        printed: What the published numbers are of.

    Raises:
        ValueError: If no record is of that space.
    """
    spaces = _texts(frame, "space")
    if spaces and not any(space.startswith(printed.space) for space in spaces):
        raise ValueError(
            f"densities of {' / '.join(spaces)} are no comparison for the paper's of {printed.space} ({printed.words})"
        )


def differences(frame: pd.DataFrame, settings: Mapping[str, Any], printed: Printed) -> list[str]:
    """What a run has otherwise than the published numbers, in phrases; nothing where it is of the same.

    Args:
        frame: The records of a study.
        settings: The run's configuration, as far as it is known.
        printed: What the published numbers are of.
    """
    found = []
    data, _ = _class(settings.get("data"))
    if data and data not in printed.data:
        found.append(f"its data are {data}")
    module = settings.get("model")
    model, arguments = _class(module.get("diffusion") if isinstance(module, Mapping) else None)
    path = str(arguments.get("path", ""))
    if model and model != printed.model:
        found.append(f"its model is {model}")
    elif path and "/" not in path and (ASSETS / path).is_dir():
        found.append(f"its model is the small {path} that ships with this package")
    dims = {int(value) for value in column(frame, "dims") if value == value}
    if printed.dims and dims - printed.dims:
        own, theirs = (" / ".join(map(str, sorted(each))) for each in (dims, printed.dims))
        found.append(f"its densities have {own} dimensions, not {theirs}")
    return found


def _class(part: Any) -> tuple[str, dict[str, Any]]:
    """Name of a class in the settings and its arguments; empty where they do not say."""
    if not isinstance(part, Mapping) or "class_path" not in part:
        return "", {}
    return str(part["class_path"]).rpartition(".")[2], dict(part.get("init_args") or {})


def _texts(frame: pd.DataFrame, name: str) -> list[str]:
    return sorted(map(str, frame[name].dropna().unique())) if name in frame else []
