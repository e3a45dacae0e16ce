"""Grad-TTS's score network: a U-Net over the spectrogram as an image of bands by frames.

States are [B, F, T], images [B, C, F, T], masks [B, 1, 1, T] of zeros and ones; T is a multiple of 4. Normalisation and
attention see padded frames, as they did in training: what an utterance gets depends on how far it is padded. Names of
parameters are those of the official checkpoints.

References:
    | Grad-TTS: A Diffusion Probabilistic Model for Text-to-Speech (Popov et al., 2021)
    | Efficient Attention: Attention with Linear Complexities (Shen et al., 2021)
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["FRAME_MULTIPLE", "ScoreEstimator"]

FRAME_MULTIPLE = 4
"""Frames come in multiples of this: two levels halve them."""

GROUPS = 8
HEADS, HEAD_WIDTH = 4, 32
SPEAKER_BANDS = 80


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time, whose table of frequencies is float32 in a network of any precision."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor, scale: float) -> Tensor:
        """Times [B] in [0, 1] to [B, dim]."""
        half = self.dim // 2
        step = math.log(10_000) / (half - 1)
        frequencies = torch.exp(torch.arange(half, device=t.device).float() * -step)
        angle = scale * t[:, None] * frequencies
        return torch.cat([angle.sin(), angle.cos()], 1)


class Block(nn.Module):
    """Convolution, normalisation and activation of what is real."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(GROUPS, out), nn.Mish())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Image to image."""
        return self.block(x * mask) * mask


class ResnetBlock(nn.Module):
    """Two blocks with the time between them, and a way around."""

    def __init__(self, channels: int, out: int, time: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time, out))
        self.block1 = Block(channels, out)
        self.block2 = Block(out, out)
        self.res_conv = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Image to image, given the embedded time [B, dim]."""
        hidden = self.block1(x, mask) + self.mlp(time)[:, :, None, None]
        return self.block2(hidden, mask) + self.res_conv(x * mask)


class LinearAttention(nn.Module):
    """Attention over all places of the image at a cost linear in their number; padded frames take part."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.to_out = nn.Conv2d(HEADS * HEAD_WIDTH, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Image to image.

        Queries and values are linear in x and so is the output in both: their matrices are multiplied with one another
        before they meet the many places of the image, and only the keys are ever laid out over them.
        """
        places = x.flatten(2)
        query, key, value = self.to_qkv.weight.flatten(1).unflatten(0, (3, HEADS, HEAD_WIDTH))
        attention = torch.softmax(key.flatten(0, 1) @ places, -1)
        gathered = (attention @ places.transpose(1, 2)).unflatten(1, (HEADS, HEAD_WIDTH))
        context = gathered @ value.transpose(1, 2)
        mixed = self.to_out.weight.flatten(1) @ (context.transpose(2, 3) @ query).flatten(1, 2)
        bias = self.to_out.bias
        assert bias is not None
        return (mixed @ places + bias[:, None]).unflatten(2, x.shape[2:])


class ZeroGate(nn.Module):
    """A layer times a learned number that starts at zero."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.fn = layer
        self.g = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Image to image."""
        return self.fn(x) * self.g


class ResidualAttention(nn.Module):
    """Gated attention added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fn = ZeroGate(LinearAttention(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Image to image."""
        return x + self.fn(x)


class Downsample(nn.Module):
    """Halve bands and frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Image to image."""
        return self.conv(x)


class Upsample(nn.Module):
    """Double bands and frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Image to image."""
        return self.conv(x)


class Level(nn.ModuleList):
    """What happens at one resolution, and the way to the next."""

    def __init__(self, channels: int, out: int, time: int, resample: nn.Module) -> None:
        blocks = ResnetBlock(channels, out, time), ResnetBlock(out, out, time)
        super().__init__([*blocks, ResidualAttention(out), resample])

    def refine(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Image to image at this resolution."""
        return self[2](self[1](self[0](x, mask, time), mask, time))

    def resample(self, x: Tensor) -> Tensor:
        """Image to image at the next resolution."""
        return self[3](x)


class ScoreEstimator(nn.Module):
    """The score of noisy log-mel spectrograms.

    Args:
        dim: Channels of the first level, a multiple of 8; the others have twice and four times as many.
        n_spks: Number of speakers; with more than one, an embedding of the speaker is a third channel of the input.
        spk_emb_dim: Size of that embedding.
        pe_scale: What time is multiplied by before it is embedded.

    Raises:
        ValueError: If ``dim`` is not a multiple of 8.
    """

    def __init__(self, dim: int, n_spks: int = 1, spk_emb_dim: int = 64, pe_scale: float = 1000) -> None:
        super().__init__()
        if dim % GROUPS:
            raise ValueError(f"dec_dim={dim} must be a multiple of {GROUPS}, the groups of its normalisation")
        self.n_spks, self.pe_scale = n_spks, pe_scale
        if n_spks > 1:
            self.spk_mlp = nn.Sequential(
                nn.Linear(spk_emb_dim, 4 * spk_emb_dim), nn.Mish(), nn.Linear(4 * spk_emb_dim, SPEAKER_BANDS)
            )
        self.time_pos_emb = TimeEmbedding(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.Mish(), nn.Linear(4 * dim, dim))

        widths = [3 if n_spks > 1 else 2, dim, 2 * dim, 4 * dim]
        self.downs = nn.ModuleList()
        for below, above in pairwise(widths):
            self.downs.append(Level(below, above, dim, Downsample(above) if above < 4 * dim else nn.Identity()))
        self.mid_block1 = ResnetBlock(4 * dim, 4 * dim, dim)
        self.mid_attn = ResidualAttention(4 * dim)
        self.mid_block2 = ResnetBlock(4 * dim, 4 * dim, dim)
        # The first level's skip connection is stored and never used; so it was in training.
        self.ups = nn.ModuleList(
            Level(2 * above, below, dim, Upsample(below)) for below, above in ((2 * dim, 4 * dim), (dim, 2 * dim))
        )
        self.final_block = Block(dim, dim)
        self.final_conv = nn.Conv2d(dim, 1, 1)

    def forward(self, x: Tensor, mask: Tensor, mu: Tensor, t: Tensor, spk: Tensor | None = None) -> Tensor:
        """The score at x_t.

        Args:
            x: States x_t, [B, F, T] with T a multiple of 4.
            mask: Real frames, [B, 1, T].
            mu: Means of the mean-reverting process, [B, F, T].
            t: Times in [0, 1], [B].
            spk: Embedded speakers [B, spk_emb_dim], for a model of several speakers.

        Raises:
            ValueError: If T is not a multiple of 4, or a model of several speakers is given none.
        """
        if x.shape[-1] % FRAME_MULTIPLE:
            raise ValueError(
                f"{x.shape[-1]} frames are not a multiple of {FRAME_MULTIPLE}: pad the spectrogram and its mask"
            )
        layers = [mu, x]
        if self.n_spks > 1:
            if spk is None:
                raise ValueError(f"a model of {self.n_spks} speakers needs the number of the speaker: give `spk`")
            layers.append(self.spk_mlp(spk)[:, :, None].expand(-1, -1, x.shape[-1]))
        time = self.mlp(self.time_pos_emb(t, self.pe_scale))
        mask = mask[:, None].to(x)
        hidden = torch.stack(layers, 1)
        masks, skips = [], []
        for level in self.downs:
            assert isinstance(level, Level)
            hidden = level.refine(hidden, mask, time)
            masks.append(mask)
            skips.append(hidden)
            hidden = level.resample(hidden * mask)
            mask = mask[..., ::2]
        mask = masks[-1]
        hidden = self.mid_block2(self.mid_attn(self.mid_block1(hidden, mask, time)), mask, time)
        for level in self.ups:
            assert isinstance(level, Level)
            mask = masks.pop()
            hidden = level.refine(torch.cat([hidden, skips.pop()], 1), mask, time)
            hidden = level.resample(hidden * mask)
        mask = masks[0]
        hidden = self.final_block(hidden, mask)
        return (self.final_conv(hidden * mask) * mask)[:, 0]
