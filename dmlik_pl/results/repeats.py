"""Are margins' standard errors honest? ``python -m dmlik_pl.results.repeats RUN OTHER_RUN``.

Two runs that differ in their seed decide on the same images with independent probes and draws. If a standard error
means what it says, the difference of both margins has the size that the two errors predict: z, the difference over
the root of the sum of their squares, has a root mean square of 1 and is beyond 1.96 in 5 % of cases.

A margin is of the two best candidates, so only images count on which both runs have the same two, in either order. That
leaves out some of the largest differences where candidates are close, and makes z a little small there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dmlik_pl.cli import run
from dmlik_pl.options import Options
from dmlik_pl.plain_text import terminal
from dmlik_pl.records.frames import column
from dmlik_pl.records.store import read
from dmlik_pl.results.columns import Row, Shown, p_value, share_with_interval, table_of
from dmlik_pl.results.kinds import kind_of
from dmlik_pl.results.prompt_accuracy.by_attribute import headings, method
from dmlik_pl.results.prompt_accuracy.decisions import Decisions, decisions
from dmlik_pl.results.prompt_accuracy.summaries import place, share
from dmlik_pl.results.table import MISSING, Table
from dmlik_pl.stats.estimate import NORMAL

__all__ = ["main", "repeat_summary", "repeat_table"]


def _rms_z(row: Row) -> str:
    return f"{row['rms_z']:.2f} [{row['rms_z_low']:.2f}–{row['rms_z_high']:.2f}]" if row["n"] else MISSING


_COLUMNS = (
    method("method", "method"),
    Shown("n", lambda row: f"{row['n']} of {row['samples']}", "samples with the same two best prompts in both runs"),
    Shown("rms z", _rms_z, "root mean square of z; above 1 if errors are too small, below if too large"),
    p_value("p", "p", "chi-square test of an rms of 1"),
    share_with_interval("|z| > 1.96 %", "beyond", "5 if errors are honest"),
    share_with_interval("decided alike %", "alike", "of the samples that the first run calls decided"),
)


def repeat_summary(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """How margins of two runs with independent noise differ, in units of their own standard errors.

    Args:
        first: The records of a prompt accuracy study.
        second: Those of the same study with another seed.

    Returns:
        One row per part, attribute and method with margins: samples (in both runs), n (those with the same two best
        candidates), rms_z with its 95 % interval (_low, _high) and p, two-sided, both by the chi-square distribution;
        beyond, the share of |z| > 1.96 with its Wilson interval; and alike, the share of the samples that the first run
        calls decided on which the second decides alike.
    """
    others = {(b.part, b.attribute, b.method): b for decision in decisions(second) for b in decision.methods()}
    rows: list[dict[str, Any]] = []
    for decision in decisions(first):
        for a in decision.methods():
            b = others.get((a.part, a.attribute, a.method))
            if b is None or not np.isfinite(column(a.rows, "margin_standard_error")).any():
                continue
            both = _top_two(a).merge(_top_two(b), on="sample_id", suffixes=("", "_again"))
            same = both[both["pair"] == both["pair_again"]]
            turned = np.where(same["best"] == same["best_again"], 1.0, -1.0)
            apart = same["margin"] - turned * same["margin_again"]
            z = (apart / np.hypot(same["error"], same["error_again"])).to_numpy()
            z = z[np.isfinite(z)]
            row = place(decision) | {"method": a.method, "samples": len(both), "n": len(z)} | _size(z)
            certain = both[both["decided"]]
            row |= share("beyond", np.abs(z) > NORMAL)
            rows.append(row | share("alike", (certain["best"] == certain["best_again"]).to_numpy(bool)))
    return pd.DataFrame(rows)


def repeat_table(study: str, first: pd.DataFrame, second: pd.DataFrame) -> Table:
    """The table of :func:`repeat_summary`.

    Raises:
        ValueError: If the runs have no decision in common, or share their noise.
    """
    raw = repeat_summary(first, second)
    if raw.empty or not raw["samples"].any():
        raise ValueError(f"the two runs of {study} have no decision with a standard error in common")
    if (raw["rms_z"] == 0).all():
        raise ValueError(f"the two runs of {study} drew the same noise: give one of them another --model.seed")
    caption = (
        "The same decisions with other probes and draws. z is the difference of the two margins over its recorded "
        "standard error; its root mean square is 1 if errors are honest. Brackets: 95 % intervals."
    )
    return table_of(f"{study}_repeats", caption, raw, _COLUMNS, headings(raw), "attribute")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``python -m dmlik_pl.results.repeats``.

    Args:
        arguments: Command-line arguments; those of the process if None.

    Returns:
        The exit status: 1 if the runs have nothing in common.
    """
    parser = Options(
        prog="python -m dmlik_pl.results.repeats",
        description="Compare the margins of two runs that differ in their seed with their standard errors.",
    )
    parser.add_argument("folder", type=Path, help="folder of a run with a prompt accuracy study")
    parser.add_argument("other", type=Path, help="folder of the same run with another --model.seed")
    options = parser.parse_args(arguments)
    try:
        first, second = read(options.folder), read(options.other)
        studies = [
            name for name, frame in first.items() if kind_of(name, frame).name == "prompt_accuracy" and name in second
        ]
        if not studies:
            raise ValueError("the two runs have no prompt accuracy study in common")
        tables = [repeat_table(name, first[name], second[name]) for name in studies]
    except (FileNotFoundError, ValueError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    for table in tables:
        terminal().print(table.rich(), *table.below(), sep="\n")
    return 0


def _top_two(decision: Decisions) -> pd.DataFrame:
    """The two best candidates of each sample and the margin between them."""
    order = np.argsort(np.where(np.isnan(decision.scores), -np.inf, decision.scores), axis=1)[:, ::-1]
    decided = decision.decided()
    return pd.DataFrame(
        {
            "sample_id": decision.rows["sample_id"],
            "best": [decision.candidates[k] for k in order[:, 0]],
            "pair": [frozenset(decision.candidates[k] for k in two) for two in order[:, :2]],
            "margin": column(decision.rows, "margin"),
            "error": column(decision.rows, "margin_standard_error"),
            "decided": np.zeros(len(order), bool) if decided is None else decided,
        }
    )


def _size(z: np.ndarray) -> dict[str, float]:
    """Root mean square of z with its interval, and the p-value of "it is 1"."""
    n, total = len(z), float(np.square(z).sum())
    if not n:
        return dict.fromkeys(("rms_z", "rms_z_low", "rms_z_high", "p"), float("nan"))
    law = stats.chi2(n)
    low, high = (float(np.sqrt(total / law.ppf(q))) for q in (0.975, 0.025))
    p = float(2 * min(law.cdf(total), law.sf(total)))
    return {"rms_z": float(np.sqrt(total / n)), "rms_z_low": low, "rms_z_high": high, "p": p}


if __name__ == "__main__":
    run(main)
