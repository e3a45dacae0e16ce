"""Summaries that are computed once per frame of records, however many tables and figures ask for them."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

import pandas as pd

__all__ = ["once_per_frame"]

Summary = TypeVar("Summary")


def once_per_frame(summary: Callable[[pd.DataFrame], Summary]) -> Callable[[pd.DataFrame], Summary]:
    """Keep what a function makes of a frame as long as the frame lives.

    Neither the frame nor the result may be changed in place: all who ask get the same one.

    Args:
        summary: The function.
    """
    known: dict[int, Summary] = {}

    @functools.wraps(summary)
    def kept(frame: pd.DataFrame) -> Summary:
        key = id(frame)
        if key not in known:
            known[key] = summary(frame)
            weakref.finalize(frame, known.pop, key, None)
        return known[key]

    return kept
