"""Grad-TTS's text encoder: token ids to a mean spectrum and a log-duration for every token.

Convolutions, then a transformer with windowed relative positions. Sequences are [B, C, L], masks [B, 1, L] of zeros and
ones. Names of parameters are those of the official checkpoints.

References:
    | Grad-TTS: A Diffusion Probabilistic Model for Text-to-Speech (Popov et al., 2021)
    | Glow-TTS: A Generative Flow for Text-to-Speech via Monotonic Alignment Search (Kim et al., 2020)
    | Self-Attention with Relative Position Representations (Shaw et al., 2018)
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dmlik_pl.models.grad_tts.alignment import length_mask

__all__ = ["TextEncoder"]

MASKED_LOGIT = -1e4
PRENET_KERNEL, PRENET_LAYERS, PRENET_DROPOUT = 5, 3, 0.5


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of [B, C, L]."""

    def __init__(self, channels: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Zero mean and unit variance over channels, then scale and shift."""
        shape = self.gamma.shape
        return functional.layer_norm(x.transpose(1, 2), shape, self.gamma, self.beta, self.eps).transpose(1, 2)


class Prenet(nn.Module):
    """Residual stack of convolutions; the identity before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(channels, channels, PRENET_KERNEL, padding=PRENET_KERNEL // 2) for _ in range(PRENET_LAYERS)
        )
        self.norm_layers = nn.ModuleList(ChannelNorm(channels) for _ in range(PRENET_LAYERS))
        self.proj = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)
        assert self.proj.bias is not None
        nn.init.zeros_(self.proj.bias)
        self.drop = nn.Dropout(PRENET_DROPOUT)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Sequence [B, C, L] to sequence [B, C, L]."""
        hidden = x
        for conv, norm in zip(self.conv_layers, self.norm_layers, strict=True):
            hidden = self.drop(torch.relu(norm(conv(hidden * mask))))
        return (x + self.proj(hidden)) * mask


class RelativeAttention(nn.Module):
    """Self-attention whose keys and values also know how far away they are, up to a window."""

    def __init__(self, channels: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        for projection in (self.conv_q, self.conv_k, self.conv_v):
            nn.init.xavier_uniform_(projection.weight)
        width = channels // heads
        self.emb_rel_k = nn.Parameter(torch.randn(1, 2 * window + 1, width) * width**-0.5)
        self.emb_rel_v = nn.Parameter(torch.randn(1, 2 * window + 1, width) * width**-0.5)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend within [B, C, L], where the pair mask [B, 1, L, L] allows it."""
        query, key, value = (
            projection(x).unflatten(1, (self.heads, -1)).transpose(2, 3)  # [B, H, L, C / H]
            for projection in (self.conv_q, self.conv_k, self.conv_v)
        )
        place = torch.arange(x.shape[-1], device=x.device)
        query = query / math.sqrt(query.shape[-1])
        logits = query @ key.transpose(2, 3) + self._between(query @ self.emb_rel_k[0].T, place)
        weights = self.drop(torch.softmax(logits.masked_fill(mask == 0, MASKED_LOGIT), -1))
        attended = weights @ value + self._around(weights, place) @ self.emb_rel_v[0]
        return self.conv_o(attended.transpose(2, 3).flatten(1, 2))

    def _between(self, by_distance: Tensor, place: Tensor) -> Tensor:
        """What belongs to a distance [..., L, 2 w + 1] given to pairs of places [..., L, L]; zero beyond the window."""
        column = place[None, :] - place[:, None] + self.window
        near = (column >= 0) & (column <= 2 * self.window)
        index = column.clamp(0, 2 * self.window).expand(*by_distance.shape[:-1], -1)
        return by_distance.gather(-1, index) * near

    def _around(self, by_pair: Tensor, place: Tensor) -> Tensor:
        """What belongs to pairs of places [..., L, L] by their distance [..., L, 2 w + 1]; zero beyond the ends."""
        offset = torch.arange(-self.window, self.window + 1, device=place.device)
        other = place[:, None] + offset
        within = (other >= 0) & (other < len(place))
        index = other.clamp(0, len(place) - 1).expand(*by_pair.shape[:-1], -1)
        return by_pair.gather(-1, index) * within


class FeedForward(nn.Module):
    """Two convolutions with a ReLU between."""

    def __init__(self, channels: int, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, hidden, kernel, padding=kernel // 2)
        self.conv_2 = nn.Conv1d(hidden, channels, kernel, padding=kernel // 2)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Sequence [B, C, L] to sequence [B, C, L]."""
        hidden = self.drop(torch.relu(self.conv_1(x * mask)))
        return self.conv_2(hidden * mask) * mask


class Transformer(nn.Module):
    """Layers of attention and convolution, each normalised after its residual."""

    def __init__(
        self, channels: int, hidden: int, heads: int, layers: int, kernel: int, dropout: float, window: int
    ) -> None:
        super().__init__()
        self.attn_layers = nn.ModuleList(RelativeAttention(channels, heads, window, dropout) for _ in range(layers))
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.ffn_layers = nn.ModuleList(FeedForward(channels, hidden, kernel, dropout) for _ in range(layers))
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Sequence [B, C, L] to sequence [B, C, L]."""
        pairs = (mask[:, :, :, None] * mask[:, :, None]).to(x)
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for attention, norm_1, feed_forward, norm_2 in layers:
            x = x * mask
            x = norm_1(x + self.drop(attention(x, pairs)))
            x = norm_2(x + self.drop(feed_forward(x, mask)))
        return x * mask


class DurationPredictor(nn.Module):
    """Natural logarithm of how many frames a token lasts."""

    def __init__(self, channels: int, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, hidden, kernel, padding=kernel // 2)
        self.norm_1 = ChannelNorm(hidden)
        self.conv_2 = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2)
        self.norm_2 = ChannelNorm(hidden)
        self.proj = nn.Conv1d(hidden, 1, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Sequence [B, C, L] to log-durations [B, 1, L]."""
        hidden = self.drop(self.norm_1(torch.relu(self.conv_1(x * mask))))
        hidden = self.drop(self.norm_2(torch.relu(self.conv_2(hidden * mask))))
        return self.proj(hidden * mask) * mask


class TextEncoder(nn.Module):
    """Mean spectrum and log-duration of every token; it knows no speaker, whatever the decoder knows.

    Args:
        n_vocab: Number of token ids.
        n_feats: Bands of the spectrum.
        n_channels: Width of the encoder.
        filter_channels: Width within its feed-forward layers.
        filter_channels_dp: Width of the duration predictor.
        n_heads: Attention heads; they divide the width.
        n_layers: Transformer layers.
        kernel_size: Kernel of feed-forward layers and duration predictor, odd.
        p_dropout: Dropout in training.
        window_size: Farthest distance in tokens of which attention has a notion.

    Raises:
        ValueError: If heads do not divide the width or the kernel is even.
    """

    def __init__(
        self,
        n_vocab: int,
        n_feats: int,
        n_channels: int,
        filter_channels: int,
        filter_channels_dp: int,
        n_heads: int,
        n_layers: int,
        kernel_size: int,
        p_dropout: float,
        window_size: int,
    ) -> None:
        super().__init__()
        if n_channels % n_heads:
            raise ValueError(f"n_heads={n_heads} must divide n_enc_channels={n_channels}")
        if kernel_size % 2 == 0:
            raise ValueError(f"enc_kernel={kernel_size} must be odd: an even kernel changes the number of tokens")
        self.n_channels = n_channels
        self.emb = nn.Embedding(n_vocab, n_channels)
        nn.init.normal_(self.emb.weight, 0.0, n_channels**-0.5)
        self.prenet = Prenet(n_channels)
        self.encoder = Transformer(n_channels, filter_channels, n_heads, n_layers, kernel_size, p_dropout, window_size)
        self.proj_m = nn.Conv1d(n_channels, n_feats, 1)
        self.proj_w = DurationPredictor(n_channels, filter_channels_dp, kernel_size, p_dropout)

    def forward(self, x: Tensor, x_lengths: Tensor, spk: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode token ids.

        Args:
            x: Ids, [B, L].
            x_lengths: How many of each row are real, [B].
            spk: Ignored: the official encoder is built without speakers. It keeps the official signature.

        Returns:
            Mean spectra [B, n_feats, L], natural logarithms of durations in frames [B, 1, L], and the mask [B, 1, L].
        """
        embedded = self.emb(x).transpose(1, 2) * math.sqrt(self.n_channels)
        mask = length_mask(x_lengths, x.shape[1])[:, None].to(embedded)
        hidden = self.encoder(self.prenet(embedded, mask), mask)
        mu = self.proj_m(hidden) * mask
        # The duration loss trains the predictor alone.
        return mu, self.proj_w(hidden.detach(), mask), mask
