"""What a run measured, in the few words of its settings."""

from __future__ import annotations

from typing import Any

import yaml

from dmlik_pl.results.coverage import Coverage

__all__ = ["facts"]


def facts(settings: str, covered: Coverage) -> list[tuple[str, str]]:
    """What was measured and how, as labels and a few words each; what is not known is left out.

    Args:
        settings: The text of the run's `config.yaml`; empty if there is none.
        covered: Of how many samples it is.
    """
    try:
        config = yaml.safe_load(settings) or {}
    except yaml.YAMLError:
        config = {}
    config = config if isinstance(config, dict) else {}
    model = config.get("model") or {}
    of = "" if covered.expected is None else f" of {covered.expected}"
    known = [
        ("Model", _class_and_path(model.get("diffusion"))),
        ("Data", _class_and_path(config.get("data"))),
        ("Solver", _class_and_path(model.get("solver"))),
        ("Divergence", _class_and_path(model.get("divergence"))),
        ("Seed", str(model.get("seed", ""))),
        ("Samples", f"{covered.measured}{of} measured, {covered.failed} failed"),
    ]
    return [(label, value) for label, value in known if value]


def _class_and_path(part: Any) -> str:
    """The name of a class in the settings, with what says most about it."""
    if not isinstance(part, dict) or "class_path" not in part:
        return ""
    arguments = part.get("init_args") or {}
    told = [
        str(arguments[name])
        for name in ("path", "folder", "root", "nodes", "probes", "distribution")
        if arguments.get(name) not in (None, "")
    ]
    name = str(part["class_path"]).rpartition(".")[2]
    return f"{name} ({', '.join(told)})" if told else name
