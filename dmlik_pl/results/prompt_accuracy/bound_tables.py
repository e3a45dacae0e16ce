"""Tables of what the evidence lower bound knows of prompts at each noise level, and of screening by it."""

from __future__ import annotations

import pandas as pd

from dmlik_pl.results.prompt_accuracy.bound_summaries import elimination_summary, level_summary, screening_summary
from dmlik_pl.results.prompt_accuracy.summaries import heading
from dmlik_pl.results.table import MISSING, Table, percent, percent_with_interval
from dmlik_pl.stats.significance import Interval

__all__ = ["bound_tables"]


def bound_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """Tables of what the records hold of the bound's levels, of screening and of elimination."""
    return [*_level_tables(study, frame), *_screening_tables(study, frame), *_elimination_tables(study, frame)]


def _level_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """One table an attribute, a column a part."""
    summary = level_summary(frame)
    tables = []
    for attribute, raw in summary.groupby("attribute", sort=False) if len(summary) else ():
        lines = [
            {
                "σ": f"{row['sigma']:.3g}",
                "part": row["part"] or MISSING,
                "n": str(row["n"]),
                "draws": f"{row['draws']:.3g}",
                "accuracy %": percent_with_interval(
                    row["accuracy"], Interval(row["accuracy_low"], row["accuracy_high"])
                ),
                "chance %": percent(row["chance"]),
            }
            for row in raw.to_dict("records")
        ]
        shown = pd.DataFrame(lines, index=pd.Index([f"{value:+.2f}" for value in raw["log_snr"]], name="log SNR"))
        if not raw["part"].any():
            shown = shown.drop(columns="part")
        caption = (
            f"At which noise the network knows the {attribute}: how often the true prompt has the least denoising "
            "error in a bin of log-SNR, from noise to data. Bins hold equally many draws; log SNR is their mean there "
            "and σ its noise-to-signal ratio. A sample decides once in each bin, by the sum of its draws' errors "
            "(draws: their mean number a sample), a tie counting as wrong. Brackets: Wilson 95 % interval over samples."
        )
        tables.append(Table(f"{study}_levels_{attribute}", caption, shown, raw.reset_index(drop=True)))
    return tables


def _screening_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = screening_summary(frame)
    if raw.empty:
        return []
    lines = [
        {
            "n": str(row["n"]),
            "kept": f"{row['kept']:.3g}",
            "checked": str(row["checked"]),
            **{
                title: percent_with_interval(row[name], Interval(row[f"{name}_low"], row[f"{name}_high"]))
                for title, name in (
                    ("alike %", "agreement"),
                    ("winner kept %", "survived"),
                    ("true kept %", "true_kept"),
                )
            },
            "calls": f"{row['nfe_screened']:.4g}",
            "calls in full": f"{row['nfe_full']:.4g}" if row["checked"] else MISSING,
            "saved %": percent(row["saved"]),
        }
        for row in raw.to_dict("records")
    ]
    caption = (
        "Screening by the ELBO before the exact likelihood. Kept: mean number of prompts that got a likelihood. "
        "Checked: samples on which all prompts got one as well; alike: share of them on which both decide alike; "
        "winner kept: share on which the likeliest of all prompts survived. True kept: share of all samples whose true "
        "prompt survived. Calls: network evaluations a decision, with the ELBO's; in full: without screening; saved: "
        "on the checked samples. Brackets: Wilson 95 % interval."
    )
    index = pd.Index([heading(row) for row in raw.to_dict("records")], name="attribute")
    return [Table(f"{study}_screening", caption, pd.DataFrame(lines, index=index), raw)]


def _elimination_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    raw = elimination_summary(frame)
    if raw.empty:
        return []
    lines = [
        {
            "draws": str(row["draws"]),
            "fate": "kept to the end" if row["last"] else "given up",
            "prompts %": percent(row["stopped"]),
            "true prompts %": percent_with_interval(
                row["true_stopped"], Interval(row["true_stopped_low"], row["true_stopped_high"])
            ),
            "n": str(row["n"]),
            "mean draws": f"{row['mean_draws']:.4g}",
        }
        for row in raw.to_dict("records")
    ]
    caption = (
        "Successive elimination of prompts by their ELBO. Prompts: share of all prompts that got so many draws and no "
        "more; true prompts: share of samples whose true prompt did. Mean draws: of a prompt, over all stages. "
        "Brackets: Wilson 95 % interval over samples."
    )
    index = pd.Index([heading(row) for row in raw.to_dict("records")], name="attribute")
    return [Table(f"{study}_elimination", caption, pd.DataFrame(lines, index=index), raw)]
