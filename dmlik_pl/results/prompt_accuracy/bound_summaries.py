"""What the evidence lower bound knows of prompts at each noise level, and what screening and elimination by it cost."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import clusters_of, listed, named_scores
from dmlik_pl.records.once import once_per_frame
from dmlik_pl.results.prompt_accuracy.decisions import LIKELIHOOD, Decisions, decisions
from dmlik_pl.results.prompt_accuracy.summaries import place, share

__all__ = ["elimination_summary", "level_summary", "screening_summary"]


def level_summary(frame: pd.DataFrame, bins: int = 8) -> pd.DataFrame:
    """Accuracy of the prompt with the least denoising error within bins of log-SNR, from noise to data.

    Bins hold equally many draws, at most as many bins as a sample has draws. A sample's errors within a bin are summed,
    so that it decides once in each bin and intervals count samples.

    Args:
        frame: The records of a prompt accuracy study.
        bins: Number of bins.

    Returns:
        One row per part, attribute and bin: log_snr (mean of its draws) with its edges log_snr_low and log_snr_high,
        sigma (the noise-to-signal ratio at log_snr), n (samples), draws (mean number per sample), accuracy with its
        Wilson interval, and chance. Empty where no errors of single draws were kept.
    """
    rows: list[dict[str, Any]] = []
    if "elbo_levels" not in frame:
        return pd.DataFrame(rows)
    for decision in decisions(frame):
        known = decision.rows[decision.rows["elbo_levels"].notna()]
        levels = [np.asarray(values, dtype=np.float64) for values in known["elbo_levels"]]
        if not levels or not min(map(len, levels)):
            continue
        texts = zip(known["elbo_level_errors"], known["candidates"], known["truth"], strict=True)
        errors = [_with_true_first(*three) for three in texts]
        edges = np.quantile(np.concatenate(levels), np.linspace(0, 1, min(bins, min(map(len, levels))) + 1))
        places = [np.searchsorted(edges[1:-1], at, side="right") for at in levels]
        for number, (low, high) in enumerate(pairwise(edges)):
            chosen = [at == number for at in places]
            sums = [table[:, here].sum(1) for table, here in zip(errors, chosen, strict=True) if here.any()]
            clusters = clusters_of(known[[bool(here.any()) for here in chosen]])
            drawn = np.concatenate([at[here] for at, here in zip(levels, chosen, strict=True)])
            if not sums:
                continue
            row = place(decision) | {"log_snr": float(drawn.mean()), "log_snr_low": low, "log_snr_high": high}
            row |= {"sigma": float(np.exp(-drawn.mean() / 2)), "n": len(sums), "draws": len(drawn) / len(sums)}
            # A tie counts against the true prompt.
            row |= share("accuracy", np.array([bool((of[1:] > of[0]).all()) for of in sums]), clusters)
            rows.append(row | {"chance": float(decision.chances().mean())})
    return pd.DataFrame(rows)


@once_per_frame
def elimination_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """After how many draws of the bound candidates were given up, and how often the true one was among them.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        One row per part, attribute and number of draws at which candidates stopped: draws, n (samples), mean_draws
        (per candidate, over all stages), stopped (share of all candidates that got this many), true_stopped (share of
        samples whose true candidate did) with its Wilson interval, and last (whether it is the last stage, whose
        candidates were never given up). Empty without elimination.
    """
    rows: list[dict[str, Any]] = []
    if "elbo_eliminated" not in frame:
        return pd.DataFrame(rows)
    for decision in decisions(frame):
        known = decision.rows[decision.rows["elbo_eliminated"].notna()]
        given = [json.loads(text) for text in known["elbo_eliminated"]]
        if not given:
            continue
        drawn = np.array([draws for sample in given for draws in sample.values()])
        true = np.array([sample[value] for sample, value in zip(given, known["truth"], strict=True)])
        for stage in np.unique(drawn):
            row = place(decision) | {"draws": int(stage), "n": len(given), "mean_draws": float(drawn.mean())}
            row["stopped"] = float((drawn == stage).mean())
            row |= share("true_stopped", true == stage, clusters_of(known))
            rows.append(row | {"last": bool(stage == drawn.max())})
    return pd.DataFrame(rows)


@once_per_frame
def screening_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether screening by the bound changes the likelihood's decisions, and what it saves.

    Args:
        frame: The records of a prompt accuracy study.

    Returns:
        One row per part and attribute: n (screened samples), kept (mean number of candidates that got a likelihood),
        true_kept (share of samples whose true candidate did), checked (samples computed in full as well), agreement
        (share of these on which both decide alike) and survived (share on which the winner of all candidates was kept),
        each with its Wilson interval, and the mean network evaluations per decision, nfe_screened over all samples and
        nfe_full and saved (share of it that screening spares) over the checked ones. Empty without screening.
    """
    rows: list[dict[str, Any]] = []
    if "screened_predicted" not in frame:
        return pd.DataFrame(rows)
    for decision in decisions(frame):
        screened = decision.by("screened")
        if screened is None:
            continue
        kept = [_kept(row.scores, row.candidates) for row in screened.rows.itertuples()]
        true_kept = np.array([true in names for true, names in zip(screened.rows["truth"], kept, strict=True)])
        row = place(decision) | {"n": len(kept), "kept": float(np.mean([len(names) for names in kept]))}
        row |= share("true_kept", true_kept, clusters_of(screened.rows))
        row["nfe_screened"] = float(screened.costs().mean())
        rows.append(row | _against_full(decision.by(LIKELIHOOD), screened, kept))
    return pd.DataFrame(rows)


def _against_full(full: Decisions | None, screened: Decisions, kept: list[set[str]]) -> dict[str, Any]:
    """What the samples say that were computed in full as well."""
    columns = screened.rows.drop(columns="nfe", errors="ignore").assign(kept=kept, nfe=screened.costs())
    if full is None:
        both = columns.iloc[:0].assign(predicted_full="", nfe_full=np.nan)
    else:
        exact = full.rows[["sample_id", "predicted"]].assign(nfe=full.costs())
        both = columns.merge(exact, on="sample_id", suffixes=("", "_full"))
    alike = (both["predicted"] == both["predicted_full"]).to_numpy(bool)
    survived = np.array([w in k for w, k in zip(both["predicted_full"], both["kept"], strict=True)], dtype=bool)
    of_both = clusters_of(both)
    row: dict[str, Any] = {"checked": len(both), **share("agreement", alike, of_both)}
    row |= share("survived", survived, of_both)
    row["nfe_full"] = float(both["nfe_full"].mean())
    return row | {"saved": 1 - float(both["nfe"].mean()) / row["nfe_full"] if len(both) else float("nan")}


def _kept(scores: str, candidates: str) -> set[str]:
    return {name for name, score in named_scores(scores, listed(candidates)).items() if np.isfinite(score)}


def _with_true_first(text: str, offered: str, true: str) -> np.ndarray:
    """Errors of each draw, [K, draws], those of the true candidate in the first row."""
    errors = json.loads(text)
    order = sorted(listed(offered), key=lambda name: name != true)
    return np.array([errors[name] for name in order], dtype=np.float64)
