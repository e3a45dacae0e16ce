"""How often intervals of the probes' error hold: ``python -m benchmarks.coverage``.

Repeats of the probes on the Jacobians along the samples' paths, by the package's own estimators: how many of its 95 %
intervals hold the value of the exact trace, for single log-likelihoods and for differences of a true and a wrong
condition with shared probes.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from scipy.linalg import hadamard
from torch import Tensor

from benchmarks.jacobians import Jacobians, repeated, whole
from benchmarks.probes import Estimator, variance
from benchmarks.problems import NETWORKS, PROBLEMS
from benchmarks.tables import RESULTS, save, show
from dmlik_pl.flow import Hutchinson, draw
from dmlik_pl.flow.colouring import colour_index

__all__ = ["ESTIMATORS", "cycled", "main", "measure"]

ESTIMATORS = {
    "1 probe": Hutchinson(1),
    "2 probes": Hutchinson(2),
    "4 probes": Hutchinson(4),
    "4 colours": Hutchinson(4, colours=4),
    "8 colours": Hutchinson(8, colours=8),
}
_Z = 1.959964


def measure(jacobians: Jacobians, rival: Jacobians, repeats: int) -> list[dict[str, object]]:
    """Coverage of single likelihoods and of differences, with the width of the intervals, over all samples."""
    out: list[dict[str, object]] = []
    samples = range(jacobians.matrices.shape[1])
    for name, divergence in ESTIMATORS.items():
        found: dict[str, list[tuple[Tensor, Tensor]]] = {"single": [], "difference": []}
        for b in samples:
            names = [f"{b}, repeat {i}" for i in range(repeats)]
            single, other = repeated([jacobians, rival], b, divergence, names)
            truth = jacobians.exact[b], jacobians.exact[b] - rival.exact[b]
            for of, integral, exact in zip(found, (single, single - other), truth, strict=True):
                found[of].append((integral.total - exact, integral.standard_error))
        kind = Estimator(name, divergence.probes, colours=divergence.colours)
        out += [_row(kind, of, found[of], each) for of, each in _pair(jacobians, rival)]
    return out


def _pair(jacobians: Jacobians, rival: Jacobians) -> list[tuple[str, Jacobians]]:
    return [("single", jacobians), ("difference", jacobians - rival)]


def _row(
    estimator: Estimator, of: str, parts: Sequence[tuple[Tensor, Tensor]], jacobians: Jacobians
) -> dict[str, object]:
    """Of deviations and standard errors of each sample, in units of its true deviation; NaN where there is none."""
    index = torch.zeros(math.prod(jacobians.shape), dtype=torch.long)
    if estimator.colours > 1:
        index = colour_index(jacobians.shape, estimator.colours).flatten()
    truth = variance(jacobians, estimator, index).sqrt()
    row: dict[str, object] = {"probes": estimator.name, "of": of}
    if float(truth.min()) < 1e-6:
        return row | dict.fromkeys(["coverage", "width", "scatter"], math.nan)
    deviation = torch.cat([part[0] / true for part, true in zip(parts, truth, strict=True)])
    error = torch.cat([part[1] / true for part, true in zip(parts, truth, strict=True)])
    return row | {
        "coverage": float((deviation.abs() <= _Z * error).double().mean()),
        "width": float(error.mean()),
        "scatter": float(error.std() / error.mean()),
    }


def cycled(jacobians: Jacobians, rival: Jacobians, colours: int, repeats: int) -> list[dict[str, object]]:
    """The same for one row of the pattern a node, in turn, on one random field for all rows.

    Noises of a group of nodes partly cancel, so the sum of a group is held against what the nodes of other groups say
    it should be: unbiased, and all that one run can know of it.
    """
    groups = torch.arange(len(jacobians.weights)) // colours
    rows = torch.from_numpy(hadamard(colours)).float()[:, colour_index(jacobians.shape, colours).flatten()]
    density = 0.5 / torch.cosh(jacobians.log_r)
    rest = torch.from_numpy(_rest(jacobians.log_r.numpy(), groups.numpy())) * density / density[:, None]
    sums = jacobians.weights * (groups == torch.arange(int(groups[-1]) + 1)[:, None])  # [groups, nodes]
    found: dict[str, list[tuple[Tensor, Tensor]]] = {"single": [], "difference": []}
    for b in range(jacobians.matrices.shape[1]):
        like, names = torch.zeros(repeats, *jacobians.shape), [f"{b}, repeat {i}" for i in range(repeats)]
        fields = [draw("rademacher", like, names, seed=0, probes=1, node=g)[0].flatten(1) for g in groups.tolist()]
        signs = torch.stack([field * rows[n % colours] for n, field in enumerate(fields)])
        true, wrong = (
            (signs * torch.einsum("nrd,nde->nre", signs, each.matrices[:, b])).double() for each in (jacobians, rival)
        )
        truth = jacobians.exact[b], jacobians.exact[b] - rival.exact[b]
        for of, terms, exact in zip(found, (true, true - wrong), truth, strict=True):
            whole_sum, its_rest = (torch.einsum("gn,nrd->grd", form, terms) for form in (sums, sums @ rest))
            variance = 2 * (whole_sum * its_rest).sum((0, 2)).clamp(min=0)
            found[of].append((whole_sum.sum((0, 2)) - exact, variance.sqrt()))
    kind = Estimator(f"1 of {colours} colours, cycled", colours=colours, cycled=True)
    return [_row(kind, of, found[of], each) for of, each in _pair(jacobians, rival)]


def _rest(nodes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Matrix that takes from each value the cubic through the four nearest of other groups."""
    matrix = np.eye(len(nodes))
    for i, node in enumerate(nodes):
        near = [j for j in np.argsort(np.abs(nodes - node), kind="stable") if groups[j] != groups[i]][:4]
        for j in near:
            others = nodes[[m for m in near if m != j]]
            matrix[i, j] = -np.prod((node - others) / (nodes[j] - others))
    return matrix


FORMATS = {"w": "g", "coverage": ".3f", "width": ".2f", "scatter": ".2f"}
NOTES = (
    "coverage: share of 95 % intervals that hold the value of the exact trace on the same grid.",
    "width: mean standard error over the true one; scatter: of the standard error from repeat to repeat, relative.",
    "Jacobians are those of the models, along the paths of the samples; each repeat has probes of its own.",
    "cycled: one row of the pattern a node in turn. It is better at no cost, but cannot tell its error.",
)


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    known = PROBLEMS | NETWORKS
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(known), default=["mixture", "rough", "digits", "shapes"])
    parser.add_argument("--guidance", nargs="+", type=float, default=[1.0, 5.0], help="where a model has it")
    parser.add_argument("--nodes", type=int, default=33, help="nodes of the grid")
    parser.add_argument("--count", type=int, default=4, help="samples of a problem")
    parser.add_argument("--repeats", type=int, default=250, help="of each sample")
    parser.add_argument("--cache", type=Path, help="folder that keeps the Jacobians, some minutes of work on one core")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    console = Console()
    rows: list[dict[str, object]] = []
    for name in options.problems:
        problem = known[name](options.count)  # type: ignore[call-arg]
        for weight in options.guidance if problem.condition.null is not None else [1.0]:
            pair = [
                whole(problem, condition, options.nodes, weight, options.cache)
                for condition in (problem.condition, problem.rival)
            ]
            found = measure(*pair, options.repeats)
            found += [row for k in (2, 4) for row in cycled(*pair, k, options.repeats)]
            table = [{"problem": problem.name, "w": weight} | row for row in found]
            show(console, f"{problem.name}, w={weight:g}", pd.DataFrame(table).drop(columns="problem"), FORMATS)
            rows += table
    frame = pd.DataFrame(rows)
    save(options.output, "coverage", frame, FORMATS, f"Coverage of 95 % intervals, {options.nodes} nodes", NOTES)
    return frame


if __name__ == "__main__":
    main()
