"""Keeps what an evaluation finds: records while it runs, tables and figures when it ends."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from rich.console import Console
from torch import Tensor

from dmlik_pl.data.base import EvaluationData
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.results.report import write_report
from dmlik_pl.results.store import FAILURES, RecordStore
from dmlik_pl.results.table import Table
from dmlik_pl.speech.audio import write

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

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out what an earlier run of the same settings has finished; every process reads the same."""
        assert isinstance(pl_module, Evaluation)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, EvaluationData)
        self._store = RecordStore(self.folder, rank=trainer.global_rank)
        pl_module.done = self._store.done()
        finished = [pl_module.done.get(name, set()) for name in pl_module.studies]
        data.skip = set.intersection(*finished)
        self._shown = set(data.sample_ids()[: self.pictures])
        if data.skip and trainer.is_global_zero:
            Console(stderr=True).print(
                f"Resuming {self.folder}: {len(data.skip)} of {len(data.sample_ids())} samples are done already."
            )
        trainer.strategy.barrier("records are read")  # before any process appends

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append the outcomes of a batch; each is on the disk when this returns."""
        assert self._store is not None
        for study, outcome in outputs:
            if outcome.error is not None:
                self._store.append_failure(study, outcome.sample_id, outcome.error)
                continue
            if outcome.picture is not None and outcome.sample_id in self._shown:
                _save(outcome.picture, self.folder / "pictures" / study / f"{outcome.sample_id.replace('/', '_')}.png")
            if outcome.sound and outcome.sample_id in self._shown:
                folder = self.folder / "sound" / study
                folder.mkdir(parents=True, exist_ok=True)
                for name, wave in outcome.sound.items():
                    write(folder / f"{outcome.sample_id.replace('/', '_')}-{name}.wav", wave, outcome.rate)
            self._store.append(study, outcome.sample_id, outcome.rows)

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
    def succeeded(self) -> int:
        """Records of all studies."""
        return sum(len(frame) for name, frame in self.records.items() if name != FAILURES)


def _save(picture: Tensor, path: Path) -> None:
    """Write an image [C, H, W] in [0, 1], small ones enlarged to be seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    image = Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0).squeeze()))
    factor = max(1, 96 // image.height)
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(path)
