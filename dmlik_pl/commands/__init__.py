"""The command ``dmlik``: each of its verbs is a file here, or the ``main`` of another room.

Nothing is imported before it is needed, so that an answer that takes no model comes at once.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from dmlik_pl.cli import nearest, run

__all__ = ["VERBS", "main"]

VERBS = {
    "score": ("dmlik_pl.commands.score:command", "log p(image | prompt) or log p(sound | text), with its error"),
    "evaluate": ("dmlik_pl.commands.evaluate:command", "run the experiments of a configuration"),
    "train": ("dmlik_pl.commands.train:command", "train or fine-tune a model by a configuration"),
    "report": ("dmlik_pl.results.page.report:main", "make tables, figures and report of a run again"),
    "compare": ("dmlik_pl.results.compare:main", "set a run beside the paper's tables"),
    "list": ("dmlik_pl.commands.listing:command", "name the configurations, studies and models"),
}

USAGE = """usage: dmlik VERB [--option value ...]

{verbs}

  dmlik score --model shapes-sdxl --image a.png --prompt "a red cube"
  dmlik evaluate --config shapes.yaml
  dmlik VERB --help"""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run a verb with the arguments behind it, and exit with its status.

    Args:
        args: The arguments; those of the process if None.
    """
    verb, *rest = (sys.argv[1:] if args is None else list(args)) or [""]
    if verb in ("", "-h", "--help"):
        print(USAGE.format(verbs="\n".join(f"  {name:10}{about}" for name, (_, about) in VERBS.items())))
        sys.exit(0 if verb else 1)
    run(lambda: _run(verb, rest))


def _run(verb: str, rest: list[str]) -> object:
    if verb not in VERBS:
        hint = nearest(verb, VERBS) or f"; there are {', '.join(VERBS)}"
        raise ValueError(f"dmlik has no verb {verb!r}{hint}")
    module, _, function = VERBS[verb][0].partition(":")
    return getattr(import_module(module), function)(rest)
