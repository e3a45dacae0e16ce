"""N-best lists from a file, with or without the recordings that they are of: one sample is one utterance's list."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dmlik_pl.data.base import EvaluationData, EvaluationSet, Failure
from dmlik_pl.data.names import readable
from dmlik_pl.data.stamps import file_stamp
from dmlik_pl.ranges import above, at_least
from dmlik_pl.speech.audio import RATE, length, read, remarks
from dmlik_pl.speech.mel import LogMel
from dmlik_pl.speech.nbest import Duplicates, NBestColumns, NBestLists, Normalisation, check
from dmlik_pl.speech.nbest import read as read_lists

__all__ = ["ListBatch", "ListSet", "StoredLists", "UtteranceList"]

SUFFIXES = (".wav", ".flac")
NO_AUDIO = "no audio file"


@dataclass
class UtteranceList:
    """The hypotheses of one utterance, and what they were made of.

    Attributes:
        sample_id: The utterance's name.
        rows: One row per hypothesis, as :func:`dmlik_pl.speech.nbest.check` returns them.
        mel: Log-mel spectrogram (natural log) of the recording, [80, T]; [80, 0] where there is none.
        converted: What is odd about the recording, in words; empty where nothing is.
    """

    sample_id: str
    rows: pd.DataFrame
    mel: Tensor
    converted: str = ""


@dataclass
class ListBatch:
    """Lists side by side.

    Attributes:
        sample_id: Names of the utterances, B of them.
        lists: The rows of each.
        mel: The spectrogram of each, [80, T_b].
        speaker: The speaker's number of each.
        attributes: What each utterance is of, such as its speaker, by attribute name.
        failures: Lists whose recordings cannot be used; they are not counted in B.
        converted: What is odd about each recording, B texts.
    """

    sample_id: list[str]
    lists: list[pd.DataFrame]
    mel: list[Tensor]
    speaker: list[int]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sample_id)

    def to(self, device: torch.device | str, **options: Any) -> "ListBatch":
        """Return the batch with its spectrograms on `device`; further `options` go to `torch.Tensor.to`."""
        return replace(self, mel=[mel.to(device, **options) for mel in self.mel])

    def select(self, index: Sequence[int]) -> "ListBatch":
        """Return some lists of the batch, without its failures."""
        return ListBatch(
            sample_id=[self.sample_id[b] for b in index],
            lists=[self.lists[b] for b in index],
            mel=[self.mel[b] for b in index],
            speaker=[self.speaker[b] for b in index],
            attributes={name: [values[b] for b in index] for name, values in self.attributes.items()},
            converted=[self.converted[b] for b in index] if self.converted else [],
        )


class ListSet(EvaluationSet):
    """The lists of a file, in the order of their first rows.

    Args:
        rows: All rows, as :func:`dmlik_pl.speech.nbest.read` returns them.
        source: Where they come from, for messages.
        audio: The file of each utterance's recording; an utterance that is not in it has no spectrogram.
        resample: Change the rate of files that have another one than 22 050 Hz; otherwise they are failures.
        max_seconds: A longer recording is a failure.
    """

    def __init__(
        self, rows: pd.DataFrame, source: str, audio: dict[str, Path], resample: bool, max_seconds: float
    ) -> None:
        self.lists = {str(name): part.reset_index(drop=True) for name, part in rows.groupby("sample_id", sort=False)}
        self.sample_ids = list(self.lists)
        self.source = source
        self.audio = audio
        self.resample = resample
        self.max_seconds = max_seconds
        self.log_mel = LogMel()

    def __getitem__(self, index: int) -> UtteranceList | Failure:
        """Return the list at a position, or the reason why its recording cannot be used."""
        name = self.sample_ids[index]
        if name not in self.audio:
            return UtteranceList(name, self.lists[name], torch.zeros(self.log_mel.n_mels, 0))
        try:
            seconds = length(self.audio[name], resample=self.resample) / RATE
            if seconds > self.max_seconds:
                raise ValueError(f"{seconds:.1f} s are longer than max_seconds, {self.max_seconds:g}")
            wave = read(self.audio[name], resample=self.resample)
            return UtteranceList(name, self.lists[name], self.log_mel(wave), remarks(wave))
        except ImportError:  # what every recording meets
            raise
        except Exception as error:
            return Failure(name, readable(error))

    def stamp(self, index: int) -> str:
        """Return what the list at a position is made of: its rows, and the state of its recording's file."""
        name = self.sample_ids[index]
        file = file_stamp(self.audio[name]) if name in self.audio else None
        rows = self.lists[name].to_csv(index=False)
        return json.dumps([name, rows, self.resample, self.max_seconds, file])


class StoredLists(EvaluationData):
    """N-best lists of a file with scores, .csv, .csv.gz, .parquet, .jsonl or .jsonl.gz, one hypothesis per row.

    Rows that cannot be used (no reference, nothing recognised, a score that is not a number, a copy, no recording where
    there is a folder of them) stay in the lists with the reason; see :mod:`dmlik_pl.speech.nbest` for the rules.

    Args:
        path: The file.
        columns: What its columns are called.
        normalisation: How texts are made comparable before errors are counted: "none" splits them at spaces
            only; "whisper" applies Whisper's English normaliser.
        duplicates: Which repeated texts of a list are left out: "copies" (the scores are equal too) or all "texts" but
            the first.
        probes: Number of probes that each stored likelihood is the mean of.
        audio: Folder of the recordings, ``UTTERANCE.wav`` or ``.flac``, for studies that take likelihoods of them.
        resample: Change the rate of recordings that have another one than 22 050 Hz; otherwise they are failures.
        max_seconds: Longer recordings are failures.
        batch_size: Lists per batch.
        num_workers: Processes that load recordings; 0 loads in the main process.
        limit: Evaluate at most this many lists; None evaluates all.
    """

    def __init__(
        self,
        path: str,
        columns: NBestColumns | None = None,
        normalisation: Normalisation = "none",
        duplicates: Duplicates = "copies",
        probes: int = 1,
        audio: str | None = None,
        resample: bool = False,
        max_seconds: float = 30.0,
        batch_size: int = 16,
        num_workers: int = 0,
        limit: int | None = None,
    ) -> None:
        super().__init__(batch_size, num_workers, limit)
        at_least(1, probes=probes)
        above(0, max_seconds=max_seconds)
        self.path = path
        self.columns = columns or NBestColumns()
        self.normalisation: Normalisation = normalisation
        self.duplicates: Duplicates = duplicates
        self.probes = probes
        self.audio = None if audio is None else Path(audio)
        self.resample = resample
        self.max_seconds = max_seconds

    def test_set(self) -> ListSet:
        """Return the lists.

        Raises:
            FileNotFoundError: If the file or the folder of recordings is missing.
            ValueError: If the file cannot be understood, or no hypothesis of it can be used.
        """
        rows = read_lists(self.path, self.columns, self.normalisation, self.duplicates, self.probes)
        files = {} if self.audio is None else self._recordings(self.audio, rows["sample_id"].unique().tolist())
        if self.audio is not None:
            silent = ~rows["sample_id"].isin(files)
            rows = check(rows.assign(excluded=silent.map({True: NO_AUDIO, False: ""})), *self._rules())
        NBestLists.from_records(rows)  # says why if no hypothesis is left
        return ListSet(rows, self.path, files, self.resample, self.max_seconds)

    def collate(self, items: Sequence[Any]) -> ListBatch:
        """Put lists side by side; None stands for "nothing to do" and is dropped."""
        found = [item for item in items if isinstance(item, UtteranceList)]
        return ListBatch(
            sample_id=[item.sample_id for item in found],
            lists=[item.rows for item in found],
            mel=[item.mel for item in found],
            speaker=[0] * len(found),
            attributes={name: [str(item.rows[name].iloc[0]) for item in found] for name in self.columns.attributes},
            failures=[item for item in items if isinstance(item, Failure)],
            converted=[item.converted for item in found],
        )

    def _rules(self) -> tuple[Normalisation, Duplicates]:
        return self.normalisation, self.duplicates

    @staticmethod
    def _recordings(folder: Path, names: Sequence[str]) -> dict[str, Path]:
        """Return the file of each utterance that has one."""
        if not os.path.isdir(folder):
            raise FileNotFoundError(
                f"no folder of recordings at {str(folder)!r}: give the folder that holds UTTERANCE.wav or .flac of the "
                "lists' utterances as data.audio"
            )
        files = {name: [folder / f"{name}{suffix}" for suffix in SUFFIXES] for name in names if name.strip()}
        found = {name: next(filter(os.path.isfile, paths), None) for name, paths in files.items()}
        return {name: path for name, path in found.items() if path is not None}
