"""What the network's dtype does to a likelihood: ``python -m benchmarks.precision``.

The same samples, grid and probes with the U-Net in float64, float16 and bfloat16, compared with float32; and in float32
with batches of another size.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.problems import Problem, digits, shapes
from benchmarks.tables import RESULTS, publish
from dmlik_pl.flow import Condition, log_likelihood
from dmlik_pl.models import DiffusionModel, PixelDiffusion, StableDiffusionXL

__all__ = ["main"]

MODELS: dict[str, tuple[Callable[[int], Problem], Callable[[str], DiffusionModel]]] = {
    "digits": (digits, lambda dtype: PixelDiffusion("digits", dtype=dtype)),
    "shapes": (shapes, lambda dtype: StableDiffusionXL("shapes-sdxl", dtype=dtype)),
}
FORMATS = {"largest": ".1e", "mean": ".1e"}
NOTES = (
    "Differences of bits/dim from float32 in one batch, with the default solver and the same probes; state float32.",
)


def bits(model: DiffusionModel, x: Tensor, condition: Condition, names: Sequence[str], batch: int) -> Tensor:
    """Bits per dimension of each sample, taken in batches of a given size."""
    parts = [
        log_likelihood(model.flow(), x[s], condition.select(s), sample_ids=names[s], on_failure="record").log_p
        for s in (slice(start, start + batch) for start in range(0, len(x), batch))
    ]
    return -torch.cat(parts) / (x[0].numel() * math.log(2))


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--problems", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--samples", type=int, default=16, help="samples of each model")
    parser.add_argument("--quick", action="store_true", help="two samples of the digits only")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    count = 2 if options.quick else options.samples
    rows = []
    for name in ["digits"] if options.quick else options.problems:
        make, load = MODELS[name]
        problem = make(count)
        alike = load("float32")
        reference = bits(alike, problem.x, problem.condition, problem.samples, count)
        trials = {"float32, one by one": (alike, 1)}
        trials |= {dtype: (load(dtype), count) for dtype in ("float64", "float16", "bfloat16")}
        for trial, (model, batch) in trials.items():
            shift = bits(model, problem.x, problem.condition, problem.samples, batch) - reference
            rows.append(
                {
                    "problem": problem.name,
                    "network": trial,
                    "largest": float(shift.abs().max()),
                    "mean": float(shift.mean()),
                }
            )
    frame = pd.DataFrame(rows)
    publish(options.output, "precision", frame, FORMATS, f"Precision of the network, {count} samples", NOTES)
    return frame


if __name__ == "__main__":
    main()
