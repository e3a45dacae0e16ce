"""From records to numbers that any study may have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from dmlik_pl.metrics.bits_per_dim import bits_per_dim
from dmlik_pl.results.frames import column, data_likelihoods, too_dense

__all__ = ["bits_per_dim_summary"]


def bits_per_dim_summary(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Bits per dimension of the data under their own prompts.

    Args:
        frame: The records of any study.

    Returns:
        The dimension-weighted mean with its errors, the mean solver error and the dequantisation offset (bits per
        dimension), counts and settings, or None if the study has no likelihood of data.
    """
    data = data_likelihoods(frame)
    if data is None or not len(data):
        return None
    finite = np.isfinite(column(data, "log_p"))
    skipped, data = int((~finite).sum()), data[finite]
    log_p, dims, errors = (torch.from_numpy(column(data, name).copy()) for name in ("log_p", "dims", "standard_error"))
    numbers = {name: float(value) for name, value in bits_per_dim(log_p, dims, errors).items()}
    solver_error = np.abs(column(data, "discretisation")) / dims.numpy() / np.log(2)
    calls = sum(np.nan_to_num(column(data, f"nfe_{kind}")) for kind in ("forward", "vjp", "jvp"))
    return numbers | {
        "discretisation": float(solver_error.mean()),
        "n": len(data),
        "non_finite": skipped,
        "too_dense": int(too_dense(data).sum()),
        "dims": float(dims.mean()),
        "dequantisation": float(np.nan_to_num(column(data, "dequantisation_bits")).mean()),
        "network_calls": float(np.mean(calls)),
        **{
            name: " / ".join(sorted(data[name].dropna().unique())) if name in data else ""
            for name in ("density", "space")
        },
    }
