"""Rules that find in a study's records what limits its numbers.

:mod:`dmlik_pl.results.page.caveats` collects what they say. They know columns and the declaration of the kind, not
studies: a new study that writes the columns of a likelihood, `decided`, or `feature` is covered.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from dmlik_pl.plain_text import one_line
from dmlik_pl.records.frames import clusters_of, column
from dmlik_pl.results.kinds import Kind
from dmlik_pl.results.likelihoods import nats_per_bpd, too_dense
from dmlik_pl.results.page.caveat_gaps import GAPS
from dmlik_pl.results.page.caveat_origins import ORIGINS
from dmlik_pl.results.page.caveat_rows import Finding, Rule, by_mean, likelihoods, some
from dmlik_pl.stats.estimate import NORMAL
from dmlik_pl.stats.significance import mean_with_error

__all__ = ["RULES"]

FEW_SAMPLES = 30
MOST_SHIFT = 0.01  # bits per dimension
FEW_IMAGES_A_FEATURE = 10
_METHODS = {"": "likelihood", "elbo_": "ELBO", "pmi_": "PMI"}


def _unconverged(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """The time grid's error against what it must be small to: errors over probes, and of means over samples."""
    rows = likelihoods(kind, frame)
    rows = rows[np.isfinite(rows["bpd"])]
    known = rows[np.isfinite(rows["grid"])]
    if len(rows) and not len(known):
        yield Finding("grid error", "The solver gives no estimate of its error: convergence is not known.", "caution")
    if not len(known):
        return
    text = ""
    probed = known[known["probe"] > 0]
    above = probed[probed["grid"].abs() > probed["probe"]]
    if len(above):
        text = (
            f"The time grid's error exceeds the probes' in {len(above)} of {len(probed)} likelihoods; the largest is "
            f"{above['grid'].abs().max():.2g} bits per dimension."
        )
    biased = []
    for place, cell in by_mean(kind, known):
        mean = mean_with_error(cell["bpd"], cell["pooled"], cell["grid"], clusters=clusters_of(cell))
        bias, error = mean.grid_error, np.nanmax([mean.sampling_error, mean.probe_error, 0.0])
        if bias > error > 0:
            biased.append((bias / error, f"{place}{bias:.2g} against {error:.2g} bits per dimension"))
    if biased:
        worst = max(biased)[1]
        cells = len(by_mean(kind, known))
        text += f" It exceeds the error by samples and probes in {len(biased)} of {cells} means, most in {worst}."
    if text:
        yield Finding(
            "grid error", f"{text.strip()} More nodes would change these.", "serious" if biased else "caution"
        )


def _two_ways(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Samples whose density at t = 0 differs by the way it is taken, which an exact one does not."""
    rows = likelihoods(kind, frame)
    if not {"bpd_marginal", "sigma", "r_min"} <= set(rows.columns):
        return
    rows = rows[(rows["stage"] == "sample") & (column(rows, "sigma") <= 1.001 * column(rows, "r_min"))]
    found, worst = [], 0.0
    for place, cell in by_mean(kind, rows):
        shift = cell["bpd"] - column(cell, "bpd_marginal")
        shift = shift[np.isfinite(shift)]
        if len(shift) < 2:
            continue
        spread = cell["bpd"].std() / np.sqrt(len(cell))
        mean = mean_with_error(shift, clusters=clusters_of(cell.loc[shift.index]))
        if abs(mean.value) > max(MOST_SHIFT, mean.interval.high - mean.value):
            worst = max(worst, abs(mean.value) / spread)
            found.append(f"{place}{mean.value:+.2g} against {cell['grid'].abs().mean():.1g} estimated")
    if found:
        text = (
            "At t = 0 a sample read as data and at the end of its own path from noise are one point with one density. "
            f"Bits per dimension of the first less the second: {some(found, '; ')}. Trust the second: from data to "
            "noise a guided flow expands what it contracts on the way back, and so the grid's error in the sample."
        )
        yield Finding("grid error", text, "serious" if worst > 1 else "caution")


def _ill_conditioned(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Likelihoods that the last digit of x moves by more than the error that is stated."""
    rows = likelihoods(kind, frame)
    if "rounding" not in rows:
        return
    rows = rows.assign(moved=column(rows, "rounding") / nats_per_bpd(rows))
    rows = rows[np.isfinite(rows["moved"])]
    beyond = rows[rows["moved"] > np.hypot(rows["grid"].fillna(0), rows["probe"].fillna(0))]
    if len(beyond):
        yield Finding(
            "ill-conditioned",
            f"Rounding moves {len(beyond)} of the {len(rows)} likelihoods that were solved twice by more than their "
            f"stated error, by up to {beyond['moved'].max():.2g} bits per dimension. Hold the state in float64 "
            "(--model.double true), or read samples along the path that made them.",
            "serious",
        )


def _short_of_target(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Likelihoods that did not reach the error that was asked for."""
    if "shortfall" not in frame:
        return
    missed = frame["shortfall"].dropna()
    missed = missed[missed.astype(str) != ""]
    if len(missed):
        yield Finding(
            "target",
            f"{len(missed)} of {len(frame)} rows have not reached the error that was asked for: "
            f"{some(missed.map(one_line).drop_duplicates().tolist(), '; ')}.",
            "caution",
        )


def _unsure_of_grid(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Decisions that are called decided, but by less than the time grid's error."""
    if not {"decided", "margin", "discretisation"} <= set(frame.columns):
        return
    decided = frame[frame["decided"].astype(bool)]
    close = int((np.abs(column(decided, "margin")) < np.abs(column(decided, "discretisation"))).sum())
    if close:
        yield Finding(
            "grid error",
            f"{close} of {len(decided)} decisions that the probes support have a margin below the time grid's error of "
            "one likelihood, of which competing prompts share an unknown part.",
            "caution",
        )


def _undecided(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Shares of decisions that their errors do not support, of every method that says so."""
    keys = [name for name in ("attribute", "alignment", "alternative") if name in frame]
    shares, texts = [], []
    for prefix, method in _METHODS.items():
        if f"{prefix}decided" not in frame:
            continue
        known = frame[frame[f"{prefix}decided"].notna()]
        groups = known.groupby(keys, sort=False, dropna=False) if keys else [((), known)]
        for group, rows in groups:
            undecided = int((~rows[f"{prefix}decided"].astype(bool)).sum())
            if undecided:
                shares.append(undecided / len(rows))
                name = ", ".join(map(str, group)) or "all"
                texts.append(f"{name} {undecided} of {len(rows)} ({100 * shares[-1]:.0f} %) by {method}")
    if texts:
        text = f"Undecided, since their errors do not support a decision: {'; '.join(texts)}."
        yield Finding("undecided", text, "serious" if max(shares) > 0.5 else "caution")


def _close_lists(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """N-best lists in which probe noise alone may decide which hypothesis is the likeliest."""
    behind, error = column(frame, "behind"), column(frame, "behind_standard_error")
    lists = frame.loc[np.isfinite(error), "sample_id"].nunique()
    close = frame.loc[(behind > 0) & (behind <= NORMAL * error), "sample_id"].nunique()
    if close:
        text = f"In {close} of {lists} lists the likeliest hypothesis is not ahead of the others' probe errors."
        yield Finding("undecided", text, "serious" if close > lists / 2 else "caution")


def _screened(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Decisions among the candidates that a cheaper method kept."""
    if "screened_checked" not in frame or not frame["screened_checked"].notna().any():
        return
    known = frame[frame["screened_checked"].notna()]
    checked = int(known["screened_checked"].astype(bool).sum())
    if checked < len(known):
        kept = column(known, "screened_kept")
        yield Finding(
            "screening",
            f"{len(known) - checked} of {len(known)} decisions are among the {np.nanmin(kept):g} to "
            f"{np.nanmax(kept):g} candidates that the ELBO kept; whether all candidates give the same is known of "
            f"{checked}.",
            "caution",
        )


def _too_dense(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Densities above the peak of the noise through which data are read, which no noised density reaches."""
    rows = likelihoods(kind, frame)
    if count := int(too_dense(rows).sum()):
        yield Finding(
            "too dense",
            f"{count} of {len(rows)} likelihoods are higher than data seen through noise of size r_min can have: the "
            "solver has not converged, or the flow (guidance above 1) is not that of a noised density.",
            "serious",
        )


def _no_probe_error(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    rows = likelihoods(kind, frame)
    rows = rows[np.isfinite(rows["bpd"])]
    count = int(rows["probe"].isna().sum())
    if count:
        yield Finding(
            "probe error",
            f"{count} of {len(rows)} likelihoods have no error over probes: a single probe for the whole trajectory "
            "gives none.",
            "caution",
        )


def _few_images(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    """Frechet distances of fewer images than their covariances need."""
    if "feature" not in frame or not len(known := frame[frame["feature"].notna()]):
        return
    features, images = len(known["feature"].iloc[0]), min(len(cell) for _, cell in by_mean(kind, known))
    if images <= features:
        text = f"FID of {images} images with {features} features: their covariance is singular, the value mostly bias."
        yield Finding("FID", text, "serious")
    elif images < FEW_IMAGES_A_FEATURE * features:
        text = f"FID of {images} images with {features} features is biased upwards: compare it only at equal numbers."
        yield Finding("FID", text, "caution")


def _few_samples(kind: Kind, frame: pd.DataFrame) -> Iterator[Finding]:
    samples, clusters = frame["sample_id"].nunique(), clusters_of(frame)
    count = samples if clusters is None else len(set(clusters))
    several = "samples" if count == samples else "clusters of samples"
    if 1 < count < FEW_SAMPLES:
        uncertainty = 100 / np.sqrt(2 * (count - 1))
        text = f"{count} {several}: a standard error over them is itself uncertain by about {uncertainty:.0f} %."
        yield Finding(f"few {several.split()[0]}", text, "caution")
    elif count == 1:
        one = "One sample" if samples == 1 else f"One cluster of {samples} samples"
        yield Finding(f"few {several.split()[0]}", f"{one}: no mean has an error over samples.", "caution")


RULES: tuple[Rule, ...] = (
    *GAPS,
    *(
        _too_dense,
        _unconverged,
        _two_ways,
        _ill_conditioned,
        _short_of_target,
        _unsure_of_grid,
        _no_probe_error,
        _undecided,
        _close_lists,
    ),
    *(_screened, _few_images, _few_samples),
    *ORIGINS,
)
