"""What the records of a kind of study hold: their columns with type, unit and meaning, and which of them name a row.

Records are checked against it before they are stored, and `docs/records.md` is printed from it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

__all__ = ["EVERY_RECORD", "LIKELIHOOD", "Column", "ColumnType", "Schema", "with_errors"]

ColumnType = Literal["text", "number", "flag", "numbers"]
"""`flag` is a truth value, `numbers` a list of numbers. Every column but those of the key may lack a value."""

_PYTHON: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float),
    "flag": (bool,),
    "numbers": (list, tuple),
}


class Column(NamedTuple):
    """One column of records.

    Attributes:
        name: Its name; `*` stands for any part of a name, as in `score_*`.
        type: What its values are.
        meaning: What they mean, as a sentence without its full stop.
        unit: Their unit, such as "nats" or "bits/dim"; empty for texts and counts.
    """

    name: str
    type: ColumnType
    meaning: str
    unit: str = ""


@dataclass(frozen=True)
class Schema:
    """The columns of a kind of study.

    Attributes:
        columns: All columns that its records may have, but those of :data:`EVERY_RECORD`.
        key: Columns that name a row among those of its sample.
        means: Those of them by whose values samples are averaged: tables show one mean per combination.
        attributes: Whether further columns of text are attributes of the samples, such as their colour.
    """

    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()
    means: tuple[str, ...] = ()
    attributes: bool = False

    def column(self, name: str) -> Column | None:
        """The declaration of a column, or None if it is not declared."""
        known = (*self.columns, *EVERY_RECORD)
        exact = next((column for column in known if column.name == name), None)
        return exact or next((column for column in known if fnmatch.fnmatchcase(name, column.name)), None)

    def is_attribute(self, name: str) -> bool:
        """Whether a column is an attribute of the samples."""
        return self.attributes and self.column(name) is None

    def check(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Compare records with what is declared of them.

        Args:
            rows: Records of one sample.

        Raises:
            ValueError: If a record lacks a column of the key, has one that is not declared, or a value of another type;
                or if two records have the same key.
        """
        seen: set[tuple[Any, ...]] = set()
        for row in rows:
            if lacking := [name for name in self.key if name not in row]:
                raise ValueError(f"a record lacks the column {lacking[0]!r}, which names its row")
            for name, value in row.items():
                self._check_value(name, value)
            key = tuple(map(str, (row[name] for name in self.key)))
            if key in seen:
                named = ", ".join(f"{name} = {value}" for name, value in zip(self.key, key, strict=True))
                raise ValueError(
                    f"two records of one sample are of the same row ({named or 'there is one per sample'})"
                )
            seen.add(key)

    def _check_value(self, name: str, value: Any) -> None:
        column = self.column(name)
        if column is None:
            if not self.attributes:
                raise ValueError(f"the column {name!r} is not declared for this kind of study")
            if value is not None and not isinstance(value, str):
                raise ValueError(
                    f"the column {name!r} is not declared, and as an attribute of samples it has to be text, "
                    f"not {type(value).__name__}"
                )
            return
        fits = isinstance(value, _PYTHON[column.type]) and not (column.type == "number" and isinstance(value, bool))
        if value is not None and not fits:
            raise ValueError(f"the column {name!r} holds {column.type}, got {value!r:.60}")


def with_errors(name: str, meaning: str, unit: str = "bits/dim") -> tuple[Column, ...]:
    """A column of likelihoods and those of its errors.

    Args:
        name: Its name, with which those of the others begin.
        meaning: What it is.
        unit: The unit of all of them.
    """
    said = {
        "standard_error": ("standard error over probes, widened for few probes", unit),
        "probe_variance": ("variance over probes, not widened, for pooling", f"({unit})²"),
        "discretisation": ("the solver's estimate of its own error", unit),
    }
    errors = (Column(f"{name}_{error}", "number", f"{text}, of `{name}`", unit) for error, (text, unit) in said.items())
    return (Column(name, "number", meaning, unit), *errors)


EVERY_RECORD: tuple[Column, ...] = (
    Column("sample_id", "text", "name of the sample, by which its probes and noise are drawn"),
    Column("part", "text", "label of the part of the study, such as `guidance=3,size=data`, where it has several"),
    Column("kind", "text", "kind of the study"),
    Column("protocol", "text", "`repaired`, or `published`: as the paper's code did it"),
    Column("deviations", "text", "departures of the published protocol from good practice, with ` | ` between them"),
    Column("missing", "text", "measures that could not be taken, with the reason of each, as a JSON object"),
    Column("fingerprint", "text", "digest of all that a study sees of the sample"),
    Column("converted", "text", "what reading the sample converted, such as its sample rate"),
    Column("packages", "text", "versions of the packages that the record was made with"),
)
"""Columns that the records of any study may have."""

LIKELIHOOD: tuple[Column, ...] = (
    Column("log_p", "number", "log-likelihood", "nats"),
    Column("standard_error", "number", "standard error of `log_p` over probes, widened for few probes", "nats"),
    Column("probe_variance", "number", "variance of `log_p` over probes, not widened, for pooling", "nats²"),
    Column("discretisation", "number", "the solver's estimate of its own error of `log_p`", "nats"),
    Column("rounding", "number", "how far rounding moves `log_p`, where the sample was solved twice", "nats"),
    Column("bpd", "number", "bits per dimension, -`log_p` / (`dims` ln 2)", "bits/dim"),
    Column("bpd_standard_error", "number", "standard error of `bpd` over probes", "bits/dim"),
    Column("prior_term", "number", "log-density of the prior at the end of the flow", "nats"),
    Column("divergence_term", "number", "integral of the divergence along the flow", "nats"),
    Column("dims", "number", "dimensions of what the density is of"),
    Column("nodes", "number", "places along the flow where the trace was taken"),
    Column("nfe_forward", "number", "forward passes of the network per likelihood"),
    Column("nfe_vjp", "number", "vector-Jacobian products per likelihood"),
    Column("nfe_jvp", "number", "Jacobian-vector products per likelihood"),
    Column("density", "text", "what is measured, such as `p(x|y)`"),
    Column("guidance", "number", "weight w of classifier-free guidance (Eq. 10); 1 is conditional"),
    Column("space", "text", "what the density is of, such as VAE latents"),
    Column("r_min", "number", "noise-to-signal ratio at which data are read"),
    Column("r_max", "number", "noise-to-signal ratio of the prior"),
    Column("interpolation", "text", "how a discrete schedule is read between its steps"),
    Column("solver", "text", "the solver and its settings, or the error that it was asked for"),
    Column("shortfall", "text", "what is missing to the error that was asked for; empty where it is reached"),
    Column("probes", "text", "the trace estimator"),
    Column("dequantisation_bits", "number", "bits between the density and that of discrete data", "bits/dim"),
)
"""What :func:`dmlik_pl.studies.base.likelihood_columns` writes of every likelihood."""
