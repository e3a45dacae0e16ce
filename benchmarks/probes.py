"""What the trace's probes leave: ``python -m benchmarks.probes``.

Standard deviations over repeated draws of the probes, all else held: of one log-likelihood, and of the difference of
the true and a wrong condition of the same sample, with the probes shared and not.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.methods import FixedProbeMultistep
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.tables import RESULTS, publish
from dmlik_pl.flow import Condition, Hutchinson, Multistep, log_likelihood

__all__ = ["ESTIMATORS", "Estimator", "deviation", "main", "measure"]


@dataclass(frozen=True)
class Estimator:
    """A way to estimate the trace.

    Attributes:
        name: Name for tables.
        fresh: Whether every node has probes of its own.
        divergence: The probes of one draw.
        average: Draws that are averaged.
    """

    name: str
    fresh: bool = True
    divergence: Hutchinson = field(default_factory=Hutchinson)
    average: int = 1

    @property
    def vjps(self) -> int:
        """Derivatives a node."""
        return self.divergence.probes * self.average


FIXED = Estimator("1 Rademacher, fixed", fresh=False)
FRESH = Estimator("1 Rademacher, fresh (default)")
ESTIMATORS = (
    FIXED,
    FRESH,
    Estimator("4 Rademacher, fresh", average=4),
    Estimator("4 colour-Hadamard, fresh", divergence=Hutchinson(probes=4, colours=2)),
    Estimator("1 Gaussian, fixed", fresh=False, divergence=Hutchinson(distribution="gaussian")),
    Estimator("1 Gaussian, fresh", divergence=Hutchinson(distribution="gaussian")),
)


def totals(problem: Problem, condition: Condition, estimator: Estimator, nodes: int, draws: int) -> Tensor:
    """Log-likelihoods by independent draws of the probes, nats, [draws, B]; each draw is a sample with its own name."""
    copies = draws * estimator.average
    result = log_likelihood(
        problem.flow,
        torch.cat([problem.x] * copies),
        condition.tile(copies),
        solver=(Multistep if estimator.fresh else FixedProbeMultistep)(nodes=nodes),
        divergence=estimator.divergence,
        sample_ids=[f"{name}, draw {draw}" for draw in range(copies) for name in problem.samples],
    )
    return result.log_p.reshape(draws, estimator.average, -1).mean(1)


def _deviation(draws: Tensor) -> float:
    """Root mean square over samples of the standard deviation over draws [draws, B]."""
    return float(draws.var(0).mean().sqrt())


def deviation(problem: Problem, nodes: int, *, fresh: bool, draws: int) -> float:
    """Standard deviation that one Rademacher probe, fixed or fresh, gives bits/dim."""
    return _deviation(totals(problem, problem.condition, FRESH if fresh else FIXED, nodes, draws)) * problem.bits


def measure(problem: Problem, nodes: int, draws: int) -> list[dict[str, object]]:
    """Table rows of one problem."""
    out: list[dict[str, object]] = []
    for estimator in ESTIMATORS:
        if estimator.divergence.colours > 1 and problem.x.dim() < 4:
            continue  # a vector has no neighbours to colour
        repeats = max(4, draws // estimator.vjps)
        true, wrong = (
            totals(problem, condition, estimator, nodes, repeats) for condition in (problem.condition, problem.rival)
        )
        out.append(
            {
                "problem": problem.name,
                "probes": estimator.name,
                "VJP/node": estimator.vjps,
                "s.d., bits/dim": _deviation(true) * problem.bits,
                "difference, shared probes": _deviation(true - wrong),
                # A draw of one condition against the next draw of the other: as with probes of their own.
                "difference, own probes": _deviation(true - wrong.roll(1, 0)),
            }
        )
    return out


def with_gains(frame: pd.DataFrame) -> pd.DataFrame:
    """Add ratios of variances to those of one fixed Rademacher probe of the same problem."""
    standard = frame.groupby("problem").transform("first")
    gain = (standard["s.d., bits/dim"] / frame["s.d., bits/dim"]) ** 2
    paired = (standard["difference, own probes"] / frame["difference, shared probes"]) ** 2
    return frame.assign(**{"gain": gain, "gain per VJP": gain / frame["VJP/node"], "gain of difference": paired})


FORMATS = {
    "s.d., bits/dim": ".4f",
    "difference, shared probes": ".3f",
    "difference, own probes": ".3f",
    "gain": ".3g",
    "gain per VJP": ".3g",
    "gain of difference": ".3g",
}
NOTES = (
    "Standard deviations over draws of the probes on one trajectory, root mean square over samples: 10-20 % uncertain.",
    "Difference: s.d. of log p of the true minus that of one wrong condition of the same sample, nats.",
    "Gains: variance of one fixed Rademacher probe over that of the row; for the difference, of fixed probes of their "
    "own over shared ones of the row.",
)


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--nodes", type=int, default=25, help="nodes of the grid")
    parser.add_argument("--draws", type=int, default=32, help="repeats, as VJPs a node")
    parser.add_argument("--quick", action="store_true", help="the closed form only")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    names = ["mixture"] if options.quick else options.problems
    rows = [row for name in names for row in measure(PROBLEMS[name](), options.nodes, options.draws)]
    frame = with_gains(pd.DataFrame(rows))
    publish(options.output, "probes", frame, FORMATS, f"Probe noise, {options.nodes} nodes", NOTES)
    return frame


if __name__ == "__main__":
    main()
