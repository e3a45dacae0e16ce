"""Tables of what the evidence lower bound knows of prompts at each noise level, and of screening by it."""

from __future__ import annotations

import pandas as pd

from dmlik_pl.results.columns import Shown, count, number, share, share_with_interval, table_of
from dmlik_pl.results.drawing import named
from dmlik_pl.results.prompt_accuracy.bound_summaries import elimination_summary, level_summary, screening_summary
from dmlik_pl.results.prompt_accuracy.by_attribute import WILSON, by_attribute
from dmlik_pl.results.table import MISSING, Table

__all__ = ["bound_tables"]

_SCREENING = (
    count("n", meaning="screened samples"),
    number("kept", "kept", "mean number of prompts that got a likelihood", ".3g"),
    count("checked", meaning="samples of which all prompts got a likelihood as well"),
    share_with_interval("alike %", "agreement", "checked samples that are decided alike with and without screening"),
    share_with_interval("winner kept %", "survived", "checked samples whose likeliest prompt survived"),
    share_with_interval("true kept %", "true_kept", "samples whose true prompt survived"),
    number("calls", "nfe_screened", "network evaluations per decision, including those of the ELBO"),
    number("calls in full", "nfe_full", "network evaluations per decision without screening, of the checked samples"),
    share("saved %", "saved", "evaluations that screening saves on the checked samples"),
)
_ELIMINATION = (
    count("draws", meaning="number of draws that prompts got in all"),
    Shown("fate", lambda row: "kept to the end" if row["last"] else "given up"),
    share("prompts %", "stopped", "prompts that got this many"),
    share_with_interval("true prompts %", "true_stopped", "samples whose true prompt got this many"),
    count("n", meaning="samples"),
    number("mean draws", "mean_draws", "draws per prompt, averaged over all prompts"),
)


def bound_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """Tables of what the records hold of the bound's levels, of screening and of elimination."""
    screening = f"Screening by the ELBO before the exact likelihood. {WILSON}"
    elimination = f"Successive elimination of prompts by their ELBO. {WILSON}"
    return [
        *_level_tables(study, frame),
        *by_attribute(f"{study}_screening", screening, screening_summary(frame), _SCREENING),
        *by_attribute(f"{study}_elimination", elimination, elimination_summary(frame), _ELIMINATION),
    ]


def _level_tables(study: str, frame: pd.DataFrame) -> list[Table]:
    """One table per attribute, one row per part and bin."""
    summary = level_summary(frame)
    tables = []
    for attribute, raw in summary.groupby("attribute", sort=False) if len(summary) else ():
        right = "samples whose true prompt has the smallest sum of errors over these draws, a tie counting as wrong"
        columns = (
            number("σ", "sigma", "noise-to-signal ratio at this log SNR", ".3g"),
            Shown("part", lambda row: row["part"] or MISSING, wanted=raw["part"].any()),
            count("n", meaning="samples with a draw in the bin"),
            number("draws", "draws", "mean number of draws per sample in the bin", ".3g"),
            share_with_interval("accuracy %", "accuracy", right),
            share("chance %", "chance", "1/k, with k prompts"),
        )
        caption = (
            f"How often the true {named(attribute)} has the smallest denoising error at each noise level, from noise "
            f"to data. Rows: mean log SNR of bins that hold equally many draws. {WILSON}"
        )
        titles = [f"{value:+.2f}" for value in raw["log_snr"]]
        tables.append(table_of(f"{study}_levels_{attribute}", caption, raw, columns, titles, "log SNR"))
    return tables
