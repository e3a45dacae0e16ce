"""Likelihoods of a batch of images as one reads them: a small table, or a frame of pandas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dmlik_pl.extras import load
from dmlik_pl.flow import LogLikelihood, bits_per_dim

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Likelihoods"]

_LONGEST = 40  # characters of a name or prompt in the table


@dataclass(frozen=True)
class Likelihoods:
    """Log-likelihoods of B samples with their errors; printed as a table.

    Attributes:
        result: All that was computed, term by term, for whoever wants to pair or to pool it.
        sample_ids: Names of the samples.
        prompts: Their prompts; empty for a model without any.
        space: What p is a density of.
    """

    result: LogLikelihood
    sample_ids: Sequence[str]
    prompts: Sequence[str]
    space: str

    @property
    def log_p(self) -> Tensor:
        """Log-density, nats, [B]."""
        return self.result.log_p

    @property
    def bpd(self) -> Tensor:
        """Bits per dimension, [B]."""
        return self.result.bpd

    @property
    def error_parts(self) -> dict[str, Tensor]:
        """What the error of log p is made of, nats, [B] each: probes of the trace, time grid and rounding.

        NaN where a part was not measured.
        """
        result = self.result
        return {
            "probes": result.standard_error.detach(),
            "grid": result.discretisation.abs(),
            "rounding": result.rounding.abs(),
        }

    @property
    def error(self) -> Tensor:
        """Total error of log p, nats, [B]: the root of the sum of squares of the parts that were measured."""
        parts = torch.stack(list(self.error_parts.values()))
        return torch.where(parts.isnan().all(0), torch.nan, parts.nan_to_num(nan=0.0).square().sum(0).sqrt())

    @property
    def columns(self) -> dict[str, list[Any]]:
        """Names, prompts, log p in nats, bits per dimension, errors of both, calls and failures; B values each."""
        result = self.result
        numbers = {"log_p": self.log_p, "bpd": self.bpd, "error": self.error}
        numbers |= {f"error_{name}": part for name, part in self.error_parts.items()}
        numbers |= {"bpd_error": -bits_per_dim(self.error, result.dims), "dims": result.dims}
        calls = dict(zip(("forward", "vjp", "jvp"), result.calls.T.tolist(), strict=True))
        return {
            "sample_id": list(self.sample_ids),
            **({"prompt": list(self.prompts)} if self.prompts else {}),
            **{name: value.detach().tolist() for name, value in numbers.items()},
            **calls,
            "density": [result.density] * len(self.sample_ids),
            "failure": list(result.failures),
            "shortfall": list(result.short),
        }

    def to_pandas(self) -> "pd.DataFrame":
        """The columns as a frame, one row per sample.

        Raises:
            ModuleNotFoundError: If pandas is not installed; the message says which extra installs it.
        """
        frame: pd.DataFrame = load("pandas", "a frame of likelihoods").DataFrame(self.columns)
        return frame

    def __str__(self) -> str:
        columns, result = self.columns, self.result
        shown = {"sample": map(_short, columns["sample_id"])}
        if self.prompts:
            shown["prompt"] = map(_short, columns["prompt"])
        shown |= {"log p": map("{:.2f}".format, columns["log_p"]), "bits/dim": map("{:.5f}".format, columns["bpd"])}
        shown |= {"+- bits/dim": map(_rough, columns["bpd_error"]), "+- nats": map(_rough, columns["error"])}
        shown |= {f"({name})": map(_rough, columns[f"error_{name}"]) for name in self.error_parts}
        cells = [[heading, *values] for heading, values in shown.items()]
        aligned = [[cell.rjust(max(map(len, column))) for cell in column] for column in cells]
        table = "\n".join(map(" ".join, zip(*aligned, strict=True)))
        dims = sorted({int(count) for count in result.dims.tolist()})
        calls = f"{result.nfe.forward} calls of the network, {result.nfe.vjp + result.nfe.jvp} derivatives of it"
        head = f"{result.density} of {self.space}, {', '.join(map(str, dims))} dimensions; {calls} per sample"
        told = zip([*self.sample_ids] * 2, [*result.failures, *result.short], strict=True)
        return "\n".join([head, table, *(f"{name}: {text}" for name, text in told if text)])


def _rough(value: float) -> str:
    """An error in two digits; a dash where it was not measured."""
    return "-" if math.isnan(value) else f"{value:.2g}"


def _short(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
