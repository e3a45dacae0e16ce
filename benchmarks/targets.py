"""What an error that is asked for costs: ``python -m benchmarks.targets``.

One process, methods in turns, on the same samples: likelihoods to a total error by ``Target``, beside fixed grids with
one probe, usual practice and tuned solvers, all repeated with other probes until they are as good; and beside the best
fixed grid and number of colours that hindsight would have chosen.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.methods import METHODS, Method
from benchmarks.probes import deviation
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.solvers import EFFORTS, Reference, find_setting, measure, reference
from benchmarks.tables import RESULTS, publish
from dmlik_pl.flow import Exact, Hutchinson, LogLikelihood, Multistep, Target, log_likelihood

__all__ = ["ERRORS", "main"]

ERRORS = (0.05, 0.02, 0.01)  # bits/dim
GRIDS, COLOURS = (17, 25, 33, 49, 65), (1, 2, 4, 8, 16, 32)
EXACT = {"mixture": 129, "digits": 97, "shapes": 49}  # nodes of the solve with exact traces


def _seconds(work: Callable[[], object], samples: int) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) / samples


def _likelihood(problem: Problem, **options: object) -> LogLikelihood:
    return log_likelihood(
        problem.flow,
        problem.x,
        problem.condition,
        sample_ids=problem.samples,
        **options,  # type: ignore[arg-type]
    )


def _row(problem: Problem, error: float, name: str, seconds: float, nfe: float, reached: float) -> dict[str, object]:
    return {
        "problem": problem.name,
        "error": error,
        "method": name,
        "evaluations": nfe,
        "s/sample": seconds,
        "reached": reached,
    }


def asked(problem: Problem, truth: Tensor, error: float, seeds: int) -> dict[str, object]:
    """Likelihoods to an error; what was reached is the distance from exact traces over seeds."""
    target, distances, calls, seconds = Target(error), [], 0.0, []
    for seed in range(seeds):
        start = time.process_time()
        found = _likelihood(problem, target=target, seed=seed)
        seconds.append((time.process_time() - start) / len(problem.x))
        distances.append(((found.log_p - truth) * problem.bits).square().mean())
        calls += float(found.calls.sum(1).double().mean()) / seeds
    reached = float(torch.stack(distances).mean().sqrt())
    return _row(problem, error, "asked for", float(torch.tensor(seconds).median()), calls, reached)


def _repeated(error: float, solver: float, probe: float) -> float:
    """Repeats with other probes that take the total error down; infinite where the solver's is too large."""
    return max(1.0, probe**2 / (error**2 - solver**2)) if solver < error else math.inf


def hindsight(problem: Problem, truth: Tensor) -> list[tuple[str, float, float, float, float]]:
    """Fixed grids and colours: name, seconds, evaluations, error of the grid and deviation of the probes."""
    found = []
    for nodes in GRIDS:
        grid = _likelihood(problem, solver=Multistep(nodes), divergence=Exact()) if problem.dims <= 64 else None
        for colours in COLOURS:
            probes = Hutchinson(colours, colours=colours)
            work = partial(_likelihood, problem, solver=Multistep(nodes), divergence=probes)
            result = work()
            seconds = _seconds(work, len(problem.x))
            distance = (result.discretisation if grid is None else grid.log_p - truth) * problem.bits
            noise = float(result.variance.mean().sqrt()) * problem.bits
            name = f"fixed: {nodes} nodes, {colours} colours"
            found.append((name, seconds, nodes * (1.0 + colours), float(distance.square().mean().sqrt()), noise))
    return found


def peers(problem: Problem, known: Reference, max_nfe: int, draws: int) -> list[tuple[str, float, float, float, float]]:
    """Usual practice and tuned solvers with one probe: as :func:`hindsight`."""
    found = []
    fixed = deviation(problem, nodes=33, fresh=False, draws=draws)
    for method in METHODS:
        settings = _settings(method, problem, known, max_nfe)
        for setting, kind in settings.items():
            cost = measure(method, problem, known, setting)
            seconds = _seconds(partial(method.run, problem, setting), len(problem.x))
            probe = deviation(problem, nodes=int(setting), fresh=True, draws=draws) if method.fresh else fixed
            name = f"{method.name}, {method.knob.format(setting)} ({kind})"
            found.append((name, seconds, float(cost.forward + cost.vjp), cost.error, probe))
    return found


def _settings(method: Method, problem: Problem, known: Reference, max_nfe: int) -> dict[float, str]:
    if method.fresh:
        return {33.0: "default"}
    tuned = [step.setting for step in find_setting(method, problem, known, 1e-3, max_nfe) if step.tuned]
    return dict.fromkeys(method.usual, "usual") | dict.fromkeys(tuned, "tuned")


def compare(name: str, seeds: int, draws: int) -> list[dict[str, object]]:
    """Rows of one problem."""
    problem, effort = PROBLEMS[name](), EFFORTS[name]
    truth = _likelihood(problem, solver=Multistep(EXACT[name]), divergence=Exact(16)).log_p
    known = reference(problem, effort.tolerance, effort.nodes)
    others = peers(problem, known, effort.max_nfe, draws)
    fixed = hindsight(problem, truth)
    rows = []
    for error in ERRORS:
        ours = asked(problem, truth, error, seeds)
        table = [ours]
        best = min(fixed, key=lambda each: _repeated(error, each[3], each[4]) * each[1])
        for title, seconds, calls, solver, probe in [*others, best]:
            runs = _repeated(error, solver, probe)
            reached = math.hypot(solver, probe / math.sqrt(runs)) if math.isfinite(runs) else math.nan
            label = f"best in hindsight, {title}" if title.startswith("fixed") else title
            table.append(_row(problem, error, label, runs * seconds, runs * calls, reached))
        for row in table:
            row["ratio"] = float(row["s/sample"]) / float(ours["s/sample"])  # type: ignore[arg-type]
        rows += table
    return rows


FORMATS = {"evaluations": ".0f", "s/sample": ".3f", "reached": ".4f", "ratio": ".2f"}
NOTES = (
    "error: total error asked for, bits/dim. asked for: `Target(error)`, the mean of several seeds; reached: root mean "
    "square distance from exact traces on a fine grid. Of the others it is computed from solver error and probes.",
    "evaluations: forward passes and derivatives per sample. The others are repeated with other probes until their "
    "total error is within the target: computed, not run.",
    "s/sample: CPU time of one thread. ratio: to ours in the same process. best in hindsight: of "
    f"{len(GRIDS)} grids and {len(COLOURS)} numbers of colours the cheapest, chosen by its known error.",
)


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(EXACT), default=list(EXACT))
    parser.add_argument("--seeds", type=int, default=5, help="repeats with other probes")
    parser.add_argument("--draws", type=int, default=32, help="draws that tell the probes' deviation")
    parser.add_argument("--quick", action="store_true", help="the closed form only, once")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    for name in ["mixture"] if options.quick else options.problems:
        rows += compare(name, 1 if options.quick else options.seeds, 8 if options.quick else options.draws)
    frame = pd.DataFrame(rows)
    publish(options.output, "targets", frame, FORMATS, "Cost of an error that is asked for", NOTES)
    return frame


if __name__ == "__main__":
    main()
