"""Learn colourings of the shipped models from their Jacobians: ``python -m benchmarks.colourings``.

Writes ``colouring.safetensors`` into the folder of each, where ``Hutchinson(colouring="digits")`` finds it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.jacobians import Jacobians, whole
from benchmarks.problems import PROBLEMS
from dmlik_pl.flow.colouring import FILE
from dmlik_pl.models import PixelDiffusion, StableDiffusionXL
from dmlik_pl.shipped import ASSETS

__all__ = ["COLOURS", "COUNT", "coupling", "learn", "main"]

COLOURS = (2, 4, 8, 16, 32)
COUNT = {"digits": 16, "shapes": 4}  # samples that are learned from
MODELS = {"digits": ("digits", PixelDiffusion), "shapes": ("shapes-sdxl", StableDiffusionXL)}


def coupling(jacobians: Jacobians, chosen: Sequence[int]) -> Tensor:
    """Summed over nodes and samples, what two dimensions of one colour would add to the variance, [D, D]."""
    return jacobians.symmetric[:, list(chosen)].double().square().sum((0, 1)).fill_diagonal_(0)


def learn(couplings: Tensor, colours: int, sweeps: int = 50) -> Tensor:
    """A colouring [D] with little coupling [D, D] within colours.

    The most coupled dimension first, each takes the colour with which it is coupled least; then dimensions change their
    colour as long as that makes the sum smaller.
    """
    weights = couplings.numpy()
    index = np.full(len(weights), -1)
    for i in np.argsort(-weights.sum(1), kind="stable"):
        index[i] = np.bincount(index[index >= 0], weights[i, index >= 0], minlength=colours).argmin()
    for _ in range(sweeps):
        before = index.copy()
        for i in range(len(weights)):
            index[i] = np.bincount(index, weights[i], minlength=colours).argmin()
        if (index == before).all():
            break
    return torch.from_numpy(index)


def main(args: Sequence[str] | None = None) -> None:
    """Learn and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--nodes", type=int, default=33, help="nodes of the grid")
    parser.add_argument("--cache", type=Path, help="folder that keeps the Jacobians")
    parser.add_argument("--output", type=Path, default=ASSETS, help="where the folders of the models are")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    for problem_name in options.problems:
        name, kind = MODELS[problem_name]
        problem = PROBLEMS[problem_name](COUNT[problem_name])  # type: ignore[call-arg]
        found = [
            whole(problem, each, options.nodes, cache=options.cache) for each in (problem.condition, problem.rival)
        ]
        couplings = torch.stack([coupling(each, range(len(problem.x))) for each in found]).sum(0)
        shape = found[0].shape
        tensors = {f"{k} colours": learn(couplings, k).reshape(shape).byte().contiguous() for k in COLOURS}
        folder = options.output / name
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / FILE, {"weights": kind(name).fingerprint()})


if __name__ == "__main__":
    main()
