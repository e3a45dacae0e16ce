"""What a likelihood costs: ``python -m benchmarks.solvers``.

Every method runs in this process on the same samples, with the same probe where its error is measured. Its knob is
turned from coarse to fine until the solver error is within the target and stays there at the next finer settings. That
setting and the usual ones are then timed in turns.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.methods import METHODS, Method, default, dopri5
from benchmarks.probes import deviation
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.tables import RESULTS, save, show

__all__ = ["Cost", "Reference", "compare", "find_setting", "main", "reference"]

TARGET = 1e-3  # bits/dim, solver error
TOTAL_TARGET = 1e-2  # bits/dim, solver and probes together
CONFIRMATIONS = 2  # finer settings of the ladder that must stay within the target


@dataclass(frozen=True)
class Reference:
    """Likelihoods for one fixed probe per sample, as exactly as they are known.

    Attributes:
        log_p: Nats, [B].
        uncertainty: Mean difference from an independent solver, bits/dim.
        made_by: Both, in words.
    """

    log_p: Tensor
    uncertainty: float
    made_by: str


@dataclass
class Cost:
    """One method at one setting on one problem; errors in bits/dim, times in CPU seconds per sample."""

    method: Method
    setting: float
    tuned: bool
    forward: int
    vjp: int
    error: float
    worst: float
    seconds: list[float]

    @property
    def time(self) -> float:
        """Median time."""
        return float(torch.tensor(self.seconds).median())


def reference(problem: Problem, tolerance: float, nodes: int) -> Reference:
    """dopri5 in t at a tight tolerance in float64, checked by many nodes of the multistep method."""
    precise = problem.in_double()
    log_p = dopri5(precise, tolerance, clock="t").log_p
    check = default(precise, nodes, fixed_probe=True).log_p
    difference = float((log_p - check).abs().mean() * problem.bits)
    return Reference(log_p, difference, f"dopri5 in t at {tolerance:g} in float64; {nodes} nodes of multistep")


def measure(method: Method, problem: Problem, truth: Reference, setting: float) -> Cost:
    """The solver's error at one setting; not timed."""
    result = method.solve(problem, setting)
    errors = (result.log_p - truth.log_p).abs() * problem.bits
    return Cost(method, setting, False, result.forward, result.vjp, float(errors.mean()), float(errors.max()), [])


def find_setting(method: Method, problem: Problem, truth: Reference, target: float, max_nfe: int) -> list[Cost]:
    """Errors along a method's ladder, up to the first setting that reaches the target and holds it."""
    steps: list[Cost] = []
    for setting in method.ladder:
        steps.append(measure(method, problem, truth, setting))
        recent = steps[-1 - CONFIRMATIONS :]
        if len(recent) > CONFIRMATIONS and all(step.error <= target for step in recent):
            recent[0].tuned = True
            break
        if steps[-1].forward > max_nfe:
            break
    return steps


def compare(problem: Problem, truth: Reference, repeats: int, max_nfe: int) -> tuple[list[Cost], list[Cost]]:
    """Errors of every setting tried, and the costs of the tuned and the usual ones, timed in turns."""
    tried = {method.name: find_setting(method, problem, truth, TARGET, max_nfe) for method in METHODS}
    chosen: list[Cost] = []
    for method in METHODS:
        known = {step.setting: step for step in tried[method.name]}
        for setting in method.usual:
            if setting not in known:
                known[setting] = measure(method, problem, truth, setting)
        chosen += [step for step in known.values() if step.tuned or step.setting in method.usual]
    for _ in range(repeats):
        for cost in chosen:
            cost.seconds.append(_cpu_seconds(partial(cost.method.run, problem, cost.setting)) / len(problem.x))
    return [step for steps in tried.values() for step in steps], chosen


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def rows(problem: Problem, costs: Sequence[Cost], draws: int) -> list[dict[str, object]]:
    """Table rows: solver error, probe error and what both together cost."""
    fixed = deviation(problem, nodes=33, fresh=False, draws=draws)
    ours = [cost for cost in costs if cost.method.fresh]
    baseline = next((cost for cost in ours if cost.tuned), ours[-1])
    out = []
    for cost in costs:
        probe = deviation(problem, nodes=int(cost.setting), fresh=True, draws=draws) if cost.method.fresh else fixed
        runs = math.nan
        if cost.error < TOTAL_TARGET:
            runs = max(1.0, probe**2 / (TOTAL_TARGET**2 - cost.error**2))
        ratios = torch.tensor(cost.seconds) / torch.tensor(baseline.seconds)
        usual = cost.setting in cost.method.usual
        out.append(
            {
                "problem": problem.name,
                "method": cost.method.name,
                "setting": cost.method.knob.format(cost.setting),
                "chosen as": " and ".join(["tuned"] * cost.tuned + ["usual"] * usual),
                "NFE": cost.forward,
                "VJP": cost.vjp,
                "error": cost.error,
                "worst": cost.worst,
                "ms/sample": 1e3 * cost.time,
                "ratio": float(ratios.median()),
                "probe s.d.": probe,
                "total error": math.hypot(cost.error, probe),
                "runs": runs,
                "s for total 0.01": runs * cost.time,
            }
        )
    return out


FORMATS = {
    "error": ".1e",
    "worst": ".1e",
    "ms/sample": ".1f",
    "ratio": ".2f",
    "probe s.d.": ".4f",
    "total error": ".4f",
    "runs": ".1f",
    "s for total 0.01": ".2f",
}
SOLVER_COLUMNS = ["method", "setting", "chosen as", "NFE", "VJP", "error", "worst", "ms/sample", "ratio"]
TOTAL_COLUMNS = ["method", "setting", "error", "probe s.d.", "total error", "runs", "s for total 0.01"]


def summary(frame: pd.DataFrame) -> list[str]:
    """One sentence a problem and peer: who needs less for the same solver error."""
    lines = []
    for problem, group in frame.groupby("problem", sort=False):
        tuned = group[group["chosen as"].str.contains("tuned")].set_index("method")
        ours, *peers = (method.name for method in METHODS)
        for peer in peers:
            reached = [name in tuned.index for name in (ours, peer)]
            if not all(reached):
                who = peer if reached[1] else ours if reached[0] else "neither"
                lines.append(
                    f"{problem}: of our default and {peer}, {who} reaches {TARGET:g} within the settings tried."
                )
                continue
            nfe = tuned.loc[peer, "NFE"] / tuned.loc[ours, "NFE"]
            seconds = tuned.loc[peer, "ratio"]
            verdict = "about equal" if 0.9 < seconds < 1.1 else f"{ours if seconds > 1 else peer} wins"
            lines.append(
                f"{problem}: tuned to {TARGET:g}, {peer} takes {nfe:.2f} x the evaluations and {seconds:.2f} x the "
                f"time of our default: {verdict}."
            )
    return lines


def notes(references: Sequence[tuple[Problem, Reference]]) -> list[str]:
    """How the tables are to be read."""
    return [
        "error: the solver's, mean |error| of bits/dim over samples, every method with the same fixed Rademacher probe "
        "per sample as its reference; worst: that of the worst sample.",
        f"tuned: the coarsest setting that reaches {TARGET:g} bits/dim and holds it at the next {CONFIRMATIONS} finer "
        "settings tried. usual: what is run without tuning.",
        "NFE, VJP: forward passes and derivatives taken of them, per sample. ms/sample: median CPU time of one thread, "
        "methods in turns. ratio: to our tuned default in the same turn.",
        "probe s.d.: over draws of the probe. total error: root of the sum of its square and the solver error's. runs "
        f"and s for total {TOTAL_TARGET:g}: computed, repeats with other probes average the probes' noise; several "
        "probes in one pass would save every method up to half of that.",
        *(
            f"{problem.name}: {len(problem.x)} samples; reference: {truth.made_by}, which differ by "
            f"{truth.uncertainty:.1e} bits/dim."
            for problem, truth in references
        ),
    ]


@dataclass(frozen=True)
class Effort:
    """How far one problem is taken.

    Attributes:
        tolerance: Tolerance of the reference, dopri5 in float64.
        nodes: Nodes of the multistep solve that checks it.
        repeats: Timed rounds.
        max_nfe: No finer setting is tried once one has cost as much.
    """

    tolerance: float
    nodes: int
    repeats: int
    max_nfe: int


EFFORTS = {
    "mixture": Effort(1e-9, 385, 9, 2000),
    "digits": Effort(1e-6, 193, 3, 700),
    "shapes": Effort(1e-6, 193, 3, 700),
}


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--quick", action="store_true", help="the closed form only, timed once")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)  # a CPU second is then the same whatever else the machine does
    console, start = Console(), time.perf_counter()
    table: list[dict[str, object]] = []
    ladder: list[dict[str, object]] = []
    references = []
    for name in ["mixture"] if options.quick else options.problems:
        problem, effort = PROBLEMS[name](), EFFORTS[name]
        truth = reference(problem, effort.tolerance, effort.nodes)
        references.append((problem, truth))
        tried, chosen = compare(problem, truth, 1 if options.quick else effort.repeats, effort.max_nfe)
        table += rows(problem, chosen, draws=32)
        ladder += [
            {
                "problem": problem.name,
                "method": step.method.name,
                "setting": step.method.knob.format(step.setting),
                "NFE": step.forward,
                "error": step.error,
                "worst": step.worst,
            }
            for step in tried
        ]
        console.print(f"{problem.name}: done after {time.perf_counter() - start:.0f} s")
    frame, errors = pd.DataFrame(table), pd.DataFrame(ladder)
    lines = [*summary(frame), *notes(references)]
    for name, group in frame.groupby("problem", sort=False):
        show(console, f"{name}: to a solver error of {TARGET:g} bits/dim", group[SOLVER_COLUMNS], FORMATS)
        show(console, f"{name}: with the probes' noise", group[TOTAL_COLUMNS], FORMATS)
    for line in lines:
        console.print(f"- {line}")
    save(options.output, "solvers", frame, FORMATS, "Cost of a likelihood", lines)
    save(options.output, "solver_errors", errors, FORMATS, "Solver error by setting", notes(references))
    return frame


if __name__ == "__main__":
    main()
