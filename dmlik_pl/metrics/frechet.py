"""Frechet distance between two sets of images in the feature space of any network (FID and its relatives)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

__all__ = ["FrechetDistance", "PrecomputedFeatures", "frechet_distance"]


def frechet_distance(real: Tensor, generated: Tensor) -> Tensor:
    r"""Frechet distance of the Gaussians fitted to two sets of features.

    .. math:: |m_1 - m_2|^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^{1/2})

    With S = A'A for the centred features A / sqrt(n - 1), the last trace is the sum of the singular values of A_1 A_2'.
    That needs no square root of a matrix, and stays exact when there are fewer samples than features, where S is
    singular. The distance is biased upwards by about (number of features) / n: compare only equal n.

    Args:
        real: Features of the real images, [N, F], N >= 2.
        generated: Features of the other images, [M, F], M >= 2.

    Returns:
        The distance, a float64 scalar.

    Example:
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(float(frechet_distance(features, features + 3)), 6)  # equal covariances, means (3, 3) apart
        18.0
    """
    if min(len(real), len(generated)) < 2:
        raise ValueError(f"a Frechet distance needs two samples per set, got {len(real)} and {len(generated)}")
    real, generated = real.double(), generated.double()
    roots = []
    for features in (real, generated):
        root = (features - features.mean(0)) / (len(features) - 1) ** 0.5
        # R of a tall A = QR has the same R'R = A'A and at most F rows
        roots.append(torch.linalg.qr(root, mode="r").R if len(root) > root.shape[1] else root)
    shift = (real.mean(0) - generated.mean(0)).square().sum()
    cross = torch.linalg.svdvals(roots[0] @ roots[1].mT).sum()
    return shift + roots[0].square().sum() + roots[1].square().sum() - 2 * cross


class PrecomputedFeatures(nn.Module):
    """Stands in for a feature network where features, not images, are given to `FrechetDistance.update`.

    Args:
        num_features: Number of features F of each sample.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """Hand the features [B, F] through."""
        return features


class FrechetDistance(FrechetInceptionDistance):
    """torchmetrics' FID with any feature network: float64 sums as states, so the split over processes does not matter.

    Args:
        feature: A network from images to features [B, F], best with an attribute `num_features`; `CLIPImageFeatures`
            needs no download beyond the CLIP model, `PrecomputedFeatures` takes features themselves. An integer (64,
            192, 768 or 2048) names a layer of the Inception network; its weights are downloaded by torch-fidelity.
    """

    def __init__(self, feature: nn.Module | int) -> None:
        try:
            super().__init__(feature=feature, normalize=True)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"feature={feature} names a layer of the Inception network, which needs the package torch-fidelity "
                "(pip install torch-fidelity; it brings torchvision, and downloads 91 MB on first use). Or give a "
                "network as `feature`, for instance CLIPImageFeatures."
            ) from error
        # torchmetrics returns the distance in the dtype of the last features; a process without samples has none
        self.orig_dtype = torch.float64

    def update(self, imgs: Tensor, real: bool) -> None:
        """Add a batch.

        Args:
            imgs: Images as the feature network takes them, [B, C, H, W] in [0, 1], or features [B, F].
            real: Whether the batch belongs to the reference set.
        """
        super().update(imgs, real)
        self.orig_dtype = torch.float64
