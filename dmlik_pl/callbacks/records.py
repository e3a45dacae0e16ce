"""Keeps what an evaluation finds: records while it runs, tables and figures when it ends."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from dmlik_pl.callbacks.resume import Patience, resume
from dmlik_pl.data.base import EvaluationData, Identity, in_words
from dmlik_pl.modules.evaluation import Evaluation
from dmlik_pl.records.files import draft_of
from dmlik_pl.records.origin import Origin, installed_packages
from dmlik_pl.records.sharing import picture_path, sound_path
from dmlik_pl.records.store import FAILURES, RecordStore, studies
from dmlik_pl.results.kinds import kind_called
from dmlik_pl.results.page.report import Report, write_report
from dmlik_pl.speech.audio import write
from dmlik_pl.studies import Outcome

__all__ = ["RecordWriter"]


class RecordWriter(Callback):
    """Appends every outcome to the run folder as soon as it is computed, and resumes from what is there.

    A record counts if it is of the present content of a sample, and of the present model, weights, code and settings;
    what else the folder holds is measured again, or left out.

    Args:
        folder: The run folder.
        parts: Digests of what is computed, by unit; see :func:`dmlik_pl.records.run.part_digests`.
        pictures: How many samples' pictures and sounds are kept.
    """

    def __init__(self, folder: str | Path, parts: Mapping[str, str] | None = None, pictures: int = 24) -> None:
        self.folder = Path(folder)
        self.parts = dict(parts or {})
        self.pictures = pictures
        self.report: Report | None = None
        self.records: dict[str, pd.DataFrame] = {}
        self._store: RecordStore | None = None
        self._identities: dict[str, Identity] = {}
        self._names: list[str] = []
        self._units: list[str] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out what this run, or another with equal settings, has finished; the first process informs the others.

        Raises:
            ValueError: If a process has other weights, code or settings than the first.
        """
        assert isinstance(pl_module, Evaluation)
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, EvaluationData)
        self._agree(trainer)
        names = self._names = data.sample_ids()
        self._units = list(pl_module.units)
        parts = self.parts or dict.fromkeys(pl_module.units, "")
        done = resume(self.folder, parts, data) if trainer.is_global_zero else {}
        pl_module.done = done = trainer.strategy.broadcast(done)
        pl_module.keep = self._keep
        data.skip = set.intersection(*(done.get(unit, set()) for unit in pl_module.units))
        self._store = RecordStore(self.folder, rank=trainer.global_rank)
        self._patience = Patience(self.folder, [name for name in names if name not in data.skip], done)
        self._shown = set(names[: self.pictures])
        trainer.strategy.barrier("records are read")  # before any process appends

    def _agree(self, trainer: Trainer) -> None:
        """Take the run folder of the first process, if all are to compute the same."""
        first, parts = trainer.strategy.broadcast((str(self.folder), self.parts))
        same = parts == self.parts
        if not trainer.strategy.reduce_boolean_decision(same, all=True):
            which = "another process has" if same else f"process {trainer.global_rank} has"
            raise ValueError(
                f"{which} other weights, code or settings than the first, which measures for {first}: copy the same "
                "files to every machine"
            )
        self.folder = Path(first)

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take note of what the samples of a batch are."""
        self._identities = getattr(batch, "identities", {})

    def _keep(self, unit: str, outcomes: Sequence[Outcome]) -> None:
        """Append outcomes; each is on the disk when this returns."""
        assert self._store is not None
        for outcome in outcomes:
            error = outcome.error
            origin = self._origin(unit, outcome.sample_id)
            if error is None:
                try:
                    _check(outcome)
                    self._draw(unit, outcome)
                    self._store.append(unit, outcome.sample_id, outcome.rows, origin)
                except OSError as full:
                    raise RuntimeError(f"{self.folder} takes no more records or pictures: {full}") from full
                except Exception as unfit:  # one sample never ends a run
                    error = f"it was measured, but cannot be stored: {in_words(unfit)}"
            if error is not None:
                self._store.append_failure(unit, outcome.sample_id, error, origin)
                self._patience.check(unit, error)

    def _origin(self, unit: str, sample_id: str) -> Origin:
        """Identities of a unit's samples and part."""
        identity = self._identities.get(sample_id, Identity(""))
        part, packages = self.parts.get(unit, ""), installed_packages()
        return Origin(part, identity.fingerprint, identity.stamp, identity.converted, packages)

    def _draw(self, unit: str, outcome: Outcome) -> None:
        """Save the pictures and sounds of the first samples."""
        if outcome.sample_id not in self._shown:
            return
        if outcome.picture is not None:
            _save(outcome.picture, picture_path(self.folder, unit, outcome.sample_id))
        for name, wave in outcome.sound.items():
            with draft_of(sound_path(self.folder, unit, outcome.sample_id, name)) as draft:
                write(draft, wave, outcome.rate)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the records of all processes and write tables and figures, once."""
        assert self._store is not None and isinstance(pl_module, Evaluation)
        self._store.close()
        trainer.strategy.barrier("records are complete")
        if trainer.is_global_zero:
            self.records = self._store.finalise()
            self.report = write_report(self.folder)

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
        """Samples that are neither measured by all parts of all studies nor failed, by the present records."""
        tried: dict[str, set[str]] = {unit: set() for unit in self._units}
        for stored in RecordStore(self.folder).current():
            for unit in self._units:
                if unit == stored.study or unit.startswith(f"{stored.study}/"):  # one that cannot be read fails for all
                    tried[unit].add(stored.sample_id)
        return sum(any(name not in samples for samples in tried.values()) for name in self._names)

    @property
    def succeeded(self) -> int:
        """Records of all studies."""
        return sum(map(len, studies(self.records).values()))


def _check(outcome: Outcome) -> None:
    """Compare records with what their kind of study declares of them, if anybody declares it."""
    for row in outcome.rows[:1]:
        if (kind := kind_called(str(row.get("kind", "")))) is not None:
            kind.schema.check(outcome.rows)


def _save(picture: Tensor, path: Path) -> None:
    """Write an image [C, H, W] in [0, 1], small ones enlarged to be seen."""
    values = (picture.clamp(0, 1) * 255).round().byte().cpu().numpy()
    image = Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0).squeeze()))
    factor = max(1, 96 // image.height)
    with draft_of(path) as draft:
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(draft)
