"""How honest the estimate of the grid's error is: ``python -m benchmarks.errors``.

Shipped models in both directions: test data read at a guidance weight, and the flow's own samples along the path that
made them. The true error is the distance from a reference of many nodes in float64 that meets the same probe; the
estimate is what the likelihood says of itself.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.methods import FixedProbeMultistep
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.tables import RESULTS, save, show
from dmlik_pl.flow import LogLikelihood, Purpose, log_likelihood, noise, trajectory

__all__ = ["Direction", "likelihood", "main", "measure", "summary"]

Direction = Literal["data", "sample"]
"""Whether data are followed to noise, or noise to the sample that it becomes."""

WEIGHTS = (1.0, 3.0, 5.0, 7.0)
NODES = (25, 33, 49, 65, 97)
REFERENCE_NODES = 513


def likelihood(problem: Problem, direction: Direction, guidance: float, nodes: int) -> LogLikelihood:
    """Log-likelihoods with one probe per sample: of its data, or of its own samples along their path."""
    flow, solver = replace(problem.flow, guidance=guidance), FixedProbeMultistep(nodes=nodes)
    if direction == "data":
        return log_likelihood(flow, problem.x, problem.condition, solver=solver, sample_ids=problem.samples)
    start = noise(problem.x, problem.samples, seed=0, purpose=Purpose.LATENT)
    latent = flow.state(start, flow.schedule.at(flow.schedule.t_max), problem.condition)
    path = trajectory(
        flow,
        latent,
        problem.condition,
        times=[flow.schedule.t_min],
        solver=solver,
        densities=True,
        sample_ids=problem.samples,
    )
    assert path.marginals is not None
    return path.marginals[-1]


def _reference(problem: Problem, direction: Direction, guidance: float, nodes: int, cache: Path | None) -> Tensor:
    """Log-likelihoods in nats by many nodes in float64, kept in a folder if there is one."""
    name = f"{problem.name}-{direction}-{guidance:g}-{nodes}-{'-'.join(problem.samples)}"
    file = None if cache is None else cache / f"{''.join(c if c.isalnum() else '_' for c in name)}.pt"
    if file is not None and file.is_file():
        known: Tensor = torch.load(file, weights_only=True)
        return known
    found = likelihood(problem.in_double(), direction, guidance, nodes).log_p
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(found, file)
    return found


def measure(
    problem: Problem,
    guidance: Sequence[float],
    nodes: Sequence[int],
    reference_nodes: int,
    cache: Path | None = None,
    *,
    paths: Sequence[Direction] = get_args(Direction),
) -> pd.DataFrame:
    """True error and estimate of every sample, bits/dim."""
    rows: list[dict[str, object]] = []
    for direction in paths:
        for weight in guidance:
            truth = _reference(problem, direction, weight, reference_nodes, cache)
            for count in nodes:
                found = likelihood(problem, direction, weight, count)
                errors = ((found.log_p - truth).abs() * problem.bits).tolist()
                estimates = (found.discretisation * problem.bits).tolist()
                for sample, error, estimate in zip(problem.samples, errors, estimates, strict=True):
                    cell = {"problem": problem.name, "path": direction, "w": weight, "nodes": count}
                    rows.append(cell | {"sample": sample, "error": error, "estimate": estimate})
    return pd.DataFrame(rows)


def summary(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Largest error and estimate, and how often the one is how much of the other."""
    ratio = frame["error"] / frame["estimate"]
    frame = frame.assign(ratio=ratio, fits=(ratio >= 0.1) & (ratio <= 1), above=ratio > 1, twice=ratio > 2)
    return (
        frame.groupby(list(by), sort=False)
        .agg(
            largest=("error", "max"),
            error=("error", "mean"),
            estimate=("estimate", "mean"),
            median=("ratio", "median"),
            fits=("fits", "mean"),
            above=("above", "mean"),
            twice=("twice", "mean"),
        )
        .reset_index()
        .rename(
            columns={
                "largest": "largest error",
                "median": "median ratio",
                "fits": "in [0.1, 1]",
                "above": "> 1",
                "twice": "> 2",
            }
        )
    )


FORMATS = {
    "w": "g",
    "largest error": ".4f",
    "error": ".4f",
    "estimate": ".4f",
    "median ratio": ".2f",
    **dict.fromkeys(("in [0.1, 1]", "> 1", "> 2"), ".0%"),
}


def ceiling() -> float:
    """Largest share of normal errors in [0.1, 1] of an estimate that knows their size but not their sign."""
    gaussian = torch.distributions.Normal(0.0, 1.0)
    multiples = torch.linspace(1, 4, 301, dtype=torch.float64)
    return float((2 * (gaussian.cdf(multiples) - gaussian.cdf(multiples / 10))).max())


def notes(frame: pd.DataFrame, reference_nodes: int) -> list[str]:
    """How the tables are to be read."""
    whole = summary(frame.assign(problem="all"), ["problem"]).iloc[0]
    return [
        f"error: distance from {reference_nodes} nodes in float64 with the same probe, bits/dim; estimate: "
        "`discretisation`; ratio: the one over the other, sample by sample.",
        "data: test samples read at weight w. sample: the flow's own, along the path that made them.",
        f"All: ratio in [0.1, 1] for {whole['in [0.1, 1]']:.0%}, above 1 for {whole['> 1']:.0%}, above 2 "
        f"for {whole['> 2']:.1%} of {len(frame)}. An estimate that knows the size of a normal error but not its "
        f"sign has {ceiling():.0%} in [0.1, 1] at the most; what lies below 0.1 are errors that happen to vanish.",
    ]


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=["digits", "shapes"])
    parser.add_argument("--guidance", nargs="+", type=float, default=WEIGHTS)
    parser.add_argument("--nodes", nargs="+", type=int, default=NODES)
    parser.add_argument("--paths", nargs="+", choices=get_args(Direction), default=get_args(Direction))
    parser.add_argument("--count", type=int, default=4, help="samples of a problem")
    parser.add_argument("--reference-nodes", type=int, default=REFERENCE_NODES)
    parser.add_argument("--cache", type=Path, help="folder that keeps the references, an hour of work on one core")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    console = Console()
    parts = []
    for name in options.problems:
        problem = PROBLEMS[name](options.count)  # type: ignore[call-arg]
        found = measure(
            problem, options.guidance, options.nodes, options.reference_nodes, options.cache, paths=options.paths
        )
        parts.append(found)
        table = summary(parts[-1], ["problem", "path", "w", "nodes"])
        show(console, f"{problem.name}: the grid's error and its estimate", table.drop(columns="problem"), FORMATS)
    frame = pd.concat(parts, ignore_index=True)
    lines = notes(frame, options.reference_nodes)
    for line in lines:
        console.print(f"- {line}")
    cells = summary(frame, ["problem", "path", "w", "nodes"])
    save(options.output, "errors", cells, FORMATS, "How honest the grid's estimate is", lines)
    return frame


if __name__ == "__main__":
    main()
