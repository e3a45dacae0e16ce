"""Exact likelihoods of conditional diffusion models, every number with its error.

    import dmlik_pl as dmlik

    model = dmlik.load("folder-or-hub-id")
    print(dmlik.log_likelihood(model, ["cat.png"], "a cat on a mat"))

The names below are imported when they are first asked for: the package itself costs no time. Their types are in
``__init__.pyi``.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    **dict.fromkeys(("Likelihoods", "PipelineModel", "load", "log_likelihood"), "dmlik_pl.models"),
    **dict.fromkeys(("Condition", "Exact", "Hutchinson", "Multistep"), "dmlik_pl.flow"),
    **dict.fromkeys(("ProbabilityFlow", "TorchDiffEq"), "dmlik_pl.flow"),
}

__all__ = [
    "Condition",
    "Exact",
    "Hutchinson",
    "Likelihoods",
    "Multistep",
    "PipelineModel",
    "ProbabilityFlow",
    "TorchDiffEq",
    "load",
    "log_likelihood",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for from where it is (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'dmlik_pl' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
