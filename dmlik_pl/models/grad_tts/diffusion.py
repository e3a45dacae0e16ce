r"""Grad-TTS's mean-reverting diffusion around its score network.

.. math:: dx = \tfrac12 (\mu - x) \beta_t \, dt + \sqrt{\beta_t} \, dW, \quad
          \beta_t = \beta_{min} + (\beta_{max} - \beta_{min}) t

from data at t = 0 to :math:`N(\mu, I)` at t = 1.

References:
    | Grad-TTS: A Diffusion Probabilistic Model for Text-to-Speech (Popov et al., 2021), Eq. 8 to 14
"""

import torch
from torch import Tensor, nn

from dmlik_pl.models.grad_tts.estimator import ScoreEstimator

__all__ = ["Diffusion"]


class Diffusion(nn.Module):
    """The forward and the reverse process, and the loss that trains the score.

    Noise is drawn from torch's global generator in the official order wherever it is not given.

    Args:
        n_feats: Bands of the spectrogram.
        dim: See :class:`ScoreEstimator`, like ``n_spks``, ``spk_emb_dim`` and ``pe_scale``.
        n_spks: Number of speakers.
        spk_emb_dim: Size of a speaker's embedding.
        beta_min: Noise rate at t = 0.
        beta_max: Noise rate at t = 1.
        pe_scale: What time is multiplied by before it is embedded.
    """

    def __init__(
        self,
        n_feats: int,
        dim: int,
        n_spks: int = 1,
        spk_emb_dim: int = 64,
        beta_min: float = 0.05,
        beta_max: float = 20.0,
        pe_scale: float = 1000,
    ) -> None:
        super().__init__()
        self.n_feats, self.beta_min, self.beta_max = n_feats, beta_min, beta_max
        self.estimator = ScoreEstimator(dim, n_spks, spk_emb_dim, pe_scale)

    def _rate(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _noise(self, t: Tensor) -> Tensor:
        """The integral of the rate up to t."""
        return self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t**2

    def forward_diffusion(
        self, x0: Tensor, mask: Tensor, mu: Tensor, t: Tensor, *, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Data with noise: x_t and the noise that is in it, both masked.

        Args:
            x0: Data, [B, F, T].
            mask: Real frames, [B, 1, T].
            mu: Means, [B, F, T].
            t: Times, [B].
            noise: Standard normal noise, [B, F, T].
        """
        total = self._noise(t[:, None, None])
        mean = x0 * torch.exp(-0.5 * total) + mu * (1 - torch.exp(-0.5 * total))
        variance = 1 - torch.exp(-total)
        z = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device) if noise is None else noise
        return (mean + z * variance.sqrt()) * mask, z * mask

    @torch.no_grad()
    def reverse_diffusion(
        self, z: Tensor, mask: Tensor, mu: Tensor, n_timesteps: int, stoc: bool = False, spk: Tensor | None = None
    ) -> Tensor:
        """Noise z [B, F, T] at t = 1 to data, by equal steps of the probability flow or of the reverse SDE.

        Args:
            z: x at t = 1, [B, F, T].
            mask: Real frames, [B, 1, T].
            mu: Means, [B, F, T].
            n_timesteps: Number of Euler steps, each with the score at its middle time.
            stoc: Whether to follow the SDE.
            spk: Embedded speakers, [B, spk_emb_dim].

        Raises:
            ValueError: If there are no steps.
        """
        if n_timesteps < 1:
            raise ValueError(f"sampling needs at least one step, got n_timesteps={n_timesteps}")
        step = 1.0 / n_timesteps
        x = z * mask
        for i in range(n_timesteps):
            t = torch.full((len(z),), 1.0 - (i + 0.5) * step, dtype=z.dtype, device=z.device)
            rate = self._rate(t)[:, None, None]
            score = self.estimator(x, mask, mu, t, spk)
            if stoc:
                change = (0.5 * (mu - x) - score) * rate * step
                change = change + torch.randn(z.shape, dtype=z.dtype, device=z.device) * torch.sqrt(rate * step)
            else:
                change = 0.5 * (mu - x - score) * rate * step
            x = (x - change) * mask
        return x

    def forward(
        self, z: Tensor, mask: Tensor, mu: Tensor, n_timesteps: int, stoc: bool = False, spk: Tensor | None = None
    ) -> Tensor:
        """Sample, see :meth:`reverse_diffusion`."""
        return self.reverse_diffusion(z, mask, mu, n_timesteps, stoc, spk)

    def loss_t(
        self,
        x0: Tensor,
        mask: Tensor,
        mu: Tensor,
        t: Tensor,
        spk: Tensor | None = None,
        *,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Denoising score matching at given times [B]: the mean loss over real dimensions, and x_t."""
        xt, z = self.forward_diffusion(x0, mask, mu, t, noise=noise)
        deviation = torch.sqrt(1 - torch.exp(-self._noise(t[:, None, None])))
        error = self.estimator(xt, mask, mu, t, spk) * deviation + z
        return (error**2).sum() / (mask.sum() * self.n_feats), xt

    def compute_loss(
        self,
        x0: Tensor,
        mask: Tensor,
        mu: Tensor,
        spk: Tensor | None = None,
        offset: float = 1e-5,
        *,
        time: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`loss_t` at times uniform in (0, 1), kept ``offset`` away from its ends.

        Args:
            x0: Data, [B, F, T].
            mask: Real frames, [B, 1, T].
            mu: Means, [B, F, T].
            spk: Embedded speakers, [B, spk_emb_dim].
            offset: Distance from the ends of time.
            time: Uniform numbers to use as times, [B].
            noise: Standard normal noise, [B, F, T].
        """
        t = torch.rand(len(x0), dtype=x0.dtype, device=x0.device) if time is None else time
        return self.loss_t(x0, mask, mu, t.clamp(offset, 1.0 - offset), spk, noise=noise)
