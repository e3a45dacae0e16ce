"""Likelihoods of a batch of images as one reads them: a small table, or a frame of pandas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

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

    def to_pandas(self) -> "pd.DataFrame":
        """One row per sample: names, prompts, log p in nats, bits per dimension, errors of both, calls and failures."""
        import pandas as pd

        result = self.result
        numbers = {"log_p": self.log_p, "bpd": self.bpd, "error": self.error}
        numbers |= {f"error_{name}": part for name, part in self.error_parts.items()}
        numbers |= {"bpd_error": -bits_per_dim(self.error, result.dims), "dims": result.dims}
        columns = {name: value.detach().cpu().numpy() for name, value in numbers.items()}
        prompts = {"prompt": list(self.prompts)} if self.prompts else {}
        calls = {"forward": result.nfe.forward, "vjp": result.nfe.vjp, "jvp": result.nfe.jvp}
        named = {"sample_id": list(self.sample_ids), **prompts, **columns}
        return pd.DataFrame({**named, **calls, "density": result.density, "failure": result.failures})

    def __str__(self) -> str:
        frame, result = self.to_pandas(), self.result
        shown = {"sample": frame["sample_id"].map(_short)}
        if self.prompts:
            shown["prompt"] = frame["prompt"].map(_short)
        shown |= {"log p": frame["log_p"].map("{:.2f}".format), "bits/dim": frame["bpd"].map("{:.5f}".format)}
        shown |= {"+- bits/dim": frame["bpd_error"].map(_rough), "+- nats": frame["error"].map(_rough)}
        shown |= {f"({name})": frame[f"error_{name}"].map(_rough) for name in self.error_parts}
        table = type(frame)(shown).to_string(index=False)
        dims = sorted({int(count) for count in result.dims.tolist()})
        calls = f"{result.nfe.forward} calls of the network, {result.nfe.vjp + result.nfe.jvp} derivatives of it"
        head = f"{result.density} of {self.space}, {', '.join(map(str, dims))} dimensions; {calls} per sample"
        lost = [f"{name}: {reason}" for name, reason in zip(self.sample_ids, result.failures, strict=True) if reason]
        return "\n".join([head, table, *lost])


def _rough(value: float) -> str:
    """An error in two digits; a dash where it was not measured."""
    return "-" if math.isnan(value) else f"{value:.2g}"


def _short(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(str(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."
