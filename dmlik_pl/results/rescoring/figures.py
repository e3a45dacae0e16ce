"""Figures of n-best rescoring: error rates between the oracles, and what more probes would buy."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from dmlik_pl.results.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, named, open_axes
from dmlik_pl.results.rescoring.summaries import BEST, WORST, lists_of, word_error_rates
from dmlik_pl.speech.nbest import NBestLists
from dmlik_pl.stats.reliability import (
    TARGET,
    rank_correlations,
    rank_summary,
    reliability_of_more,
    reliability_summary,
)

_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)


def rescoring_figures(study: str, frame: pd.DataFrame) -> dict[str, Figure]:
    """All figures of a rescoring study.

    Args:
        study: Its name.
        frame: Its records, one hypothesis per row, as `nbest.read` and `nbest.check` make them.
    """
    if not (frame["excluded"] == "").any():
        return {}
    lists = lists_of(frame)
    figures = {study: _rate_figure(lists, word_error_rates(frame)), f"{study}_correlation": _correlation_figure(lists)}
    reliability = reliability_summary(lists)
    if len(reliability) and (reliability["reliability"] > 0).any():
        figures[f"{study}_reliability"] = _reliability_figure(reliability)
    return figures


def _rate_figure(lists: NBestLists, summary: pd.DataFrame) -> Figure:
    """One line per choice between the oracles; beside it the sizes of the lists that the choice is made from."""
    summary = summary.set_index("strategy")
    chosen = summary.drop([BEST, WORST])
    figure = Figure(figsize=(9, 1.6 + 0.35 * len(chosen)), layout="constrained")
    axes, sizes = figure.subplots(1, 2, width_ratios=(3, 1))
    position = np.arange(len(chosen))[::-1]
    rate, low, high = (100 * chosen[name].to_numpy() for name in ("wer", "low", "high"))
    random = chosen["draw_low"].notna()
    colours = [GREY if blind else BLUE for blind in random]
    axes.hlines(position, low, high, color=colours, linewidth=2)
    axes.scatter(rate, position, color=colours, zorder=3)
    for name, side in ((BEST, "left"), (WORST, "right")):
        value = 100 * summary.loc[name, "wer"]
        axes.axvline(value, color="black", linestyle="--", linewidth=1)
        # x in per cent of errors, y as a share of the panel: beside the line, at the top
        axes.text(
            value, 1, f" {name} {value:.1f} ", transform=axes.get_xaxis_transform(), ha=side, va="top", fontsize=8
        )
    drawn = chosen[random].iloc[0]
    axes.axvspan(100 * drawn["draw_low"], 100 * drawn["draw_high"], color=GREY, alpha=0.2, linewidth=0)
    axes.set_yticks(position, [named(name) for name in chosen.index])
    axes.set_ylim(-0.6, len(chosen) + 0.1)
    axes.set_xlabel("word error rate (%)")
    axes.set_title("lines: 95 % intervals; grey band: 95 % of random draws", fontsize=8, loc="left", color="dimgrey")
    open_axes(axes)
    sizes.hist(lists.sizes, bins=min(20, int(np.ptp(lists.sizes)) + 1), color=SKY, linewidth=0)
    sizes.set_xlabel("hypotheses in a list")
    sizes.set_ylabel("lists")
    open_axes(sizes)
    return figure


def _correlation_figure(lists: NBestLists) -> Figure:
    """Share of lists whose rank correlation is at most x, one curve per score."""
    summary = rank_summary(lists).set_index("score")
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, score), colour in zip(lists.scores.items(), _cycled(len(lists.scores)), strict=True):
        values = rank_correlations(lists, score)
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        mean = summary.loc[name, "correlation"]
        axes.ecdf(values, color=colour, label=f"{named(name)}: mean {mean:.2f}, {len(values)} lists")
        axes.axvline(mean, color=colour, linestyle=":", linewidth=1.2)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlim(-1.02, 1.02)
    axes.set_xlabel("Spearman correlation of score and −errors within a list")
    axes.set_ylabel("share of lists")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    open_axes(axes)
    return figure


def _reliability_figure(summary: pd.DataFrame) -> Figure:
    """Reliability against the number of independent probes, by Spearman and Brown, one curve per score and route."""
    known = summary[summary["reliability"] > 0]
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    furthest = known["probes_needed"].max() * 3
    for (_, row), colour in zip(known.iterrows(), _cycled(len(known)), strict=True):
        probes = np.geomspace(row["probes"], max(furthest, 10 * row["probes"]), 200)
        middle, low, high = (
            reliability_of_more(np.clip(row[name], 0, 1), probes / row["probes"])
            for name in ("reliability", "low", "high")
        )
        label = f"{named(row['score'])}, {row['route']}: {row['probes_needed']:.0f} for {TARGET}"
        axes.fill_between(probes, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(probes, middle, color=colour, label=label)
    axes.axhline(TARGET, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")  # as plain digits: matplotlib's own powers of ten are markup
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("independent probes per score")
    axes.set_ylabel("reliability within lists")
    axes.set_title("bands: 95 % interval over lists", fontsize=8, loc="left", color="dimgrey")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    open_axes(axes)
    return figure


def _cycled(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
