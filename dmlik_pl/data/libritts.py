"""LibriTTS: many speakers, 24 kHz, by filelists."""

import os
from pathlib import Path
from typing import Any

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
        split: The part that is evaluated.
        reshuffle: Shuffle before every epoch, as the official training of several speakers does, instead of once.
        **serving: As for :class:`~dmlik_pl.data.speech.SpeechData`.
    """

    def __init__(
        self,
        root: str,
        train_list: str,
        validation_list: str,
        test_list: str | None = None,
        resample: bool = False,
        split: Split = "validation",
        reshuffle: bool = True,
        **serving: Any,
    ) -> None:
        super().__init__(split=split, reshuffle=reshuffle, **serving)
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
