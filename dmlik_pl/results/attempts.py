"""What shows records may fail, one by one: a figure that cannot be drawn takes no other along, and is told."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dmlik_pl.plain_text import one_line

__all__ = ["Attempts", "Unmade"]

_OUT_OF_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # nothing else could be written either

logger = logging.getLogger(__name__)


class Unmade(NamedTuple):
    """Something that could not be made.

    Attributes:
        study: The study that it is of; empty for what is of all of them.
        text: What it is and why, in a sentence.
    """

    study: str
    text: str


class Attempts:
    """Runs what may fail, and keeps what did.

    Attributes:
        unmade: What failed, in order.
    """

    def __init__(self) -> None:
        self.unmade: list[Unmade] = []

    @contextmanager
    def making(self, what: str, study: str = "") -> Iterator[None]:
        """Let a block fail: the rest goes on.

        Args:
            what: What the block makes, in words.
            study: The study that it is of.

        Raises:
            OSError: If there is no place to write to.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OUT_OF_DISK:
                raise
            text = f"{what} could not be made: {one_line(f'{type(error).__name__}: {error}')}."
            logger.warning("%s", f"{study}: {text}" if study else text)
            logger.debug("details", exc_info=True)
            self.unmade.append(Unmade(study, text))
