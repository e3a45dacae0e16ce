"""What a data module serves, as plain batches."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dmlik_pl.data.base import EvaluationData


def batches(data: EvaluationData) -> Iterator[Any]:
    """The batches of an evaluation with the failures of their deliveries; an empty one where nothing could be read."""
    for delivery in data.test_dataloader():
        for batch in delivery.batches or [data.collate([])]:
            yield replace(batch, failures=delivery.failures)


def first_batch(data: EvaluationData) -> Any:
    return next(batches(data))
