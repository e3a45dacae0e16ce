"""Competing prompts (Table 6 of Cross and Ragni): how the records of their decisions are shown."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from dmlik_pl.records.frames import listed, named_scores
from dmlik_pl.results.columns import share_with_interval
from dmlik_pl.results.kinds import Headline, Kind, Series
from dmlik_pl.results.likelihoods import Data, every_likelihood
from dmlik_pl.results.numbers import slug, with_errors
from dmlik_pl.results.paper import PaperTable, Printed
from dmlik_pl.results.parts import plainest
from dmlik_pl.results.prompt_accuracy.bound_summaries import level_summary
from dmlik_pl.results.prompt_accuracy.decisions import LIKELIHOOD
from dmlik_pl.results.prompt_accuracy.figures import prompt_accuracy_figures
from dmlik_pl.results.prompt_accuracy.published import prompt_cells
from dmlik_pl.results.prompt_accuracy.schema import SCHEMA
from dmlik_pl.results.prompt_accuracy.scores import prompt_scores
from dmlik_pl.results.prompt_accuracy.summaries import accuracy_summary, method_summary
from dmlik_pl.results.prompt_accuracy.tables import prompt_accuracy_tables

__all__ = ["KIND"]


def _data(frame: pd.DataFrame) -> Data | None:
    """Of the scores those of the true prompts, which are among the candidates of every attribute."""
    rows, part = plainest(frame)
    first = rows.drop_duplicates("sample_id").reset_index(drop=True)
    first = first.assign(
        log_p=_of_truth(first, "scores"),
        standard_error=_known(_of_truth(first, "scores_standard_error")),
        probe_variance=_known(_of_truth(first, "scores_probe_variance")),
    )
    return Data(first[~np.isneginf(first["log_p"])].reset_index(drop=True), part, "truth")


def _of_truth(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Of scores by candidate that of the true one; NaN without."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    texts = zip(frame[name], frame["candidates"], frame["truth"], strict=True)
    return np.array([named_scores(text, listed(offered)).get(truth, np.nan) for text, offered, truth in texts])


def _known(errors: np.ndarray) -> np.ndarray:
    """Errors, NaN where a null says that there is none."""
    return np.where(np.isfinite(errors), errors, np.nan)


def _likelihoods(frame: pd.DataFrame) -> pd.DataFrame:
    """Those of the true prompts in every part."""
    found = [_data(rows) for _, rows in frame.groupby([frame.get("guidance", 0), frame.get("reconstructed", 0)])]
    whole = [data.rows for data in found if data is not None]
    return every_likelihood(pd.concat(whole)) if whole else frame.iloc[:0]


def _scalars(frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Of each attribute, and of each way to decide; that of the exact likelihood is not named."""
    for row in method_summary(frame).to_dict("records"):
        method = "" if row["method"] == LIKELIHOOD else f"_{row['method']}"
        which = f"{row['attribute']}{slug(row['part'])}{method}"
        yield from with_errors(row, "accuracy", f"accuracy_{which}")
        yield from with_errors(row, "mean_reciprocal_rank", f"mean_reciprocal_rank_{which}")
        yield f"undecided_{which}", row["undecided_share"]


def _headlines(study: str, frame: pd.DataFrame) -> Iterator[Headline]:
    """Accuracies of the exact likelihood, or of the screened one where no sample was computed in full."""
    for row in accuracy_summary(frame).to_dict("records"):
        name = "screened" if math.isnan(row["accuracy"]) else "accuracy"
        detail = f"n = {row[f'{name}_n']}, chance {100 * row['chance']:.1f} %"
        detail += "" if math.isnan(row["undecided"]) else f", {int(row['undecided'])} undecided"
        part = f" ({row['part']})" if row["part"] else ""
        label = f"{study.replace('_', ' ').capitalize()}: {row['attribute']}{part}"
        yield Headline(label, f"{share_with_interval(label, name).cell(row)} %", detail)


def _series(frame: pd.DataFrame) -> dict[str, Series]:
    """How often the bound is right at each noise level."""
    levels = level_summary(frame)
    if not len(levels):
        return {}
    levels = levels.assign(line=(levels["attribute"] + " " + levels["part"]).str.strip())
    title = "accuracy of the ELBO at each noise level"
    return {"elbo_accuracy": Series(levels, "log_snr", "accuracy", title, "log-SNR")}


_PRINTED = Printed(
    "SDXL, PACS and CLEVR",
    frozenset({"PACS", "CLEVR"}),
    "StableDiffusionXL",
    "VAE latents",
    frozenset({4 * 64 * 64, 4 * 128 * 128}),
)

KIND = Kind(
    name="prompt_accuracy",
    schema=SCHEMA,
    data=_data,
    likelihoods=_likelihoods,
    scores=prompt_scores,
    tables=prompt_accuracy_tables,
    figures=prompt_accuracy_figures,
    scalars=_scalars,
    headlines=_headlines,
    series=_series,
    paper={
        6: PaperTable(prompt_cells, "The paper decides on class averages: n = 8, 3, 7 and 4. Accuracy in %.", _PRINTED)
    },
)
