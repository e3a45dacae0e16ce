"""What monotonic alignment search costs: ``python -m benchmarks.alignment``.

The project's search takes all utterances and tokens of a frame at once, in numpy. Its peer walks the table cell by
cell, compiled by numba, as the usual implementations do in a compiled language. Both run on one thread and must agree.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numba
import numpy as np
import pandas as pd
import torch

from benchmarks.tables import RESULTS, publish
from dmlik_pl.models.grad_tts.alignment import maximum_path

__all__ = ["main"]

FORMATS = {"seconds": ".4f", "times ours": ".2f"}
NOTES = (
    "CPU seconds of one thread for a whole batch, the median of the repeats; compiling is not counted.",
    "The compiled loop wins; the vectorised one needs no compiler.",
)


@numba.njit
def cell_by_cell(value: np.ndarray) -> np.ndarray:
    """Best monotonic paths of [B, L, T], all cells real; where staying and moving are equally good, the path stays."""
    batch, tokens, frames = value.shape
    path = np.zeros_like(value)
    for b in range(batch):
        best = np.full((tokens, frames), np.float32(-1e9))
        for t in range(frames):
            for x in range(max(0, tokens + t - frames), min(tokens, t + 1)):
                stay = np.float32(-1e9) if x == t else best[x, t - 1]
                move = best[x - 1, t - 1] if x > 0 else np.float32(0.0 if t == 0 else -1e9)
                best[x, t] = value[b, x, t] + max(stay, move)
        x = tokens - 1
        for t in range(frames - 1, -1, -1):
            path[b, x, t] = 1
            if x > 0 and (x == t or best[x, t - 1] < best[x - 1, t - 1]):
                x -= 1
    return path


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of a piece of work, the median of its repeats after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return float(np.median(times[1:]))


def main(args: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", nargs=3, type=int, default=(16, 200, 800), metavar=("BATCH", "TOKENS", "FRAMES"))
    parser.add_argument("--repeats", type=int, default=15, help="repeats of each")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    value = torch.randn(*options.size, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(value)
    ways = {
        "vectorised (ours)": lambda: maximum_path(value, mask),
        "cell by cell, numba": lambda: cell_by_cell(value.numpy()),
    }
    paths = [torch.as_tensor(way()) for way in ways.values()]
    if not torch.equal(*paths):
        raise RuntimeError("the two searches disagree")
    seconds = {name: median_seconds(way, options.repeats) for name, way in ways.items()}
    ours = seconds["vectorised (ours)"]
    size = "{} x {} tokens x {} frames".format(*options.size)
    frame = pd.DataFrame(
        [{"problem": size, "search": name, "seconds": t, "times ours": t / ours} for name, t in seconds.items()]
    )
    publish(options.output, "alignment", frame, FORMATS, "Monotonic alignment search", NOTES)
    return frame


if __name__ == "__main__":
    main()
