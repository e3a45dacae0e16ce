"""Bits per dimension over a set of samples, with its error."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

__all__ = ["BitsPerDim", "bits_per_dim"]


def bits_per_dim(log_p: Tensor, dims: Tensor | int, standard_error: Tensor | None = None) -> dict[str, Tensor]:
    """Dimension-weighted bits per dimension of a set, - sum(log p) / (sum(D) ln 2).

    Args:
        log_p: Log-likelihoods in nats, [B].
        dims: Number of real dimensions D of each sample, [B] or one number.
        standard_error: Standard error over probes of each `log_p` in nats, [B].

    Returns:
        What `BitsPerDim.compute` returns.

    Example:
        >>> result = bits_per_dim(torch.tensor([-8.0, -10.0]), dims=4)  # 18 nats over 8 dimensions
        >>> round(float(result["bpd"]), 3), round(float(result["standard_error"]), 3)
        (3.246, 0.361)
    """
    # A function of its arguments alone, whatever other processes do.
    metric = BitsPerDim(sync_on_compute=False).to(log_p.device)
    metric.update(log_p, dims, standard_error)
    return metric.compute()


class BitsPerDim(Metric):
    """Dimension-weighted mean of the bits per dimension, - sum(log p) / (sum(D) ln 2), with two errors.

    All states are float64 sums, so any split of the samples over batches and processes gives the same result. A NaN in
    any sample makes the result NaN.

    `compute` returns a dictionary of float64 scalars:
        bpd: The mean, bits per dimension.
        standard_error: Its standard error over samples (of a ratio of sums); it contains the probes' noise. NaN for
            fewer than two samples.
        probe_standard_error: The part of it that more probes would remove; NaN if any update came without.
    """

    is_differentiable: bool = False
    higher_is_better: bool = False
    full_state_update: bool = False

    bits: Tensor
    dims: Tensor
    bits_squared: Tensor
    bits_times_dims: Tensor
    dims_squared: Tensor
    probe_variance: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        names = ("bits", "dims", "bits_squared", "bits_times_dims", "dims_squared", "probe_variance", "count")
        for name in names:
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, log_p: Tensor, dims: Tensor | int, standard_error: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            log_p: Log-likelihoods in nats, [B].
            dims: Number of real dimensions of each sample, [B] or one number.
            standard_error: Standard error over probes of each `log_p` in nats, [B].
        """
        bits = -log_p.double() / math.log(2)
        dims = torch.as_tensor(dims, device=log_p.device).double().expand(bits.shape)
        self.bits += bits.sum()
        self.dims += dims.sum()
        self.bits_squared += bits.square().sum()
        self.bits_times_dims += (bits * dims).sum()
        self.dims_squared += dims.square().sum()
        self.count += bits.numel()
        if standard_error is None:
            self.probe_variance += math.nan
        else:
            self.probe_variance += (standard_error.double() / math.log(2)).square().sum()

    def compute(self) -> dict[str, Tensor]:
        """Combine all batches; see the class for the keys."""
        bpd = self.bits / self.dims
        residual = self.bits_squared - 2 * bpd * self.bits_times_dims + bpd**2 * self.dims_squared
        # residual.clamp: equal samples leave a rounding error of either sign; 0 / 0 is the NaN of a single sample
        variance = residual.clamp(min=0) * (self.count / (self.count - 1)) if self.count > 1 else residual * math.nan
        return {
            "bpd": bpd,
            "standard_error": variance.sqrt() / self.dims,
            "probe_standard_error": self.probe_variance.sqrt() / self.dims,
        }
