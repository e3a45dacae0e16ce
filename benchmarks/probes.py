"""What the trace's probes leave: ``python -m benchmarks.probes``.

Variances over probes, all else held, from the Jacobians along the samples' paths: of one log-likelihood, and of the
difference of the true and a wrong condition of the same sample, with the probes shared and not.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from scipy.linalg import hadamard
from torch import Tensor

from benchmarks.colourings import COUNT, coupling, learn
from benchmarks.jacobians import Jacobians, whole
from benchmarks.methods import FixedProbeMultistep
from benchmarks.problems import NETWORKS, PROBLEMS, Problem
from benchmarks.tables import RESULTS, publish
from dmlik_pl.flow import Multistep, log_likelihood
from dmlik_pl.flow.colouring import colour_index

__all__ = ["ESTIMATORS", "Estimator", "deviation", "main", "measure", "totals", "variance"]


@dataclass(frozen=True)
class Estimator:
    """A way to estimate the trace.

    Attributes:
        name: Name for tables.
        probes: Derivatives a node.
        fresh: Whether every node has probes of its own.
        gaussian: Whether they are normal instead of signs.
        colours: Number of colours; 1 for independent probes.
        learned: Whether the colouring is learned, from the first half of the samples, and judged on the others.
        cycled: Whether the rows of the pattern are shared out over nodes in turn, one each, on one random field.
    """

    name: str
    probes: int = 1
    fresh: bool = True
    gaussian: bool = False
    colours: int = 1
    learned: bool = False
    cycled: bool = False


FRESH = Estimator("1 Rademacher, fresh (default)")
ESTIMATORS = (
    FRESH,
    Estimator("1 Rademacher, fixed", fresh=False),
    Estimator("1 Gaussian, fresh", gaussian=True),
    Estimator("1 Gaussian, fixed", gaussian=True, fresh=False),
    *(Estimator(f"1 of {k} colours, cycled over nodes", colours=k, cycled=True) for k in (2, 4, 8)),
    *(Estimator(f"{k} Rademacher", k) for k in (2, 4, 8, 16, 32)),
    *(Estimator(f"{k} colours, lattice", k, colours=k) for k in (2, 4, 8, 16, 32)),
    *(Estimator(f"{k} colours, learned", k, colours=k, learned=True) for k in (2, 4, 8, 16, 32)),
)


def variance(jacobians: Jacobians, estimator: Estimator, index: Tensor) -> Tensor:
    """Variance over probes of the integral of the trace, nats^2, [B]; ``index`` holds the colour of each dimension."""
    forms = jacobians.symmetric.double()
    if not estimator.gaussian:
        torch.diagonal(forms, dim1=2, dim2=3).zero_()
    if estimator.cycled:
        rows = torch.from_numpy(hadamard(estimator.colours)).double()[:, index]
        signs = rows[torch.arange(len(forms)) % estimator.colours]  # one row per node
        signed = forms * (signs[:, :, None] * signs[:, None])[:, None]
        forms = torch.stack([group.sum(0) for group in signed.split(estimator.colours)])
    elif not estimator.fresh:
        forms = forms.sum(0, keepdim=True)
    elif estimator.colours > 1:
        forms = forms * (index[:, None] == index)
    draws = 1 if estimator.colours > 1 else estimator.probes
    return 2 * forms.square().sum((0, 2, 3)) / draws


def measure(problem: Problem, nodes: int, cache: Path | None = None) -> list[dict[str, object]]:
    """Table rows of one problem."""
    true, wrong = (whole(problem, condition, nodes, cache=cache) for condition in (problem.condition, problem.rival))
    half = len(problem.x) // 2
    judged = torch.arange(half, len(problem.x))
    couplings = coupling(true, range(half)) + coupling(wrong, range(half))
    out: list[dict[str, object]] = []
    for estimator in ESTIMATORS:
        index = torch.zeros(problem.dims, dtype=torch.long)
        if estimator.learned:
            index = learn(couplings, estimator.colours)
        elif estimator.colours > 1:
            index = colour_index(true.shape, estimator.colours).flatten()
        single, other, paired = (variance(each, estimator, index)[judged] for each in (true, wrong, true - wrong))
        out.append(
            {
                "problem": problem.name,
                "probes": estimator.name,
                "VJP/node": estimator.probes,
                "s.d., bits/dim": float(single.mean().sqrt()) * problem.bits,
                "difference, shared probes": float(paired.mean().sqrt()),
                "difference, own probes": float((single + other).mean().sqrt()),
            }
        )
    return out


def with_gains(frame: pd.DataFrame) -> pd.DataFrame:
    """Add ratios of variances to those of the default of the same problem."""
    standard = frame.groupby("problem").transform("first")
    gain = (standard["s.d., bits/dim"] / frame["s.d., bits/dim"]) ** 2
    paired = (standard["difference, shared probes"] / frame["difference, shared probes"]) ** 2
    return frame.assign(**{"gain": gain, "gain per VJP": gain / frame["VJP/node"], "gain of difference": paired})


def totals(problem: Problem, nodes: int, *, fresh: bool, draws: int) -> Tensor:
    """Log-likelihoods by independent draws of one probe, nats, [draws, B]; each is a sample with its own name."""
    result = log_likelihood(
        problem.flow,
        torch.cat([problem.x] * draws),
        problem.condition.tile(draws),
        solver=(Multistep if fresh else FixedProbeMultistep)(nodes=nodes),
        sample_ids=[f"{name}, draw {draw}" for draw in range(draws) for name in problem.samples],
    )
    return result.log_p.reshape(draws, -1)


def deviation(problem: Problem, nodes: int, *, fresh: bool, draws: int) -> float:
    """Standard deviation that one Rademacher probe, fixed or fresh, gives bits/dim, root mean square over samples."""
    return float(totals(problem, nodes, fresh=fresh, draws=draws).var(0).mean().sqrt()) * problem.bits


FORMATS = {
    "s.d., bits/dim": ".4f",
    "difference, shared probes": ".3f",
    "difference, own probes": ".3f",
    "gain": ".3g",
    "gain per VJP": ".3g",
    "gain of difference": ".3g",
}
NOTES = (
    "Standard deviations over probes on one trajectory, root mean square over the second half of the samples, by the "
    "formula 2 sum S_ij^2 from their Jacobians; learned colourings have seen the first half.",
    "Difference: s.d. of log p of the true minus that of one wrong condition of the same sample, nats.",
    "Gains: variance of one fresh Rademacher probe over that of the row; of a difference, both with shared probes.",
    "tiny SDXL and attention have random weights: a U-Net of the tests, and one whose heads, made eightfold sharper, "
    "look at few places anywhere.",
)


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    known = PROBLEMS | NETWORKS
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--nodes", type=int, default=33, help="nodes of the grid")
    parser.add_argument("--cache", type=Path, help="folder that keeps the Jacobians, some minutes of work on one core")
    parser.add_argument("--quick", action="store_true", help="the closed form only")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    names = ["mixture"] if options.quick else options.problems
    problems = [known[name](COUNT.get(name, 8)) for name in names]  # type: ignore[call-arg]
    rows = [row for problem in problems for row in measure(problem, options.nodes, options.cache)]
    frame = with_gains(pd.DataFrame(rows))
    publish(options.output, "probes", frame, FORMATS, f"Probe noise, {options.nodes} nodes", NOTES)
    return frame


if __name__ == "__main__":
    main()
