"""LibriTTS: many speakers, 24 kHz, by filelists."""

import os
from pathlib import Path

from dmlik_pl.data.filelists import below_placeholder, read_filelist
from dmlik_pl.data.names import sample_name
from dmlik_pl.data.speech import AudioFiles, Recording, SpeechData, SpeechSet, Split

__all__ = ["LibriTTS"]


class LibriTTS(SpeechData):
    """LibriTTS, split by filelists with lines ``path|text|speaker``, such as the official ones of Grad-TTS.

    Its files have 24 000 Hz: ``resample: true`` changes that to 22 050 Hz. An utterance is named by its path below the
    root, without the suffix.

    Args:
        root: The unpacked folder, which holds ``train-clean-100/`` and others.
        train_list: Filelist of the training split; paths are below `root`, a leading ``DUMMY/`` stands for it.
        validation_list: Filelist of the validation split.
        test_list: Filelist of the test split; None where there is none.
        resample: Change the rate of files that have another one than 22 050 Hz; otherwise they are failures.
        batch_size: Utterances per evaluated batch.
        num_workers: Processes that load utterances; 0 loads in the main process.
        limit: Evaluate at most this many utterances, taken evenly from all speakers; None evaluates all.
        split: The part that is evaluated.
        train_batch_size: Utterances per training and validation batch.
        drop_last: Leave out a last training batch that is not full.
        reshuffle: Shuffle before every epoch, as the official training of several speakers does, instead of once.
        seed: Seed of the one shuffle.
        dictionary: Look words up (True, or the path of a CMUdict file), or spell them in letters (False).
        max_seconds: Longer utterances are left out, as failures.
    """

    def __init__(
        self,
        root: str,
        train_list: str,
        validation_list: str,
        test_list: str | None = None,
        resample: bool = False,
        batch_size: int = 8,
        num_workers: int = 0,
        limit: int | None = None,
        split: Split = "validation",
        train_batch_size: int = 16,
        drop_last: bool = True,
        reshuffle: bool = True,
        seed: int = 37,
        dictionary: bool | str = True,
        max_seconds: float = 30.0,
    ) -> None:
        super().__init__(
            batch_size,
            num_workers,
            limit,
            split,
            train_batch_size,
            drop_last,
            reshuffle,
            seed,
            dictionary,
            max_seconds,
        )
        self.root = Path(root)
        self.lists: dict[Split, str | None] = {"train": train_list, "validation": validation_list, "test": test_list}
        self.audio = AudioFiles(resample)

    def speech_set(self, split: Split) -> SpeechSet:
        """Return one part of the data.

        Raises:
            FileNotFoundError: If the data set or a filelist is missing.
            ValueError: If no filelist is given for this part.
        """
        if not os.path.isdir(self.root):
            raise FileNotFoundError(
                f"no LibriTTS in {self.root}: download it from https://www.openslr.org/60/, unpack it, and give the "
                "folder with train-clean-100/ and others as root"
            )
        path = self.lists[split]
        if path is None:
            raise ValueError(f"LibriTTS has no {split} split: give its filelist as {split}_list")
        recordings = []
        for line in read_filelist(path, speakers=True):
            file = self.root / below_placeholder(line.path)
            name = sample_name(file.with_suffix(""), self.root, line.origin)
            speaker = {"speaker": str(line.speaker)}
            recordings.append(Recording(name, line.text, line.speaker, speaker, file, origin=line.origin))
        return SpeechSet(recordings, self.audio, path, self.front_end, self.max_seconds)
