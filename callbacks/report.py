"""Sends tables, figures and the sweep over time to the loggers of a run."""

import math
from pathlib import Path

import pandas as pd
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from callbacks.records import RecordWriter
from dmlik_pl.results.adaptation_summaries import adaptation_summary
from dmlik_pl.results.frames import kind_of
from dmlik_pl.results.rescoring import strategies, word_error_summary
from dmlik_pl.results.speech_summaries import speech_sweep_summary, text_gain_summary
from dmlik_pl.results.store import FAILURES
from dmlik_pl.results.sweep_summaries import sweep_summary
from dmlik_pl.results.table import Table
from dmlik_pl.speech.nbest import NBestLists

__all__ = ["ReportLogger"]

SWEEPS = {
    "time_sweep": (sweep_summary, ("bpd", "bpd_marginal", "clip")),
    "speech_sweep": (
        speech_sweep_summary,
        ("bpd", "bpd_marginal", "log_f0_rmse", "cepstral_distortion", "wer", "speaker_similarity"),
    ),
}


class ReportLogger(Callback):
    """Logs the report when a test ends: headline numbers to every logger; tables, images and series to W&B.

    Args:
        writer: The callback that holds the records; it must come before this one.
    """

    def __init__(self, writer: RecordWriter) -> None:
        self.writer = writer

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was written."""
        if not trainer.is_global_zero or not self.writer.tables:
            return
        numbers = headline(self.writer.records)
        for logger in trainer.loggers:
            logger.log_metrics(numbers)
            if isinstance(logger, WandbLogger):
                log_to_wandb(logger, self.writer.tables, self.writer.records, self.writer.folder)
            logger.save()


def headline(records: dict[str, pd.DataFrame]) -> dict[str, float]:
    """The numbers by which runs are compared: BPD of the data, accuracies, what is heard, gains, failures."""
    numbers = {"failures": float(len(records[FAILURES]))}
    for study, frame in records.items():
        if kind_of(study, frame) == "time_sweep":
            numbers[f"{study}/bpd_data"] = float(frame.loc[frame["stage"] == "data", "bpd"].mean())
        elif kind_of(study, frame) == "prompt_accuracy":
            for attribute, rows in frame.groupby("attribute"):
                numbers[f"{study}/accuracy_{attribute}"] = float(rows["correct"].mean())
                numbers[f"{study}/undecided_{attribute}"] = float((~rows["decided"].astype(bool)).mean())
        elif kind_of(study, frame) == "speech_sweep":
            summary = speech_sweep_summary(frame)
            for stage, row in (("data", summary.iloc[0]), ("sample", summary.iloc[-1])):
                known = row[list(SWEEPS["speech_sweep"][1])].dropna()
                numbers |= {f"{study}/{name}_{stage}": float(value) for name, value in known.items()}
        elif kind_of(study, frame) == "text_gain":
            for row in text_gain_summary(frame).itertuples():
                numbers[f"{study}/nats_a_frame_{row.alignment}_{row.alternative}"] = row.gain_per_frame
                numbers[f"{study}/helps_{row.alignment}_{row.alternative}"] = row.helps
        elif kind_of(study, frame) == "adaptation":
            summary = adaptation_summary(frame)
            several = summary["mean"].nunique() > 1
            for row in summary.to_dict("records"):
                way = f"{row['forward']}-{row['reverse']}" if row["stage"] == "adapted" else row["stage"]
                way += f"_{row['blur_kernel']:g}_{row['blur_sigma']:g}" if several else ""
                for name in ("wer", "bpd", "speaker_similarity"):
                    if math.isfinite(row[name]):
                        numbers[f"{study}/{name}_{way}"] = float(row[name])
        elif kind_of(study, frame) == "rescoring" and (frame["excluded"] == "").any():
            lists = NBestLists.from_records(frame)
            rates = word_error_summary(lists, strategies(lists), resamples=1)
            numbers |= {f"{study}/wer_{row.strategy}": float(row.wer) for row in rates.itertuples()}
    return numbers


def log_to_wandb(logger: WandbLogger, tables: list[Table], records: dict[str, pd.DataFrame], folder: Path) -> None:
    """Tables as W&B tables, figures and pictures as images, each sweep as line series against t."""
    import wandb

    panels: dict[str, object] = {}
    for table in tables:
        panels[f"tables/{table.name}"] = wandb.Table(dataframe=table.shown.reset_index().astype(str))
    for path in sorted([*folder.glob("figures/*.png"), *folder.glob("pictures/*/*.png")]):
        panels[str(path.relative_to(folder).with_suffix(""))] = wandb.Image(str(path))
    for path in sorted(folder.glob("sound/*/*.wav")):
        panels[str(path.relative_to(folder).with_suffix(""))] = wandb.Audio(str(path))
    for study, frame in records.items():
        if kind_of(study, frame) not in SWEEPS or not len(frame):
            continue
        summarise, names = SWEEPS[kind_of(study, frame)]
        summary = summarise(frame)
        samples = summary[summary["stage"] == "sample"].sort_values("time")
        for name in samples[list(names)].dropna(axis=1).columns:
            panels[f"{study}/{name}"] = wandb.plot.line_series(
                xs=samples["time"].tolist(),
                ys=[samples[name].tolist()],
                keys=[name],
                title=f"{name} over time",
                xname="t",
            )
    logger.experiment.log(panels)
