"""Keeps what an evaluation finds: records while it runs, tables and figures when it ends."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from PIL import Image
from rich.console import Console
from torch import Tensor

from dmlik_pl.data.base import EvaluationData
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.results.report import write_report
from dmlik_pl.results.sharing import file_name, picture_path, take_over
from dmlik_pl.results.store import FAILURES, RecordStore, studies
from dmlik_pl.results.table import Table
from dmlik_pl.speech.audio import write
from dmlik_pl.studies import Outcome

__all__ = ["RecordWriter"]


class RecordWriter(Callback):
    """Appends every outcome to the run folder as it is computed, and resumes from what is there.

    Args:
        folder: The run folder.
        pictures: How many samples' pictures and sounds are kept.
    """

    def __init__(self, folder: str | Path, pictures: int = 24) -> None:
        self.folder = Path(folder)
        self.pictures = pictures
        self.tables: list[Table] = []
        self.records: dict[str, pd.DataFrame] = {}
        self._store: RecordStore | None = None
        self._names: list[str] = []
        self._units: list[str] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out what this run, or another with equal settings, has finished; every process reads the same."""
        assert isinstance(pl_module, Evaluation)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, EvaluationData)
        names = self._names = data.sample_ids()
        self._units = list(pl_module.units)
        console = Console(stderr=True)
        if trainer.is_global_zero:
            for other, count in take_over(self.folder, names).items():
                console.print(f"Taken over from {other}: {count} results of the same settings.")
        trainer.strategy.barrier("results of other runs are taken over")
        self._store = RecordStore(self.folder, rank=trainer.global_rank)
        pl_module.done = self._store.done()
        pl_module.keep = partial(self._keep, trainer)
        data.skip = set.intersection(*(pl_module.done.get(unit, set()) for unit in pl_module.units))
        self._shown = set(names[: self.pictures])
        if data.skip and trainer.is_global_zero:
            console.print(f"Resuming {self.folder}: {len(data.skip)} of {len(names)} samples are done already.")
        trainer.strategy.barrier("records are read")  # before any process appends

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Count what a batch will yield, for the progress bar."""
        assert isinstance(pl_module, Evaluation)
        left = [set(batch.sample_id) - pl_module.done.get(unit, set()) for unit in pl_module.units]
        self._batch, self._kept, self._expected = batch_idx, 0, sum(map(len, left))

    def _keep(self, trainer: Trainer, unit: str, outcomes: Sequence[Outcome]) -> None:
        """Append outcomes; each is on the disk when this returns."""
        assert self._store is not None
        for outcome in outcomes:
            if outcome.error is not None:
                self._store.append_failure(unit, outcome.sample_id, outcome.error)
                continue
            if outcome.picture is not None and outcome.sample_id in self._shown:
                _save(outcome.picture, picture_path(self.folder, unit, outcome.sample_id))
            if outcome.sound and outcome.sample_id in self._shown:
                for name, wave in outcome.sound.items():
                    path = self.folder / "sound" / unit / f"{file_name(outcome.sample_id)}-{name}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write(path, wave, outcome.rate)
            self._store.append(unit, outcome.sample_id, outcome.rows)
        self._kept += len(outcomes)
        bar = trainer.progress_bar_callback
        if isinstance(bar, RichProgressBar) and bar.progress is not None and bar.test_progress_bar_id is not None:
            share = min(1.0, self._kept / max(1, self._expected))
            bar.progress.update(bar.test_progress_bar_id, completed=self._batch + share, description=f"Testing {unit}")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the records of all processes and write tables and figures, once."""
        assert self._store is not None
        self._store.close()
        trainer.strategy.barrier("records are complete")
        if trainer.is_global_zero:
            self.records = self._store.finalise()
            self.tables = write_report(self.folder)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let no process leave before the first has written the report: it would tear the others' connection down."""
        trainer.strategy.barrier("the report is written")

    @property
    def failed(self) -> int:
        """Failed units."""
        return len(self.records.get(FAILURES, ()))

    @property
    def expected(self) -> int:
        """Samples that the run is of."""
        return len(self._names)

    @property
    def missing(self) -> int:
        """Samples that are neither measured by all studies nor recorded as failed, by the records as they are now."""
        done = RecordStore(self.folder).done()
        failed = set(self.records[FAILURES]["sample_id"]) if FAILURES in self.records else set()
        return sum(
            name not in failed and not all(name in done.get(unit, ()) for unit in self._units) for name in self._names
        )

    @property
    def succeeded(self) -> int:
        """Records of all studies."""
        return sum(map(len, studies(self.records).values()))


def _save(picture: Tensor, path: Path) -> None:
    """Write an image [C, H, W] in [0, 1], small ones enlarged to be seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    image = Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0).squeeze()))
    factor = max(1, 96 // image.height)
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(path)
