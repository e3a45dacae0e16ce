"""Kernel distance between two sets of images in the feature space of any network (KID and its relatives)."""

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_kernel

__all__ = ["kernel_distance", "kernel_distance_standard_error"]


def kernel_distance(real: Tensor, generated: Tensor, paired: bool = False) -> Tensor:
    r"""Squared maximum mean discrepancy of two sets of features, by the unbiased estimator.

    .. math:: k(a, b) = (a \cdot b / F + 1)^3

    Unlike the Frechet distance it has no bias at any number of samples: sets of one distribution have distance zero on
    average, and a single one may be negative. Its size depends on the scale of the features.

    Args:
        real: Features of the real images, [N, F], N >= 2.
        generated: Features of the other images, [M, F], M >= 2.
        paired: Row i of both belongs to one sample, for instance an image and its reconstruction. Two such rows are
            alike, so they are not compared: the estimator stays unbiased.

    Returns:
        The distance, a float64 scalar.

    References:
        Demystifying MMD GANs (Binkowski et al., 2018), Eq. 4
        A kernel two-sample test (Gretton et al., 2012), Lemma 6, whose Eq. 4 is the paired form
    """
    within_real, between, within_generated = _kernels(real, generated)
    if paired and len(real) != len(generated):
        raise ValueError(f"pairs need as many images on both sides, got {len(real)} and {len(generated)}")
    across = _mean_off_diagonal(between) if paired else between.mean()
    return _mean_off_diagonal(within_real) + _mean_off_diagonal(within_generated) - 2 * across


def kernel_distance_standard_error(real: Tensor, generated: Tensor) -> Tensor:
    """Standard error of the paired `kernel_distance` over samples, by the leave-one-out jackknife.

    It is on the safe side where the two distributions are nearly the same.

    Args:
        real: Features of the real images, [N, F], N >= 3.
        generated: Features of the images made for them, [N, F]; row i of both belongs to sample i.

    Returns:
        The standard error, a float64 scalar.
    """
    n = len(real)
    if n < 3 or len(generated) != n:
        raise ValueError(f"a jackknife needs three samples, each with both images; got {n} and {len(generated)}")
    within_real, between, within_generated = _kernels(real, generated)
    left_out = torch.zeros(n, dtype=torch.float64, device=real.device)
    for kernel, weight in ((within_real, 1), (within_generated, 1), (between, -2)):
        apart = kernel - kernel.diagonal().diag()
        left_out += weight * (apart.sum() - apart.sum(0) - apart.sum(1)) / ((n - 1) * (n - 2))
    return ((n - 1) * left_out.var(correction=0)).sqrt()


def _kernels(real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel within the real set [N, N], between the two [N, M], and within the other [M, M], float64."""
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"a kernel distance needs two samples per set, got {len(real)} and {len(generated)}")
    real, generated = real.double(), generated.double()
    return poly_kernel(real, real), poly_kernel(real, generated), poly_kernel(generated, generated)


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))
