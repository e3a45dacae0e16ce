"""Which hypothesis of an n-best list the likelihood of its speech prefers (Table 2 of Cross and Ragni).

A record is one hypothesis with its scores and word errors; choices, error rates, tests and reliability are made of them
in :mod:`dmlik_pl.results.rescoring` and :mod:`dmlik_pl.results.reliability`.
"""

from typing import Any, Literal, Protocol

import pandas as pd

from dmlik_pl.studies.base import Estimator, Outcome, Study

__all__ = ["Lists", "StoredRescoring"]

Protocol_ = Literal["repaired", "published"]


class Lists(Protocol):
    """A batch of n-best lists."""

    sample_id: list[str]
    lists: list[pd.DataFrame]


class StoredRescoring(Study):
    """Rescore n-best lists by the scores that are stored with them: no model is needed."""

    kind = "rescoring"
    asks = object

    def __init__(self, protocol: Protocol_ = "repaired") -> None:
        super().__init__()
        self.protocol = protocol

    def measure(self, model: Any, batch: Lists, estimator: Estimator) -> list[Outcome]:  # noqa: D102
        lists = getattr(batch, "lists", None)
        if lists is None:
            raise ValueError("the data are no n-best lists: take dmlik_pl.data.nbest.StoredLists")
        return [
            Outcome(name, rows=rows.assign(protocol=self.protocol).to_dict("records"))
            for name, rows in zip(batch.sample_id, lists, strict=True)
        ]
